"""Marks wherever they are passed: helpers of other files, sub-modules, compiled and parallel nets, checkpoints."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stackfeat.errors import LayerNotFoundError, TapError
from stackfeat.layers.activations.listing import list_layers
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.taps.extractor import Extractor
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.marks import mark

NAME = "marked_elsewhere"


def load_elsewhere() -> Any:
    spec = importlib.util.spec_from_file_location(NAME, Path(__file__).with_name(f"{NAME}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module


elsewhere = load_elsewhere()


def doubled(x: Tensor) -> Tensor:
    return helped(2 * x)


def helped(x: Tensor) -> Tensor:
    return elsewhere.gate(x / 2)


def scaled(x: Tensor, by: float) -> Tensor:
    return mark("gate", x.sigmoid()) * by


class Inner(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor] = doubled) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.inner = nn.Linear(3, 4), Inner(function)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.fc(x)).sum(1)


def with_a_closure() -> Callable[[Tensor], Tensor]:
    name = "gate"

    def inside(x: Tensor) -> Tensor:
        return chosen(x)

    def chosen(x: Tensor) -> Tensor:
        return mark(name, x.sigmoid())

    return inside


WAYS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "function of a function of another file": lambda: doubled,
    "attribute of a module": lambda: lambda x: elsewhere.gate(x),
    "instance made in forward": lambda: lambda x: elsewhere.Gate()(x),
    "partial": lambda: functools.partial(scaled, by=3.0),
    "closure": with_a_closure,
    "behind a decorator": lambda: torch.no_grad()(elsewhere.gate),
    "compiled function": lambda: torch.compile(elsewhere.gate, backend="eager"),
}
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("way", WAYS)
def test_a_mark_in_a_sub_module_is_heard_however_the_code_reaches_it(way: str) -> None:
    net = Net(WAYS[way]())
    expected = net.fc(X).sigmoid().detach()
    with tapped(net, ["gate"]) as caught:
        net(X)
    torch.testing.assert_close(caught["gate"], expected)
    _, again = Extractor(net, ["gate"])(X)
    assert torch.equal(again["gate"], caught["gate"])
    torch.testing.assert_close(torch.from_numpy(extract(net, X, "gate")["gate"]), expected)
    assert list_layers(net, X)["gate"].type == "mark"


def test_a_net_without_marks_still_says_did_you_mean() -> None:
    with pytest.raises(LayerNotFoundError, match="Did you mean 'fc'"), tapped(Net(torch.relu), ["fcc"]):
        pass


def test_a_mark_of_a_compiled_net_is_heard_before_and_after_its_first_call() -> None:
    net = Net()
    expected = net.fc(X).sigmoid().detach()
    for compiled in (
        torch.compile(net, backend="eager"),
        torch.compile(Net(), backend="eager", fullgraph=True),
    ):
        for _ in range(2):
            with tapped(compiled, ["gate"]) as caught:
                compiled(X)
            torch.testing.assert_close(caught["gate"], expected)
            compiled(X)
    net.inner.compile(backend="eager")
    net(X)
    with tapped(net, ["gate"]) as caught:
        net(X)
    torch.testing.assert_close(caught["gate"], expected)


def test_a_mark_of_a_parallel_net_is_heard_once() -> None:
    parallel = nn.DataParallel(Net())
    with tapped(parallel, ["gate#all"]) as caught:
        parallel(X)
    (values,) = caught["gate#all"]
    torch.testing.assert_close(values, parallel.module.fc(X).sigmoid().detach())


def test_a_mark_in_a_method_that_is_called_alone_says_what_to_call() -> None:
    net = Net()
    with tapped(net, ["gate"]) as caught:
        net.inner(X)
    with pytest.raises(TapError, match=r"got no call of Net itself; call model\(\.\.\.\)"):
        caught["gate"]


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant: bool, n_times: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.head = nn.Linear(3, 4), nn.Linear(4, 1)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
        self.reentrant, self.n_times = reentrant, n_times

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        for _ in range(self.n_times):
            x = checkpoint(self.run, x, use_reentrant=self.reentrant)
        return self.head(x)

    def run(self, x: Tensor) -> Tensor:
        return mark("after", self.block(x))


def gradients_by_hand(net: Checkpointed) -> dict[str, Tensor]:
    """Without checkpoints, with tensors that keep their gradients."""
    first = net.block[0](net.before(X))
    last = net.block[2](first.tanh())
    for values in (first, last):
        values.retain_grad()
    net.head(last).sum().backward()
    net.zero_grad()
    return {"block.0:grad": first.grad, "block:grad": last.grad, "after:grad": last.grad}  # type: ignore[dict-item]


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_inside_a_checkpoint_are_those_without_one(reentrant: bool) -> None:
    net = Checkpointed(reentrant=reentrant)
    expected = gradients_by_hand(net)
    taps = ["block.0:grad", "block:grad", "block.0:grad#all"] + ([] if reentrant else ["after:grad"])
    with tapped(net, taps) as caught:
        net(X).sum().backward()
    for key in taps:
        if key.endswith("#all"):
            assert len(caught[key]) == 1
        else:
            torch.testing.assert_close(caught[key], expected[key])
    torch.testing.assert_close(caught["block.0:grad#all"][0], expected["block.0:grad"])


def test_what_a_reentrant_checkpoint_hides_says_what_to_set() -> None:
    net = Checkpointed(reentrant=True)
    with tapped(net, ["after:grad", "block:grad"]) as caught:
        net(X).sum().backward()
    with pytest.raises(TapError, match="for a mark set use_reentrant=False"):
        caught["after:grad"]
    with tapped(net, ["block:grad"]) as caught:
        net(X)
    with pytest.raises(TapError, match=r"call backward\(\) in the block"):
        caught["block:grad"]
    twice = Checkpointed(reentrant=True, n_times=2)
    with tapped(twice, ["block:grad", "before:grad"]) as caught:
        twice(X).sum().backward()
    assert caught["before:grad"].shape == (6, 4)
    with pytest.raises(TapError, match=r"got 2 calls without a graph.*use_reentrant=False"):
        caught["block:grad"]


def test_each_call_in_checkpoints_that_keep_the_graph_has_its_gradient() -> None:
    net, plain = Checkpointed(reentrant=False, n_times=2), Checkpointed(reentrant=False, n_times=2)
    with tapped(net, ["block:grad#all"]) as caught:
        net(X).sum().backward()
    first = plain.block(plain.before(X))
    second = plain.block(first)
    for values in (first, second):
        values.retain_grad()
    plain.head(second).sum().backward()
    for got, values in zip(caught["block:grad#all"], (first, second), strict=True):
        torch.testing.assert_close(got, values.grad)
