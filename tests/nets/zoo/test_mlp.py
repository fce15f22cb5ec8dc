"""The built-in net: shapes, categories, dropout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stackfeat.errors import UsageError
from stackfeat.nets.zoo.mlp import MLP, ByteDropout


@pytest.mark.parametrize(("n_features", "cardinalities"), [(3, ()), (0, (4, 2)), (5, (3,))])
def test_numbers_and_categories_in_any_mix(n_features: int, cardinalities: tuple[int, ...]) -> None:
    net = MLP(n_features, 2, cardinalities, hidden=(8,))
    codes = torch.tensor([[n_codes - 1 for n_codes in cardinalities]] * 4, dtype=torch.int64)
    assert net(torch.randn(4, n_features), codes).shape == (4, 2)


def test_codes_of_different_columns_do_not_share_vectors_and_unknown_is_zero() -> None:
    net = MLP(0, 2, (3, 3), hidden=(8,), embedding=4)
    table = net.embedding(torch.tensor([[0, 0], [1, 1]]) + net.offsets)
    assert torch.equal(table[0], torch.zeros(2, 4))
    assert not torch.equal(table[1, 0], table[1, 1])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_dropout_drops_its_share_keeps_the_mean_and_rests_in_eval_mode(share: float) -> None:
    torch.manual_seed(0)
    layer = ByteDropout(share)
    x = torch.ones(1001, 301, requires_grad=True)
    dropped = layer(x)
    dropped.sum().backward()
    assert float((dropped == 0).float().mean()) == pytest.approx(share, abs=4e-3)
    assert float(dropped.detach().mean()) == pytest.approx(0.0 if share == 1 else 1.0, abs=5e-3)
    assert torch.equal(x.grad, dropped.detach())
    assert isinstance(layer, nn.Dropout)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_features": 0}, "at least one input column"),
        ({"n_features": 2, "hidden": (4, 0)}, r"got hidden=\[4, 0\]"),
        ({"n_features": 2, "activation": "rely"}, "got activation='rely'"),
    ],
)
def test_impossible_nets_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MLP(n_outputs=2, **settings)  # type: ignore[arg-type]
