"""Batches: how many rows a pass takes, their way to a device and back, and a progress bar.

In:  a function that runs a batch of a given size, and how many rows there are.
Out: a batch size: doubled until throughput is flat, and never so large that trying it out costs
     more than a few percent of the work. On a CPU caches decide, not memory.
     On a GPU, copying and computing overlap.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.layers.extraction.files import Outputs
from stackfeat.layers.extraction.inputs import Columns
from stackfeat.layers.taps.passes import in_this_thread
from stackfeat.layers.taps.refusals import is_out_of_memory
from stackfeat.layers.taps.values import Arguments, all_tensors, as_float32
from stackfeat.log import console

CACHE_BYTES = 4 << 20

WEIGHT_SHARE = 4

SMALLEST, LARGEST_CPU, LARGEST_GPU = 16, 1024, 16384

SHARE_OF_ROWS = 0.03

STREAM_ROWS = 100_000

GAIN = 1.03

MULTIPLE = 16


def choose_batch_size(
    run: Callable[[int], None],
    n_rows: int | None,
    row_bytes: int,
    device: torch.device,
    weight_bytes: int = 0,
) -> tuple[int, bool]:
    """Return a batch size, and whether timing chose it.

    Parameters
    ----------
    run : callable
        Runs a batch of so many rows.
    n_rows : int or None
        How many there are in all; None: not known.
    row_bytes : int
        The largest value inside the net, per row.
    device : torch.device
    weight_bytes : int
        All weights: each pass reads them once, so a pass of few rows does little else in a large net.
    """
    on_cpu = device.type == "cpu"
    largest = LARGEST_CPU if on_cpu else LARGEST_GPU
    row_bytes = max(row_bytes, 1)
    n_fitting = max(CACHE_BYTES / row_bytes, weight_bytes / (WEIGHT_SHARE * row_bytes), 1.0)
    guess = min(max(2 ** int(math.log2(n_fitting)), SMALLEST), largest)
    n_left = int(SHARE_OF_ROWS * (STREAM_ROWS if n_rows is None else n_rows))
    size = max(guess // 2, SMALLEST) if on_cpu else min(64, largest)
    best, best_rate = guess, 0.0
    while size <= largest and 2 * size <= n_left:
        try:
            rate = throughput(run, size, device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            break
        n_left -= 2 * size
        if rate < best_rate * GAIN:
            break
        best, best_rate, size = size, rate, size * 2
    return best, best_rate > 0.0


def throughput(run: Callable[[int], None], size: int, device: torch.device) -> float:
    """Return rows per second, the better of two passes: the first may still warm up."""
    # The thread's own time where it does all the work: other processes do not disturb it.
    clock = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    best = math.inf
    for _ in range(2):
        started = clock()
        run(size)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, clock() - started)
    return size / max(best, 1e-9)


def even_batches(size: int, n_rows: int) -> int:
    """Make batches of few rows even, so that little of the last one is padding."""
    n_batches = max(1, math.ceil(n_rows / size))
    if n_batches > 16:
        return size
    even = math.ceil(math.ceil(n_rows / n_batches) / MULTIPLE) * MULTIPLE
    return max(min(even, size), 1)


@contextmanager
def row_sizes(model: nn.Module, n_rows: int) -> Iterator[list[int]]:
    """Collect the sizes of the tensors that layers return, in bytes per row."""
    sizes: list[int] = []

    def note(_layer: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() * output.element_size() // n_rows)

    with ExitStack() as stack:
        for part in model.modules():
            if not any(part.children()) and not isinstance(part, torch.jit.ScriptModule):
                stack.enter_context(part.register_forward_hook(in_this_thread(note)))
        yield sizes


@contextmanager
def progress_bar(n_rows: int | None, n_done: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar of rows; nothing where standard error is no terminal."""
    if not shown or not sys.stderr.isatty():
        yield lambda n_new: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True, refresh_per_second=4) as bar:
        task = bar.add_task("rows", total=n_rows, completed=n_done)
        yield lambda n_new: bar.advance(task, n_new)


Feed = Callable[[Columns], Arguments]


def on_device(
    chunks: Iterator[Columns], feed: Feed, device: torch.device
) -> Iterator[tuple[Columns, Arguments]]:
    """Yield each chunk with the arguments of ``forward``; on CUDA the next one is already on its way."""
    if device.type != "cuda":
        for columns in chunks:
            yield columns, feed(columns)
        return
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    # Inputs that were on the device before must be complete before the other stream reads them.
    copying.wait_stream(torch.cuda.current_stream(device))
    ahead: tuple[Columns, Arguments, Any] | None = None
    for columns in chunks:
        pinned = [column.pin_memory() if column.device.type == "cpu" else column for column in columns]
        with torch.cuda.stream(copying):
            call = feed(pinned)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        if ahead is not None:
            yield arrived(*ahead, device)
        ahead = (columns, call, copied)
    if ahead is not None:
        yield arrived(*ahead, device)


def arrived(
    columns: Columns, call: Arguments, copied: Any, device: torch.device
) -> tuple[Columns, Arguments]:
    """Make the computing stream wait for this copy, and keep the memory until it has used it."""
    computing = torch.cuda.current_stream(device)
    computing.wait_event(copied)
    for tensor in all_tensors(call):
        tensor.record_stream(computing)
    return columns, call


@dataclass
class Delivery:
    """Writes what taps pass on: at once on the CPU, one batch later on a GPU.

    Parameters
    ----------
    outputs : MemoryOutputs or FileOutputs
    device : torch.device
    n_done : int
        Rows that are there already; counts those written from here on.
    note : callable
        Gets the inputs of every batch whose rows have been written.
    """

    outputs: Outputs
    device: torch.device
    n_done: int
    note: Callable[[Columns], None]
    columns: Columns = field(default_factory=list)
    waiting: list[tuple[str, int, Tensor]] = field(default_factory=list)
    behind: tuple[Any, list[tuple[str, int, Tensor]], Columns] | None = None

    def __post_init__(self) -> None:
        self.start = self.n_done

    def begin(self, columns: Columns) -> None:
        self.columns, self.waiting = columns, []

    def take(self, key: str, rows: Tensor) -> None:
        """Take the rows of one tap; they are valid during the call only."""
        n_rows = len(self.columns[0])
        if len(rows) != n_rows:
            rows = rows[:n_rows]
        if self.device.type != "cuda":
            self.outputs.write(key, self.start, as_float32(rows, key).to("cpu"))
            return
        host = torch.empty(rows.shape, dtype=torch.float32, pin_memory=True)
        host.copy_(as_float32(rows, key), non_blocking=True)
        self.waiting.append((key, self.start, host))

    def end(self) -> None:
        """Close a batch; on CUDA the one before it is written while this one computes."""
        self.start += len(self.columns[0])
        if self.device.type != "cuda":
            self.count(self.columns)
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self.flush()
        self.behind = (event, self.waiting, self.columns)

    def flush(self) -> None:
        """Write the batch that is still on its way."""
        if self.behind is None:
            return
        event, waiting, columns = self.behind
        event.synchronize()
        for key, start, host in waiting:
            self.outputs.write(key, start, host)
        self.behind = None
        self.count(columns)

    def count(self, columns: Columns) -> None:
        self.n_done += len(columns[0])
        self.note(columns)
