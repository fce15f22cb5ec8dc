"""Taps against hooks written by hand: the grammar, the keys, what is caught."""

from __future__ import annotations

import copy
import pickle
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import LayerNotFoundError, TapError, UsageError
from stackfeat.layers.taps.edits import edited
from stackfeat.layers.taps.extractor import Extractor
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.layers import layer_names
from stackfeat.layers.taps.marks import mark
from stackfeat.layers.taps.tap import Tap


def read_by_hand(model: nn.Module, layer: nn.Module, *inputs: Tensor) -> Tensor:
    """The oracle: a hook as anyone would write it."""
    seen = []
    handle = layer.register_forward_hook(lambda _m, _i, output: seen.append(output.detach().clone()))
    with torch.no_grad():
        model(*inputs)
    handle.remove()
    return seen[-1]


def n_hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.act = nn.Tanh()
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        return self.head(self.act(self.act(states[:, -1]) * 2))


def test_a_tap_reads_what_a_hand_written_hook_reads() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Sequential(nn.Linear(6, 3), nn.Sigmoid()))
    x = torch.randn(5, 4)
    with tapped(model, ["0", "2.0", "2.0:input"]) as caught:
        model(x)
    torch.testing.assert_close(caught["0"], read_by_hand(model, model[0], x), rtol=0, atol=0)
    torch.testing.assert_close(caught["2.0"], read_by_hand(model, model[2][0], x), rtol=0, atol=0)
    torch.testing.assert_close(caught["2.0:input"], read_by_hand(model, model[1], x), rtol=0, atol=0)
    assert not caught["0"].requires_grad


def test_items_and_calls_are_chosen_as_written() -> None:
    model = Recurrent().eval()
    x = torch.randn(2, 7, 3)
    states, (hidden, cell) = model.lstm(x)
    first = model.act(states[:, -1])
    taps = ["lstm[0]", "lstm", "lstm[1][0]", "lstm[1][1]", "act", "act#0", "act#1", "act#-2", "act#all"]
    with tapped(model, taps) as caught:
        model(x)
    assert set(caught) == set(taps)
    expected = {"lstm[0]": states, "lstm": states, "lstm[1][0]": hidden, "lstm[1][1]": cell}
    expected |= {"act#0": first, "act#-2": first, "act#1": model.act(first * 2), "act": model.act(first * 2)}
    for key, values in expected.items():
        torch.testing.assert_close(caught[key], values.detach(), rtol=0, atol=0)
    assert [values.tolist() for values in caught["act#all"]] == [
        caught["act#0"].tolist(),
        caught["act"].tolist(),
    ]


def test_several_calls_are_combined_as_the_tap_says() -> None:
    model = Recurrent().eval()
    taps = {how: Tap("act", call="all", combine=how) for how in ("concat", "mean", "stack")}
    with tapped(model, {**taps, "all": "act#all"}) as caught:
        model(torch.randn(2, 7, 3))
    torch.testing.assert_close(caught["concat"], torch.cat(caught["all"], dim=1))
    torch.testing.assert_close(caught["mean"], torch.stack(caught["all"]).mean(0))
    torch.testing.assert_close(caught["stack"], torch.stack(caught["all"], dim=1))


@dataclass
class Answer:
    logits: Tensor
    hidden: list[Tensor]


Pair = namedtuple("Pair", ["left", "right"])


@pytest.mark.parametrize(
    ("wrap", "tap"),
    [
        (lambda a, b: (a, b), "body[1]"),
        (lambda a, b: [a, b], "body[-1]"),
        (lambda a, b: {"a": a, "b": b}, "body[b]"),
        (lambda a, b: {"a": a, "b": b}, "body[1]"),
        (lambda a, b: {0: a, 1: b}, "body[1]"),
        (lambda a, b: Answer(a, [b]), "body[hidden]"),
        (lambda a, b: Answer(a, [b]), "body[1][0]"),
        (lambda a, b: Pair(a, b), "body[right]"),
        (lambda a, b: {"x": (None, {"y": [b]})}, "body[x][1][y][0]"),
        (lambda a, b: (None, (), {"y": b}), "body"),
    ],
)
def test_tuples_lists_dicts_and_dataclasses_are_read_by_index_or_key(wrap: Any, tap: str) -> None:
    class Body(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return wrap(x * 2, x * 3)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Body()

        def forward(self, x: Tensor) -> Tensor:
            self.body(x)
            return x

    net, x = Net(), torch.randn(2, 3)
    with tapped(net, [tap]) as caught:
        net(x)
    torch.testing.assert_close(caught[tap], x * 3)


def test_a_wrong_item_says_what_there_is() -> None:
    model = Recurrent()
    with (
        tapped(model, ["lstm[2]"]),
        pytest.raises(TapError, match=r"\[2\] must exist in the output of 'lstm'"),
    ):
        model(torch.randn(2, 7, 3))
    assert n_hooks(model) == 0


class Fusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Bilinear(2, 3, 4)
        self.scaled = Scale()

    def forward(self, x: Tensor, *, other: Tensor) -> Tensor:
        return self.scaled(self.mix(x, other), by=other[:, :1])


class Scale(nn.Module):
    def forward(self, values: Tensor, by: Tensor) -> Tensor:
        return values * by


def test_arguments_are_read_by_position_and_by_name_however_they_are_passed() -> None:
    model, x, y = Fusion(), torch.randn(5, 2), torch.randn(5, 3)
    taps = [
        "mix:input",
        "mix:input[0]",
        "mix:input[1]",
        "mix:input[input2]",
        "scaled:input[by]",
        "scaled:input[1]",
    ]
    with tapped(model, [*taps, ":input[other]", ":output"]) as caught:
        output = model(x, other=y)
    for tap in taps[:2]:
        assert torch.equal(caught[tap], x)
    for tap in (*taps[2:4], ":input[other]"):
        assert torch.equal(caught[tap], y)
    for tap in taps[4:]:
        assert torch.equal(caught[tap], y[:, :1])
    assert torch.equal(caught[":output"], output)


def test_each_forward_pass_replaces_the_one_before() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with tapped(model, ["0#0", "0#all"]) as caught:
        model(torch.zeros(1, 2))
        model(torch.zeros(3, 2))
    assert caught["0#0"].shape == (3, 2)
    assert len(caught["0#all"]) == 1


def test_gradients_are_read_at_the_output() -> None:
    model, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 1)), torch.randn(6, 4)
    with tapped(model, ["0:grad", "1:grad", "*:grad"]) as caught:
        model(x).sum().backward()
    hidden = model[0](x).detach().requires_grad_()
    model[2](hidden.relu()).sum().backward()
    assert torch.equal(caught["0:grad"], hidden.grad)
    assert torch.equal(caught["1:grad"], model[2].weight.detach().expand(6, 3))
    assert set(caught) == {"0:grad", "1:grad", "2:grad"}


def test_gradients_of_a_layer_that_runs_twice_are_told_apart() -> None:
    model, x = Recurrent(), torch.randn(2, 7, 3)
    with tapped(model, ["act:grad", "act:grad#0", "act:grad#1", "act:grad#all"]) as caught:
        output = model(x)
        output.sum().backward()
    head = model.head.weight.detach().sum(0).expand(2, 5)
    assert torch.allclose(caught["act:grad#1"], head)
    assert torch.equal(caught["act:grad"], caught["act:grad#1"])
    assert [torch.equal(a, caught[f"act:grad#{i}"]) for i, a in enumerate(caught["act:grad#all"])] == [
        True,
        True,
    ]


def test_a_gradient_that_does_not_come_says_why() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with tapped(model, ["0:grad"]) as caught, torch.no_grad():
        model(torch.ones(1, 2))
    with pytest.raises(TapError, match=r"no torch.no_grad"):
        caught["0:grad"]
    with tapped(model, ["0:grad"]) as caught:
        model(torch.ones(1, 2))
    with pytest.raises(TapError, match=r"call loss.backward"):
        caught["0:grad"]


def test_values_may_stay_in_the_graph_for_losses_on_hidden_layers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True))
    with tapped(model, ["0"], detach=False) as caught:
        model(torch.ones(1, 2))
    caught["0"].sum().backward()
    assert torch.equal(model[0].weight.grad, torch.ones(2, 2))


def make_deep() -> nn.Module:
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.ModuleDict({"encoder": nn.TransformerEncoder(block, 4), "head": nn.Linear(8, 2)})


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = make_deep()["encoder"]
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


def test_patterns_and_types_give_a_key_per_layer() -> None:
    net, x = Deep().eval(), torch.randn(2, 3, 8)
    with tapped(net, ["encoder.layers.*.dropout2", "**.linear2:input", Tap(type=nn.LayerNorm)]) as caught:
        net(x)
    wanted = {f"encoder.layers.{i}.dropout2" for i in range(4)} | {
        f"encoder.layers.{i}.linear2:input" for i in range(4)
    }
    assert set(caught) == wanted | {f"encoder.layers.{i}.norm{j}" for i in range(4) for j in (1, 2)}


def test_types_leave_out_what_can_never_run() -> None:
    net = Deep().eval()
    with tapped(net, [Tap(type=nn.Linear)]) as caught:
        net(torch.randn(2, 3, 8))
    assert not any("out_proj" in key for key in caught)
    assert len(caught) == 9


@pytest.mark.parametrize(
    ("combine", "shape"),
    [("concat", (2, 3, 24)), ("mean", (2, 3, 8)), ("stack", (2, 3, 3, 8)), (None, (2, 3, 24))],
)
def test_the_last_matches_are_combined(combine: Any, shape: tuple[int, ...]) -> None:
    net, x = Deep().eval(), torch.randn(2, 3, 8)
    tap = Tap("encoder.layers.*.dropout2", last=3, combine=combine)
    with tapped(net, [tap]) as caught:
        net(x)
    assert caught[tap].shape == caught[str(tap)].shape == shape


def test_the_last_matches_are_those_that_ran_last_not_those_defined_last() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(self.b(self.c(x)))

    net, x = Backwards(), torch.randn(2, 2)
    with tapped(net, {"last": Tap(type=nn.Linear, last=2), "a": "a", "b": "b"}) as caught:
        net(x)
    assert torch.equal(caught["last"], torch.cat([caught["b"], caught["a"]], dim=1))


def test_keys_are_the_text_as_given() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with tapped(net, ["module._orig_mod.0", "0:output", "0#0", "0", Tap("1", side="input")]) as caught:
        net(torch.ones(1, 2))
    assert list(caught) == ["module._orig_mod.0", "0:output", "0#0", "0", "1:input"]


def test_an_unknown_layer_names_the_nearest_before_any_hook() -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(1, 1), "decoder": nn.Linear(1, 1)})
    with (
        pytest.raises(LayerNotFoundError, match=r"got layer='encodr'. Did you mean 'encoder'"),
        tapped(model, ["encodr"]),
    ):
        pass
    deep = nn.Sequential(nn.Sequential(nn.ReLU()))
    with pytest.raises(LayerNotFoundError, match=r"'\*\*' for several"), tapped(deep, ["fc.*"]):
        pass
    with pytest.raises(LayerNotFoundError), tapped(deep, ["0", "1"]):
        pass
    assert n_hooks(model) + n_hooks(deep) == 0


def test_a_key_that_was_not_asked_for_names_those_that_were() -> None:
    model = nn.Sequential(nn.Linear(1, 1))
    with tapped(model, ["0:input"]) as caught, pytest.raises(LayerNotFoundError, match="of taps 0:input"):
        caught["0"]


class Marked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 3)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        for i in range(2):
            x = mark("squares", (x**2, i))[0]
        return mark("gate", torch.sigmoid(self.fc(x)))


def test_marks_make_functional_values_tappable() -> None:
    net, x = Marked(), torch.randn(4, 2)
    with tapped(net, ["gate", "squares", "squares#0", "fc"]) as caught:
        output = net(x)
    assert torch.equal(caught["gate"], output)
    torch.testing.assert_close(caught["squares#0"], x**2)
    torch.testing.assert_close(caught["squares"], x**4)
    assert mark("gate", x) is x


def test_a_mark_that_does_not_exist_names_those_that_do() -> None:
    net = Marked()
    with tapped(net, ["gates"]) as caught:
        net(torch.randn(4, 2))
    with pytest.raises(TapError, match="got marks squares, gate"):
        caught["gates"]
    with pytest.raises(TapError, match="a mark has no input"), tapped(net, ["gate:input"]):
        pass


def test_marks_of_another_net_are_not_heard() -> None:
    tapped_net, other, x = Marked(), Marked(), torch.randn(4, 2)
    with tapped(tapped_net, ["gate"]) as caught:
        expected = tapped_net(x)
        other(x)
    assert torch.equal(caught["gate"], expected)


def test_a_mark_is_tapped_by_its_gradient_too() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return mark("double", 2 * x).sum() * 3

    net = Net()
    with tapped(net, ["double:grad"]) as caught:
        net(torch.ones(2, requires_grad=True)).backward()
    assert caught["double:grad"].tolist() == [3.0, 3.0]


def test_layers_may_be_given_themselves() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 3)))
    x, inner = torch.randn(4, 2), model[1][1]
    with tapped(model, [model[0], Tap(inner, side="input"), model]) as caught:
        output = model(x)
    assert list(caught) == ["0", "1.1:input", ":output"]
    assert torch.equal(caught[model[0]], model[0](x))
    assert torch.equal(caught[Tap(inner, side="input")], model[0](x).relu())
    assert torch.equal(caught[model], output)
    with tapped(model, {"mine": model[1]}) as caught:
        model(x)
    assert torch.equal(caught["mine"], output)
    with tapped(model, inner) as caught:
        model(x)
    assert list(caught) == ["1.1"]
    _, caught = Extractor(model, [inner])(x)
    assert torch.equal(caught[inner], output)


def test_layers_given_themselves_are_found_behind_wrappers_and_special_names() -> None:
    model = nn.Sequential(nn.ModuleDict({"user:item": nn.Linear(2, 2), "conv[0]#1": nn.Linear(2, 2)}))
    model.forward = lambda x: [layer(x) for layer in model[0].values()]  # type: ignore[method-assign]
    names = [Tap(layer) for layer in model[0].values()]
    with tapped(model, names) as caught:
        first, second = model(torch.randn(1, 2))
    assert torch.equal(caught[names[0]], first)
    assert torch.equal(caught[names[1]], second)
    net = nn.Sequential(nn.Linear(2, 2))
    wrapped = nn.DataParallel(net)
    with tapped(wrapped, [wrapped.module[0], wrapped]) as caught:
        wrapped(torch.randn(1, 2))
    assert list(caught) == ["0", ":output"]


def test_a_layer_of_another_net_is_refused_before_any_hook() -> None:
    model, other = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
    message = r"a Linear that is not in it .* Did you mean '0'"
    with pytest.raises(LayerNotFoundError, match=message), tapped(model, [other[0]]):
        pass
    with pytest.raises(LayerNotFoundError, match="Give its name"), tapped(model, Tap(nn.ReLU())):
        pass
    for wrong in (3, [3], {"a": 3}, [None]):
        with pytest.raises(TapError, match=r"must be text, (a )?Tap"), tapped(model, wrong):  # type: ignore[arg-type]
            pass
    with tapped(model, "0") as caught, pytest.raises(LayerNotFoundError, match="not in it"):
        caught[other[0]]
    assert n_hooks(model) == 0


def test_every_tensor_of_a_layer_has_a_key_of_its_own() -> None:
    model, x = Recurrent().eval(), torch.randn(2, 7, 3)
    states, (hidden, cell) = model.lstm(x)
    with tapped(model, ["lstm[*]", "lstm[1][*]", "act[*]#0", "lstm:input[*]"]) as caught:
        model(x)
    expected = {"lstm[0]": states, "lstm[1][0]": hidden, "lstm[1][1]": cell, "lstm:input[0]": x}
    expected |= {"act#0": model.act(states[:, -1])}
    assert set(caught) == set(expected)
    assert all(torch.equal(caught[key], values) for key, values in expected.items())
    with pytest.raises(LayerNotFoundError, match=r"the keys are lstm\[0\], lstm\[1\]\[0\], lstm\[1\]\[1\]"):
        caught["lstm[*]"]
    with tapped(model, {"all": Tap("lstm", item="*"), "h": Tap("lstm", item=(1, "*"))}) as caught:
        model(x)
    assert list(caught) == ["all[0]", "all[1][0]", "all[1][1]", "h[0]", "h[1]"]


def test_tensors_of_every_kind_of_container_have_keys_that_taps_have_too() -> None:
    class Body(nn.Module):
        def forward(self, x: Tensor, *, scale: float, mask: Tensor) -> Any:
            return {"logits": x, "more": (None, Answer(x + 1, [x + 2])), 7: Pair(x + 3, "text")}

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Body()

        def forward(self, x: Tensor) -> Any:
            return self.body(x, scale=2.0, mask=x > 0)

    net, x = Net(), torch.randn(2, 3)
    with tapped(net, ["body[*]", "body:input[*]", "*[*]"]) as caught:
        net(x)
    keys = ["body[logits]", "body[more][1][logits]", "body[more][1][hidden][0]", "body[7][0]"]
    assert list(caught) == ["body:input[0]", "body:input[mask]", *keys]
    with tapped(net, list(caught)) as again:
        net(x)
    assert all(torch.equal(again[key], caught[key]) for key in caught)


def test_gradients_and_calls_of_every_tensor_are_read() -> None:
    model, x = Recurrent(), torch.randn(2, 7, 3)
    with tapped(model, ["lstm:grad[*]", "act[*]#all", "lstm[*]#1"]) as caught:
        model(x).sum().backward()
    assert list(caught) == ["act#all", "lstm:grad[0]"]  # the others lead nowhere
    assert len(caught["act#all"]) == 2
    with pytest.raises(TapError, match="got 1 call"):
        caught["lstm[*]#1"]


def test_a_star_stands_at_the_end_and_for_one_layer() -> None:
    for wrong in ({"item": ("*", 0)}, {"item": "*", "last": 2}):
        with pytest.raises(TapError, match=r"\[\*\] must stand at the end"):
            Tap("lstm", **wrong)  # type: ignore[arg-type]
    assert str(Tap.parse("lstm[1][*]")) == "lstm[1][*]"


def test_every_name_of_a_shared_layer_may_be_tapped() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model.append(model[0])
    assert layer_names(model) == ("0", "1", "2")
    with tapped(model, ["2#0", "0#1"]) as caught:
        model(torch.ones(1, 2))
    assert set(caught) == {"2#0", "0#1"}


@pytest.mark.parametrize(
    ("again", "taps"),
    [
        (copy.deepcopy, ["0"]),
        (copy.deepcopy, ["0.linear()"]),
        (copy.deepcopy, ["0:input", "1"]),
        (pickle.dumps, ["0"]),
        (pickle.dumps, ["1:grad"]),
    ],
)
def test_nets_are_copied_outside_of_blocks(again: Any, taps: list[str]) -> None:
    net, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.randn(2, 4)
    for block in (tapped(net, taps), Extractor(net, taps), edited(net, {"0": torch.zeros_like})):
        with block, pytest.raises(UsageError, match="outside the blocks that read or edit it"):
            again(net)
    with tapped(net, taps) as values:
        net(x)
    again(net)
    copy.deepcopy(values)
