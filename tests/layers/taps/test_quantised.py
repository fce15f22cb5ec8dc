"""Quantised nets: what is exact is read, what a scale of the batch rounded is refused whatever the data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.ao import quantization

from stackfeat.errors import MemberError, TapError
from stackfeat.layers.activations.listing import list_layers
from stackfeat.layers.activations.penultimate import find_penultimate
from stackfeat.layers.extraction.extract import extract, read_rows
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.quantised import scales_by_batch
from stackfeat.layers.taps.tap import Tap
from stackfeat.sklearn.nets import NetClassifier

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)).eval()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.fc = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


def dynamic(net: nn.Module, dtype: torch.dtype = torch.qint8) -> nn.Module:
    quantised: nn.Module = quantization.quantize_dynamic(
        net.eval(), {nn.Linear, nn.LSTM, nn.GRU}, dtype=dtype
    )
    return quantised


def static() -> nn.Module:
    net = nn.Sequential(quantization.QuantStub(), *plain(), quantization.DeQuantStub()).eval()
    net.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    quantization.prepare(net, inplace=True)
    net(X)
    quantization.convert(net, inplace=True)
    return net


DYNAMIC: dict[str, tuple[Any, Tensor, Any]] = {
    "first layer": (lambda: dynamic(plain()), X, ["0"]),
    "rows that are equal": (lambda: dynamic(plain()), torch.ones(40, 6), ["0"]),
    "rows of zeros": (lambda: dynamic(plain()), torch.zeros(40, 6), ["2"]),
    "penultimate": (lambda: dynamic(plain()), X, "penultimate"),
    "after it": (lambda: dynamic(plain()), X, ["1"]),
    "recurrent": (lambda: dynamic(Recurrent()), torch.randn(40, 3, 6), ["rnn[0]"]),
    "behind a plain layer": (lambda: nn.Sequential(nn.Linear(6, 6), dynamic(plain())), X, ["1.0"]),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_dynamic_quantisation_is_refused_whatever_the_data(name: str) -> None:
    make, rows, taps = DYNAMIC[name]
    with pytest.raises(TapError, match=r"dynamic quantisation.*before quantisation, or with batch_size=1"):
        extract(make(), rows, taps)
    with pytest.raises(TapError, match="dynamic quantisation"):
        extract(make(), rows[:1], taps, batch_size=16)


@pytest.mark.parametrize("name", DYNAMIC)
def test_each_row_of_a_dynamically_quantised_net_is_read_alone(name: str) -> None:
    make, rows, taps = DYNAMIC[name]
    net = make()
    ((key, found),) = extract(net, rows, taps, batch_size=1).items()
    for i in (0, 7, 39):
        with tapped(net, [key]) as caught, torch.no_grad():
            net(rows[i : i + 1])
        expected = caught[key].mean(1) if caught[key].ndim == 3 else caught[key]
        np.testing.assert_allclose(found[i], expected[0].numpy(), rtol=1e-5, atol=1e-6)


def test_what_comes_before_the_first_scale_is_exact() -> None:
    net = nn.Sequential(nn.Linear(6, 6), dynamic(plain())).eval()
    found = extract(net, X, ["0", "1.0:input"])
    expected = net[0](X).detach().numpy()
    np.testing.assert_allclose(found["0"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["1.0:input"], expected, rtol=1e-5, atol=1e-6)


def test_results_are_never_made_of_it() -> None:
    with pytest.raises(TapError, match="dynamic quantisation"):
        read_rows(dynamic(plain()), [X], {"0": Tap("0")}, device=torch.device("cpu"))


def test_a_member_is_told_that_it_is_quantised() -> None:
    with pytest.raises(MemberError, match=r"dynamic quantisation.*as it was before quantisation"):
        NetClassifier(dynamic(plain()), epochs=1).fit(np.ones((40, 6)), np.arange(40) % 2)


def test_weights_alone_in_half_precision_are_exact() -> None:
    net = dynamic(plain(), torch.float16)
    found = extract(net, X, ["0", "2"])
    with torch.no_grad():
        np.testing.assert_allclose(found["0"], net[0](X).numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["2"], net(X).numpy(), rtol=1e-4, atol=1e-5)


def test_static_quantisation_is_read_to_the_bit(tmp_path: Path) -> None:
    net = static()
    assert str(find_penultimate(net, X)) == "3:input"
    taps = ["0", "1", "2", "3", "4"]
    assert set(taps) <= set(list_layers(net, X).names)
    with tapped(net, taps) as caught, torch.no_grad():
        net(X)
    for options in ({}, {"batch_size": 16}, {"out": tmp_path}):
        found = extract(net, X, taps, **options)
        for tap in taps:
            np.testing.assert_array_equal(found[tap], caught[tap].numpy())
    np.testing.assert_array_equal(extract(net, X)["3:input"], caught["2"].numpy())


def test_a_scale_of_the_batch_made_by_hand_is_refused_and_quantisation_is_named() -> None:
    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            scale = x.abs().amax() / 7
            return (x / scale).round() * scale

    net = nn.Sequential(nn.Linear(6, 6), Rounded(), nn.Linear(6, 2))
    with pytest.raises(TapError, match=r"scales taken over the batch \(quantisation\)"):
        extract(net, X * torch.arange(1, 41)[:, None], ["1"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_nets_in_half_precision_are_read_as_they_compute(dtype: torch.dtype) -> None:
    net = plain().to(dtype)
    found = extract(net, X)["2:input"]
    assert found.dtype == np.float32
    with torch.no_grad():
        expected = net[:2](X.to(dtype)).float().numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(TapError, match=f"its weights are {name}: give {name}, not float32"):
        list_layers(net, X)
    assert list_layers(net, X.to(dtype)).names == ("0", "1", "2")


def test_kinds_of_quantised_layers_are_told_apart() -> None:
    by_batch, halved, fixed = dynamic(plain()), dynamic(plain(), torch.float16), static()
    assert [scales_by_batch(layer) for layer in by_batch] == [True, False, True]
    assert [scales_by_batch(layer) for layer in halved] == [False] * 3
    assert not any(scales_by_batch(layer) for layer in fixed.modules())
