"""What looks wrong about predictions that were made elsewhere.

In:  labels and predictions of the same rows.
Out: what speaks for it: another order of classes that is clearly better, rows that are surer than they
     should be, a score far above that of every member of one's own.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from stackfeat.encodings.diagnostics import domain_auc
from stackfeat.registry.resolve import quote_values
from stackfeat.tasks.classification import LOWEST_LOG, log_probability
from stackfeat.tasks.task import Task

SURE = 3.0
"""Standard errors beyond which a difference is no chance."""
HIGHEST_AUC = 0.6
SMALLEST = 1e-6
"""Probabilities count as at least this where rows are told apart, so that no single one decides."""
LEAST_GAIN = 0.05
"""Mean log-probability that another order of classes must gain to be named."""


def better_order(y: np.ndarray, proba: np.ndarray, sure: float = SURE) -> list[int] | None:
    """Return the order of columns that fits the labels clearly better, or None.

    The mean log-probability of the true classes is a sum over (class, column) pairs, so the best
    permutation is an assignment problem. It must gain more than `sure` standard errors, paired over rows.

    Returns
    -------
    list of int or None
        Which column to read for each class.

    Examples
    --------
    >>> y = np.arange(60) % 3
    >>> better_order(y, np.eye(3)[y][:, [1, 2, 0]] * 0.9 + 0.03)
    [2, 0, 1]
    """
    n_classes = proba.shape[1]
    if n_classes < 2:
        return None
    logs = np.maximum(log_probability(proba), LOWEST_LOG)
    sums = np.stack([logs[y == code].sum(axis=0) for code in range(n_classes)])
    order = linear_sum_assignment(-sums)[1]
    if (order == np.arange(n_classes)).all():
        return None
    rows = np.arange(len(y))
    gain = logs[rows, order[y]] - logs[rows, y]
    is_sure = gain.mean() > max(LEAST_GAIN, sure * gain.std() / np.sqrt(len(gain)))
    return [int(column) for column in order] if is_sure else None


def order_text(order: list[int], task: Task) -> str:
    """Say which order of columns would be better."""
    # Class c reads column order[c], so that column is what its file calls by another class's place.
    columns = sorted(range(len(order)), key=lambda code: order[code])
    listed = ", ".join(str(task.classes[code]) for code in columns)
    return (
        f"columns fit the labels clearly better in another order of classes: [{listed}]. "
        "If that is how they were written, set classes to it"
    )


def likeness(oof: np.ndarray, test: np.ndarray, task: Task, seed: int) -> tuple[float, float]:
    """Compare out-of-fold rows with test rows.

    Returns
    -------
    auc : float
        Two-sample AUC, 0.5 where they look alike; NaN with fewer than ten rows.
    surer : float
        By how many standard errors OOF rows are surer of their class than test rows (classes), 0 for values.
    """
    auc = domain_auc(task.unbounded(oof, SMALLEST), task.unbounded(test, SMALLEST), seed)
    tops = [task.sureness(rows) for rows in (oof, test)]
    error = np.sqrt(sum(top.var() / len(top) for top in tops))
    return auc, float((tops[0].mean() - tops[1].mean()) / error) if error > 0 else 0.0


def far_above(imported: float, own: float, gap: float, error: float, greater_is_better: bool) -> bool:
    """Whether a score is so far above the best of one's own that a leak is likely.

    Parameters
    ----------
    imported, own : float
        Scores.
    gap, error : float
        By how much the first is better, and the paired standard error.

    It must be better by more than five standard errors and leave less than half of the error.
    """
    if not gap > 5.0 * error:
        return False
    # For metrics that end at 1 the error is what is missing to it.
    left, there = (1.0 - imported, 1.0 - own) if greater_is_better else (imported, own)
    return there > 0 and left < 0.5 * there


def shown(values: np.ndarray) -> str:
    """Name the first few ids."""
    return quote_values(values.tolist())
