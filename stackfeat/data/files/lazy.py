"""Rows that stay on disk until they are asked for.

In:  an array, usually a memory-mapped file, a choice of its rows, and what is done to rows when read.
Out: an object with ``shape``, ``dtype``, ``len`` and ``[rows]``, as an array has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

LARGE_BYTES = 2**29
"""Rows that would take more memory than this as float32 stay on disk; no measurement decides it."""
CHUNK_BYTES = 2**24


def is_large(n_rows: int, shape: tuple[int, ...]) -> bool:
    """Whether rows of this shape stay on disk unless the config says otherwise."""
    return n_rows * int(np.prod(shape, dtype=np.int64)) * 4 > LARGE_BYTES


def chunk_rows(shape: tuple[int, ...]) -> int:
    """Return how many rows of this shape are worked on at a time."""
    return max(1, CHUNK_BYTES // (4 * max(1, int(np.prod(shape, dtype=np.int64)))))


class LazyArray:
    """A view of rows of an array, computed where it is indexed.

    Parameters
    ----------
    source : ndarray of shape (n, ...)
        Usually a `numpy.memmap`; it is never copied as a whole.
    rows : ndarray of int, optional
        Which rows of `source`, in which order; all of them without it.
    change : callable, optional
        Applied to the rows that are read: an array (k, ...) and the same rows of `beside`.
    beside : ndarray, optional
        Row-aligned with `source`, such as lengths of sequences; handed to `change`.
    shape : tuple of int, optional
        Of one row after `change`.
    dtype : dtype, optional
        After `change`.

    Examples
    --------
    >>> view = LazyArray(np.arange(10).reshape(5, 2), rows=np.array([4, 0]))
    >>> view.shape, view[np.array([1])].tolist()
    ((2, 2), [[0, 1]])
    """

    def __init__(
        self,
        source: np.ndarray,
        rows: np.ndarray | None = None,
        change: Callable[[np.ndarray, np.ndarray | None], np.ndarray] | None = None,
        beside: np.ndarray | None = None,
        shape: tuple[int, ...] | None = None,
        dtype: Any = None,
    ) -> None:
        self.source = source
        self.rows = rows
        self.change = change
        self.beside = beside
        n_rows = len(source) if rows is None else len(rows)
        self.shape: tuple[int, ...] = (n_rows, *(source.shape[1:] if shape is None else shape))
        self.dtype = np.dtype(source.dtype if dtype is None else dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return rows as an array in memory; an int, a slice, a mask or an array of row numbers."""
        if isinstance(index, int | np.integer):
            one: np.ndarray = self[np.array([index])][0]
            return one
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else index
        # A negative number counts from the end of the view, not of the file.
        index = np.where(index < 0, index + len(self), index)
        rows = index if self.rows is None else self.rows[index]
        values = read_rows(self.source, rows)
        if self.change is None:
            return values
        changed: np.ndarray = self.change(values, None if self.beside is None else self.beside[rows])
        return changed

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self[:]
        return values if dtype is None else values.astype(dtype)

    def take(self, rows: np.ndarray) -> LazyArray:
        """Return a view of these rows."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        chosen = rows if self.rows is None else self.rows[rows]
        return LazyArray(self.source, chosen, self.change, self.beside, self.shape[1:], self.dtype)

    def __getstate__(self) -> dict[str, Any]:
        # A memmap is pickled as all its values; its file's name is enough for a worker process.
        state = dict(vars(self))
        source = self.source
        if isinstance(source, np.memmap) and source.filename is not None and source.flags.c_contiguous:
            state["source"] = (str(source.filename), source.dtype.str, source.offset, source.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        source = state["source"]
        if isinstance(source, tuple):
            name, dtype, offset, shape = source
            state["source"] = np.memmap(name, dtype=dtype, mode="r", offset=offset, shape=shape)
        vars(self).update(state)


def read_rows(source: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return rows as an array of its own in memory, read from disk in the order of the file."""
    if len(rows) and np.all(np.diff(rows) == 1):
        return np.array(source[rows[0] : rows[-1] + 1])
    order = np.argsort(rows, kind="stable")
    values = np.empty((len(rows), *source.shape[1:]), dtype=source.dtype)
    values[order] = source[rows[order]]
    return values
