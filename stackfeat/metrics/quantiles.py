"""Metrics of predicted quantiles, in numpy.

In:  values (n,), predictions (n, n_levels) that ascend in each row.
Out: a value for each row. `QUANTILE_METRICS`, which `METRICS` takes in.

Pinball loss: R. Koenker and G. Bassett, Econometrica 46, 1978. Weighted interval score: J. Bracher and others, PLOS
Computational Biology 17, 2021, arXiv:2005.12881. The continuous ranked probability score is twice the integral of the
pinball loss over all levels (F. Laio and S. Tamea, Hydrol. Earth Syst. Sci. 11, 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import numpy as np

from stackfeat.errors import DataError
from stackfeat.metrics.metric import Metric
from stackfeat.tasks.quantile import SAME_LEVEL, Quantile
from stackfeat.tasks.task import Task

QUANTILES = ("quantile",)


def pinball_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    """Mean pinball loss over the levels."""
    return task.row_loss(y, prediction)


def weighted_interval_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    """Weighted interval score of the central intervals, and of the median where it is predicted.

    An interval of level 1 - a counts by a / 2, the median by 1 / 2: that is the sum of pinball losses over the levels
    that have a counterpart (0.1 and 0.9), divided by the number of intervals and half a median.
    """
    is_paired = have_counterparts(task.quantiles)
    if complaint := counterparts_problem(task.quantiles):
        raise DataError(f"metric wis {complaint}")
    losses = cast(Quantile, task).losses_by_level(y, prediction)[:, is_paired]
    return np.asarray(losses.sum(axis=1) / (0.5 * is_paired.sum()))


def have_counterparts(levels: Sequence[float]) -> np.ndarray:
    """Return which levels have 1 less themselves among the others, or are the median, bool (n_levels,)."""
    given = np.asarray(levels, dtype=np.float64)
    return np.asarray(np.abs(given[:, None] + given - 1.0).min(axis=1) <= SAME_LEVEL)


def counterparts_problem(levels: Sequence[float]) -> str | None:
    """Return what keeps intervals from being made of levels, or nothing."""
    if have_counterparts(levels).any():
        return None
    return f"needs levels with a counterpart, such as 0.1 and 0.9; got {list(levels)}; add it, or use pinball"


def ranked_probability_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    """Continuous ranked probability score, in which every level counts as the nearest one that is predicted."""
    return np.asarray(
        2.0 * cast(Quantile, task).losses_by_level(y, prediction) @ level_shares(task.quantiles)
    )


def level_shares(levels: tuple[float, ...]) -> np.ndarray:
    """Return what share of all levels is nearest to each.

    Examples
    --------
    >>> level_shares((0.1, 0.5, 0.9))
    array([0.3, 0.4, 0.3])
    >>> level_shares((0.5,))
    array([1.])
    """
    given = np.asarray(levels, dtype=np.float64)
    between = (given[:-1] + given[1:]) / 2.0
    return np.diff(np.concatenate([[0.0], between, [1.0]]))


def coverage_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    """Whether the target lies between the lowest and the highest quantile; of a single one, not above it."""
    above = prediction[:, 0] <= y if len(task.quantiles) > 1 else True
    return np.asarray(above & (y <= prediction[:, -1]), dtype=np.float64)


def width_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    """How far the highest quantile lies above the lowest."""
    return np.asarray(prediction[:, -1] - prediction[:, 0])


loss_metric = partial(
    Metric, needs="value", tasks=QUANTILES, greater_is_better=False, training_loss="pinball"
)
shown_metric = partial(Metric, needs="value", tasks=QUANTILES, is_optimised=False)

QUANTILE_METRICS = (
    loss_metric(name="pinball", row_values=pinball_rows, convex_error="tilted_absolute"),
    loss_metric(name="wis", row_values=weighted_interval_rows, levels_problem=counterparts_problem),
    loss_metric(name="crps", row_values=ranked_probability_rows),
    shown_metric(name="coverage", greater_is_better=True, row_values=coverage_rows),
    shown_metric(name="interval_width", greater_is_better=False, row_values=width_rows),
)
