"""Chains of layers write over values that nobody else sees, and over no others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import stackfeat as sf
from stackfeat.layers.extraction.fast_layers import inplace_relu, may_overwrite_input


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)
    ).eval()


def test_a_relu_behind_a_layer_with_a_new_output_overwrites() -> None:
    assert may_overwrite_input(chain()) == [False, True, False, False, True, False]
    kept = nn.Sequential(
        nn.Identity(), nn.ReLU(), nn.Flatten(), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(inplace=True)
    )
    assert not any(may_overwrite_input(kept))
    assert not any(may_overwrite_input(nn.Sequential(nn.ReLU(), nn.Linear(2, 2))))


def test_values_are_the_same_to_the_bit_and_inputs_stay() -> None:
    model, x = chain(), torch.randn(40, 6)
    before = x.clone()
    with torch.no_grad():
        expected = model(x)
        with inplace_relu(model):
            assert torch.equal(model(x), expected)
            assert torch.equal(model(input=x), expected)
    assert torch.equal(x, before)


def test_a_first_relu_never_writes_over_the_input() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Linear(6, 2), nn.ReLU()).eval()
    x = torch.randn(5, 6)
    before = x.clone()
    with torch.no_grad(), inplace_relu(model):
        model(x)
    assert torch.equal(x, before)


def test_hooks_are_heard_and_those_of_the_user_keep_their_values() -> None:
    model, kept = chain(), []
    model[0].register_forward_hook(lambda _layer, _args, output: kept.append(output))
    model[4].register_forward_hook(lambda _layer, _args, output: kept.append(output))
    with torch.no_grad(), inplace_relu(model):
        model(torch.randn(20, 6))
    assert len(kept) == 2
    assert (kept[0] < 0).any()


def test_features_of_every_layer_are_those_of_hooks() -> None:
    model, x = chain(), torch.randn(70, 6)
    caught: dict[str, Tensor] = {}
    for name, layer in model.named_children():
        layer.register_forward_hook(
            lambda _layer, _args, output, name=name: caught.__setitem__(name, output.clone())
        )
    with torch.no_grad():
        model(x)
    for layer in model:
        layer._forward_hooks.clear()
    found = sf.extract(model, x, taps=[str(i) for i in range(6)])
    for name, values in caught.items():
        np.testing.assert_allclose(found[name], values.numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(sf.extract(model, x, taps=name)[name], found[name])


def test_a_value_that_the_net_itself_keeps_is_not_lost() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.chain = chain()

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.chain[0](x)
            return self.chain[1](hidden) + hidden

    model, x = Keeps().eval(), torch.randn(30, 6)
    with torch.no_grad():
        expected = model(x)
        with inplace_relu(model):
            assert torch.equal(model(x), expected)


def test_everything_is_put_back_after_an_error() -> None:
    class Stops(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("stop")

    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), Stops())
    with pytest.raises(RuntimeError, match="stop"), inplace_relu(model), torch.no_grad():
        model(torch.randn(2, 6))
    assert "forward" not in vars(model)
    assert not model[1].inplace


def test_gradients_go_the_usual_way() -> None:
    model, x = chain(), torch.randn(5, 6, requires_grad=True)
    with inplace_relu(model):
        model(x).sum().backward()
    assert x.grad is not None
