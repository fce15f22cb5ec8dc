"""Row bootstrap of scores: how sure a score, or a difference of two, is.

In:  true values, several predictions of the same rows, a metric.
Out: an array (n_resamples, n_predictions); every prediction sees the same resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stackfeat import metric_functions
from stackfeat.task import Task

if TYPE_CHECKING:
    from stackfeat.metrics import Metric

RowFunction = Callable[[np.ndarray, np.ndarray, Task], np.ndarray]

ROW_VALUES: dict[str, tuple[RowFunction, bool]] = {
    "accuracy": (metric_functions.accuracy_rows, False),
    "log_loss": (metric_functions.log_loss_rows, False),
    "brier": (metric_functions.brier_rows, False),
    "rmse": (metric_functions.squared_error_rows, True),
    "rmsle": (metric_functions.squared_log_error_rows, True),
    "mae": (metric_functions.absolute_error_rows, False),
}
"""Metrics that are a mean of one value per row, and whether its square root is taken."""


def draw_rows(
    n_rows: int, n_resamples: int, seed: int, strata: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield `n_resamples` int64 arrays of `n_rows` rows drawn with replacement (within strata)."""
    random = np.random.default_rng(seed)
    groups = None
    if strata is not None:
        groups = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    for _ in range(n_resamples):
        if groups is None:
            yield random.integers(0, n_rows, n_rows)
        else:
            yield np.concatenate([group[random.integers(0, len(group), len(group))] for group in groups])


def bootstrap_scores(
    metric: Metric,
    y: np.ndarray,
    predictions: Sequence[np.ndarray],
    task: Task,
    weight: np.ndarray | None,
    n_resamples: int,
    seed: int,
    strata: np.ndarray | None,
) -> np.ndarray:
    """See `Metric.bootstrap`."""
    pairs = [metric.readable(y, prediction, task) for prediction in predictions]
    rows = draw_rows(len(y), n_resamples, seed, strata)
    built_in = metric.path == f"stackfeat.metric_functions:{metric.name}"
    if built_in and metric.name in ROW_VALUES:
        return _means(metric, pairs, task, weight, rows, len(y))
    if built_in and metric.name == "roc_auc":
        return _aucs(pairs, task, weight, rows, len(y))
    scores = [
        [
            _on_rows(
                metric, y_read[drawn], prediction[drawn], task, None if weight is None else weight[drawn]
            )
            for y_read, prediction in pairs
        ]
        for drawn in rows
    ]
    return np.asarray(scores, dtype=np.float64).reshape(n_resamples, len(pairs))


def _on_rows(
    metric: Metric, y: np.ndarray, prediction: np.ndarray, task: Task, weight: np.ndarray | None
) -> float:
    """Return the score of a resample; NaN where the function refuses it, which may lack a class."""
    try:
        return metric.function(y, prediction, task, weight)
    except ValueError:
        return float("nan")


def _drawn_weights(
    rows: Iterator[np.ndarray], n_rows: int, weight: np.ndarray | None
) -> Iterator[np.ndarray]:
    """Yield how much each row counts in each resample."""
    for drawn in rows:
        counts = np.bincount(drawn, minlength=n_rows).astype(np.float64)
        yield counts if weight is None else counts * weight


def _means(
    metric: Metric,
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    task: Task,
    weight: np.ndarray | None,
    rows: Iterator[np.ndarray],
    n_rows: int,
) -> np.ndarray:
    function, takes_root = ROW_VALUES[metric.name]
    values = np.stack([function(y, prediction, task) for y, prediction in pairs], axis=1)
    means = np.stack([drawn @ values / drawn.sum() for drawn in _drawn_weights(rows, n_rows, weight)])
    return np.sqrt(means) if takes_root else means


def _aucs(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    task: Task,
    weight: np.ndarray | None,
    rows: Iterator[np.ndarray],
    n_rows: int,
) -> np.ndarray:
    sorted_scores = [metric_functions.sort_by_class(y, prediction, task) for y, prediction in pairs]
    scores = [
        [metric_functions.mean_defined([one.auc(drawn) for one in classes]) for classes in sorted_scores]
        for drawn in _drawn_weights(rows, n_rows, weight)
    ]
    return np.asarray(scores, dtype=np.float64)
