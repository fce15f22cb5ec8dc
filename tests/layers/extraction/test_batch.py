"""The timed search for a batch size, against a clock that the test turns."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stackfeat.layers.extraction import batch
from stackfeat.layers.extraction.batch import choose_batch_size, progress_bar
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.extraction.reread import ROWS_AT_ONCE
from stackfeat.layers.taps.refusals import is_out_of_memory

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CPU_MESSAGE = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)"
)


class Clock:
    """Time that passes only while a batch runs, as long as `seconds(size)` says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int], float]) -> None:
        self.now, self.seconds = 0.0, seconds
        self.sizes: list[int] = []
        clock = SimpleNamespace(thread_time=lambda: self.now, perf_counter=lambda: self.now)
        monkeypatch.setattr(batch, "time", clock)

    def run(self, size: int) -> None:
        self.sizes.append(size)
        self.now += self.seconds(size)

    def rate(self, size: int) -> float:
        return size / self.seconds(size)


def flat_from(clock: Clock, sizes: list[int]) -> int:
    """The first size whose double is less than three percent faster."""
    return next((a for a, b in pairwise(sizes) if clock.rate(b) < 1.03 * clock.rate(a)), sizes[-1])


POWERS = [2**k for k in range(4, 15)]


@pytest.mark.parametrize("per_row", [1e-3, 1e-4, 3e-5, 1e-6])
def test_the_batch_is_doubled_until_throughput_is_flat(
    monkeypatch: pytest.MonkeyPatch, per_row: float
) -> None:
    clock = Clock(monkeypatch, lambda size: 1e-3 + per_row * size)
    size, was_timed = choose_batch_size(clock.run, 10**7, 1 << 17, CPU)
    assert (size, was_timed) == (flat_from(clock, [s for s in POWERS if s <= 1024]), True)
    tried = list(dict.fromkeys(clock.sizes))
    assert tried == [16 * 2**k for k in range(len(tried))]
    assert sorted(clock.sizes) == sorted(2 * tried), "each twice: the first pass may still warm up"


def test_a_size_that_leaves_the_cache_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, lambda size: size * (1e-5 if size <= 128 else 2e-5) + 1e-4)
    assert choose_batch_size(clock.run, 10**7, 1 << 15, CPU) == (128, True)


def test_a_slow_first_pass_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, lambda size: 1e-3 + 1e-4 * size)
    wanted = flat_from(clock, POWERS)
    seen: set[int] = set()

    def warming(size: int) -> None:
        clock.run(size)
        clock.now += 0 if size in seen else 10.0
        seen.add(size)

    assert choose_batch_size(warming, 10**7, 1 << 17, CPU) == (wanted, True)


@pytest.mark.parametrize("n_rows", [0, 100, 1000, 5000, 40_000, 10**6])
def test_trying_costs_at_most_three_percent_of_the_rows(monkeypatch: pytest.MonkeyPatch, n_rows: int) -> None:
    clock = Clock(monkeypatch, lambda size: 1.0)  # larger is always better
    size, was_timed = choose_batch_size(clock.run, n_rows, 1 << 14, CPU)
    assert sum(clock.sizes) <= 0.03 * n_rows
    assert was_timed == bool(clock.sizes)
    if not clock.sizes:
        assert size == (4 << 20) // (1 << 14), "without timing the largest value fills the cache"


def test_large_weights_make_large_batches() -> None:
    def choose(weight_bytes: int) -> int:
        return choose_batch_size(lambda _: None, 10, 1 << 17, CPU, weight_bytes=weight_bytes)[0]

    assert choose(0) == choose(1 << 20) == 32
    assert choose(1 << 26) == 128


@pytest.mark.parametrize("row_bytes", [0, 1, 1000, 1 << 20, 1 << 30])
def test_without_timing_the_guess_stays_in_its_bounds(row_bytes: int) -> None:
    size, was_timed = choose_batch_size(lambda _: pytest.fail("no row to spare"), 10, row_bytes, CPU)
    assert 16 <= size <= 1024 and not was_timed


@pytest.mark.parametrize(
    "error", [RuntimeError(CPU_MESSAGE), torch.OutOfMemoryError("CUDA out of memory."), MemoryError()]
)
def test_the_search_ends_where_memory_does(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    clock = Clock(monkeypatch, lambda size: 1.0)

    def run(size: int) -> None:
        clock.run(size)
        if size > 128:
            raise error

    assert choose_batch_size(run, 10**7, 1 << 17, CPU) == (128, True)


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    def run(size: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        choose_batch_size(run, 10**7, 1 << 17, CPU)


def test_the_real_message_of_the_cpu_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(ValueError("out of memory"))


def test_on_a_gpu_the_clock_waits_for_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the device: kernels are queued, and only waiting for them takes time."""
    clock = Clock(monkeypatch, lambda size: 0.0)
    queued: list[int] = []

    def wait(_device: Any) -> None:
        clock.now += sum(1e-3 + 1e-5 * size for size in queued)
        queued.clear()

    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    size, was_timed = choose_batch_size(queued.append, 10**8, 1 << 20, CUDA)
    clock.seconds = lambda size: 1e-3 + 1e-5 * size
    assert (size, was_timed) == (flat_from(clock, [s for s in POWERS if s >= 64]), True)
    assert 1024 < size < POWERS[-1], "no cache to fit, and an end before the largest"


class Hungry(nn.Module):
    def __init__(self, limit: int, message: str = CPU_MESSAGE) -> None:
        super().__init__()
        self.line, self.limit, self.message = nn.Linear(7, 3), limit, message
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.limit:
            raise RuntimeError(self.message)
        return self.line(x)


def test_a_size_once_timed_is_remembered() -> None:
    net, x = Hungry(10**9), torch.randn(200_000, 7)
    extract(net, x, "line")
    first = list(net.sizes)
    net.sizes.clear()
    extract(net, x, "line")
    assert set(net.sizes) == {net.sizes[0], ROWS_AT_ONCE}, "no dry run and no trial"
    assert {512, 1024} <= set(first), "tried in the first call"
    assert net.sizes[0] == first[-1]


def test_where_not_even_one_row_fits_the_error_is_that_of_torch() -> None:
    class Never(Hungry):
        def forward(self, x: Tensor) -> Tensor:
            self.sizes.append(len(x))
            if len(self.sizes) > 8:  # dry runs are over
                raise RuntimeError(self.message)
            return self.line(x)

    net = Never(0)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        extract(net, torch.randn(500, 7), "line", batch_size=64)
    assert net.sizes[-1] == 1


def test_another_error_ends_the_extraction_at_once() -> None:
    net = Hungry(20, message="expected scalar type Float")
    with pytest.raises(RuntimeError, match="scalar type"):
        extract(net, torch.randn(500, 7), "line", batch_size=64)
    assert net.sizes.count(64) == 1 and 32 not in net.sizes


class Terminal(io.StringIO):
    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


def screen(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool = True) -> Terminal:
    stream = Terminal(is_terminal=is_terminal)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def plain(stream: Terminal) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_a_bar_counts_rows_up_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = screen(monkeypatch)
    extract(nn.Linear(3, 2), torch.randn(100, 3), ":output", batch_size=16, progress=True)
    assert "100/100" in plain(stream)


@pytest.mark.parametrize(("progress", "is_terminal"), [(True, False), (False, True), (False, False)])
def test_nothing_is_written_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], progress: bool, is_terminal: bool
) -> None:
    stream = screen(monkeypatch, is_terminal=is_terminal)
    extract(nn.Linear(3, 2), torch.randn(100, 3), ":output", progress=progress)
    assert stream.getvalue() == ""
    assert capsys.readouterr().out == ""


def test_without_a_terminal_rich_is_not_even_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    screen(monkeypatch, is_terminal=False)
    monkeypatch.setitem(__import__("sys").modules, "rich.progress", None)
    with progress_bar(10, 0, shown=True) as advance:
        advance(10)


def test_rows_of_an_earlier_call_count(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = screen(monkeypatch)
    with progress_bar(500, 300, shown=True) as advance:
        advance(0)
    assert "300/500" in plain(stream)


def test_a_stream_of_unknown_length_is_counted_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[torch.Tensor]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(torch.randn(50, 3))

    stream = screen(monkeypatch)
    extract(nn.Linear(3, 2), Stream(), ":output", batch_size=16, out=tmp_path, progress=True)
    assert re.search(r"50/\?", plain(stream))


def test_the_bar_ends_also_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = screen(monkeypatch)
    with pytest.raises(KeyError), progress_bar(10, 0, shown=True) as advance:
        advance(3)
        raise KeyError
    assert stream.getvalue().endswith("\x1b[2K") or "\x1b[?25h" in stream.getvalue(), "the cursor is back"
