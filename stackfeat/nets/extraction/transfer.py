"""Rows to a device and back, so that copying and computing overlap on a GPU.

In:  batches on the CPU, and rows that taps hand out on the device.
Out: batches on the device, one ahead of the net; rows written one batch behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

Columns = list[Tensor]
Call = tuple[tuple[Tensor, ...], dict[str, Tensor]]


class Outputs(Protocol):
    def write(self, key: str, start: int, rows: Tensor) -> None: ...


class Progress(Protocol):
    n_done: int

    def __call__(self, columns: Columns) -> None: ...


def on_device(
    chunks: Iterator[Columns], feed: Callable[[Columns], Call], device: torch.device
) -> Iterator[tuple[Columns, Call]]:
    """Yield each chunk with the arguments of ``forward``; on CUDA the next one is already on its way."""
    if device.type != "cuda":
        for columns in chunks:
            yield columns, feed(columns)
        return
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    # Inputs that were on the device before must be complete before the other stream reads them.
    copying.wait_stream(torch.cuda.current_stream(device))
    ahead: tuple[Columns, Call, Any] | None = None
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


def arrived(columns: Columns, call: Call, copied: Any, device: torch.device) -> tuple[Columns, Call]:
    """Make the computing stream wait for this copy, and keep the memory until it has used it."""
    computing = torch.cuda.current_stream(device)
    computing.wait_event(copied)
    for tensor in (*call[0], *call[1].values()):
        tensor.record_stream(computing)
    return columns, call


class Delivery:
    """Writes what taps hand out: at once on the CPU, one batch later on a GPU."""

    def __init__(self, outputs: Outputs, device: torch.device, progress: Progress) -> None:
        self.outputs = outputs
        self.progress = progress
        self.on_cuda = device.type == "cuda"
        self.columns: Columns = []
        self.n_rows = 0
        self.start = progress.n_done
        self.waiting: list[tuple[str, int, Tensor]] = []
        self.behind: tuple[Any, list[tuple[str, int, Tensor]], Columns] | None = None

    def begin(self, columns: Columns) -> None:
        self.columns = columns
        self.n_rows = len(columns[0])
        self.waiting = []

    def take(self, key: str, rows: Tensor) -> None:
        """Take the rows of one tap; they are valid during the call only."""
        if len(rows) != self.n_rows:
            rows = rows[: self.n_rows]
        if not self.on_cuda:
            self.outputs.write(key, self.start, rows.to("cpu", torch.float32))
            return
        host = torch.empty(rows.shape, dtype=torch.float32, pin_memory=True)
        host.copy_(rows.to(torch.float32), non_blocking=True)
        self.waiting.append((key, self.start, host))

    def end(self) -> None:
        """Close a batch; on CUDA the one before it is written while this one computes."""
        self.start += self.n_rows
        if not self.on_cuda:
            self.progress(self.columns)
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
        self.progress(columns)
