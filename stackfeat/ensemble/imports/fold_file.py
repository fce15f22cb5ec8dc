"""Folds that somebody else used, from a file, compared with those of the run.

In:  a csv file of id and fold (``repeat`` where there are several), the training rows, the run's folds.
Out: `FoldFile`: the fold of every training row, and whether the partition is the run's own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stackfeat.data.folds import Folds
from stackfeat.data.options import DataOptions
from stackfeat.data.phrases import quote_values, quoted
from stackfeat.data.samples import ArrayReader, ArrayWriter
from stackfeat.ensemble.imports.aligned import positions
from stackfeat.errors import DataError
from stackfeat.registry.resolve import suggest
from stackfeat.store.entry import reading
from stackfeat.structure import checked, must

_MOST_PAIRS = 2000
_LARGEST_FOLD = 9_999


@dataclass(frozen=True)
class FoldFile:
    """Folds of somebody else.

    Attributes
    ----------
    fold_of : ndarray of shape (n_repeats, n_rows), int64
        Fold of every training row; -1 where it was in none.
    run : ndarray of the same shape
        The run's folds.
    n_other : int
        Rows of the file that are no training rows but were in a fold.
    """

    fold_of: np.ndarray
    run: np.ndarray
    n_other: int = 0

    @property
    def n_folds(self) -> int:
        return int(self.fold_of.max()) + 1

    @property
    def is_identical(self) -> bool:
        """Whether every row has the run's very fold number, in every repeat."""
        return bool((self.fold_of == self.run).all())

    @property
    def is_same(self) -> bool:
        """Whether the partitions are the same, however folds are numbered."""
        return self.fingerprint == self.run_fingerprint

    @property
    def fingerprint(self) -> str:
        return partition_fingerprint(self.fold_of)

    @property
    def run_fingerprint(self) -> str:
        return partition_fingerprint(self.run)

    @property
    def agreement(self) -> float:
        """Share of pairs of rows that are together, or apart, in both (of at most 2,000 rows)."""
        a, b = (rows[0][:_MOST_PAIRS] for rows in (self.fold_of, self.run))
        return float(((a[:, None] == a[None, :]) == (b[:, None] == b[None, :])).mean())

    def split_groups(self, group: np.ndarray | None) -> int:
        """Return how many groups have rows in several of its folds."""
        if group is None:
            return 0
        pairs = np.unique(np.stack([group, self.fold_of[0]]), axis=1)
        return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())

    def save(self, writer: ArrayWriter) -> None:
        writer.array("fold_of", self.fold_of)
        writer.array("run", self.run)
        writer.json("fold_file", {"n_other": self.n_other})

    @classmethod
    def load(cls, entry: ArrayReader) -> FoldFile:
        with reading(entry):
            fold_of, run = entry.array("fold_of"), entry.array("run")
            must(
                fold_of.dtype.kind == run.dtype.kind == "i" and fold_of.ndim == run.ndim == 2,
                "its folds",
                "be numbers",
                run.shape,
            )
            return cls(fold_of, run, checked(int, entry.json("fold_file")["n_other"], "n_other"))


def partition_fingerprint(fold_of: np.ndarray) -> str:
    """Return 8 digits that are the same for the same partition, whatever its folds are called."""
    parts = []
    for row in np.atleast_2d(fold_of):
        first: dict[int, int] = {-1: -1}
        parts.append([first.setdefault(int(fold), len(first) - 1) for fold in row])
    return hashlib.sha256(np.asarray(parts, dtype=np.int64).tobytes()).hexdigest()[:8]


def read_fold_file(path: Path, train_ids: np.ndarray, folds: Folds, id_name: str) -> FoldFile:
    """Read a file of folds.

    Raises
    ------
    DataError
        If columns or training rows are missing, ids are not unique, or folds are not whole numbers from 0.
    """
    from stackfeat.data.columns import to_numbers
    from stackfeat.data.loaders import read_frame
    from stackfeat.data.rows import read_ids

    frame = read_frame(path, DataOptions(train=str(path)))
    names = [str(name) for name in frame.columns]
    id_column = next((name for name in (id_name, "id") if name in names), None)
    for column, wanted in ((id_column, id_name), ("fold" if "fold" in names else None, "fold")):
        if column is None:
            raise DataError(
                f"{path}: a folds file has the columns {quoted(id_name)} (or 'id') and 'fold'; got "
                f"{quote_values(names)}.{suggest(wanted, names)}"
            )
    repeats = _whole(to_numbers(frame["repeat"], f"{path}: repeat"), path) if "repeat" in names else None
    n_repeats = 1 if repeats is None else int(repeats.max()) + 1
    fold = _whole(to_numbers(frame["fold"], f"{path}: fold"), path)
    by_repeat, n_other = [], 0
    for repeat in range(folds.n_repeats):
        # One partition is taken for every repeat, so that it is compared with each.
        rows = slice(None) if repeats is None else np.flatnonzero(repeats == min(repeat, n_repeats - 1))
        part = frame.iloc[rows].reset_index(drop=True)
        ids = read_ids(part, id_column, str(path))
        places = positions(ids, train_ids)
        if (places < 0).any():
            absent = train_ids[places < 0]
            raise DataError(
                f"{path}: every training row must be in the folds file; {len(absent)} are missing, such as ids "
                f"{quote_values(absent.tolist())}; write all rows, with fold -1 for those in no fold"
            )
        by_repeat.append(fold[rows][places])
        n_other = int(((positions(train_ids, ids) < 0) & (fold[rows] >= 0)).sum())
    run = np.stack([folds.fold_of(repeat) for repeat in range(folds.n_repeats)])
    return FoldFile(np.stack(by_repeat), run, n_other)


def _whole(values: np.ndarray, path: Path) -> np.ndarray:
    wrong = ~(values == np.round(values)) | (values < -1) | (values > _LARGEST_FOLD)
    if wrong.any():
        raise DataError(
            f"{path}: folds must be whole numbers from 0 to {_LARGEST_FOLD} (-1: in no fold); got "
            f"{values[wrong][0]:g}; number them 0, 1, ..."
        )
    return values.astype(np.int64)
