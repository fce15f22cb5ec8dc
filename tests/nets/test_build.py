"""Which array reaches which argument of ``forward``, whatever the arguments are called."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stackfeat.layers.taps.layers import layer_names
from stackfeat.nets.build import NetSpec, bind_inputs, input_order


class ByName(nn.Module):
    def forward(self, table: Any, image: Any) -> Any:
        return {"image": image, "table": table}


class Others(nn.Module):
    def forward(self, x: Any, y: Any) -> Any:
        return {"image": x, "table": y}


class Any_(nn.Module):
    def forward(self, **inputs: Any) -> Any:
        return inputs


class FirstAndAny(nn.Module):
    def forward(self, x: Any, **others: Any) -> Any:
        return {"image": x, **others}


class KeywordOnly(nn.Module):
    def forward(self, image: Any, *, table: Any) -> Any:
        return {"image": image, "table": table}


class Lengths(nn.Module):
    def forward(self, x: Any, mask: Any = None, lengths: Any = None) -> Any:
        return {"image": x, "lengths": lengths}


class LengthsFirst(nn.Module):
    def forward(self, lengths: Any, x: Any) -> Any:
        return {"image": x, "lengths": lengths}


def call(module: nn.Module, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    bind_inputs(module, names, optional)
    order = input_order(module, names, optional)
    given: dict[str, Any] = module(*[names[index] for index in order])
    return given


@pytest.mark.parametrize("net", [ByName, Others, Any_, FirstAndAny, KeywordOnly])
def test_every_input_reaches_its_argument(net: type[nn.Module]) -> None:
    assert call(net(), ("image", "table")) == {"image": "image", "table": "table"}


@pytest.mark.parametrize("net", [ByName, Any_, KeywordOnly])
def test_names_count_and_not_their_order(net: type[nn.Module]) -> None:
    assert call(net(), ("table", "image")) == {"image": "image", "table": "table"}


@pytest.mark.parametrize("net", [Lengths, LengthsFirst, Any_, FirstAndAny])
def test_lengths_reach_the_argument_of_their_name(net: type[nn.Module]) -> None:
    assert call(net(), ("image", "lengths"), ("lengths",)) == {"image": "image", "lengths": "lengths"}


def test_lengths_are_left_out_where_nothing_takes_them() -> None:
    assert call(Others(), ("image", "lengths", "table"), ("lengths",)) == {"image": "image", "table": "table"}


class Two(nn.Module):
    def __init__(self, n_outputs: int, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.fc = nn.Linear(shapes["a"][0] + shapes["b"][0], n_outputs)

    def forward(self, **inputs: Tensor) -> Tensor:
        scores: Tensor = self.fc(torch.cat([inputs["a"], inputs["b"]], dim=1))
        return scores


def test_a_bound_net_keeps_its_class_layers_and_weights() -> None:
    spec = NetSpec(Two, {}, 0, 3, shapes={"b": (2,), "a": (4,)}, input_names=("b", "a"))
    module = spec.build()
    assert isinstance(module, Two) and type(module).__name__ == "Two"
    assert list(module.state_dict()) == ["fc.weight", "fc.bias"]
    assert "fc" in layer_names(module)
    b, a = torch.randn(5, 2), torch.randn(5, 4)
    assert torch.equal(module(b, a), module.fc(torch.cat([a, b], dim=1)))
    again = NetSpec.from_json(spec.to_json(), Two)
    assert again == spec
