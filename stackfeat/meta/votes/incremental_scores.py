"""The running mean of a growing ensemble, and its loss if one more member joined.

In:  predictions of the candidates, true values, a metric.
Out: an object with `losses()` (one for each candidate) and `add(candidate)`. Losses are those of the
metric up to a monotone map that is the same for all; `score_of` undoes it.
Averages are linear, so most metrics need far less than the whole prediction: log-loss the true class's
probability, squared errors the products of residuals, accuracy the rows that one vote can still turn.

It also holds:

- A few of many rows, for searches whose cost grows with the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from stackfeat.metrics.metric import Metric
from stackfeat.tasks.classification import SMALLEST_PROBABILITY
from stackfeat.tasks.task import Task, spread_rows

CHUNK_CELLS = 131_072
"""Cells worked on at once, so that they stay in the cache."""

PRODUCT_ROWS = 16
"""Rows multiplied before a logarithm: SMALLEST_PROBABILITY ** 16 is still a float64."""

SEARCH_ROWS = 10_000
"""Rows used where every candidate must be scored from scratch."""

SEARCH_CELLS = 50_000
"""Rows times classes used for metrics that sort every class's probabilities."""


class Running(Protocol):
    """A growing ensemble over fixed candidates."""

    def losses(self) -> np.ndarray:
        """Loss (n_candidates,) of the ensemble with each candidate added."""

    def add(self, candidate: int) -> None:
        """Let a candidate join (once more)."""

    def reset(self) -> None:
        """Empty the ensemble."""

    def score_of(self, loss: float) -> float:
        """The metric's score that a loss stands for."""


def make_running(
    predictions: Sequence[np.ndarray],
    y: np.ndarray,
    metric: Metric,
    task: Task,
    weight: np.ndarray | None,
    seed: int,
) -> Running:
    """Return the fastest exact way for the metric, or the general one on at most SEARCH_ROWS rows."""
    shares = np.full(len(y), 1.0 / len(y)) if weight is None else weight / weight.sum()
    name = metric.name
    if name == "log_loss":
        true_class = np.stack([prediction[np.arange(len(y)), y] for prediction in predictions], axis=1)
        return RunningLogLoss(true_class, None if weight is None else shares)
    if name == "brier":
        columns = [task.positive] if task.kind == "binary" else list(range(task.n_outputs))
        return RunningSquares(_proba_products(predictions, y, columns, shares), takes_root=False)
    if name == "accuracy":
        return RunningAccuracy(predictions, y, shares)
    if is_member_scale(metric, task, predictions):
        errors = np.hstack(predictions) - y[:, None]
        if name == "mae":
            return RunningAbsolute(errors, shares)
        return RunningSquares(errors.T @ (errors * shares[:, None]), takes_root=True)
    n_columns = predictions[0].shape[1] if metric.needs == "proba" else 1
    rows = spread_rows(y, max(2_000, min(SEARCH_ROWS, SEARCH_CELLS // n_columns)), seed)
    return RunningAny(
        [p[rows] for p in predictions], y[rows], metric, task, None if weight is None else weight[rows]
    )


def is_member_scale(metric: Metric, task: Task, predictions: Sequence[np.ndarray]) -> bool:
    """Whether the metric is a plain error of the members' own values."""
    if task.transform == "none":
        return metric.name in ("rmse", "mae")
    # log1p targets: rmsle is the rmse of the members' values as long as none is clipped at 0.
    return metric.name == "rmsle" and all(prediction.min() >= 0 for prediction in predictions)


def _proba_products(
    predictions: Sequence[np.ndarray], y: np.ndarray, columns: Sequence[int], shares: np.ndarray
) -> np.ndarray:
    total = np.zeros((len(predictions), len(predictions)))
    for column in columns:
        errors = (
            np.stack([prediction[:, column] for prediction in predictions], axis=1) - (y == column)[:, None]
        )
        total += errors.T @ (errors * shares[:, None])
    return total


class RunningLogLoss:
    """Log-loss from the probabilities of the true class, (n, n_candidates).

    The mean of `row_loss`, which is not called: a logarithm of many rows' product replaces most of its own.
    """

    def __init__(self, true_class: np.ndarray, shares: np.ndarray | None) -> None:
        self.true_class = np.ascontiguousarray(true_class)
        self.shares = shares
        self.total = np.zeros(len(true_class))
        self.size = 0

    def losses(self) -> np.ndarray:
        n_rows, n_candidates = self.true_class.shape
        step = max(PRODUCT_ROWS, CHUNK_CELLS // n_candidates // PRODUCT_ROWS * PRODUCT_ROWS)
        sums = np.zeros(n_candidates)
        buffer = np.empty((min(step, n_rows), n_candidates))
        for start in range(0, n_rows, step):
            chunk = self.true_class[start : start + step]
            mean = buffer[: len(chunk)]
            np.add(chunk, self.total[start : start + step, None], out=mean)
            mean *= 1.0 / (self.size + 1)
            np.clip(mean, SMALLEST_PROBABILITY, 1.0, out=mean)
            if self.shares is None:
                sums -= _sum_of_logs(mean)
            else:
                sums -= self.shares[start : start + step] @ np.log(mean)
        return sums / n_rows if self.shares is None else sums

    def add(self, candidate: int) -> None:
        self.total += self.true_class[:, candidate]
        self.size += 1

    def reset(self) -> None:
        self.total[:] = 0
        self.size = 0

    def score_of(self, loss: float) -> float:
        return loss


def _sum_of_logs(values: np.ndarray) -> np.ndarray:
    """Sum over rows of logarithms, taken of products of PRODUCT_ROWS values at a time."""
    n_whole = len(values) // PRODUCT_ROWS * PRODUCT_ROWS
    groups = values[:n_whole].reshape(-1, PRODUCT_ROWS, values.shape[1])
    total: np.ndarray = np.log(groups.prod(axis=1)).sum(axis=0) + np.log(values[n_whole:]).sum(axis=0)
    return total


class RunningSquares:
    """Mean squared error from the products of residuals, (n_candidates, n_candidates)."""

    def __init__(self, products: np.ndarray, takes_root: bool) -> None:
        self.products = products
        self.takes_root = takes_root
        self.counts = np.zeros(len(products))

    def losses(self) -> np.ndarray:
        inside = self.counts @ self.products @ self.counts
        with_each = inside + 2.0 * self.products @ self.counts + self.products.diagonal()
        means: np.ndarray = np.maximum(with_each, 0.0) / (self.counts.sum() + 1.0) ** 2
        return means

    def add(self, candidate: int) -> None:
        self.counts[candidate] += 1

    def reset(self) -> None:
        self.counts[:] = 0

    def score_of(self, loss: float) -> float:
        return float(np.sqrt(loss)) if self.takes_root else loss


class RunningAbsolute:
    """Mean absolute error from residuals, (n, n_candidates)."""

    def __init__(self, errors: np.ndarray, shares: np.ndarray) -> None:
        self.errors = np.ascontiguousarray(errors)
        self.shares = shares
        self.total = np.zeros(len(errors))
        self.size = 0

    def losses(self) -> np.ndarray:
        n_rows, n_candidates = self.errors.shape
        step = max(1, CHUNK_CELLS // n_candidates)
        sums = np.zeros(n_candidates)
        for start in range(0, n_rows, step):
            inside = slice(start, start + step)
            sums += self.shares[inside] @ np.abs(self.errors[inside] + self.total[inside, None])
        mean: np.ndarray = sums / (self.size + 1)
        return mean

    def add(self, candidate: int) -> None:
        self.total += self.errors[:, candidate]
        self.size += 1

    def reset(self) -> None:
        self.total[:] = 0
        self.size = 0

    def score_of(self, loss: float) -> float:
        return loss


class RunningAccuracy:
    """Share of wrong rows; looks only at rows that one more vote (at most 1 a class) can turn."""

    def __init__(self, predictions: Sequence[np.ndarray], y: np.ndarray, shares: np.ndarray) -> None:
        self.predictions = predictions
        self.y = y
        self.shares = shares
        self.total = np.zeros(predictions[0].shape)

    def losses(self) -> np.ndarray:
        rows = np.arange(len(self.y))
        others = self.total.copy()
        others[rows, self.y] = -np.inf
        lead = self.total[rows, self.y] - others.max(axis=1)
        # A little above 1, because sums of floats round.
        open_rows = np.flatnonzero(np.abs(lead) <= 1.0 + 1e-9)
        wrong_for_good = float(self.shares[lead < -1.0 - 1e-9].sum())
        base, labels, shares = self.total[open_rows], self.y[open_rows], self.shares[open_rows]
        wrong = [
            float(shares[(base + prediction[open_rows]).argmax(axis=1) != labels].sum())
            for prediction in self.predictions
        ]
        return np.asarray(wrong) + wrong_for_good

    def add(self, candidate: int) -> None:
        self.total += self.predictions[candidate]

    def reset(self) -> None:
        self.total[:] = 0

    def score_of(self, loss: float) -> float:
        return 1.0 - loss


class RunningAny:
    """Any metric, scored from scratch for every candidate; NaN counts as the worst."""

    def __init__(
        self,
        predictions: Sequence[np.ndarray],
        y: np.ndarray,
        metric: Metric,
        task: Task,
        weight: np.ndarray | None,
    ) -> None:
        self.predictions = predictions
        self.y = task.to_target_scale(y)
        self.metric, self.task, self.weight = metric, task, weight
        self.total = np.zeros(predictions[0].shape)
        self.size = 0

    def losses(self) -> np.ndarray:
        means = ((self.total + prediction) / (self.size + 1) for prediction in self.predictions)
        found = [
            self.metric.loss(self.y, self.task.to_target_scale(mean), self.task, self.weight)
            for mean in means
        ]
        losses = np.asarray(found, dtype=np.float64)
        losses[np.isnan(losses)] = np.inf
        return losses

    def add(self, candidate: int) -> None:
        self.total += self.predictions[candidate]
        self.size += 1

    def reset(self) -> None:
        self.total[:] = 0
        self.size = 0

    def score_of(self, loss: float) -> float:
        return self.metric.signed(loss)
