"""Metrics of rows that have any number of labels, where they are more than the mean over labels; in numpy.

In:  y of shape (n, n_labels), 1 where a row has a label; decided labels or probabilities of that shape.
Out: a number, or a value for each row.
"""

from __future__ import annotations

import numpy as np

from stackfeat.tasks.task import Task


def f1_micro(y: np.ndarray, prediction: np.ndarray, task: Task, weight: np.ndarray | None = None) -> float:
    """F1 of all pairs of a row and a label; 0 where there are none."""
    share = np.ones(len(y)) if weight is None else weight
    both, either = share @ (y & prediction).sum(axis=1), share @ (y + prediction).sum(axis=1)
    return float(2.0 * both / either) if either > 0 else 0.0


def hamming_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    """Share of labels that are wrong."""
    return np.asarray((y != prediction).mean(axis=1))


def lrap_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    """Label ranking average precision: of each label of a row, the share of its labels among those that rank as high.

    Labels of one probability rank as the last of them; a row of no labels, or of all, has 1.
    """
    higher = prediction[:, None, :] >= prediction[:, :, None]
    n_above, n_own = higher.sum(axis=2), (higher & (y[:, None, :] > 0)).sum(axis=2)
    n_labels = y.sum(axis=1)
    found = (np.where(y > 0, n_own / n_above, 0.0)).sum(axis=1) / np.maximum(n_labels, 1)
    return np.where((n_labels == 0) | (n_labels == y.shape[1]), 1.0, found)


def map_rows(y: np.ndarray, prediction: np.ndarray, task: Task, k: int) -> np.ndarray:
    """Average precision among the k most probable labels; 0 for a row of none."""
    best = np.argsort(-prediction, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(y, best, axis=1) > 0
    precision = np.cumsum(hits, axis=1) / (np.arange(hits.shape[1]) + 1)
    n_labels = y.sum(axis=1)
    return np.asarray((precision * hits).sum(axis=1) / np.maximum(np.minimum(n_labels, k), 1))
