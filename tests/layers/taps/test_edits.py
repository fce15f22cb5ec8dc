"""Values changed on their way, against hooks written by hand and against the same net with the change written in."""

from __future__ import annotations

import threading
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.checkpoint import checkpoint

from stackfeat.errors import LayerNotFoundError, TapError, UsageError
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.taps.edits import edited
from stackfeat.layers.taps.functions import LISTENING
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.marks import RUNNING, mark
from stackfeat.layers.taps.tap import Tap


def n_hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    yield
    assert not LISTENING.sessions
    assert not RUNNING.listeners


def make_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def double(value: Tensor) -> Tensor:
    return 2 * value


def test_the_net_goes_on_with_what_the_function_returns() -> None:
    net, x = make_net(), torch.randn(5, 4)
    handle = net[1].register_forward_hook(lambda _m, _i, output: output * 2)
    expected = net(x)
    handle.remove()
    with edited(net, {"1": double}):
        assert torch.equal(net(x), expected)
    assert n_hooks(net) == 0
    assert torch.equal(net(x), net[2](net[1](net[0](x))))


def test_inputs_are_changed_before_the_layer_runs() -> None:
    net, x = make_net(), torch.randn(5, 4)
    with edited(net, {"2:input": double, ":input": lambda value: value + 1}):
        found = net(x)
    assert torch.equal(found, net[2](net[1](net[0](x + 1)) * 2))


def test_gradients_flow_through_an_edit_and_into_what_it_uses() -> None:
    net, x = make_net(), torch.randn(5, 4)
    scale = torch.ones(6, requires_grad=True)
    with edited(net, {"1": lambda value: value * scale}):
        net(x).sum().backward()
    hidden = net[1](net[0](x)).detach()
    assert torch.allclose(scale.grad, (hidden * net[2].weight.sum(0)).sum(0).detach())
    assert net[0].weight.grad is not None


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.act = nn.Tanh()

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        states, (hidden, cell) = self.lstm(x)
        return self.act(self.act(states[:, -1]) * scale) + hidden[0] + cell[0]


def test_one_value_of_several_is_changed_and_the_others_stay() -> None:
    net, x = Recurrent(), torch.randn(2, 7, 3)
    states, (hidden, cell) = net.lstm(x)
    with edited(net, {"lstm[1][1]": torch.zeros_like}):
        assert torch.equal(net(x), net.act(net.act(states[:, -1])) + hidden[0])
    with edited(net, {"lstm": torch.zeros_like}):  # the first tensor
        assert torch.equal(net(x), hidden[0] + cell[0])
    with edited(net, {"lstm[*]": torch.zeros_like}):
        assert not net(x).any()


def test_calls_are_chosen_or_all_of_them_are_changed() -> None:
    net, x = Recurrent(), torch.randn(2, 7, 3)
    states, (hidden, cell) = net.lstm(x)
    rest = hidden[0] + cell[0]
    with edited(net, {"act#0": torch.ones_like}):
        assert torch.allclose(net(x), torch.ones(2, 5).tanh() + rest)
    with edited(net, {"act#1": torch.ones_like}):
        assert torch.allclose(net(x), 1 + rest)
    for every in ("act", "act#all"):
        with edited(net, {every: lambda value: value + 1}):
            found = net(x)
        assert torch.allclose(found, net.act(net.act(states[:, -1]) + 1) + 1 + rest)


def test_arguments_are_changed_however_they_are_passed_and_also_those_that_are_no_tensors() -> None:
    net, x = Recurrent(), torch.randn(2, 7, 3)
    with edited(net, {":input[scale]": lambda scale: scale + 1}):
        found = [net(x, 2.0), net(x, scale=2.0)]
    with edited(net, {":input[1]": lambda scale: scale + 1}):
        found += [net(x, 2.0), net(x, scale=2.0)]
    assert all(torch.equal(one, net(x, 3.0)) for one in found)
    with (
        pytest.raises(TapError, match=r"\[scale\] must exist in the input"),
        edited(net, {":input[scale]": double}),
    ):
        net(x)


@dataclass
class Answer:
    logits: Tensor
    hidden: list[Tensor]


Pair = namedtuple("Pair", ["left", "right"])


class Settings(dict):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    ("made", "tap", "read"),
    [
        (lambda a, b: (a, b), "0[1]", lambda found: found[1]),
        (lambda a, b: [a, b], "0[-1]", lambda found: found[-1]),
        (lambda a, b: {"a": a, "b": b}, "0[b]", lambda found: found["b"]),
        (lambda a, b: {"a": a, "b": b}, "0[1]", lambda found: found["b"]),
        (lambda a, b: {0: a, 1: b}, "0[1]", lambda found: found[1]),
        (lambda a, b: Settings(a=a, b=[b]), "0[b]", lambda found: found["b"][0]),
        (lambda a, b: Answer(a, [b]), "0[hidden]", lambda found: found.hidden[0]),
        (lambda a, b: Answer(a, [b]), "0[1][0]", lambda found: found.hidden[0]),
        (lambda a, b: Pair(a, b), "0[right]", lambda found: found.right),
        (lambda a, b: Pair(a, b), "0[1]", lambda found: found.right),
        (
            lambda a, b: {"x": (None, {"y": [b]}), "z": a},
            "0[x][1][y][0]",
            lambda found: found["x"][1]["y"][0],
        ),
        (lambda a, b: (None, (), {"y": b}, a), "0", lambda found: found[2]["y"]),
        (lambda a, b: torch.max(b + 1, dim=1, keepdim=True), "0[values]", lambda found: found.values),
    ],
)
def test_a_value_in_any_structure_is_changed_and_the_structure_stays(made: Any, tap: str, read: Any) -> None:
    class Body(nn.Module):
        def forward(self, x: Tensor) -> Any:
            outputs.append(made(x * 2, x * 3))
            return outputs[-1]

    outputs: list[Any] = []
    net, x = nn.Sequential(Body()), torch.randn(2, 3)
    with edited(net, {tap: lambda value: value + 100}):
        found = net(x)
    assert type(found) is type(outputs[0])
    assert torch.equal(read(found), read(outputs[0]) + 100)  # and the net's own object is as it was


def test_a_packed_sequence_is_given_and_returned_whole() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4)

        def forward(self, x: Any) -> Any:
            return self.lstm(x)[0]

    net, x = Packed(), pack_sequence([torch.randn(3, 3), torch.randn(2, 3)])
    with edited(net, {"lstm": lambda packed: packed._replace(data=packed.data * 0)}):
        found = net(x)
    assert isinstance(found, PackedSequence)
    assert not found.data.any()
    with (
        pytest.raises(TapError, match="must return a PackedSequence"),
        edited(net, {"lstm": lambda p: p.data}),
    ):
        net(x)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc(x))
        x = mark("squared", x**2) + 1
        F.relu(x, inplace=True)
        return torch.tanh(x) + torch.relu(x)


def test_what_functions_return_or_are_given_is_changed() -> None:
    net, x = Functional(), torch.randn(3, 4)
    square = torch.relu(net.fc(x)) ** 2
    with edited(net, {"relu()#0": torch.ones_like}):
        assert torch.allclose(net(x), torch.full((3, 4), 2.0).tanh() + 2)
    with edited(net, {"tanh():input": torch.zeros_like}):
        assert torch.allclose(net(x), (square + 1).relu())
    with edited(net, {"relu()#1": torch.zeros_like}):  # in place: what was overwritten is changed too
        assert not net(x).any()
    assert torch.allclose(net(x), (square + 1).tanh() + square + 1)


def test_marked_values_are_changed() -> None:
    net, x = Functional(), torch.randn(3, 4)
    with edited(net, {"squared": torch.zeros_like}):
        assert torch.allclose(net(x), torch.ones(3, 4).tanh() + 1)
    assert mark("squared", x) is x


@pytest.mark.parametrize("is_outside", [True, False])
def test_taps_see_the_edited_value_whichever_block_is_outside(is_outside: bool) -> None:
    net, x = Functional(), torch.randn(3, 4)
    taps = ["fc", "relu()#0", "relu():input#0", "squared", ":input", "pow()"]
    zeros = dict.fromkeys(("fc", "squared", ":input", "pow()"), torch.zeros_like)
    changes = edited(net, zeros | {"relu()#0": torch.ones_like})
    if is_outside:
        with changes, tapped(net, taps) as caught:
            net(x)
    else:
        with tapped(net, taps) as caught, changes:
            net(x)
    assert not any(caught[tap].any() for tap in ("fc", "relu():input#0", "squared", ":input", "pow()"))
    assert torch.equal(caught["relu()#0"], torch.ones(3, 4))


def test_edits_of_one_place_come_in_order_and_those_of_the_inner_block_first() -> None:
    net, x = make_net(), torch.randn(5, 4)
    hidden = net[1](net[0](x))
    with edited(net, {"1": double, "1#0": lambda value: value + 1}):
        first = net(x)
    with edited(net, {"1": double}), edited(net, {"1": lambda value: value + 1}):
        second = net(x)
    assert torch.equal(first, net[2](hidden * 2 + 1))
    assert torch.equal(second, net[2]((hidden + 1) * 2))


def test_extract_reads_the_edited_net_in_the_block_and_the_plain_one_after_it() -> None:
    net, x = make_net().eval(), torch.randn(40, 4)
    with edited(net, {"0": torch.zeros_like}):
        inside = extract(net, x, ["0", "1", "2"], batch_size=16)
    outside = extract(net, x, ["0", "1", "2"], batch_size=16)
    assert not inside["0"].any()
    assert not inside["1"].any()
    torch.testing.assert_close(torch.from_numpy(inside["2"]), net[2].bias.detach().expand(40, 3))
    torch.testing.assert_close(torch.from_numpy(outside["2"]), net(x).detach(), rtol=1e-5, atol=1e-6)


def test_code_around_a_pass_that_ended_early_is_not_edited() -> None:
    net, x = Functional().eval(), torch.full((3, 4), -1.0)
    with edited(net, {"relu()": torch.ones_like, "squared": torch.ones_like}):
        extract(net, x, "relu()#0", batch_size=16)
        with tapped(net, ["fc"], stop=True):
            net(x)
        assert not torch.relu(x).any()
        assert mark("squared", x) is x


def test_layers_are_chosen_by_module_pattern_and_type() -> None:
    net, x = make_net(), torch.randn(5, 4)
    for place in (net[1], Tap(net[1]), Tap(type=nn.Tanh), "*1"):
        with edited(net, {place: torch.zeros_like}):
            assert torch.equal(net(x), net[2].bias.expand(5, 3))
    with edited(net, {"*": torch.zeros_like}):
        assert not net(x).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _value: None, "got None at the output of '1'; end the function with `return value`"),
        (lambda value: value.numpy(), "must return a Tensor .* got ndarray at the output of '1'"),
        (lambda value: (value, value), r"got a tuple of \['Tensor', 'Tensor'\] at the output of '1'"),
        (lambda value: float(value.sum()), "got float at the output of '1'"),
    ],
)
def test_a_function_that_returns_something_else_is_named_by_its_layer(change: Any, message: str) -> None:
    net = make_net()
    with pytest.raises(TapError, match=message), torch.no_grad(), edited(net, {"1": change}):
        net(torch.randn(5, 4))
    assert n_hooks(net) == 0


def test_another_shape_is_taken_and_named_where_it_does_not_fit() -> None:
    net, x = make_net(), torch.randn(5, 4)
    with edited(net, {"0": lambda value: value[:2]}):
        assert net(x).shape == (2, 3)
    with pytest.raises(RuntimeError) as caught, edited(net, {"1": lambda value: value[:, :2]}):
        net(x)
    assert caught.value.__notes__ == [
        "stackfeat.edited: the edit at the output of '1' returned shape (5, 2) for (5, 6)"
    ]


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"1:grad": double}, "a gradient cannot be edited"),
        ({"1#-1": double}, "count calls from #0"),
        ({"1#-2": double}, "count calls from #0"),
        ({Tap("*", last=2): double}, "leave # and last away"),
        ({"1": 2.0}, r"must be a function .* got float for tap='1'"),
        (["1"], "must be a dict from tap to function; got list"),
        ({3: double}, "a tap must be text, a Tap or a layer of the net; got int"),
    ],
)
def test_what_cannot_be_edited_is_refused_before_any_hook(edits: Any, message: str) -> None:
    net = make_net()
    with pytest.raises(TapError, match=message), edited(net, edits):
        pytest.fail("the block must not be entered")
    assert n_hooks(net) == 0


def test_unknown_layers_are_refused_before_any_hook() -> None:
    net = make_net()
    with pytest.raises(LayerNotFoundError, match="got layer='3'"), edited(net, {"3": double}):
        pass
    with pytest.raises(LayerNotFoundError, match="not in it"), edited(net, {nn.Tanh(): double}):
        pass
    assert n_hooks(net) == 0


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        ("act#2", "got 2 calls"),
        ("gelu()", "got calls of getitem, mul, add"),
        ("add()#5", r"calls add\(\) 2 times"),
        ("unused", "got no call"),
    ],
)
def test_an_edit_that_changed_nothing_is_an_error_at_the_end(tap: str, message: str) -> None:
    net = Recurrent()
    net.unused = nn.Linear(1, 1)
    with pytest.raises(TapError, match=message), edited(net, {tap: double}):
        net(torch.randn(2, 7, 3))
    with edited(net, {tap: double, "*": double}):
        pass  # the net did not run at all
    with edited(net, {"*": double}):
        net(torch.randn(2, 7, 3))  # a pattern need not mean only layers that run


def test_hooks_are_gone_after_an_exception_of_the_net_the_function_or_the_block() -> None:
    net, x = make_net(), torch.randn(5, 4)

    def fail(_value: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), edited(net, {"1": fail, "*.relu()": double}):
        net(x)
    with pytest.raises(KeyError), edited(net, {"1": double}):
        raise KeyError
    with pytest.raises(RuntimeError), edited(net, {"0": double}):
        net(torch.randn(5, 3))
    assert n_hooks(net) == 0


def test_other_threads_run_the_net_as_it_is() -> None:
    net, x = make_net(), torch.randn(5, 4)
    expected, found = net(x), []
    with edited(net, {"1": double}):
        thread = threading.Thread(target=lambda: found.append(net(x)))
        thread.start()
        thread.join()
        assert not torch.equal(net(x), expected)
    assert torch.equal(found[0], expected)


def test_each_pass_counts_calls_anew() -> None:
    net, x = Recurrent(), torch.randn(2, 7, 3)
    with edited(net, {"act#0": torch.zeros_like}):
        first, second = net(x), net(x)
    assert torch.equal(first, second)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpoint_makes_edited_values_again(use_reentrant: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head, self.saves = make_net(), nn.Linear(3, 1), True

        def forward(self, x: Tensor) -> Tensor:
            x = checkpoint(self.body, x, use_reentrant=use_reentrant) if self.saves else self.body(x)
            return self.head(x)

    net, x = Net(), torch.randn(5, 4, requires_grad=True)
    gradients = []
    for net.saves in (False, True):
        net.zero_grad()
        with edited(net, {"body.1#0": lambda value: value**2}):
            net(x).sum().backward()
        gradients.append(net.body[0].weight.grad.clone())
    assert torch.allclose(*gradients)
    with (
        pytest.raises(TapError, match="must not be called again by checkpoint"),
        edited(net, {"body.1.tanh()": double}),
    ):
        net(x).sum().backward()


def test_compiled_nets_are_edited_as_they_were_written() -> None:
    net, x = make_net().eval(), torch.randn(5, 4)
    compiled = torch.compile(net, backend="eager")
    compiled(x)
    with edited(compiled, {"1": torch.zeros_like}):
        assert torch.equal(compiled(x), net[2].bias.expand(5, 3))


def test_inner_layers_of_transformers_are_edited() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(2, 3, 8)
    with (
        torch.no_grad(),
        edited(net, {"layers.*.self_attn": torch.zeros_like, "layers.1.norm2": torch.ones_like}),
    ):
        found = net(x, src_key_padding_mask=torch.tensor([[False] * 3, [False, False, True]]))
    assert torch.equal(found, torch.ones(2, 3, 8))


@pytest.mark.parametrize("place", ["*.linear()", "0.linear()", "**.linear():input", "2.linear()#0"])
def test_extract_reads_what_edits_of_functions_make(place: str) -> None:
    net, x = make_net().eval(), torch.randn(600, 4)
    plain = extract(net, x, "2")["2"]
    with edited(net, {place: lambda value: value + 2}), torch.no_grad():
        found, expected = extract(net, x, "2")["2"], net(x)
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-5)
    assert not torch.allclose(torch.from_numpy(plain), expected, atol=1e-2)
    assert (extract(net, x, "2")["2"] == plain).all()


def test_extract_reads_edited_functions_of_transformers_and_of_nets_around_the_edited_one() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net, x = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Linear(8, 2)).eval(), torch.randn(40, 5, 8)
    with edited(net[0], {"**.linear()": lambda value: value + 2}), torch.no_grad():
        found, expected = extract(net, x, "1", pool="none")["1"], net(x)
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-4)


def test_edited_rows_are_not_written_among_those_of_the_net_as_it_is(tmp_path: Path) -> None:
    net, x = make_net().eval(), torch.randn(20, 4)
    whole = nn.Sequential(net, nn.ReLU()).eval()
    for place in ("1", "1.tanh()", net[1]):
        with edited(net, {place: double}):
            for model in (net, whole):
                with pytest.raises(UsageError, match="leave out away and save the arrays"):
                    extract(model, x, next(iter(dict(model.named_children()))), out=tmp_path / "rows")
            extract(make_net(), x, "2", out=tmp_path / str(place)[:2])  # another net is nobody's business
    assert not (tmp_path / "rows").exists()
    extract(net, x, "2", out=tmp_path / "rows")
