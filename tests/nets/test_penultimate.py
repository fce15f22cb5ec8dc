"""find_penultimate on nets whose last features are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.nets.mlp import MLP
from stackfeat.nets.penultimate import find_penultimate
from stackfeat.nets.taps import Tap


class Auxiliary(nn.Module):
    """The head is defined first and called before an auxiliary layer that leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.body = nn.Linear(3, 4)
        self.side = nn.Linear(4, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x).relu_()
        return self.head(features), self.side(features)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(3, 1)
        self.right = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], dim=1)


def test_the_mlp_and_a_sequential_net() -> None:
    assert find_penultimate(MLP(3, 2, hidden=(5, 4)), torch.randn(4, 3)) == Tap("head", side="input")
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(1))
    assert str(find_penultimate(net, torch.randn(4, 3))) == "3:input"


def test_auxiliary_layers_and_the_order_of_definition_do_not_mislead() -> None:
    assert str(find_penultimate(Auxiliary(), torch.randn(4, 3))) == "head:input"


def test_a_convolutional_head_and_a_frozen_net() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    for weight in net.parameters():
        weight.requires_grad_(False)
    assert str(find_penultimate(net, torch.randn(2, 1, 8, 8))) == "2:input"
    assert not any(weight.requires_grad for weight in net.parameters())


def test_a_layer_called_twice_is_tapped_at_its_last_call() -> None:
    shared = nn.Linear(3, 3)
    assert str(find_penultimate(nn.Sequential(shared, nn.ReLU(), shared), torch.randn(2, 3))) == "0:input#1"


def test_several_heads_are_an_error_that_names_them() -> None:
    with pytest.raises(TapError, match="left, right"):
        find_penultimate(TwoHeads(), torch.randn(4, 3))


def test_no_weighted_layer_is_an_error() -> None:
    with pytest.raises(TapError, match="got none"):
        find_penultimate(nn.Sequential(nn.BatchNorm1d(3)), torch.randn(4, 3))


def test_mode_gradients_hooks_buffers_and_generator_are_as_before() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    net[1].eval()
    net[0].weight.requires_grad_(False)
    modes = [part.training for part in net.modules()]
    state = {name: values.clone() for name, values in net.state_dict().items()}
    generator = torch.get_rng_state()
    find_penultimate(net, torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    assert [part.training for part in net.modules()] == modes
    assert [weight.requires_grad for weight in net.parameters()] == [False, True, True, True, True, True]
    assert all(weight.grad is None for weight in net.parameters())
    assert all(torch.equal(values, state[name]) for name, values in net.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert all(not part._forward_hooks for part in net.modules())
