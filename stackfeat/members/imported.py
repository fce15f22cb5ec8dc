"""Imported predictions as members: nothing is fitted, rows are looked up by id.

In:  the stored entry of checked and aligned predictions.
Out: the out-of-fold row of each training row; for other rows those of the test file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.errors import DataError, MemberError
from stackfeat.members.imported_rows import (
    PREDICTIONS,
    Aligned,
    mean_of,
    packed_texts,
    positions,
    unpacked_texts,
)
from stackfeat.members.protocol import FitContext
from stackfeat.members.settings import FitSettings
from stackfeat.meta.columns import Rows
from stackfeat.registry.resolve import name_values
from stackfeat.store import Entry, EntryWriter
from stackfeat.structure import must
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class ImportedMember:
    """Somebody else's predictions, before it is known for which fold."""

    def fit(self, rows: Rows, context: FitContext[FitSettings]) -> FittedImport:
        """Take the test rows of this fold's model, or the only ones there are."""
        parts = [entry for role, entry in context.sources.items() if role.startswith(PREDICTIONS)]
        aligned = _mean_of_entries(parts)
        ids, values = _later_rows(aligned, context.fold, context.task)
        return FittedImport(context.task, ids, values, aligned.is_one_view, aligned.oof)

    def load(self, entry: Entry, task: Task, settings: FitSettings) -> FittedImport:
        ids = unpacked_texts(entry.array("import/ids"), "import/ids")
        values = entry.array("import/values")
        is_table = values.dtype == np.float64 and values.shape == (len(ids), task.n_outputs)
        must(is_table, "import/values", "be a row for each id", values.shape)
        return FittedImport(task, ids, values, entry.structure("import", ImportState).one_view)


@dataclass(frozen=True)
class ImportState:
    """What is stored beside the rows."""

    one_view: bool


@dataclass(frozen=True)
class FittedImport:
    """Predictions of one fold's model.

    Attributes
    ----------
    ids : ndarray of shape (n,), str
    values : ndarray of shape (n, n_outputs)
        Rows other than training rows.
    oof : ndarray of shape (n_train, n_outputs) or None
        Only while the out-of-fold rows are emitted.
    """

    task: Task
    ids: np.ndarray
    values: np.ndarray
    is_one_view: bool
    oof: np.ndarray | None = None

    def missing(self, ids: np.ndarray) -> np.ndarray:
        """Return the ids that the files do not have."""
        return np.asarray(ids[positions(self.ids, ids) < 0])

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        if rows.numbers is not None:
            assert self.oof is not None
            return {self.task.output: self.oof[rows.numbers]}
        if rows.ids is None:
            raise MemberError("imported predictions are looked up by id; these rows have none")
        absent = self.missing(rows.ids)
        if len(absent):
            raise DataError(missing_text(["the imported member"], absent))
        return {self.task.output: self.values[positions(self.ids, rows.ids)]}

    def save(self, writer: EntryWriter) -> None:
        writer.array("import/ids", packed_texts(self.ids))
        writer.array("import/values", self.values)
        writer.json("import", {"one_view": self.is_one_view})

    def report(self) -> dict[str, Any]:
        return {"imported": True, "one_view": self.is_one_view}


_LAST_MEAN: dict[tuple[str, ...], Aligned] = {}
"""The mean that was taken last, by the keys of its entries: the folds of a member ask for it one after the other."""


def _mean_of_entries(entries: Sequence[Entry]) -> Aligned:
    key = tuple(entry.key for entry in entries)
    found = _LAST_MEAN.get(key)
    if found is None:
        found = mean_of(map(Aligned.load, entries))
        _LAST_MEAN.clear()
        _LAST_MEAN[key] = found
    return found


def missing_text(members: list[str], ids: np.ndarray) -> str:
    """Say which members have no prediction of some rows."""
    return (
        f"every row must have a prediction in the files of {', '.join(members)}; {len(ids)} ids have none: "
        f"{name_values(map(repr, ids.tolist()))}. Add these rows to the imported test file and run again, or "
        "predict without the member (--without)"
    )


def _later_rows(aligned: Aligned, fold: int | str, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and rows that are no training rows: of the test file, then what else the files have."""
    if not aligned.test:
        table = np.empty((0, task.n_outputs))
    elif aligned.is_one_view:
        table = aligned.test[0]
    else:
        # A refit stands for all rows: the nearest to it is the mean of the fold models.
        table = aligned.test[fold] if isinstance(fold, int) else np.mean(aligned.test, axis=0)
    is_new = (positions(aligned.test_ids, aligned.other_ids) < 0) & np.isfinite(aligned.other).all(axis=1)
    ids = np.concatenate([aligned.test_ids, aligned.other_ids[is_new]])
    return ids.astype(np.str_), np.vstack([table, aligned.other[is_new]])
