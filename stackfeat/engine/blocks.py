"""Blocks: what a member passes on, one out-of-fold row per sample and test rows per pipeline.

In:  places (entry key, array name) in a store.
Out: arrays, assembled fold by fold.

Rows and folds are read from the store once per process, because jobs share them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from stackfeat.data.samples import Samples, load_samples
from stackfeat.data.splits.folds import Folds, load_folds
from stackfeat.encodings.relative import MAX_ANCHORS, anchor_rows
from stackfeat.engine.recipes import Place
from stackfeat.store import Entry, EntryStore


@dataclass(frozen=True)
class FeatureBlock:
    """Columns of one member's output, aligned with the training rows.

    Attributes
    ----------
    name : str
        ``level/member/output``.
    oof : ndarray of shape (n_rows, n_columns)
        NaN where a time split never predicts the row.
    covered : ndarray of bool, shape (n_rows,)
    views : list of ndarray of shape (n_test, n_columns)
        One for each pipeline; averaged at the very end only.
    """

    name: str
    oof: np.ndarray
    covered: np.ndarray
    views: list[np.ndarray]

    @property
    def columns(self) -> list[str]:
        """Column names, such as ``base/cnn/fc.1@aligned#007``."""
        width = max(3, len(str(self.oof.shape[1] - 1)))
        return [f"{self.name}#{j:0{width}d}" for j in range(self.oof.shape[1])]


ReadPlace = Callable[[Place], np.ndarray]
"""From where rows stand to the rows."""


def store_reader(store: EntryStore) -> ReadPlace:
    """Return what reads places of a store."""
    return lambda place: store.read(place[0]).array(place[1])


def read_view(read: ReadPlace, place: Sequence[Any]) -> np.ndarray:
    """Return rows that stand at a place, or the mean of the rows at several places (averaging early)."""
    if isinstance(place[0], str):
        return read((place[0], place[1]))
    return np.asarray(mean_of_views([read((key, name)) for key, name in place]))


def mean_of_views(views: Sequence[Any]) -> Any:
    """Return the mean of what several fold models give of the same rows, arrays or sparse matrices.

    Sums are float64; the mean has the type of the first, float64 where that holds whole numbers.
    """
    first, *others = views
    if not others:
        return first
    total = first.astype(np.float64)
    for values in others:
        total = total + values
    return (total / len(views)).astype(first.dtype if first.dtype.kind == "f" else np.float64, copy=False)


def assemble(
    store: EntryStore, places: Sequence[Sequence[str] | None], folds: Folds, repeat: int
) -> tuple[np.ndarray, np.ndarray]:
    """Put the folds' OOF rows where they belong, as `spread`."""
    parts = [None if place is None else store.read(place[0]).array(place[1]) for place in places]
    return spread(folds, repeat, parts)


def spread(folds: Folds, repeat: int, parts: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
    """Put what the fold models give of their rows where it belongs; of rows given several times the mean.

    Parameters
    ----------
    parts : sequence of ndarray or None
        For each fold its rows; None where it gives none.

    Returns
    -------
    values : ndarray of shape (n_rows, ...)
        NaN in rows that no fold gives.
    covered : ndarray of bool, shape (n_rows,)
    """
    given = [
        (rows, part) for (_, rows), part in zip(folds.splits[repeat], parts, strict=False) if part is not None
    ]
    times = np.zeros(folds.n_rows, dtype=np.int64)
    for rows, _ in given:
        times[rows] += 1
    shape, dtype = (folds.n_rows, *given[0][1].shape[1:]), np.result_type(*(part for _, part in given))
    if times.max() <= 1:
        # As they are: labels may be integers.
        values = np.empty(shape, dtype)
        if times.min() == 0:
            values = np.full(shape, np.nan, dtype=np.result_type(dtype, np.float32))
        for rows, part in given:
            values[rows] = part
        return values, times > 0
    total = np.zeros(shape)
    for rows, part in given:
        total[rows] += part
    counts = times.reshape(-1, *(1 for _ in shape[1:]))
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan), times > 0


_SIZE = 8
Loaded = TypeVar("Loaded")
Contents = tuple[dict[str, np.ndarray], dict[str, Any]]
"""Arrays and JSON values of an entry, by name."""

# By (kind, key). The store is no part of it, since a key names contents.
_values: dict[tuple[str, str], Any] = {}


def samples_of(store: EntryStore, key: str) -> Samples:
    """Return the rows stored under a key."""
    return _remembered(store, key, load_samples)


def folds_of(store: EntryStore, key: str) -> Folds:
    """Return the folds stored under a key."""
    return _remembered(store, key, load_folds)


def _remembered(store: EntryStore, key: str, load: Callable[[Entry], Loaded]) -> Loaded:
    name = (load.__name__, key)
    if name not in _values:
        value = load(store.read(key))
        while len(_values) >= _SIZE:
            _values.pop(next(iter(_values)))
        _values[name] = value
    loaded: Loaded = _values[name]
    return loaded


def anchors_of(folds: Folds, cap: int = MAX_ANCHORS) -> np.ndarray:
    """Return the rows that fold spaces are compared on: the same for every member, fold and repeat.

    Where folds follow time they are training rows of the earliest fold, so that nothing later than a
    fold shapes its columns.
    """
    rows = folds.splits[0][0][0] if folds.is_time else np.arange(folds.n_rows)
    return np.asarray(rows[anchor_rows(len(rows), cap)])


def usable_anchors(folds: Folds, repeat: int) -> list[np.ndarray]:
    """Return which anchors each fold's map is fitted on: rows that its model was trained on."""
    rows = anchors_of(folds)
    if folds.is_time:
        # A sliding window may have left them behind, but none of them is later than the fold.
        return [np.ones(len(rows), dtype=bool) for _ in folds.splits[repeat]]
    return [np.isin(rows, train) for train, _ in folds.splits[repeat]]
