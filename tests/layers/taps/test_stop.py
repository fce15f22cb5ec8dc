"""A block that ends after the last tap."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.taps.functions import LISTENING
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.marks import RUNNING, mark
from stackfeat.layers.taps.tap import Tap


def n_hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


class Counting(nn.Module):
    """Says how far it came; goes on after errors of its layers if it is to."""

    def __init__(self, caught: type[BaseException] | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(4))
        self.caught = caught or ZeroDivisionError
        self.n_done = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n_done = 0
        for layer in self.layers:
            with suppress(self.caught):
                x = mark(f"after {self.n_done}", layer(x).relu())
            self.n_done += 1
        return x


@pytest.mark.parametrize(
    ("taps", "n_done"),
    [
        (["layers.1"], 1),
        (["layers.2", "layers.0:input"], 2),
        (["layers.2:input"], 2),
        ([Tap(type=nn.Linear)], 3),
        (["layers.0", "after 1"], 1),
        (["relu()#2"], 2),
        (["relu()"], 0),
        ([":input"], 0),
    ],
)
def test_the_block_ends_when_every_tap_has_a_value(taps: list[str | Tap], n_done: int) -> None:
    net, x = Counting(), torch.randn(2, 3)
    with tapped(net, taps) as whole:
        net(x)
    went_on = False
    net.n_done = 0
    with tapped(net, taps, stop=True) as caught:
        net(x)
        went_on = True
    assert caught.stopped
    assert not went_on
    assert net.n_done == n_done
    if "relu()" not in taps:
        assert all(torch.equal(caught[key], whole[key]) for key in whole)
    assert n_hooks(net) == 0
    assert not RUNNING.listeners
    assert not LISTENING.sessions


def test_a_net_that_never_comes_to_a_tap_runs_through() -> None:
    net, x = Counting(), torch.randn(2, 3)
    net.unused = nn.Linear(3, 3)
    with tapped(net, ["layers.0", "unused"], stop=True) as caught:
        net(x)
    assert not caught.stopped
    assert net.n_done == 4
    assert caught["layers.0"].shape == (2, 3)
    with tapped(net, ["layers.0"]) as caught:
        net(x)
    assert not caught.stopped


def test_a_layer_that_runs_often_is_read_at_its_first_call_or_at_the_one_that_is_named() -> None:
    act = nn.Tanh()
    net, x = nn.Sequential(act, nn.Linear(3, 3), act, act), torch.randn(2, 3)
    with tapped(net, ["0"], stop=True) as caught:
        net(x)
    assert torch.equal(caught["0"], x.tanh())
    with tapped(net, ["0#1"], stop=True) as caught:
        net(x)
    assert caught.stopped
    assert torch.equal(caught["0#1"], net[1](x.tanh()).tanh())


@pytest.mark.parametrize(
    "tap",
    [
        "layers.0#-2",
        "layers.0#-1",
        "layers.*:input#-1",
        "relu()#-1",
        {"mine": "layers.0#-1"},
        "layers.0#all",
        "layers.0:grad",
        Tap("layers.*", last=2),
    ],
)
def test_taps_whose_value_only_the_end_knows_are_refused(tap: Any) -> None:
    net = Counting()
    with pytest.raises(TapError, match="with stop=True"), tapped(net, tap, stop=True):
        pass
    assert n_hooks(net) == 0


@pytest.mark.parametrize("caught_by_net", [Exception, BaseException])
def test_a_net_that_catches_errors_cannot_go_on(caught_by_net: type[BaseException]) -> None:
    net, x = Counting(caught_by_net), torch.randn(2, 3)
    with tapped(net, ["layers.1"], stop=True) as caught:
        net(x)
        pytest.fail("the block must have ended")
    assert caught.stopped
    assert torch.equal(caught["layers.1"], net.layers[1](net.layers[0](x).relu()))


def test_errors_of_the_net_and_of_the_block_are_raised() -> None:
    net = Counting()
    with pytest.raises(RuntimeError), tapped(net, ["layers.3"], stop=True):
        net(torch.randn(2, 5))
    with pytest.raises(KeyError), tapped(net, ["layers.3"], stop=True):
        raise KeyError
    assert n_hooks(net) == 0


def test_state_is_put_back_after_a_stop() -> None:
    net, x = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).train(), torch.randn(2, 3, 4)
    before = torch.backends.mha.get_fastpath_enabled()
    with tapped(net, ["linear1"], stop=True), torch.no_grad():
        net(x)
    assert torch.is_grad_enabled()
    assert net.training
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_of_two_blocks_each_is_ended_by_its_own_last_tap() -> None:
    net, x = Counting(), torch.randn(2, 3)
    ran = []
    with tapped(net, ["layers.2"], stop=True) as outer:
        with tapped(net, ["layers.0"], stop=True) as inner:
            net(x)
            ran.append("inner")
        ran.append("outer")
        net(x)
        ran.append("too far")
    assert ran == ["outer"]
    assert inner.stopped and outer.stopped
    with tapped(net, ["layers.0"], stop=True) as outer, tapped(net, ["layers.2"], stop=True) as inner:
        net(x)
    assert outer.stopped and not inner.stopped
    assert n_hooks(net) == 0


def test_extract_in_the_block_is_not_ended() -> None:
    net, x = Counting().eval(), torch.randn(20, 3)
    with tapped(net, ["layers.0"], stop=True) as caught:
        found = extract(net, x, "layers.2")["layers.2"]
        assert not caught.stopped
        net(x)
    assert caught.stopped
    assert found.shape == (20, 3)


def test_nets_inside_nets_are_ended_too() -> None:
    inner = Counting()
    net, x = nn.Sequential(inner, nn.Linear(3, 3)), torch.randn(2, 3)
    with tapped(inner, ["layers.0"], stop=True) as caught:
        net(x)
        pytest.fail("the block must have ended")
    assert caught.stopped

    class Recursive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.last = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor, depth: int = 2) -> Tensor:
            return self.last(self(self.fc(x), depth - 1)) if depth else x

    net = Recursive()
    for n in range(2):
        with tapped(net, [f"fc#{n}"], stop=True) as caught:
            net(x)
            pytest.fail("the block must have ended")
        assert torch.equal(caught[f"fc#{n}"], net.fc(net.fc(x)) if n else net.fc(x))


def test_a_pass_that_broke_off_does_not_count() -> None:
    net, x = Counting(), torch.randn(2, 3)
    with tapped(net, ["layers.0", "layers.2"], stop=True) as caught:
        with pytest.raises(ValueError, match="stop here"):
            handle = net.layers[1].register_forward_hook(raising)
            net(x)
        handle.remove()
        net(x)
        pytest.fail("the block must have ended")
    assert set(caught) == {"layers.0", "layers.2"}


def raising(*_: object) -> None:
    raise ValueError("stop here")


def test_a_stop_comes_out_of_a_net_that_runs_other_work_in_threads() -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.last = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(1) as pool:
                y = pool.submit(torch.relu, x).result()
                return self.last(self.fc(y))

    net, x = Parallel(), torch.randn(2, 3)
    with tapped(net, ["fc"], stop=True) as caught:
        net(x)
        pytest.fail("the block must have ended")
    assert torch.equal(caught["fc"], net.fc(x.relu()))


def test_a_layer_whose_own_name_ends_like_a_last_call_can_be_read() -> None:
    net = nn.Sequential(nn.ModuleDict({"fc#-1": nn.Linear(3, 3)})["fc#-1"])
    net.add_module("fc#-1", nn.Tanh())
    with tapped(net, ["fc#-1"], stop=True) as caught:
        net(torch.randn(2, 3))
    assert caught.stopped and caught["fc#-1"].shape == (2, 3)


def test_a_net_that_runs_again_after_the_stop_changes_nothing() -> None:
    net, x = Counting(), torch.randn(2, 3)
    with tapped(net, ["layers.0"], stop=True) as caught:
        try:
            net(x)
        finally:
            net(torch.zeros(7, 3))
    assert caught.stopped
    assert torch.equal(caught["layers.0"], net.layers[0](x))
    with tapped(net, {"first": "layers.0", "second": "layers.1:input"}, stop=True) as caught:
        for rows in (x, x[:1]):
            with suppress(BaseException):
                net(rows)
    assert caught.stopped
    assert len(caught["first"]) == len(caught["second"]) == 2
    assert n_hooks(net) == 0
    assert net(x).shape == (2, 3)
