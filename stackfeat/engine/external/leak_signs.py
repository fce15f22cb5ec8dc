"""What looks wrong about predictions that were made elsewhere.

In:  labels and predictions of the same rows.
Out: sentences: another order of classes is clearly better, nothing is better than a constant, rows
     are surer than they should be, the score is far above that of every member of one's own.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from stackfeat.data.messages import quote_values
from stackfeat.encodings.diagnostics import domain_auc
from stackfeat.tasks.task import Task, log_probability, row_loss

SURE = 3.0
"""Standard errors beyond which a difference is no chance."""
HIGHEST_AUC = 0.6
LEAST_GAIN = 0.05
"""Mean log-probability that another order of classes must gain to be named."""
LOWEST_LOG = float(np.log(1e-6))
"""Log-probabilities count as at least this here, so that no row that is surely wrong outweighs the others."""


def better_order(y: np.ndarray, proba: np.ndarray) -> list[int] | None:
    """Return the order of columns that fits the labels clearly better, or None.

    The mean log-probability of the true classes is a sum over (class, column) pairs, so the best
    permutation is an assignment problem. It must gain more than three standard errors, paired over rows.

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
    logs = np.maximum(log_probability(proba), LOWEST_LOG)
    n_classes = proba.shape[1]
    sums = np.stack([logs[y == code].sum(axis=0) for code in range(n_classes)])
    order = linear_sum_assignment(-sums)[1]
    if (order == np.arange(n_classes)).all():
        return None
    rows = np.arange(len(y))
    gain = logs[rows, order[y]] - logs[rows, y]
    is_sure = gain.mean() > max(LEAST_GAIN, SURE * gain.std() / np.sqrt(len(gain)))
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


def is_near_chance(y: np.ndarray, prediction: np.ndarray, task: Task, weight: np.ndarray | None) -> bool:
    """Whether predictions are not clearly better than a constant one.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Codes, or values on the members' scale, as `prediction`.
    """
    weights = np.ones(len(y)) if weight is None else weight
    if task.is_classification:
        prior = np.bincount(y, weights=weights, minlength=task.n_outputs) / weights.sum()
        constant = np.broadcast_to(prior, prediction.shape)
        own = np.minimum(row_loss(task, y, prediction), -LOWEST_LOG)
        gain = np.minimum(row_loss(task, y, constant), -LOWEST_LOG) - own
        # An unsure order of classes is worse than the prior in log-loss, but its accuracy tells.
        hits = (prediction.argmax(axis=1) == y).astype(np.float64) - float(prior.max())
        return not (_is_above_zero(gain, weights) or _is_above_zero(hits, weights))
    constant = np.full(prediction.shape, np.average(y, weights=weights))
    gain = row_loss(task, y, constant) - row_loss(task, y, prediction)
    ranks_agree = np.corrcoef(y, prediction[:, 0])[0, 1] if np.ptp(prediction) > 0 else 0.0
    return not (_is_above_zero(gain, weights) or ranks_agree * np.sqrt(len(y)) > SURE)


def _is_above_zero(values: np.ndarray, weights: np.ndarray) -> bool:
    mean = np.average(values, weights=weights)
    error = np.sqrt(np.average((values - mean) ** 2, weights=weights) / len(values))
    return bool(mean > 2.0 * error)


def likeness(oof: np.ndarray, test: np.ndarray, task: Task, seed: int) -> tuple[float, float]:
    """Compare out-of-fold rows with test rows.

    Returns
    -------
    auc : float
        Two-sample AUC, 0.5 where they look alike; NaN with fewer than ten rows.
    surer : float
        By how many standard errors OOF rows are surer of their class than test rows (classes), 0 for values.
    """
    if not task.is_classification:
        return domain_auc(oof, test, seed), 0.0
    auc = domain_auc(_logs(oof), _logs(test), seed)
    tops = [rows.max(axis=1) for rows in (oof, test)]
    error = np.sqrt(sum(top.var() / len(top) for top in tops))
    return auc, float((tops[0].mean() - tops[1].mean()) / error) if error > 0 else 0.0


def _logs(proba: np.ndarray) -> np.ndarray:
    logs = np.maximum(log_probability(proba), LOWEST_LOG)
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))


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
