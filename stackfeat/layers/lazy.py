"""Inputs that stay on disk: read by row numbers when a batch needs them.

In:  an `np.memmap`, or any object with ``shape``, ``dtype``, ``len()`` and ``__getitem__`` that takes an
     int64 array of row numbers and returns an ndarray with those rows.
Out: a column that is indexed like a tensor and gives tensors.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

REQUIRED = ("shape", "dtype", "__len__", "__getitem__")


class LazyArray(Protocol):
    """What an input that is larger than memory must be able to do."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray) -> np.ndarray: ...


def is_lazy(array: object) -> bool:
    """Say whether rows of `array` are to be read one batch after the other."""
    if isinstance(array, np.ndarray):
        return isinstance(array, np.memmap)
    return not isinstance(array, Tensor) and all(hasattr(array, name) for name in REQUIRED)


class LazyColumn:
    """Some rows of a lazy array, as a tensor that does not exist yet.

    Parameters
    ----------
    source : LazyArray
    rows : ndarray of int64, optional
        Which rows of it, in this order; all by default.
    """

    def __init__(self, source: LazyArray, rows: np.ndarray | None = None) -> None:
        self.source = source
        self.rows = rows

    def __len__(self) -> int:
        return len(self.source) if self.rows is None else len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.source.shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Read rows: floats and booleans as float32, integers as int64."""
        numbers = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows.cpu().numpy()
        return to_tensor(self.source[numbers if self.rows is None else self.rows[numbers]])

    def select(self, rows: np.ndarray) -> LazyColumn:
        """Return some of the rows, unread."""
        return LazyColumn(self.source, rows if self.rows is None else self.rows[rows])


def select(array: Any, rows: np.ndarray) -> Any:
    """Return rows of an array; of a lazy one without reading them."""
    if isinstance(array, LazyColumn):
        return array.select(rows)
    return LazyColumn(array, rows) if is_lazy(array) else array[rows]


Column = Tensor | LazyColumn


def to_column(array: Any) -> Column:
    """Return an array as a tensor; a lazy one unread."""
    if isinstance(array, LazyColumn):
        return array
    return LazyColumn(array) if is_lazy(array) else to_tensor(array)


def to_tensor(array: np.ndarray) -> Tensor:
    """Return floats and booleans as float32, integers as int64."""
    dtype: Any = np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32
    values = np.ascontiguousarray(array, dtype=dtype)
    return torch.from_numpy(values if values.flags.writeable else values.copy())
