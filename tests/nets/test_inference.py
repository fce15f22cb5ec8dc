"""Rows through a net: the same bits however they are chunked, nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stackfeat.errors import MemberError, TapError
from stackfeat.layers.taps import Tap
from stackfeat.layers.taps.runtime import fixed_arithmetic
from stackfeat.nets.inference import check_rows_independent, forward_rows
from stackfeat.nets.zoo.mlp import MLP

CPU = torch.device("cpu")


def make_net() -> nn.Module:
    torch.manual_seed(0)
    net = MLP(n_features=13, n_outputs=7, cardinalities=(4, 3), hidden=(50, 33))
    for part in net.modules():
        if isinstance(part, nn.BatchNorm1d):
            nn.init.uniform_(part.running_mean)
    return net


def make_rows(n_rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n_rows, 13, generator=generator), torch.randint(0, 3, (n_rows, 2), generator=generator)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 599), min_size=1, max_size=400))
def test_a_row_gives_the_same_bits_in_any_subset_and_order(chosen: list[int]) -> None:
    net, rows = make_net(), make_rows(600)
    taps = {"last": Tap("head", side="input"), "first": Tap("blocks.0.0")}
    with fixed_arithmetic(1):
        output, caught = forward_rows(net, rows, taps, device=CPU)
        some, some_caught = forward_rows(net, [values[chosen] for values in rows], taps, device=CPU)
    assert some.tobytes() == output[chosen].tobytes()
    for key in taps:
        assert some_caught[key].tobytes() == caught[key][chosen].tobytes()


def test_rows_agree_with_one_plain_forward_pass() -> None:
    net, rows = make_net(), make_rows(300)
    output, caught = forward_rows(net, rows, {"penultimate": Tap("head", side="input")}, device=CPU)
    net.eval()
    with torch.no_grad():
        expected = net(*rows).numpy()
        features = net.blocks(torch.cat([rows[0], net.embedding(rows[1] + net.offsets).flatten(1)], dim=1))
    np.testing.assert_allclose(output, expected, atol=2e-6)
    np.testing.assert_allclose(caught["penultimate"], features.numpy(), atol=2e-6)
    assert output.dtype == caught["penultimate"].dtype == np.float32


def test_no_rows_give_empty_arrays_of_the_right_width() -> None:
    output, caught = forward_rows(make_net(), make_rows(0), {"t": Tap("head", side="input")}, device=CPU)
    assert output.shape == (0, 7)
    assert caught["t"].shape == (0, 33)


def test_mode_and_hooks_are_as_before_also_after_an_exception() -> None:
    net = make_net().train()
    net.blocks[0].eval()
    modes = [part.training for part in net.modules()]
    buffers = {name: values.clone() for name, values in net.named_buffers()}
    forward_rows(net, make_rows(10), {"t": Tap("head")}, device=CPU)
    with pytest.raises(RuntimeError):
        forward_rows(
            net, [torch.randn(4, 2), torch.zeros(4, 2, dtype=torch.int64)], {"t": Tap("head")}, device=CPU
        )
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(values, buffers[name]) for name, values in net.named_buffers())
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in net.modules())
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    ("pool", "oracle"),
    [
        ("auto", lambda x: x.mean(axis=(2, 3))),
        ("max", lambda x: x.max(axis=(2, 3))),
        ("flatten", lambda x: x.reshape(len(x), -1)),
    ],
)
def test_images_are_pooled_over_space(pool: str, oracle: object) -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 2)).eval()
    images = torch.randn(5, 1, 6, 6)
    _, caught = forward_rows(net, [images], {"t": Tap("1", pool=pool)}, device=CPU)  # type: ignore[arg-type]
    with torch.no_grad():
        expected = oracle(net[:2](images).numpy())  # type: ignore[operator]
    np.testing.assert_allclose(caught["t"], expected, rtol=1e-5, atol=1e-6)


def test_a_tap_with_the_batch_elsewhere_is_put_in_order() -> None:
    class StepsFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.lstm(x.transpose(0, 1))[0][-1]

    net, x = StepsFirst(), torch.randn(4, 6, 3)
    _, caught = forward_rows(net, [x], {"t": Tap("lstm")}, device=CPU)
    np.testing.assert_allclose(caught["t"], net.lstm(x.transpose(0, 1))[0].mean(0).detach(), atol=1e-6)


def test_a_tap_that_never_ran_is_an_error() -> None:
    net = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    pooled = nn.Sequential(net, nn.Flatten())
    with pytest.raises(TapError, match=r"self_attn\.out_proj"):
        forward_rows(pooled, [torch.randn(3, 5, 4)], {"t": Tap("0.self_attn.out_proj")}, device=CPU)


def test_rows_that_influence_each_other_are_refused() -> None:
    class Attention(nn.Module):
        def __init__(self, batch_first: bool) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 1, batch_first=batch_first)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0].mean(1)

    x = torch.randn(8, 3, 4)
    check_rows_independent(Attention(batch_first=True), [x])
    with pytest.raises(MemberError, match=r"rows influence each other.*batch_first"):
        check_rows_independent(Attention(batch_first=False), [x])
