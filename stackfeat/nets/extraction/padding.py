"""A caller's own word on which steps are real, beside the rows.

In:  the source of the rows, a mask (n_rows, n_steps) or lengths (n_rows,).
Out: the same source with one column more, which pooling gets and the net does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stackfeat.errors import UsageError
from stackfeat.nets.extraction.inputs import ArraySource, Source, to_array
from stackfeat.nets.extraction.loaders import Columns, Names
from stackfeat.nets.reading.masks import GIVEN_LENGTHS, GIVEN_MASK


@dataclass(frozen=True)
class PaddedSource:
    """Rows of a loader, and what the caller says about their padding."""

    rows: Source
    name: str
    told: Tensor

    @property
    def names(self) -> Names:
        return (*self.rows.names, self.name)

    @property
    def n_rows(self) -> int | None:
        return self.rows.n_rows

    def head(self, n_rows: int) -> Columns:
        return next(self.beside(iter([self.rows.head(n_rows)]), 0))

    def chunks(self, start: int, size: int) -> Iterator[Columns]:
        return self.beside(self.rows.chunks(start, size), start)

    def again(self, n_rows: int) -> Iterator[Columns]:
        return self.beside(self.rows.again(n_rows), 0)

    def pick_rows(self, rows: Sequence[int]) -> Columns | None:
        columns = self.rows.pick_rows(rows)
        return None if columns is None else [*columns, self.told[list(rows)]]

    def beside(self, chunks: Iterator[Columns], start: int) -> Iterator[Columns]:
        for columns in chunks:
            stop = start + len(columns[0])
            if stop > len(self.told):
                raise UsageError(
                    f"{self.name[1:-1]} must have a row per sample; got {len(self.told)} rows, and the loader "
                    f"gave {stop} and more; make it as long as the inputs"
                )
            yield [*columns, self.told[start:stop]]
            start = stop


def with_padding(source: Source, mask: Any = None, lengths: Any = None) -> Source:
    """Return the source with a mask or lengths beside its columns.

    Raises
    ------
    UsageError
        If both are given, or they have another shape or other values than they must have.
    """
    if mask is None and lengths is None:
        return source
    if mask is not None and lengths is not None:
        raise UsageError("mask and lengths say the same thing; got both; give one of them")
    name, told = (
        (GIVEN_MASK, checked_mask(mask)) if mask is not None else (GIVEN_LENGTHS, checked_lengths(lengths))
    )
    if source.n_rows is not None and len(told) != source.n_rows:
        raise UsageError(
            f"{name[1:-1]} must have a row per sample; got {len(told)} rows for {source.n_rows} of the inputs; "
            "make it as long as the inputs"
        )
    if isinstance(source, ArraySource):
        return replace(source, names=(*source.names, name), arrays=(*source.arrays, told))
    return PaddedSource(source, name, told)


def checked_mask(mask: Any) -> Tensor:
    values = torch.as_tensor(to_array(mask)).detach()
    if values.ndim != 2:
        raise UsageError(
            f"mask must have the shape (n_rows, n_steps); got shape={tuple(values.shape)}; "
            "give True where a step is real"
        )
    if not ((values == 0) | (values == 1)).all():
        raise UsageError(
            f"mask must hold True where a step is real, or 1 and 0; got values from {values.min().item():g} to "
            f"{values.max().item():g}; of a mask that is added to attention scores give mask == 0"
        )
    return values.bool()


def checked_lengths(lengths: Any) -> Tensor:
    values = torch.as_tensor(to_array(lengths)).detach()
    if values.ndim != 1 or values.is_floating_point() or values.dtype == torch.bool:
        raise UsageError(
            f"lengths must be whole numbers of shape (n_rows,); got shape={tuple(values.shape)}, dtype="
            f"{str(values.dtype).removeprefix('torch.')}; give the number of real steps of each row"
        )
    if len(values) and int(values.min()) < 0:
        raise UsageError(
            f"lengths must be 0 or more; got {int(values.min())}; count the real steps of each row"
        )
    return values.to(torch.int64)
