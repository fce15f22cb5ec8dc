"""RealMLP against the formulas of its paper, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stackfeat.errors import UsageError
from stackfeat.layers.taps.runtime import pinned
from stackfeat.nets.training.optimizer import FlatAdamW
from stackfeat.nets.zoo.mlp import (
    NTPLinear,
    ParametricActivation,
    PeriodicColumns,
    RealMLP,
    RobustClip,
    ScalingLayer,
)


def test_numbers_are_scaled_by_quartiles_and_clipped_smoothly() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.lognormal(size=101), np.arange(101) > 90, np.full(101, 7.0)]).astype(np.float32)
    prepared = RealMLP.prepare((x, np.zeros((101, 0), np.int64)), {})
    lower, middle, upper = np.percentile(x[:, 0].astype(np.float64), [25, 50, 75])
    assert prepared["center"] == pytest.approx([middle, 0, 7])
    # Equal quartiles: half the range, so that 0 and 1 become 0 and 2. A constant says nothing.
    assert prepared["scale"] == pytest.approx([1 / (upper - lower), 2, 0])
    scaled = (x[:, 0] - middle) / (upper - lower)
    clipped = RobustClip(3, prepared)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(clipped[:, 0], scaled / np.sqrt(1 + (scaled / 3) ** 2), rtol=1e-4, atol=1e-6)
    for huge in (1e9, 1e30, np.inf):
        assert float(RobustClip(1, None)(torch.tensor([[-huge]]))) == pytest.approx(-3)
    assert set(clipped[:, 2]) == {0.0}


def test_periodic_columns_are_a_linear_map_of_a_numbers_own_cosines_beside_it() -> None:
    with pinned(0):
        layer = PeriodicColumns(n_features=3, n_waves=5, n_columns=4, frequency_scale=0.3)
    x = np.random.default_rng(0).normal(size=(7, 3))
    frequency, phase, weight, bias = (
        getattr(layer, name).detach().double().numpy() * 0.1
        for name in ("frequency", "phase", "weight", "bias")
    )
    frequency, phase = frequency.reshape(3, 5), phase.reshape(3, 5)
    weight, bias = weight.reshape(3, 5, 3), bias.reshape(3, 3)
    expected = [
        np.concatenate([[x[i, j]], np.cos(frequency[j] * x[i, j] + phase[j]) @ weight[j] + bias[j]])
        for i in range(7)
        for j in range(3)
    ]
    found = layer(torch.from_numpy(x).float()).detach().numpy()
    np.testing.assert_allclose(found, np.reshape(expected, (7, 12)), rtol=1e-4, atol=1e-5)
    assert np.abs(phase).max() <= np.pi + 1e-6
    assert 0.15 < frequency.std() / (2 * np.pi) < 0.5


def test_ntp_layers_divide_by_the_root_of_their_width() -> None:
    with pinned(0):
        layer = NTPLinear(400, 300)
    x = torch.randn(500, 400, generator=torch.Generator().manual_seed(1))
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy() * 0.1
    assert weight.std() == pytest.approx(1, abs=0.02) and bias.std() == pytest.approx(1, abs=0.1)
    found = layer(x).detach().numpy()
    np.testing.assert_allclose(found, x.numpy() @ weight.T / 20 + bias, rtol=1e-3, atol=1e-3)
    assert (found - bias).std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["selu", "mish"])
def test_a_units_amount_of_nonlinearity_is_learnt(name: str) -> None:
    layer = ParametricActivation(2, name)
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), getattr(nn.functional, name)(x))
    with torch.no_grad():
        layer.amount.copy_(torch.tensor([0.0, 5.0]))
    expected = torch.stack([x[:, 0], (x[:, 1] + getattr(nn.functional, name)(x[:, 1])) / 2], 1)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(
    ("make", "parameter", "rate"),
    [
        (lambda: ScalingLayer(4), "factor", 6.0),
        (lambda: NTPLinear(4, 4), "bias", 0.1),
        (lambda: NTPLinear(4, 4), "weight", 1.0),
        (lambda: ParametricActivation(4, "selu"), "amount", 0.1),
        (lambda: PeriodicColumns(4, 3, 3, 0.5), "frequency", 0.1),
        (lambda: PeriodicColumns(4, 3, 3, 0.5), "weight", 0.1),
    ],
)
def test_parameters_learn_at_their_own_rates(make: Any, parameter: str, rate: float) -> None:
    with pinned(0):
        layer, x, y = make(), torch.randn(16, 4), torch.randn(16, 1)
    before = getattr(layer, parameter).detach().clone()
    optimizer = FlatAdamW(layer, lr=0.01, weight_decay=0.5)
    optimizer.zero_grad()
    ((layer(x) - y) ** 2).mean().backward()
    optimizer.step(factor=1.0, clip_norm=None)
    optimizer.release()
    moved = (getattr(layer, parameter).detach() - before) * rate
    if parameter == "weight" and rate == 1.0:
        moved += 0.01 * 0.5 * before  # the one that decays
    # Adam's first step is the learning rate, whatever the gradient.
    assert moved.abs().numpy() == pytest.approx(0.01 * rate, rel=0.01)


def test_selu_is_for_classes_and_mish_for_values() -> None:
    found = [RealMLP(2, n).blocks[0][1].activation for n in (1, 2, 5)]  # type: ignore[index]
    assert found == ["mish", "selu", "selu"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_features": 0}, "a RealMLP must have at least one input column"),
        ({"n_features": 2, "hidden": (4, 0)}, r"got hidden=\[4, 0\]"),
        ({"n_features": 2, "activation": "mich"}, r"got activation='mich'. Did you mean 'mish'\?"),
        ({"n_features": 2, "numeric_embedding": 1}, "got numeric_embedding=1"),
    ],
)
def test_impossible_nets_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RealMLP(n_outputs=2, **settings)


def test_codes_must_come_where_there_are_categories() -> None:
    with pytest.raises(ValueError, match="codes must be given"):
        RealMLP(2, 2, (3,))(torch.zeros(2, 2))
