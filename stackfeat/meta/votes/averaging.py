"""Averages over repeats of out-of-fold rows, of which each repeat has its own folds.

In:  predictions, each (n, n_classes) probabilities or (n, 1) values on the members' scale.
Out: one prediction of the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from stackfeat.tasks.task import Task

Average = Literal["mean", "logit", "rank"]


def average_oof(
    repeats: Sequence[np.ndarray],
    fold_of: Sequence[np.ndarray],
    covered: np.ndarray,
    task: Task,
    average: str,
) -> np.ndarray:
    """Average the out-of-fold rows of repeats; by rank, each row counts among those of its fold.

    Parameters
    ----------
    repeats : sequence of ndarray of shape (n_rows, n_outputs)
    fold_of : sequence of int ndarray of shape (n_rows,)
        The fold whose pipeline made each row, for each repeat.
    covered : bool ndarray of shape (n_rows,)
        Rows that every repeat predicts; of several repeats the others become NaN.
    """
    if average == "rank":
        repeats = [rank_within_folds(oof, own, task) for oof, own in zip(repeats, fold_of, strict=True)]
        average = "mean"
    if len(repeats) == 1:
        return repeats[0]
    mean = np.full_like(repeats[0], np.nan)
    mean[covered] = task.average([oof[covered] for oof in repeats], average)
    return mean


def of_single_rows(average: Average) -> Average:
    """Return the average, or in the place of one that compares the rows of a file with each other their mean."""
    return "mean" if average == "rank" else average


def rank_within_folds(oof: np.ndarray, fold_of: np.ndarray, task: Task) -> np.ndarray:
    """Rank OOF rows within the fold whose pipeline made them; uncovered rows stay NaN.

    In regression a rank becomes the value that has it among all OOF rows, so every fold gets
    one distribution.
    """
    ranked = np.array(oof, copy=True)
    pooled = np.sort(task.counted(oof[np.isfinite(oof).all(axis=1)]), axis=0)
    for fold in np.unique(fold_of[fold_of >= 0]):
        rows = np.flatnonzero((fold_of == fold) & np.isfinite(oof).all(axis=1))
        if not len(rows):
            continue
        ranked[rows] = task.ranked(oof[rows], pooled)
    return ranked
