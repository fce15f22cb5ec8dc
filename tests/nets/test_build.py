"""Which array reaches which argument of ``forward``, whatever the arguments are called."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError
from stackfeat.layers.extraction.extract import read_rows
from stackfeat.layers.taps.layers import layer_names
from stackfeat.layers.taps.tap import Tap
from stackfeat.nets.build import NetSpec, bind_inputs, find_binding, input_order
from stackfeat.sklearn.nets import NetClassifier


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


class MayBeNone(nn.Module):
    def forward(self, x: Any = None, **others: Any) -> Any:
        return {"image": x, **others}


class AllMayBeNone(nn.Module):
    def forward(self, x: Any = None, y: Any = None, return_dict: bool | None = None, **others: Any) -> Any:
        assert return_dict is None and not others
        return {"image": x, "table": y}


class FlagBetween(nn.Module):
    def forward(self, x: Tensor, scale: float = 1.0, training: bool = False, y: Tensor | None = None) -> Any:
        assert scale == 1.0 and training is False
        return {"image": x, "table": y}


class Positions(nn.Module):
    def forward(self, *values: Any) -> Any:
        return dict(zip(("image", "table"), values, strict=True))


class PositionsAndName(nn.Module):
    def forward(self, *values: Any, table: Any) -> Any:
        return {"image": values[0], "table": table}


class OneByName(nn.Module):
    def forward(self, x: Any, table: Any) -> Any:
        return {"image": x, "table": table}


class PassedOn(nn.Module):
    """A forward behind a decorator that hides its arguments."""

    def inner(self, x: Any, y: Any) -> Any:
        return {"image": x, "table": y}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


def traced(function: Any) -> Any:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return run


class Decorated(nn.Module):
    @traced
    def forward(self, x: Any = None, **others: Any) -> Any:
        return {"image": x, "table": others["table"]}


class Partial(nn.Module):
    """Its forward is set on the module itself, and takes its arguments by name alone."""

    def __init__(self) -> None:
        super().__init__()
        self.forward = functools.partial(self.run, "given")

    def run(self, first: str, *, image: Any, table: Any) -> Any:
        assert first == "given"
        return {"image": image, "table": table}


class PartialMethod(nn.Module):
    def run(self, x: Any = None, y: Any = None, *, is_set: bool = False) -> Any:
        assert is_set
        return {"image": x, "table": y}

    forward = functools.partialmethod(run, is_set=True)


@pytest.mark.parametrize(
    "net",
    [
        *(MayBeNone, AllMayBeNone, FlagBetween, Positions, PositionsAndName, OneByName),
        *(PassedOn, Decorated, Partial, PartialMethod),
    ],
)
def test_arrays_without_a_matching_name_go_to_arguments_in_order(net: type[nn.Module]) -> None:
    assert call(net(), ("image", "table")) == {"image": "image", "table": "table"}


def test_a_bound_forward_of_the_module_itself_is_copied_with_it() -> None:
    module = Partial()
    bind_inputs(module, ("table", "image"))
    arrays = [("t", "i")[index] for index in input_order(module, ("table", "image"))]
    assert copy.deepcopy(module)(*arrays) == module(*arrays) == {"image": "i", "table": "t"}


def test_one_array_never_ends_in_what_takes_anything() -> None:
    transformers = pytest.importorskip("transformers")
    bert = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
        )
    )
    bind_inputs(bert, ("table",))
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(bert.eval()(ids).last_hidden_state, bert(input_ids=ids).last_hidden_state)
    assert find_binding(bert, ("attention_mask", "input_ids")).order == (1, 0)
    words = find_binding(bert, ("words", "lengths"), ("lengths",))
    assert (words.order, words.keywords) == ((0, 1), (None, "attention_mask"))


@pytest.mark.parametrize("script", [torch.jit.script, lambda net: torch.jit.trace(net, torch.ones(2, 3))])
def test_scripted_modules_tell_their_arguments(script: Any) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
            return x * scale

    net = script(Net())
    bind_inputs(net, ("table",))
    assert net(torch.ones(2, 3)).sum() == 12
    with pytest.raises(MemberError, match="no argument for 'image'"):
        bind_inputs(net, ("table", "image"))


class WithMask(nn.Module):
    def forward(self, tokens: Any, attention_mask: Any = None) -> Any:
        return tokens


class WithLabels(nn.Module):
    def forward(self, x: Any = None, labels: Any = None) -> Any:
        return x


@pytest.mark.parametrize(
    ("net", "names", "message"),
    [
        (OneByName, ("image",), r"OneByName.forward \(x, table\); got 'image': nothing for 'table'"),
        (ByName, ("image",), "nothing for 'table'"),
        (ByName, ("image", "table", "other"), "no argument for 'other'"),
        (KeywordOnly, ("image", "tabel"), r"nothing for 'table'\. Did you mean 'table'\?"),
        (FlagBetween, ("a", "b", "c"), "no argument for 'c'"),
        (WithMask, ("question", "answer"), "'answer' would be its 'attention_mask'"),
        (WithLabels, ("a", "b"), "'b' would be its 'labels'"),
        (PositionsAndName, ("image", "other"), "nothing for 'table'"),
    ],
)
def test_what_reaches_no_argument_is_refused(
    net: type[nn.Module], names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(MemberError, match=message):
        bind_inputs(net(), names)


def test_a_net_whose_arguments_have_defaults_trains_on_its_rows() -> None:
    class Quiet(nn.Module):
        """Without x it gives what it knows without any row."""

        def __init__(self, n_features: int, n_outputs: int) -> None:
            super().__init__()
            self.linear, self.bias = nn.Linear(n_features, n_outputs), nn.Parameter(torch.zeros(1, n_outputs))

        def forward(self, x: Tensor | None = None, **others: Any) -> Tensor:
            if x is None:
                return self.bias.expand(len(next(iter(others.values()))), -1)
            return self.linear(x)

    X = np.random.default_rng(0).normal(size=(200, 4))
    y = (X[:, 0] > 0).astype(int)
    net = NetClassifier(Quiet, epochs=20, batch_size=32, random_state=0).fit(X, y)
    assert net.score(X, y) > 0.9


class Padded(nn.Module):
    def forward(self, x: Tensor, src_key_padding_mask: Any = None, tgt_key_padding_mask: Any = None) -> Any:
        assert tgt_key_padding_mask is None
        return src_key_padding_mask


class Attended(nn.Module):
    def forward(
        self, x: Tensor, encoder_attention_mask: Any = None, attention_mask: Any = None, **others: Any
    ) -> Any:
        assert encoder_attention_mask is None and not others
        return attention_mask


class MustAttend(nn.Module):
    def forward(self, x: Tensor, attention_mask: Tensor, *, scale: float = 1.0, **others: Any) -> Any:
        assert not others
        return attention_mask


class NoMask(nn.Module):
    def forward(self, x: Tensor, memory_key_padding_mask: Any = None) -> Any:
        return memory_key_padding_mask


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (Padded, [[False, False, True], [False, False, False]]),
        (Attended, [[1, 1, 0], [1, 1, 1]]),
        (MustAttend, [[1, 1, 0], [1, 1, 1]]),
        (NoMask, None),
    ],
)
def test_lengths_become_the_mask_that_a_net_asks_for(net: type[nn.Module], expected: Any) -> None:
    module, names = net(), ("words", "lengths")
    bind_inputs(module, names, ("lengths",))
    arrays = (torch.ones(2, 3, 4), torch.tensor([2, 3]))
    given = module(*(arrays[index] for index in input_order(module, names, ("lengths",))))
    assert expected == (None if given is None else given.tolist())


def test_layers_of_a_net_that_was_given_a_mask_are_averaged_over_real_steps() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            assert attention_mask is not None
            return (self.fc(x) * attention_mask[..., None]).sum(1)

    net = Net()
    bind_inputs(net, ("words", "lengths"), ("lengths",))
    x, lengths = torch.randn(20, 3, 4), torch.randint(1, 4, (20,))
    _, caught = read_rows(net, [x, lengths], {"fc": Tap("fc")}, device=torch.device("cpu"))
    expected = torch.stack([row[:n].mean(0) for row, n in zip(net.fc(x), lengths, strict=True)])
    np.testing.assert_allclose(caught["fc"], expected.detach().numpy(), rtol=1e-5, atol=1e-6)


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
