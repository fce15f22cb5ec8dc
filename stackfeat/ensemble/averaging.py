"""Averaging: the predictions of K fold pipelines become one, at the very end.

In:  one array of predictions for each pipeline.
Out: their mean, mean of logits, or mean of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata

from stackfeat.task import Task

_CLIP = 1e-12


def average_views(views: Sequence[np.ndarray], task: Task, average: str) -> np.ndarray:
    """Average pipelines.

    Parameters
    ----------
    views : sequence of ndarray of shape (n_rows, n_outputs)
    average : {"mean", "logit", "rank"}
        ``rank`` (binary only) puts every pipeline's scores on one scale by their order.
    """
    if average == "rank":
        views = [to_ranks(view, task) for view in views]
    if average == "logit" and task.is_classification:
        logs = np.mean([np.log(np.clip(view, _CLIP, 1.0)) for view in views], axis=0)
        return np.asarray(softmax(logs, axis=1))
    return np.asarray(np.mean(np.stack(views), axis=0))


def to_ranks(prediction: np.ndarray, task: Task) -> np.ndarray:
    """Replace a binary prediction by the share of rows it stands above, between 0 and 1."""
    positive = (rankdata(prediction[:, task.positive]) - 0.5) / len(prediction)
    columns = np.empty_like(prediction)
    columns[:, task.positive] = positive
    columns[:, 1 - task.positive] = 1 - positive
    return columns


def rank_within_folds(oof: np.ndarray, fold_of: np.ndarray, task: Task) -> np.ndarray:
    """Rank OOF rows within the fold whose pipeline made them; uncovered rows stay NaN."""
    ranked = np.array(oof, copy=True)
    for fold in np.unique(fold_of[fold_of >= 0]):
        rows = np.flatnonzero((fold_of == fold) & np.isfinite(oof).all(axis=1))
        if len(rows):
            ranked[rows] = to_ranks(oof[rows], task)
    return ranked
