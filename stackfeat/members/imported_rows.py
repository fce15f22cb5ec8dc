"""Imported predictions and folds, aligned with the rows of a run.

In:  `PredictionRows` of the out-of-fold file and of the test files, a file of folds, the training rows.
Out: `Aligned`: rows in the order of the training rows, test rows by id, other rows by id; how the folds compare
     with those of the run; a `Candidate` with its `Check`s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stackfeat.data.options import DataOptions
from stackfeat.data.schema.prediction_file import PredictionRows
from stackfeat.data.splits.folds import Folds
from stackfeat.errors import DataError
from stackfeat.registry.resolve import quote_values, quoted, suggest
from stackfeat.store import Entry
from stackfeat.store.entry import EntryWriter, reading
from stackfeat.structure import checked, must
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class Aligned:
    """Predictions on the members' scale.

    Attributes
    ----------
    oof : ndarray of shape (n_train, n_outputs), float64
        NaN where the file has no such row.
    test_ids : ndarray of str
    test : tuple of ndarray of shape (n_test, n_outputs)
        One file's rows, or those of each fold's model.
    other_ids, other : ndarray
        Rows of the out-of-fold file that are no training rows, such as those a run holds out.
    """

    oof: np.ndarray
    test_ids: np.ndarray
    test: tuple[np.ndarray, ...]
    other_ids: np.ndarray
    other: np.ndarray

    @property
    def is_one_view(self) -> bool:
        """Whether one row stands for the models of all folds."""
        return len(self.test) < 2

    def save(self, writer: EntryWriter) -> None:
        """Write it into a store entry."""
        writer.array("oof", self.oof)
        writer.array("test_ids", packed_texts(self.test_ids))
        for fold, values in enumerate(self.test):
            writer.array(f"test/{fold}", values)
        writer.array("other_ids", packed_texts(self.other_ids))
        writer.array("other", self.other)
        writer.json("imported", {"n_test": len(self.test)})

    @classmethod
    def load(cls, entry: Entry) -> Aligned:
        """Read what `save` wrote."""
        with reading(entry):
            n_test = checked(int, entry.json("imported")["n_test"], "n_test")
            test = tuple(entry.array(f"test/{fold}") for fold in range(n_test))
            return cls(
                entry.array("oof"),
                unpacked_texts(entry.array("test_ids"), "test_ids"),
                test,
                unpacked_texts(entry.array("other_ids"), "other_ids"),
                entry.array("other"),
            )


def align(
    oof: PredictionRows, test: Sequence[tuple[str, PredictionRows]], train_ids: np.ndarray, task: Task
) -> Aligned:
    """Put rows in the order of the training rows; values as they are in the files.

    Raises
    ------
    DataError
        If the test files of the folds have other ids.
    """
    where = positions(oof.ids, train_ids)
    values = np.full((len(train_ids), task.n_outputs), np.nan)
    values[where >= 0] = oof.values[where[where >= 0]]
    is_other = positions(train_ids, oof.ids) < 0
    first = test[0][1].ids if test else np.empty(0, dtype="<U1")
    tables = []
    for name, rows in test:
        places = positions(rows.ids, first)
        if len(rows.ids) != len(first) or (places < 0).any():
            odd = first[places < 0] if (places < 0).any() else rows.ids[positions(first, rows.ids) < 0]
            raise DataError(
                f"{name}: the test files of all folds must have the same ids; got others than in {test[0][0]}, "
                f"such as {quote_values(odd.tolist())}; write every test row into each"
            )
        tables.append(rows.values[places])
    return Aligned(values, first, tuple(tables), oof.ids[is_other], oof.values[is_other])


def on_members_scale(aligned: Aligned, task: Task) -> Aligned:
    """Return checked predictions as members hand them on: rows that sum to 1, transformed targets."""
    return Aligned(
        task.to_member_scale(aligned.oof),
        aligned.test_ids,
        tuple(task.to_member_scale(values) for values in aligned.test),
        aligned.other_ids,
        task.to_member_scale(aligned.other),
    )


def mean_of(parts: Iterable[Aligned]) -> Aligned:
    """Return the mean of the predictions of several members, which are read one after the other.

    Rows outside the run are those that all of them have.
    """
    remaining = iter(parts)
    first = next(remaining)
    oof, views, other, n_parts = first.oof.copy(), list(first.test), first.other.copy(), 1
    for part in remaining:
        n_parts += 1
        oof += part.oof
        in_test, in_other = (
            positions(part.test_ids, first.test_ids),
            positions(part.other_ids, first.other_ids),
        )
        n_views = max(len(views), len(part.test))
        views = [
            views[view % len(views)] + _taken(part.test[view % len(part.test)], in_test)
            for view in range(n_views)
        ]
        other += _taken(part.other, in_other)
    is_in_all = np.isfinite(other).all(axis=1)
    has_test = np.logical_and.reduce(
        [np.isfinite(view).all(axis=1) for view in views] or [first.test_ids != ""]
    )
    return Aligned(
        oof / n_parts,
        first.test_ids[has_test],
        tuple(view[has_test] / n_parts for view in views),
        first.other_ids[is_in_all],
        other[is_in_all] / n_parts,
    )


def _taken(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the rows at `places`, NaN where a place is -1."""
    return np.asarray(np.vstack([values, np.full((1, values.shape[1]), np.nan)])[places])


_FOUND: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
_MOST_FOUND = 8
"""Pairs of ids, both read-only, whose places are remembered: files of a pool share the array of their ids."""


def positions(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return where each wanted id stands in `ids` (which are unique), -1 where it is not there."""
    if not len(ids):
        return np.full(len(wanted), -1, dtype=np.int64)
    if ids.flags.writeable or wanted.flags.writeable:
        return _positions(ids, wanted)
    key = id(ids), id(wanted)
    known = _FOUND.get(key)
    if known is None:
        if len(_FOUND) >= _MOST_FOUND:
            _FOUND.pop(next(iter(_FOUND)))
        # Both are kept, so that no other array takes their numbers.
        known = _FOUND[key] = ids, wanted, _positions(ids, wanted)
    return known[2].copy()


def packed_texts(texts: np.ndarray) -> np.ndarray:
    """Return texts as UTF-8, uint8 (n, width), zeros behind short ones: a quarter of the bytes of texts of ASCII."""
    points = np.ascontiguousarray(texts).view(np.uint32).reshape(len(texts), texts.itemsize // 4)
    if points.max(initial=0) < 128:
        return points.astype(np.uint8)
    packed = np.char.encode(texts, "utf-8")
    return packed.view(np.uint8).reshape(len(packed), packed.itemsize)


def unpacked_texts(packed: np.ndarray, what: str) -> np.ndarray:
    """Return the texts that `packed_texts` packed."""
    is_table = packed.dtype == np.uint8 and packed.ndim == 2 and packed.shape[1] > 0
    must(is_table, what, "be bytes of texts", packed.dtype.str)
    n, width = packed.shape
    if packed.max(initial=0) < 128:
        return packed.astype(np.uint32).view(f"U{width}").reshape(n)
    return np.char.decode(np.ascontiguousarray(packed).view(f"S{width}").reshape(n), "utf-8")


def _positions(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if ids.shape == wanted.shape and np.array_equal(ids, wanted):
        return np.arange(len(ids))
    order = np.argsort(ids, kind="stable")
    places = np.minimum(np.searchsorted(ids[order], wanted), len(ids) - 1)
    found: np.ndarray = order[places]
    return np.where(ids[found] == wanted, found, -1)


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

    def save(self, writer: EntryWriter) -> None:
        writer.array("fold_of", self.fold_of)
        writer.array("run", self.run)
        writer.json("fold_file", {"n_other": self.n_other})

    @classmethod
    def load(cls, entry: Entry) -> FoldFile:
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
    from stackfeat.data.files.tables import read_frame
    from stackfeat.data.schema.columns import to_numbers
    from stackfeat.data.schema.roles import read_ids

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


PREDICTIONS = "predictions"

FOLDS = "folds"

STEM = "checkpoint"


def twin_role(place: int) -> str:
    """Return the name of the predictions of a member, or of those whose mean it stands for besides."""
    return f"{PREDICTIONS}/{place}" if place else PREDICTIONS


def weights_role(seed: int, fold: int | None = None) -> str:
    """Return the name of a checkpoint: of this job's fold, or of one of all folds."""
    return f"weights/{seed}" if fold is None else f"weights/{fold}/{seed}"


def beside_role(place: int) -> str:
    """Return the name of a file that belongs to a checkpoint."""
    return f"beside/{place}"


def file_of(entry: Entry) -> str:
    """Return the name of the checkpoint's bytes in its entry; its suffix says the format."""
    return next(name for name in entry.files if name.startswith(STEM))
