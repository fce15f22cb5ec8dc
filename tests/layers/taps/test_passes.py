"""A pass belongs to the thread and the block in which it runs, and to the outermost call of the net."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.layers.activations.listing import layers_in_order, list_layers
from stackfeat.layers.activations.penultimate import find_penultimate
from stackfeat.layers.extraction.extract import extract, read_rows
from stackfeat.layers.taps.extractor import Extractor
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.tap import Tap


class Flips(nn.Module):
    """Averages its output over flips of the input by calling itself."""

    def __init__(self, n_flips: int = 2, catches: bool = False) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.n_flips, self.catches = n_flips, catches

    def forward(self, x: Tensor, flips: int | None = None) -> Tensor:
        flips = self.n_flips if flips is None else flips
        if flips < 0:
            raise ValueError("no flips left")
        if not flips:
            return self.head(self.hidden(x).tanh())
        if self.catches:
            with contextlib.suppress(ValueError):
                self(x, flips=-1)
        return torch.stack([self(x.roll(i, 1), flips=0) for i in range(flips)]).mean(0)


class Wrapped(nn.Module):
    """Calls the whole net from a part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 4)
        self.part = nn.Identity()
        self.whole = [self]

    def forward(self, x: Tensor, again: bool = True) -> Tensor:
        hidden = self.part(self.hidden(x))
        return hidden + self.whole[0](x.flip(1), again=False) if again else hidden


@pytest.mark.parametrize("net", [Flips(), Flips(3), Flips(2, catches=True), Wrapped()])
def test_calls_are_counted_over_the_outermost_call_of_a_net_that_calls_itself(net: Any) -> None:
    x, heard = torch.randn(6, 4), []
    with net.hidden.register_forward_hook(lambda _layer, _args, output: heard.append(output.detach())):
        output = net(x)
    with tapped(
        net, [f"hidden#{i}" for i in range(-len(heard), len(heard))] + ["hidden#all", ":output"]
    ) as caught:
        net(x.flip(0))
        net(x)
    for i in range(-len(heard), len(heard)):
        assert torch.equal(caught[f"hidden#{i}"], heard[i])
    assert len(caught["hidden#all"]) == len(heard) > 1
    assert torch.equal(caught[":output"], output)
    read = extract(net, x, {"first": "hidden#0", "last": "hidden", "all": "hidden#all"})
    assert read["first"] == pytest.approx(heard[0].numpy(), abs=1e-6)
    assert read["last"] == pytest.approx(heard[-1].numpy(), abs=1e-6)
    assert read["all"] == pytest.approx(torch.cat(heard, 1).numpy(), abs=1e-6)
    assert list_layers(net, x)["hidden"].calls == len(heard)


def test_gradients_of_a_net_that_calls_itself_are_told_apart() -> None:
    net, x = Flips(), torch.randn(3, 4)
    kept: list[Tensor] = []

    def keep(_layer: nn.Module, _args: Any, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    with net.hidden.register_forward_hook(keep):
        net(x).sum().backward()
    with tapped(net, ["hidden:grad#0", "hidden:grad#1"]) as caught:
        net(x).sum().backward()
    for i in range(2):
        assert torch.equal(caught[f"hidden:grad#{i}"], kept[i].grad)


class Tree(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor, depth: int = 2) -> Tensor:
        return self(self.layer(x).tanh(), depth - 1) if depth else x


def test_a_part_that_calls_itself_gives_a_value_for_each_call_in_the_order_they_return() -> None:
    net, x, heard = nn.Sequential(Tree(), nn.Linear(4, 2)), torch.randn(3, 4), []
    with net[0].register_forward_hook(lambda _layer, _args, output: heard.append(output)):
        net(x)
    with tapped(net, ["0", "0#all", "0.layer#all", "0:input#all"]) as caught:
        net(x)
    assert len(caught["0:input#all"]) == len(caught["0#all"]) == len(heard) == 3
    assert len(caught["0.layer#all"]) == 2
    assert torch.equal(caught["0:input#all"][0], x)
    assert torch.equal(caught["0"], heard[-1])


def test_a_pass_that_was_interrupted_is_over() -> None:
    class Interrupted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.stops = nn.Linear(4, 2), True

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.layer(x)
            if self.stops:
                raise KeyboardInterrupt
            return hidden

    net, x = Interrupted(), torch.randn(3, 4)
    with tapped(net, ["layer#all"]) as caught:
        with pytest.raises(KeyboardInterrupt):
            net(x)
        net.stops = False
        for factor in (2, 3):
            net(x * factor)
            assert len(caught["layer#all"]) == 1
            assert torch.equal(caught["layer#all"][0], net.layer(x * factor))


@pytest.mark.parametrize(
    "read",
    [
        lambda net, x: extract(net, x, ["0", "2"]),
        lambda net, x: extract(net, x, "0"),  # ends its pass early
        lambda net, x: list_layers(net, x),
        lambda net, x: find_penultimate(net, x),
        lambda net, x: layers_in_order(net, Tap("*"), [x]),
        lambda net, x: read_rows(net, [x], {"a": Tap("0")}, device=torch.device("cpu")),
    ],
)
def test_a_reader_called_in_a_block_leaves_what_was_caught(read: Any) -> None:
    net, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.randn(5, 4)
    with tapped(net, ["0", "2:input#all", "2:grad"]) as caught:
        read(net, torch.randn(40, 4))
        with pytest.raises(TapError, match="got no call"):
            caught["0"]
        net(x).sum().backward()
        held = {key: caught[key] for key in ("0", "2:grad")}
        read(net, torch.randn(40, 4))
        assert all(torch.equal(caught[key], value) for key, value in held.items())
        assert len(caught["2:input#all"]) == 1
        net(x * 2)
        assert torch.equal(caught["0"], net[0](x * 2))


def test_a_block_inside_a_block_does_not_disturb_it() -> None:
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), torch.randn(5, 4)
    with tapped(net, ["0"]) as outer:
        net(x)
        with tapped(net, ["1"]) as inner:
            net(2 * x)
        assert torch.equal(inner["1"], net(2 * x))
        assert torch.equal(outer["0"], net[0](2 * x))


def in_threads(n_threads: int, work: Any) -> None:
    """Run `work(number)` in several threads at once; raise what one of them raised."""
    with ThreadPoolExecutor(n_threads) as pool:
        for future in [pool.submit(work, number) for number in range(n_threads)]:
            future.result()


def wide_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 2))


def normal_rows(n_rows: int, seed: int) -> Tensor:
    return torch.randn(n_rows, 16, generator=torch.Generator().manual_seed(seed))


def test_threads_that_read_one_net_get_their_own_rows_in_blocks() -> None:
    net = wide_net().eval()

    def read(number: int) -> None:
        x = normal_rows(64, number)
        for _ in range(40):
            with torch.no_grad(), tapped(net, ["0", "2#all", "3:input"]) as caught:
                net(x)
            assert torch.allclose(caught["0"], net[0](x), atol=1e-5)
            assert len(caught["2#all"]) == 1
            output, again = Extractor(net, ["3"])(x)
            assert torch.equal(output, again["3"])

    in_threads(4, read)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_threads_that_read_one_net_get_their_own_rows_in_files_and_arrays(tmp_path: Any) -> None:
    net = wide_net().train()
    shared = nn.Sequential(net[0], nn.Dropout(0.5), nn.Linear(64, 3))  # another net with a part of this one

    def read(number: int) -> None:
        x = normal_rows(500, number)
        want = net[0](x).detach().numpy()
        for attempt in range(3):
            which = (net, shared)[(number + attempt) % 2]
            out = tmp_path / f"{number}-{attempt}" if number == 0 else None
            assert extract(which, x, "0", batch_size=64, out=out)["0"] == pytest.approx(want, abs=1e-5)

    in_threads(4, read)
    assert all(part.training for part in (*net.modules(), *shared.modules()))


def test_nets_of_their_own_are_read_side_by_side() -> None:
    """Each waits in its pass until the other runs too."""
    together = threading.Barrier(2, timeout=60)

    class Waits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.waits = nn.Linear(16, 2), True

        def forward(self, x: Tensor) -> Tensor:
            if self.waits:
                together.wait()
                self.waits = False
            return self.layer(x)

    in_threads(2, lambda number: extract(Waits(), normal_rows(10, number), "layer"))


def test_a_pass_in_another_thread_is_not_read_and_says_so() -> None:
    net = wide_net()
    with tapped(net, ["0", "3:input"]) as caught:
        in_threads(1, lambda _: net(normal_rows(5, 0)))
        for tap in ("0", "3:input"):
            with pytest.raises(TapError, match=f"'{tap}' must be called in the thread that opened the block"):
                caught[tap]
        net(normal_rows(5, 1))
        in_threads(1, lambda _: net(normal_rows(5, 2)))
        assert torch.equal(caught["0"], net[0](normal_rows(5, 1)))


def test_a_layer_that_the_net_runs_in_another_thread_is_refused_by_every_reader() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(16, 4), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(1) as pool:
                right = pool.submit(self.right, x)
                return self.left(x) + right.result()

    net, x = Branches(), normal_rows(5, 0)
    assert extract(net, x, "left")["left"] == pytest.approx(net.left(x).detach().numpy(), abs=1e-6)
    with pytest.raises(TapError, match="'right' was called in another thread than the net"):
        extract(net, x, "right")
    assert "another thread" in list_layers(net, x)["right"].problem


def test_other_threads_keep_their_values_while_one_looks_for_the_penultimate_layer() -> None:
    """To see what depends on a value it is disturbed: for one thread alone."""
    net, x = wide_net().eval(), normal_rows(8, 0)
    truth = net(x).detach()
    stop = threading.Event()

    def look(number: int) -> None:
        if number == 0:
            try:
                for _ in range(60):
                    assert str(find_penultimate(net, x)) == "3:input"
            finally:
                stop.set()
        while not stop.is_set():
            with torch.no_grad(), tapped(net, "3:input") as caught:
                assert torch.allclose(net(x), truth, atol=1e-5)
            assert torch.allclose(net[3](caught["3:input"]), truth, atol=1e-5)

    in_threads(3, look)
