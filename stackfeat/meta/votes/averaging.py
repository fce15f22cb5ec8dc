"""Averages of fold pipelines: K predictions of the same rows become one, at the very end.

In:  predictions, each (n, n_classes) probabilities or (n, 1) values on the members' scale.
Out: one prediction of the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata

from stackfeat.tasks.task import Task

_CLIP = 1e-12


def average_views(views: Sequence[np.ndarray], task: Task, average: str) -> np.ndarray:
    """Average pipelines.

    Parameters
    ----------
    views : sequence of ndarray of shape (n_rows, n_outputs)
    average : {"mean", "logit", "rank"}
        ``logit`` (classes) averages centred log-probabilities: the normalised geometric mean.
        ``rank`` puts every pipeline on one scale by the order of these rows. Binary: the mean rank
        stands for the probability. Regression: the mean rank goes through the mean of the pipelines'
        quantiles, back to a value.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
        float64.
    """
    if average == "rank" and not task.is_classification:
        mean_rank = np.mean([_ranks(view[:, 0]) for view in views], axis=0)
        quantiles = np.mean([np.sort(view[:, 0]) for view in views], axis=0)
        return _at_ranks(mean_rank, quantiles)[:, None]
    if average == "rank":
        views = [to_ranks(view, task) for view in views]
    if average == "logit" and task.is_classification:
        logs = np.mean([np.log(np.clip(view, _CLIP, 1.0)) for view in views], axis=0)
        return np.asarray(softmax(logs, axis=1))
    return np.asarray(np.mean(np.stack(views), axis=0))


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
    mean[covered] = average_views([oof[covered] for oof in repeats], task, average)
    return mean


def to_ranks(prediction: np.ndarray, task: Task) -> np.ndarray:
    """Replace a binary prediction by the share of rows it stands above, between 0 and 1."""
    positive = _ranks(prediction[:, task.positive])
    columns = np.empty_like(prediction)
    columns[:, task.positive] = positive
    columns[:, 1 - task.positive] = 1 - positive
    return columns


def rank_within_folds(oof: np.ndarray, fold_of: np.ndarray, task: Task) -> np.ndarray:
    """Rank OOF rows within the fold whose pipeline made them; uncovered rows stay NaN.

    In regression a rank becomes the value that has it among all OOF rows, so every fold gets
    one distribution.
    """
    ranked = np.array(oof, copy=True)
    pooled = np.sort(oof[np.isfinite(oof).all(axis=1), 0])
    for fold in np.unique(fold_of[fold_of >= 0]):
        rows = np.flatnonzero((fold_of == fold) & np.isfinite(oof).all(axis=1))
        if not len(rows):
            continue
        if task.is_classification:
            ranked[rows] = to_ranks(oof[rows], task)
        else:
            ranked[rows, 0] = _at_ranks(_ranks(oof[rows, 0]), pooled)
    return ranked


def _ranks(values: np.ndarray) -> np.ndarray:
    """Share of the rows that each value stands above, ties and itself counted half; between 0 and 1."""
    return np.asarray((rankdata(values) - 0.5) / len(values))


def _at_ranks(ranks: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Values of a distribution (its sorted values) at ranks."""
    return np.asarray(np.interp(ranks, (np.arange(len(ordered)) + 0.5) / len(ordered), ordered))
