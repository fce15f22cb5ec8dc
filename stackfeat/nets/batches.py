"""Rows to learn from, and the batches of an epoch.

In:  inputs and target with a row per sample: tensors on the device, or columns that are read when
     they are needed (`LazyColumn`).
Out: shuffled batches. Rows are gathered for several batches at once, the batches are views of that;
     lazy columns are gathered by a thread one chunk ahead, so memory does not grow with the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stackfeat.nets.lazy import LazyColumn

CHUNK_BYTES = {"cpu": 4 << 20}
CHUNK_BYTES_ON_DEVICE = 64 << 20


@dataclass(frozen=True)
class Mixed:
    """The other half of rows that are mixtures of two.

    Attributes
    ----------
    y, weight : Tensor of shape (n_rows,)
        Of the partner of each row.
    share : float
        Share of the row itself, between 0 and 1.
    """

    y: Tensor
    weight: Tensor | None
    share: float

    def cut(self, rows: slice) -> Mixed:
        return Mixed(self.y[rows], None if self.weight is None else self.weight[rows], self.share)


@dataclass(frozen=True)
class Rows:
    """Rows to learn from, or to validate on.

    Attributes
    ----------
    inputs : tuple of Tensor or LazyColumn
        Positional arguments of ``forward``, each with n_rows rows.
    y : Tensor of shape (n_rows,)
        int64 class codes, or float32 values.
    weight : Tensor of shape (n_rows,), optional
        float32, mean 1.
    mixed : Mixed, optional
        What the rows were mixed with.
    channels_last : bool
        Whether batches of images lie in memory with the channels last.
    """

    inputs: tuple[Tensor | LazyColumn, ...]
    y: Tensor
    weight: Tensor | None = None
    mixed: Mixed | None = None
    channels_last: bool = False

    def __len__(self) -> int:
        return len(self.y)

    @property
    def is_lazy(self) -> bool:
        return any(isinstance(values, LazyColumn) for values in self.inputs)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of all inputs."""
        return sum(values[:1].nbytes for values in self.inputs)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The inputs of rows that are in memory."""
        return tuple(values for values in self.inputs if isinstance(values, Tensor))

    def take(self, rows: Tensor) -> Rows:
        """Gather rows, onto the device of the target."""
        device = self.y.device
        placed = rows.to(device)
        inputs = tuple(
            values[rows].to(device) if isinstance(values, LazyColumn) else values.index_select(0, placed)
            for values in self.inputs
        )
        if self.channels_last:
            inputs = tuple(
                x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs
            )
        weight = None if self.weight is None else self.weight.index_select(0, placed)
        return replace(self, inputs=inputs, y=self.y.index_select(0, placed), weight=weight)

    def cut(self, start: int, stop: int) -> Rows:
        """Return neighbouring rows, as views."""
        rows = slice(start, stop)
        return Rows(
            tuple([values[rows] for values in self.inputs]),
            self.y[rows],
            None if self.weight is None else self.weight[rows],
            None if self.mixed is None else self.mixed.cut(rows),
            self.channels_last,
        )

    def parts(self, n_parts: int) -> list[Rows]:
        """Split the rows into `n_parts` parts that differ by one row at most."""
        if n_parts == 1:
            return [self]
        ends = [len(self) * (i + 1) // n_parts for i in range(n_parts)]
        return [self.cut(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def batch_sizes(n_rows: int, batch_size: int) -> list[int]:
    """Return the sizes of batches; a last batch of one row joins its neighbour (BatchNorm needs two).

    Examples
    --------
    >>> batch_sizes(65, 32), batch_sizes(66, 32)
    ([32, 33], [32, 32, 2])
    """
    n_full, rest = divmod(n_rows, batch_size)
    sizes = [batch_size] * n_full
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def batches(rows: Rows, order: Tensor, batch_size: int) -> Iterator[Rows]:
    """Yield batches of `rows` in the order of the row numbers in `order` (int64, on the CPU)."""
    sizes = batch_sizes(len(order), batch_size)
    for taken, inside in gathered(rows, order, chunks(sizes, rows)):
        start = 0
        for size in inside:
            yield taken.cut(start, start + size)
            start += size


def chunks(sizes: Sequence[int], rows: Rows) -> list[list[int]]:
    """Put batches together that are gathered at once."""
    limit = CHUNK_BYTES.get(rows.y.device.type, CHUNK_BYTES_ON_DEVICE)
    n_together = max(1, limit // max(1, rows.row_bytes * max(sizes)))
    return [list(sizes[start : start + n_together]) for start in range(0, len(sizes), n_together)]


def gathered(rows: Rows, order: Tensor, plan: Sequence[list[int]]) -> Iterator[tuple[Rows, list[int]]]:
    """Yield gathered rows, and the sizes of the batches in them."""
    pieces = torch.split(order, [sum(inside) for inside in plan])
    if not rows.is_lazy:
        for piece, inside in zip(pieces, plan, strict=True):
            yield rows.take(piece), inside
        return
    with ThreadPoolExecutor(1, thread_name_prefix="stackfeat-rows") as reader:
        ahead = reader.submit(rows.take, pieces[0])
        for i, inside in enumerate(plan):
            taken = ahead.result()
            if i + 1 < len(pieces):
                ahead = reader.submit(rows.take, pieces[i + 1])
            yield taken, inside
