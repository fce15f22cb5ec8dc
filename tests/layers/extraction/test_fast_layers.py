"""Lean layers give what torch's own give, and only while the block lasts."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.extraction.fast_layers import fast_layers, inplace_relu
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.runtime import matmul_path, plain_transformers

N_ROWS, N_STEPS, WIDTH = 5, 7, 12


def both(model: nn.Module, *args: torch.Tensor, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the values of torch's plain path and of the fast one."""
    model.eval()
    with torch.no_grad(), plain_transformers():
        plain = model(*args, **options)
        with fast_layers(model):
            fast = model(*args, **options)
    return plain, fast


def padding() -> torch.Tensor:
    return torch.arange(N_STEPS)[None] >= torch.tensor([7, 3, 1, 5, 6])[:, None]


@pytest.mark.parametrize(
    ("batch_first", "norm_first", "bias"), list(itertools.product((True, False), repeat=3))
)
def test_encoder_is_the_same(batch_first: bool, norm_first: bool, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        WIDTH, 3, 16, batch_first=batch_first, norm_first=norm_first, bias=bias
    )
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x = torch.randn(N_ROWS, N_STEPS, WIDTH)
    x = x if batch_first else x.transpose(0, 1)
    for mask in (None, padding(), torch.zeros(N_ROWS, N_STEPS).masked_fill(padding(), -torch.inf)):
        plain, fast = both(model, x, src_key_padding_mask=mask)
        torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)


def test_self_attention_takes_the_lean_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.MultiheadAttention(WIDTH, 3, batch_first=True).eval()
    x = torch.randn(N_ROWS, N_STEPS, WIDTH)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("torch's own way was taken")

    monkeypatch.setattr(F, "multi_head_attention_forward", refuse)
    with torch.no_grad(), fast_layers(model):
        assert model(x, x, x, need_weights=False)[0].shape == x.shape
        with pytest.raises(AssertionError, match="own way"):
            model(x, x, x)


def test_what_is_not_plain_self_attention_goes_to_torch() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(N_ROWS, N_STEPS, WIDTH), torch.randn(N_ROWS, N_STEPS + 2, WIDTH)
    causal = nn.Transformer.generate_square_subsequent_mask(N_STEPS)
    for options in ({}, {"add_zero_attn": True}, {"add_bias_kv": True}):
        model = nn.MultiheadAttention(WIDTH, 3, batch_first=True, **options).eval()
        calls = [
            ((x, x, x), {}),
            ((x, y, y), {"need_weights": False}),
            ((x, x, x), {"need_weights": False, "attn_mask": causal}),
            ((x, x, x), {"need_weights": False, "attn_mask": causal, "is_causal": True}),
            ((x[0], x[0], x[0]), {"need_weights": False}),
        ]
        for args, named in calls:
            with torch.no_grad():
                plain = model(*args, **named)
                with fast_layers(model):
                    fast = model(*args, **named)
            for ours, theirs in zip(fast, plain, strict=True):
                assert (ours is None) == (theirs is None)
                assert ours is None or torch.equal(ours, theirs)
    other = nn.MultiheadAttention(WIDTH, 3, kdim=4, vdim=4, batch_first=True).eval()
    z = torch.randn(N_ROWS, N_STEPS, 4)
    with torch.no_grad(), fast_layers(other):
        assert other(x, z, z)[0].shape == x.shape


def test_a_sample_of_padding_alone_gives_no_nan() -> None:
    model = nn.MultiheadAttention(WIDTH, 3, batch_first=True)
    x = torch.randn(2, N_STEPS, WIDTH)
    mask = torch.tensor([[False] * N_STEPS, [True] * N_STEPS])
    plain, fast = both(model, x, x, x, key_padding_mask=mask, need_weights=False)
    torch.testing.assert_close(fast[0], torch.nan_to_num(plain[0]), rtol=1e-5, atol=1e-6)


def test_everything_is_put_back_after_an_error() -> None:
    model = nn.TransformerEncoderLayer(WIDTH, 3, 16)
    with pytest.raises(RuntimeError, match="stop"), fast_layers(model):
        assert "forward" in vars(model.self_attn)
        raise RuntimeError("stop")
    assert "forward" not in vars(model.self_attn)
    assert model.activation is F.relu


def test_own_classes_and_own_hooks_are_left_alone() -> None:
    class Mine(nn.MultiheadAttention):
        pass

    model = nn.TransformerEncoderLayer(WIDTH, 3, 16)
    model.self_attn = Mine(WIDTH, 3)
    kept: list[torch.Tensor] = []
    model.linear1.register_forward_hook(lambda _layer, _args, output: kept.append(output))
    with torch.no_grad(), fast_layers(model.eval()):
        model(torch.randn(N_STEPS, N_ROWS, WIDTH))
        assert "forward" not in vars(model.self_attn)
    assert (kept[0] < 0).any(), "the user's hook saw its value overwritten"


def test_gradients_go_the_usual_way() -> None:
    model = nn.MultiheadAttention(WIDTH, 3, batch_first=True)
    x = torch.randn(N_ROWS, N_STEPS, WIDTH, requires_grad=True)
    with fast_layers(model):
        model(x, x, x, need_weights=False)[0].sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_the_same_to_the_bit(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(50, 30, bias=bias)
    for x in (torch.randn(64, 50), torch.randn(4, 7, 50), torch.randn(50, 64).t(), torch.randn(0, 50)):
        with torch.no_grad(), matmul_path("cpu"):
            plain = layer(x)
            with fast_layers(layer):
                fast = layer(x)
        assert torch.equal(fast, plain)


def test_linear_leaves_what_is_not_plain_to_torch() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 3)
    double = nn.Linear(6, 3).double()
    with torch.no_grad(), fast_layers(layer), fast_layers(double):
        assert layer(torch.randn(6)).shape == (3,)
        assert double(torch.randn(2, 6).double()).dtype == torch.float64
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(torch.randn(2, 6)).dtype == torch.bfloat16
        with pytest.raises(RuntimeError):
            layer(torch.randn(2, 5))
    with fast_layers(layer):
        layer(torch.randn(2, 6)).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"stride": 2, "padding": 1},
        {"padding": 2, "dilation": 2},
        {"groups": 4},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "reflect"},
    ],
    ids=str,
)
def test_convolution_is_the_same_to_the_bit(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 16, 3, **options)
    images = torch.randn(5, 8, 11, 9)
    with torch.no_grad(), matmul_path("cpu"):
        # The usual way to run channels-last: weights and images.
        plain = nn.Conv2d(8, 16, 3, **options)
        plain.load_state_dict(layer.state_dict())
        expected = plain.to(memory_format=torch.channels_last)(
            images.contiguous(memory_format=torch.channels_last)
        )
        with fast_layers(layer):
            for _ in range(2):
                fast = layer(images.contiguous(memory_format=torch.channels_last))
                assert torch.equal(fast, expected)
            assert torch.equal(layer(images), plain.to(memory_format=torch.contiguous_format)(images))
            layer.weight.mul_(2.0)
            assert not torch.equal(layer(images.contiguous(memory_format=torch.channels_last)), expected)


def test_convolution_leaves_what_is_not_plain_to_torch() -> None:
    layer = nn.Conv2d(3, 4, 3)
    with torch.no_grad(), fast_layers(layer):
        assert layer(torch.randn(3, 8, 8)).shape == (4, 6, 6)
        with pytest.raises(RuntimeError, match="channels"):
            layer(torch.randn(2, 5, 8, 8).contiguous(memory_format=torch.channels_last))
    with fast_layers(layer):
        layer(torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)).sum().backward()
    assert layer.weight.grad is not None
    normed = torch.nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))
    with fast_layers(normed):
        assert "forward" not in vars(normed)


STAND_INS: dict[str, tuple[nn.Module, dict[str, torch.Tensor | bool | None]]] = {
    "linear": (nn.Linear(WIDTH, 3), {"input": torch.randn(4, WIDTH)}),
    "convolution": (
        nn.Conv2d(3, 4, 3),
        {"input": torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)},
    ),
    "attention": (
        nn.MultiheadAttention(WIDTH, 3, batch_first=True),
        {
            **dict.fromkeys(("query", "key", "value"), torch.randn(N_ROWS, N_STEPS, WIDTH)),
            "key_padding_mask": padding(),
            "need_weights": False,
            "attn_mask": None,
            "average_attn_weights": True,
            "is_causal": False,
        },
    ),
    "chain": (nn.Sequential(nn.Linear(WIDTH, 3), nn.ReLU()), {"input": torch.randn(4, WIDTH)}),
}
"""Every layer that has a stand-in, and all arguments of torch's own by name."""


def replaced(model: nn.Module) -> list[nn.Module]:
    with inplace_relu(model), fast_layers(model):
        return [part for part in model.modules() if "forward" in vars(part)]


@pytest.mark.parametrize("name", STAND_INS)
def test_a_stand_in_has_the_signature_of_torch(name: str) -> None:
    layer, arguments = STAND_INS[name]
    layer.eval()
    own = inspect.signature(layer.forward).parameters
    assert list(own) == list(arguments)
    with torch.no_grad():
        expected = layer(**arguments)
        with inplace_relu(layer), fast_layers(layer):
            assert "forward" in vars(layer)
            stand_in = inspect.signature(layer.forward).parameters
            found = layer(**arguments)
            by_position = layer(*arguments.values())
    assert [(p.name, p.kind, p.default) for p in stand_in.values()] == [
        (p.name, p.kind, p.default) for p in own.values()
    ]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(by_position, expected, rtol=1e-5, atol=1e-6)


def test_every_stand_in_is_compared_with_torch() -> None:
    chain = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    others = [nn.Conv2d(1, 1, 1), nn.TransformerEncoderLayer(WIDTH, 3, 16), nn.LSTM(2, 2), nn.LayerNorm(2)]
    layers = nn.ModuleList([chain, *others, nn.BatchNorm2d(2), nn.GELU(), nn.Embedding(3, 2)])
    assert {type(part) for part in replaced(layers)} == {type(layer) for layer, _ in STAND_INS.values()}


def test_the_activation_of_a_transformer_layer_keeps_its_arguments() -> None:
    layer = nn.TransformerEncoderLayer(WIDTH, 3, 16)
    with fast_layers(layer):
        own, stand_in = (inspect.signature(f).parameters.values() for f in (F.relu, layer.activation))
        assert [(p.name, p.default) for p in own] == [(p.name, p.default) for p in stand_in]
        assert layer.activation(input=torch.tensor([-1.0, 2.0]), inplace=False).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(6, 3), torch.randn(2, 5)),
        (nn.Linear(6, 3), torch.randn(2, 4, 5)),
        (nn.Linear(6, 3), torch.randn(2, 6).double()),
        (nn.Conv2d(3, 4, 7), torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)),
        (nn.Conv2d(3, 4, 3), torch.randn(2, 5, 8, 8).contiguous(memory_format=torch.channels_last)),
    ],
)
def test_what_is_refused_is_refused_in_the_words_of_torch(layer: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        with pytest.raises(RuntimeError) as own:
            layer(x)
        with fast_layers(layer), pytest.raises(RuntimeError) as found:
            layer(x)
    assert str(found.value) == str(own.value)


def test_a_mask_of_another_batch_is_refused_as_torch_does() -> None:
    model = nn.MultiheadAttention(WIDTH, 3, batch_first=True).eval()
    x = torch.randn(N_ROWS, N_STEPS, WIDTH)
    with torch.no_grad(), fast_layers(model), pytest.raises((AssertionError, RuntimeError)):
        model(x, x, x, key_padding_mask=padding()[:1], need_weights=False)


def test_a_net_that_calls_its_layers_by_keyword_is_read_as_it_is() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
            self.first = nn.Linear(4, WIDTH)
            self.attention = nn.MultiheadAttention(embed_dim=WIDTH, num_heads=3, batch_first=True)
            self.last = nn.Linear(WIDTH, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(input=self.stem(input=x).flatten(2).transpose(1, 2))
            h = self.attention(query=h, key=h, value=h, need_weights=False)[0]
            return self.last(input=h.mean(1))

    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(40, 3, 6, 6)
    taps = ["stem", "first", "attention[0]", "last:input", "last"]
    found = extract(net, x, taps)
    with torch.no_grad(), plain_transformers(), tapped(net, taps) as caught:
        output = net(x)
    torch.testing.assert_close(torch.from_numpy(found["last"]), output, rtol=1e-4, atol=1e-5)
    for tap in ("first", "attention[0]"):
        mean = caught[tap].mean(1)
        torch.testing.assert_close(torch.from_numpy(found[tap]), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        torch.from_numpy(found["stem"]), caught["stem"].mean((2, 3)), rtol=1e-4, atol=1e-5
    )
