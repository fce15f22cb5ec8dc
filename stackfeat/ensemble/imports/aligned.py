"""Imported predictions aligned with the rows of a run.

In:  `PredictionRows` of the out-of-fold file and of the test files, the training rows.
Out: `Aligned`: rows in the order of the training rows, test rows by id, other rows by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stackfeat.data.phrases import quote_values
from stackfeat.data.prediction_file import PredictionRows
from stackfeat.data.samples import ArrayReader, ArrayWriter
from stackfeat.errors import DataError
from stackfeat.store.entry import reading
from stackfeat.structure import checked
from stackfeat.task import Task


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

    def save(self, writer: ArrayWriter) -> None:
        """Write it into a store entry."""
        writer.array("oof", self.oof)
        writer.array("test_ids", self.test_ids)
        for fold, values in enumerate(self.test):
            writer.array(f"test/{fold}", values)
        writer.array("other_ids", self.other_ids)
        writer.array("other", self.other)
        writer.json("imported", {"n_test": len(self.test)})

    @classmethod
    def load(cls, entry: ArrayReader) -> Aligned:
        """Read what `save` wrote."""
        with reading(entry):
            n_test = checked(int, entry.json("imported")["n_test"], "n_test")
            test = tuple(entry.array(f"test/{fold}") for fold in range(n_test))
            return cls(
                entry.array("oof"),
                entry.array("test_ids"),
                test,
                entry.array("other_ids"),
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

    def change(values: np.ndarray) -> np.ndarray:
        if task.is_classification:
            shares = np.clip(values, 0.0, 1.0)
            # Rows that nobody reads were not checked, and may be all zero.
            return np.asarray(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300))
        return np.log1p(np.maximum(values, 0.0)) if task.transform == "log1p" else values

    return Aligned(
        change(aligned.oof),
        aligned.test_ids,
        tuple(change(values) for values in aligned.test),
        aligned.other_ids,
        change(aligned.other),
    )


def positions(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return where each wanted id stands in `ids` (which are unique), -1 where it is not there."""
    if not len(ids):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    places = np.minimum(np.searchsorted(ids[order], wanted), len(ids) - 1)
    found: np.ndarray = order[places]
    return np.where(ids[found] == wanted, found, -1)
