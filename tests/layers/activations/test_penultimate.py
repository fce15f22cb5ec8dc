"""find_penultimate on nets whose last features are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.layers.activations.penultimate import find_penultimate
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.marks import mark
from stackfeat.layers.taps.tap import Tap
from stackfeat.nets.zoo.mlp import MLP


class Auxiliary(nn.Module):
    """The head is defined first and called before an auxiliary layer that leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.body = nn.Linear(3, 4)
        self.side = nn.Linear(4, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x).relu_()
        output = self.head(features)
        self.side(features)
        return output, features


class Returning(nn.Module):
    """Returns what it is told to make of its logits, features and a second head."""

    def __init__(self, make: Callable[[Tensor, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.classify = nn.ModuleDict({"fc": nn.Linear(4, 2)})
        self.other = nn.Linear(4, 1)
        self.make = make

    def forward(self, x: Tensor) -> Any:
        features = self.body(x)
        return self.make(self.classify["fc"](features), features, self.other(features))


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


@pytest.mark.parametrize(
    "make",
    [
        lambda logits, features, other: (logits, features),
        lambda logits, features, other: (features, logits),
        lambda logits, features, other: {"probabilities": logits.softmax(1), "hidden": [features]},
        lambda logits, features, other: torch.cat([logits, features], dim=1),
        lambda logits, features, other: features[:, :2] + logits,
    ],
)
def test_features_beside_the_output_do_not_hide_the_head(make: Any) -> None:
    assert str(find_penultimate(Returning(make), torch.randn(4, 3))) == "classify.fc:input"


@pytest.mark.parametrize(
    "make",
    [
        lambda logits, features, other: (logits, other),
        lambda logits, features, other: {"a": logits, "b": other},
        lambda logits, features, other: logits * other,
    ],
)
def test_several_heads_in_any_container_are_an_error_that_lists_them(make: Any) -> None:
    with pytest.raises(TapError, match=r"got (classify.fc, other|other, classify.fc) of the weighted layers"):
        find_penultimate(Returning(make), torch.randn(4, 3))


def test_weights_used_by_functional_code_after_the_last_layer_are_named() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 3)
            self.fc = nn.Linear(3, 3)

        def forward(self, codes: Tensor) -> Tensor:
            hidden = mark("features", self.fc(self.embedding(codes)).mean(1))
            return hidden @ self.embedding.weight.T

    with pytest.raises(TapError, match=r"embedding.weight used by functional code.*mark\('features'"):
        find_penultimate(Tied(), torch.zeros(2, 4, dtype=torch.int64))


def test_an_output_that_does_not_depend_on_the_tap_is_noticed() -> None:
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) * 0

    with pytest.raises(TapError, match="must depend on"):
        find_penultimate(Blind(), torch.randn(2, 3))


def test_keyword_inputs_wrappers_and_nets_without_gradients() -> None:
    class Quiet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        @torch.no_grad()
        def forward(self, *, values: Tensor) -> Tensor:
            return self.last(self.first(values)).argmax(1)

    torch.manual_seed(0)  # of some random nets the largest output is the same for all rows
    net, mlp = Quiet(), MLP(3, 2, hidden=(5, 4))
    assert str(find_penultimate(nn.DataParallel(net), values=torch.randn(64, 3))) == "last:input"
    with torch.inference_mode():
        x = torch.randn(64, 3)
        assert str(find_penultimate(net, values=x)) == "last:input"
        assert str(find_penultimate(mlp, x)) == "head:input"


def test_what_it_finds_feeds_the_head_and_nothing_else() -> None:
    torch.manual_seed(0)
    net, x = (
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2), nn.Softmax(1)).eval(),
        torch.randn(5, 3),
    )
    tap = find_penultimate(net, x)
    with tapped(net, [tap]) as caught:
        output = net(x)
    torch.testing.assert_close(net[2](caught[tap]).softmax(1), output)
