"""The score of a growing average of predictions, if one more of them joined.

In:  predictions of the candidates on the members' scale, true values, row weights.
Out: a scorer with `losses()` (one for each candidate) and `add(candidate)`. Losses are those of the metric
     up to a monotone map that is the same for all.
Averages are linear, so most metrics need far less than the whole prediction: log-loss the true class's
probability, squared errors the products of residuals, accuracy the rows that one vote can still turn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stackfeat.tasks.classification import SMALLEST_PROBABILITY
from stackfeat.tasks.task import Task

CHUNK_CELLS = 131_072
"""Cells worked on at once, so that they stay in the cache."""

PRODUCT_ROWS = 16
"""Rows multiplied before a logarithm: SMALLEST_PROBABILITY ** 16 is still a float64."""


class IncrementalScorer(ABC):
    """A growing average over fixed candidates.

    Attributes
    ----------
    parts : sequence of arrays of one shape, or an array with a row for each candidate
        What each candidate adds to the running total.
    """

    def __init__(
        self, predictions: Sequence[np.ndarray], y: np.ndarray, task: Task, weight: np.ndarray | None
    ) -> None:
        self.y, self.task, self.weight = y, task, weight
        self.shares = row_shares(len(y), weight)
        self.parts = self.prepared(predictions)
        self.total = np.zeros(self.parts[0].shape)
        self.size = 0

    def prepared(self, predictions: Sequence[np.ndarray]) -> Sequence[np.ndarray] | np.ndarray:
        """Return what the candidates add."""
        return predictions

    @abstractmethod
    def losses(self) -> np.ndarray:
        """Loss (n_candidates,) of the average with each candidate added."""

    def add(self, candidate: int) -> None:
        """Let a candidate join (once more)."""
        self.total += self.parts[candidate]
        self.size += 1

    def reset(self) -> None:
        """Empty the average."""
        self.total[:] = 0
        self.size = 0


class LogLossScorer(IncrementalScorer):
    """Log-loss from the probabilities of the true class.

    The mean of `row_loss`, which is not called: a logarithm of many rows' product replaces most of its own.
    """

    def prepared(self, predictions: Sequence[np.ndarray]) -> Sequence[np.ndarray] | np.ndarray:
        rows = np.arange(len(self.y))
        self.true_class = np.ascontiguousarray(np.stack([one[rows, self.y] for one in predictions], axis=1))
        return self.true_class.T

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
            if self.weight is None:
                sums -= _sum_of_logs(mean)
            else:
                sums -= self.shares[start : start + step] @ np.log(mean)
        return sums / n_rows if self.weight is None else sums


def _sum_of_logs(values: np.ndarray) -> np.ndarray:
    """Sum over rows of logarithms, taken of products of PRODUCT_ROWS values at a time."""
    n_whole = len(values) // PRODUCT_ROWS * PRODUCT_ROWS
    groups = values[:n_whole].reshape(-1, PRODUCT_ROWS, values.shape[1])
    total: np.ndarray = np.log(groups.prod(axis=1)).sum(axis=0) + np.log(values[n_whole:]).sum(axis=0)
    return total


class SquaredErrorScorer(IncrementalScorer):
    """Mean squared error of values from the products of errors."""

    def prepared(self, predictions: Sequence[np.ndarray]) -> Sequence[np.ndarray] | np.ndarray:
        self.products = error_products(self.errors(predictions), self.shares)
        return np.eye(len(predictions))

    def errors(self, predictions: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the errors of the candidates, (n, n_candidates) for each column of a prediction."""
        return [value_errors(predictions, self.y)]

    def losses(self) -> np.ndarray:
        inside = self.total @ self.products @ self.total
        with_each = inside + 2.0 * self.products @ self.total + self.products.diagonal()
        means: np.ndarray = np.maximum(with_each, 0.0) / (self.size + 1.0) ** 2
        return means


class BrierScorer(SquaredErrorScorer):
    """Mean squared error of probabilities, summed over the classes that count."""

    def errors(self, predictions: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [class_errors(predictions, self.y, code) for code in self.task.counted_classes]


class AbsoluteErrorScorer(IncrementalScorer):
    """Mean absolute error of values."""

    def prepared(self, predictions: Sequence[np.ndarray]) -> Sequence[np.ndarray] | np.ndarray:
        self.errors = value_errors(predictions, self.y)
        return self.errors.T

    def losses(self) -> np.ndarray:
        n_rows, n_candidates = self.errors.shape
        step = max(1, CHUNK_CELLS // n_candidates)
        sums = np.zeros(n_candidates)
        for start in range(0, n_rows, step):
            inside = slice(start, start + step)
            sums += self.shares[inside] @ np.abs(self.errors[inside] + self.total[inside, None])
        mean: np.ndarray = sums / (self.size + 1)
        return mean


class AccuracyScorer(IncrementalScorer):
    """Share of wrong rows; looks only at rows that one more vote (at most 1 a class) can turn."""

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
            for prediction in self.parts
        ]
        return np.asarray(wrong) + wrong_for_good


class RescoringScorer(IncrementalScorer):
    """Any metric, scored from scratch for every candidate; NaN counts as the worst.

    Parameters
    ----------
    loss : callable
        Of y and an average on the scale of the target, the task and row weights.
    """

    def __init__(self, *given: Any, loss: Callable[..., float]) -> None:
        super().__init__(*given)
        self.loss, self.target = loss, self.task.to_target_scale(self.y)

    def losses(self) -> np.ndarray:
        means = ((self.total + prediction) / (self.size + 1) for prediction in self.parts)
        scaled = map(self.task.to_target_scale, means)
        losses = np.asarray([self.loss(self.target, one, self.task, self.weight) for one in scaled])
        losses[np.isnan(losses)] = np.inf
        return losses


def row_shares(n_rows: int, weight: np.ndarray | None) -> np.ndarray:
    """Return row weights that sum to 1."""
    return np.full(n_rows, 1.0 / n_rows) if weight is None else weight / weight.sum()


def value_errors(predictions: Sequence[np.ndarray], y: np.ndarray) -> np.ndarray:
    """Return the errors of predicted values, of shape (n, n_predictions)."""
    return np.ascontiguousarray(np.hstack(predictions) - y[:, None])


def class_errors(predictions: Sequence[np.ndarray], y: np.ndarray, code: int) -> np.ndarray:
    """Return the errors of a class's probability, of shape (n, n_predictions)."""
    errors: np.ndarray = np.stack([one[:, code] for one in predictions], axis=1) - (y == code)[:, None]
    return errors


def error_products(errors: Sequence[np.ndarray], shares: np.ndarray) -> np.ndarray:
    """Return the mean products of each two predictions' errors, summed over several columns.

    Parameters
    ----------
    errors : sequence of arrays (n, n_predictions)
        One for each column.
    shares : array (n,)

    Returns
    -------
    float64 array (n_predictions, n_predictions)
        The mean squared error of an average with weights w is ``w @ products @ w``.
    """
    total = np.zeros((errors[0].shape[1],) * 2)
    for one in errors:
        total += one.T @ (one * shares[:, None])
    return total
