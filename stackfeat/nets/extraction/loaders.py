"""Rows out of a Dataset or a DataLoader, cut anew into chunks of one size.

In:  a loader, or a dataset read through one, and which parts of a batch are for the net.
Out: columns with a row per sample, from any row on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stackfeat.errors import UsageError

Columns = list[Tensor]
Names = tuple[str | None, ...]


@dataclass(frozen=True)
class LoaderSource:
    """A DataLoader, or a Dataset read through one."""

    names: Names
    keys: tuple[int | str | None, ...]
    first: Any
    n_rows: int | None
    loader: Any = None
    dataset: Any = None
    begun: dict[int, Iterator[Columns]] = field(default_factory=dict)

    def head(self, n_rows: int) -> Columns:
        return [to_column(pick(self.first, key))[:n_rows] for key in self.keys]

    def chunks(self, start: int, size: int) -> Iterator[Columns]:
        begun = self.begun.pop(start, None)
        self.begun.clear()
        if begun is not None:
            yield from merge(begun, 0, size)
        elif self.dataset is not None:
            left = torch.utils.data.Subset(self.dataset, range(start, len(self.dataset)))
            yield from merge(self.read(torch.utils.data.DataLoader(left, batch_size=size)), 0, size)
        else:
            yield from merge(self.read(self.loader), start, size)

    def again(self, n_rows: int) -> Iterator[Columns]:
        """Yield the first rows; `chunks` from there on goes on with the same pass over the loader.

        A loader has to read the rows that are done in any case, only to reach the others.
        """
        batches, n_left = self.read(self.loader), n_rows
        rest: list[Columns] = []
        while n_left:
            columns = next(batches, None)
            if columns is None:
                return
            yield [column[:n_left] for column in columns]
            rest = [[column[n_left:] for column in columns]] if len(columns[0]) > n_left else []
            n_left -= min(n_left, len(columns[0]))
        self.begun[n_rows] = chain(rest, batches)

    def pick_rows(self, rows: Sequence[int]) -> Columns | None:
        if self.dataset is None:
            return None
        some = torch.utils.data.Subset(self.dataset, list(rows))
        return next(iter(self.read(torch.utils.data.DataLoader(some, batch_size=len(rows)))))

    def read(self, batches: Any) -> Iterator[Columns]:
        for batch in batches:
            yield [to_column(pick(batch, key)) for key in self.keys]


def merge(batches: Iterator[Columns], n_skipped: int, size: int) -> Iterator[Columns]:
    """Cut batches anew into `size` rows; batches of another row shape are not merged."""
    waiting: list[Columns] = []
    for batch in batches:
        n_here = len(batch[0])
        if n_skipped >= n_here:
            n_skipped -= n_here
            continue
        columns, n_skipped = [column[n_skipped:] for column in batch], 0
        if waiting and any(a.shape[1:] != b.shape[1:] for a, b in zip(waiting[0], columns, strict=True)):
            yield join(waiting)
            waiting = []
        waiting.append(columns)
        if sum(len(part[0]) for part in waiting) >= size:
            joined = join(waiting)
            n_whole = len(joined[0]) // size * size
            for first in range(0, n_whole, size):
                yield [column[first : first + size] for column in joined]
            rest = [column[n_whole:] for column in joined]
            waiting = [rest] if len(rest[0]) else []
    if waiting:
        yield join(waiting)


def join(parts: Sequence[Columns]) -> Columns:
    if len(parts) == 1:
        return parts[0]
    return [torch.cat(columns) for columns in zip(*parts, strict=True)]


def pick(batch: Any, key: int | str | None) -> Any:
    return batch if key is None else batch[key]


def to_column(value: Any) -> Tensor:
    if isinstance(value, Tensor) and not value.is_nested and value.ndim:
        return value.detach()
    if isinstance(value, np.ndarray) and value.ndim:
        return torch.from_numpy(np.array(value))
    raise UsageError(
        f"a batch must hold tensors with a row per sample; got {type(value).__name__}; "
        "give the DataLoader a collate_fn that returns tensors"
    )
