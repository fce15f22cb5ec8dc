"""Rows through a net: the same bits however they are chunked, nothing left behind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stackfeat.errors import MemberError, TapError
from stackfeat.layers.activations.probe import PROBE_ROWS
from stackfeat.layers.extraction.extract import read_rows
from stackfeat.layers.taps.runtime import fixed_arithmetic, plain_transformers
from stackfeat.layers.taps.tap import Tap
from stackfeat.nets.outputs import check_rows_independent, output_rows
from stackfeat.nets.zoo.mlp import MLP

CPU = torch.device("cpu")


def read(
    net: nn.Module, rows: Sequence[Tensor], taps: dict[str, Tap]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    output, caught = read_rows(net, rows, taps, device=CPU, output=output_rows)
    assert output is not None
    return output, caught


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
        output, caught = read(net, rows, taps)
        some, some_caught = read(net, [values[chosen] for values in rows], taps)
    assert some.tobytes() == output[chosen].tobytes()
    for key in taps:
        assert some_caught[key].tobytes() == caught[key][chosen].tobytes()


def test_rows_agree_with_one_plain_forward_pass() -> None:
    net, rows = make_net(), make_rows(300)
    output, caught = read(net, rows, {"penultimate": Tap("head", side="input")})
    net.eval()
    with torch.no_grad():
        expected = net(*rows).numpy()
        features = net.blocks(torch.cat([rows[0], net.embedding(rows[1] + net.offsets).flatten(1)], dim=1))
    np.testing.assert_allclose(output, expected, atol=2e-6)
    np.testing.assert_allclose(caught["penultimate"], features.numpy(), atol=2e-6)
    assert output.dtype == caught["penultimate"].dtype == np.float32


class Images(nn.Module):
    """Convolutions and attention over image rows: all that runs faster in the engine."""

    def __init__(self, *, flat: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.layer = nn.TransformerEncoderLayer(12, 3, 16, batch_first=True)
        self.head = nn.Linear(12, 4)
        self.flat = flat

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        maps = self.stem(x)
        steps = (maps.view(len(x), 12, 36) if self.flat else maps.flatten(2)).transpose(1, 2)
        hidden = torch.arange(36)[None] >= lengths[:, None]
        return self.head(self.layer(steps, src_key_padding_mask=hidden).sum(1))


def make_images(flat: bool) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    net = Images(flat=flat)
    lengths = torch.randint(0, 37, (300,))
    lengths[[1, 290]] = 0  # samples that are padding alone
    return net, (torch.randn(300, 2, 6, 6), lengths)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("chosen", [[290], [290, 4, 1], list(range(299, -1, -1)), list(range(5, 280))])
def test_images_and_steps_give_the_same_bits_in_any_subset_and_order(chosen: list[int], flat: bool) -> None:
    net, rows = make_images(flat)
    taps = {"maps": Tap("stem", pool="flatten"), "steps": Tap("layer", pool="flatten")}
    with fixed_arithmetic(1):
        output, caught = read(net, rows, taps)
        for fresh in (net, make_images(flat)[0]):  # a net that was read before, and one that was not
            some, some_caught = read(fresh, [values[chosen] for values in rows], taps)
            assert some.tobytes() == output[chosen].tobytes()
            assert all(some_caught[key].tobytes() == caught[key][chosen].tobytes() for key in taps)
        with torch.no_grad(), plain_transformers():
            expected = net.eval()(*rows).numpy()
    np.testing.assert_allclose(output, expected, atol=1e-5)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 0.0, 1e30])
def test_what_lies_in_the_first_rows_decides_nothing(value: float) -> None:
    net, (images, lengths) = make_images(flat=False)
    others = images.clone()
    others[:3] = value
    with fixed_arithmetic(1):
        expected, _ = read(net, (images, lengths), {})
        found, _ = read(make_images(flat=False)[0], (others, lengths), {})
    assert found[3:].tobytes() == expected[3:].tobytes()


def test_layers_are_the_same_without_the_output_and_the_pass_ends_after_the_last_tap() -> None:
    class Broken(Images):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            maps = self.stem(x)
            if len(x) > PROBE_ROWS:
                raise AssertionError("the pass went on")
            return maps.mean((2, 3))

    net, rows = make_images(flat=False)
    taps = {"maps": Tap("stem", pool="flatten")}
    broken = Broken()
    broken.load_state_dict(net.state_dict())
    with fixed_arithmetic(1):
        output, caught = read_rows(broken, rows, taps, device=CPU)
        expected = read(net, rows, taps)[1]
    assert output is None
    assert caught["maps"].tobytes() == expected["maps"].tobytes()


@pytest.mark.parametrize("taps", [{}, {"t": Tap("1")}])
def test_a_net_that_works_in_place_leaves_the_rows_as_they_are(taps: dict[str, Tap]) -> None:
    net, rows = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2)), torch.randn(300, 3)
    before = rows.clone()
    read(net, [rows], taps)
    assert torch.equal(rows, before)


def test_a_batch_that_memory_is_too_small_for_is_not_halved() -> None:
    class Full(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 100:
                raise RuntimeError("not enough memory: you tried to allocate 1 bytes")
            return x

    with pytest.raises(RuntimeError, match="not enough memory"):
        read(Full(), [torch.randn(300, 3)], {})


def test_values_that_are_no_columns_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten())
    with pytest.raises(TapError, match=r"pool: none must have \(rows, columns\).*use pool: auto or flatten"):
        read(net, [torch.randn(5, 1, 6, 6)], {"t": Tap("0", pool="none")})


def test_no_rows_give_empty_arrays_of_the_right_width() -> None:
    output, caught = read(make_net(), make_rows(0), {"t": Tap("head", side="input")})
    assert output.shape == (0, 7)
    assert caught["t"].shape == (0, 33)


def test_mode_and_hooks_are_as_before_also_after_an_exception() -> None:
    net = make_net().train()
    net.blocks[0].eval()
    modes = [part.training for part in net.modules()]
    buffers = {name: values.clone() for name, values in net.named_buffers()}
    read(net, make_rows(10), {"t": Tap("head")})
    with pytest.raises(RuntimeError):
        read(net, [torch.randn(4, 2), torch.zeros(4, 2, dtype=torch.int64)], {"t": Tap("head")})
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
    _, caught = read(net, [images], {"t": Tap("1", pool=pool)})  # type: ignore[arg-type]
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
    _, caught = read(net, [x], {"t": Tap("lstm")})
    np.testing.assert_allclose(caught["t"], net.lstm(x.transpose(0, 1))[0].mean(0).detach(), atol=1e-6)


def test_a_tap_that_never_ran_is_an_error() -> None:
    net = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    pooled = nn.Sequential(net, nn.Flatten())
    with pytest.raises(TapError, match=r"self_attn\.out_proj"):
        read(pooled, [torch.randn(3, 5, 4)], {"t": Tap("0.self_attn.out_proj")})


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
