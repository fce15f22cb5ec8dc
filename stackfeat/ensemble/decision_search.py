"""The searches behind Decision: a threshold, offsets of classes, or cuts that score best.

In:  true values, predictions, a label metric.
Out: plain floats. Searches try few candidates, at quantiles of the rows, and keep the plain decision
where nothing is better.
"""

from __future__ import annotations

import numpy as np

from stackfeat.metrics import Metric
from stackfeat.task import Task, log_probability

COARSE, FINE = 100, 40
"""Thresholds tried over all rows, then between the neighbours of the best."""
OFFSETS_TRIED = 24
LARGEST_OFFSET = 4.0
CUTS_TRIED = 16
PASSES = 5


def fit_threshold(
    metric: Metric, y: np.ndarray, prediction: np.ndarray, task: Task, weight: np.ndarray | None
) -> float:
    """Return the threshold of the positive probability; of equals the one nearest to 0.5."""
    proba = prediction[:, task.positive]

    def loss_at(threshold: float) -> float:
        codes = np.where(proba > threshold, task.positive, 1 - task.positive)
        return _loss(metric, y, codes, task, weight)

    def best_of(candidates: np.ndarray) -> float:
        losses = [(loss_at(float(one)), abs(float(one) - 0.5), float(one)) for one in candidates]
        return min(losses)[2]

    between = _midpoints(proba)
    coarse = np.unique(np.r_[0.5, _some(between, COARSE)])
    best = best_of(coarse)
    place = int(np.searchsorted(coarse, best))
    low, high = coarse[max(place - 1, 0)], coarse[min(place + 1, len(coarse) - 1)]
    fine = _some(between[(between >= low) & (between <= high)], FINE)
    return best_of(np.r_[best, fine])


def fit_offsets(
    metric: Metric, y: np.ndarray, prediction: np.ndarray, task: Task, weight: np.ndarray | None
) -> list[float]:
    """Return an offset for the log-probability of each class; their mean is 0.

    One class at a time: with the other offsets fixed, a row goes to the class from a certain offset on,
    so only these offsets need to be tried.
    """
    logs = log_probability(prediction)
    offsets = np.zeros(task.n_outputs)
    lowest = _loss(metric, y, logs.argmax(axis=1), task, weight)
    for _ in range(PASSES):
        before = lowest
        for code in range(task.n_outputs):
            others = logs + offsets
            others[:, code] = -np.inf
            runner_up = others.argmax(axis=1)
            turns_at = others.max(axis=1) - logs[:, code]
            inside = turns_at[np.abs(turns_at - offsets[code]) < LARGEST_OFFSET]
            for offset in _some(_midpoints(inside), OFFSETS_TRIED):
                loss = _loss(metric, y, np.where(turns_at < offset, code, runner_up), task, weight)
                if loss < lowest:
                    lowest, offsets[code] = loss, offset
        if lowest >= before:
            break
    centred: list[float] = (offsets - offsets.mean()).tolist()
    return centred


def fit_cuts(
    metric: Metric,
    y: np.ndarray,
    values: np.ndarray,
    labels: np.ndarray,
    task: Task,
    weight: np.ndarray | None,
) -> list[float]:
    """Return ascending cuts between neighbouring labels, moved one at a time from the middles."""
    cuts = (labels[:-1] + labels[1:]) / 2.0
    dtype = np.int64 if task.is_classification else np.float64

    def loss_of(trial: np.ndarray) -> float:
        return _loss(metric, y, labels[np.searchsorted(trial, values)].astype(dtype), task, weight)

    lowest = loss_of(cuts)
    for _ in range(PASSES):
        before = lowest
        for index in range(len(cuts)):
            low = cuts[index - 1] if index else -np.inf
            high = cuts[index + 1] if index + 1 < len(cuts) else np.inf
            between = values[(values > low) & (values < high)]
            near = between[np.abs(between - cuts[index]) <= np.ptp(labels) / len(cuts)]
            for candidate in _some(_midpoints(near), CUTS_TRIED):
                trial = cuts.copy()
                trial[index] = candidate
                loss = loss_of(trial)
                if loss < lowest:
                    cuts, lowest = trial, loss
        if lowest >= before:
            break
    found: list[float] = cuts.tolist()
    return found


def _loss(metric: Metric, y: np.ndarray, decided: np.ndarray, task: Task, weight: np.ndarray | None) -> float:
    loss = metric.loss(y, decided, task, weight)
    return float("inf") if np.isnan(loss) else loss


def _midpoints(values: np.ndarray) -> np.ndarray:
    """Return the middles between neighbouring different values."""
    unique = np.unique(values)
    middles: np.ndarray = (unique[:-1] + unique[1:]) / 2.0
    return middles


def _some(values: np.ndarray, n: int) -> np.ndarray:
    """Return at most `n` of sorted values, evenly by position."""
    if len(values) <= n:
        return values
    some: np.ndarray = values[np.linspace(0, len(values) - 1, n).round().astype(np.int64)]
    return some
