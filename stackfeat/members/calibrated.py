"""Calibrated members: a vote or meta-learner whose predictions go through a map fitted beside it.

In:  what the member reads; the folds of its rows.
Out: its predictions, calibrated where that lowers the loss of held-out folds.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.members.protocol import FitContext, FittedMember, Member
from stackfeat.meta.calibration import Calibration, choose_calibration
from stackfeat.meta.columns import Rows
from stackfeat.meta.gating.blocks import inner_folds
from stackfeat.store import Entry, EntryWriter
from stackfeat.tasks.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CalibratedMember:
    """A member above the first level before it is fitted.

    Attributes
    ----------
    learns : bool
        Whether its own fit learns from labels. What it says of the rows that it was fitted on is then too sure, so
        that it is fitted without one fold of them after the other as well: the calibration of a pipeline knows no
        more labels than the rest of it, and is fitted on predictions like those that it will get.
    family : str, optional
        The family of maps that is fitted; None: whichever lowers the loss, or none.
    """

    member: Member
    learns: bool = True
    family: str | None = None

    def fit(self, rows: Rows, context: FitContext[Any]) -> FittedCalibrated:
        assert context.fold_of is not None
        fitted = self.member.fit(rows, context)
        fold_of = inner_folds(context.fold_of, context.seed, "calibration")
        if self.learns:
            prediction = self._cross_fitted(rows, context, fold_of)
        else:
            prediction = fitted.emit(rows)[context.task.output]
        chosen = choose_calibration(
            prediction, context.y, fold_of, context.task, context.weight, context.clusters, self.family
        )
        logger.info("calibration: %s", chosen.described)
        return FittedCalibrated(context.task, fitted, chosen)

    def _cross_fitted(self, rows: Rows, context: FitContext[Any], fold_of: np.ndarray) -> np.ndarray:
        prediction = np.empty((rows.n_rows, context.task.n_outputs))
        for fold in range(int(fold_of.max()) + 1):
            kept, held_out = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            fitted = self.member.fit(rows.take(kept), context.take(kept))
            prediction[held_out] = fitted.emit(rows.take(held_out))[context.task.output]
        return prediction

    def load(self, entry: Entry, task: Task, settings: Any) -> FittedCalibrated:
        return FittedCalibrated(task, self.member.load(entry, task, settings), Calibration.load(entry, task))


@dataclass(frozen=True)
class FittedCalibrated:
    """A fitted member and the map that its predictions go through."""

    task: Task
    member: FittedMember
    calibration: Calibration

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        emitted = self.member.emit(rows)
        return {**emitted, self.task.output: self.calibration.apply(emitted[self.task.output])}

    def save(self, writer: EntryWriter) -> None:
        self.member.save(writer)
        self.calibration.save(writer)

    def report(self) -> dict[str, Any]:
        return {**self.member.report(), "calibration": self.calibration.found}
