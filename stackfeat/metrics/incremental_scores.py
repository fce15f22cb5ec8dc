"""The score of a growing average of predictions, if one more of them joined.

In:  predictions of the candidates on the members' scale, true values, row weights, the loss of a metric.
Out: a scorer with `best(candidates)`, `losses(candidates)` and `add(candidate)`. `IncrementalScorer` is the plain
     algorithm, which scores every average from scratch; all others give the same picks faster: averages are linear,
     so most metrics need far less than the whole prediction. What they know only roughly (single precision, products
     of errors) they know with a bound of the error, and score the few candidates that may be the best exactly.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from stackfeat.tasks.classification import SMALLEST_PROBABILITY, log_probability
from stackfeat.tasks.task import Task

SAME_LOSS = 1e-12
"""Losses that differ by no more than this (relative) are the same: the first candidate, the shorter ensemble wins."""

CHUNK_CELLS = 131_072
"""Cells worked on at once, so that they stay in the cache."""

HALF_ULP = float(np.finfo(np.float32).eps) / 2
"""Relative error of rounding to single precision."""

LossOf = Callable[..., float]
"""Of y and an average on the scale of the target, the task and row weights; NaN where undefined."""


class IncrementalScorer:
    """A growing average over fixed candidates, scored from scratch for every one; NaN counts as the worst.

    Parameters
    ----------
    predictions : sequence of arrays (n, n_columns)
    y : array (n,)
        Like the predictions on the members' scale.
    task : Task
    weight : array (n,) or None
    loss : callable
        See `LossOf`.

    Attributes
    ----------
    unit : float
        Losses are the same where they differ by no more than SAME_LOSS of themselves, or of this.
    total : array
        Sum of the parts (`part`) in the average.
    size : float
        How many they are; with `set` the sum of their weights.
    alone : dict of int to float
        Losses of candidates alone that are known.
    """

    unit: ClassVar[float] = 0.0

    def __init__(
        self,
        predictions: Sequence[np.ndarray],
        y: np.ndarray,
        task: Task,
        weight: np.ndarray | None,
        loss: LossOf,
    ) -> None:
        self.predictions, self.y, self.task, self.weight, self.loss = predictions, y, task, weight, loss
        self.target, self.shares = task.to_target_scale(y), row_shares(len(y), weight)
        self.prepare()
        self.total = np.zeros(self.part(0).shape)
        self.size = 0.0
        self.alone: dict[int, float] = {}

    def prepare(self) -> None:
        """Work out what the candidates are known by."""

    def part(self, candidate: int) -> np.ndarray:
        """Return what a candidate adds to the total."""
        return self.predictions[candidate]

    def add(self, candidate: int) -> None:
        """Let a candidate join (once more)."""
        self.total += self.part(candidate)
        self.size += 1

    def set(self, weights: np.ndarray) -> None:
        """Begin with a weighted sum of the candidates, (n_candidates,), to which others are added once."""
        self.total[:] = 0
        for candidate in np.flatnonzero(weights).tolist():
            self.total += weights[candidate] * self.part(candidate)
        self.size = float(weights.sum())

    def reset(self) -> None:
        """Empty the average."""
        self.set(np.zeros(len(self.predictions)))

    def loss_of(self, total: np.ndarray, size: float) -> float:
        """Return the loss of the average that is this total divided by this size."""
        loss = self.loss(self.target, self.task.to_target_scale(total / size), self.task, self.weight)
        return float("inf") if np.isnan(loss) else loss

    def losses(self, candidates: np.ndarray) -> np.ndarray:
        """Return the loss (n,) of the average with each of some candidates added."""
        totals = (self.total + self.part(int(candidate)) for candidate in candidates)
        return np.asarray([self.loss_of(total, self.size + 1) for total in totals])

    def best(self, candidates: np.ndarray) -> tuple[int, float]:
        """Return the first of the candidates with which the average is best, and its loss."""
        losses = self.losses(candidates)
        place = self.first_best(losses)
        return int(candidates[place]), float(losses[place])

    def best_alone(self, candidates: np.ndarray, n: int) -> list[int]:
        """Empty the average; return the `n` candidates that are best alone, the best first."""
        self.reset()
        new = np.asarray([one for one in candidates.tolist() if one not in self.alone], dtype=np.int64)
        if len(new):
            self.alone.update(zip(new.tolist(), self.losses(new).tolist(), strict=True))
        return sorted(candidates.tolist(), key=self.alone.__getitem__)[:n]

    def first_best(self, losses: np.ndarray | Sequence[float]) -> int:
        """Return the place of the first of losses that is the lowest but for rounding."""
        losses = np.asarray(losses)
        return int((losses <= self.limit(float(losses.min()))).argmax())

    def limit(self, lowest: float) -> float:
        """Return the highest loss that is the same as the lowest."""
        return lowest + SAME_LOSS * max(abs(lowest), self.unit)


class BoundedScorer(IncrementalScorer):
    """A scorer that knows what every loss is at least, and scores exactly the candidates that can be the best."""

    @abstractmethod
    def floors(self, candidates: np.ndarray) -> np.ndarray:
        """Return what the losses (n,) with each of some candidates are at least."""

    def cheap_floors(self, candidates: np.ndarray) -> np.ndarray | None:
        """Return lower floors that cost less, where there are such."""

    def best(self, candidates: np.ndarray) -> tuple[int, float]:
        cheap = self.cheap_floors(candidates)
        floors = self.floors(candidates) if cheap is None else cheap
        is_cheap = np.full(len(candidates), cheap is not None)
        losses = np.full(len(candidates), np.inf)
        open_floors, limit = floors.copy(), np.inf
        while open_floors.min() <= limit and not np.isposinf(open_floors.min()):
            place = int(open_floors.argmin())
            if is_cheap[place]:
                open_floors[place], is_cheap[place] = self.floors(candidates[[place]])[0], False
                continue
            losses[place], open_floors[place] = self.losses(candidates[[place]])[0], np.inf
            limit = min(limit, self.limit(float(losses[place])))
        place = self.first_best(losses)
        return int(candidates[place]), float(losses[place])

    def best_alone(self, candidates: np.ndarray, n: int) -> list[int]:
        self.reset()
        floors = self.floors(candidates)
        order = floors.argsort(kind="stable")
        best: list[int] = []
        for tried in range(n, len(order) + n, n):
            best = super().best_alone(np.sort(candidates[order[:tried]]), n)
            if tried >= len(order) or self.alone[best[-1]] < floors[order[tried]]:
                break
        return best


class SinglePrecisionScorer(BoundedScorer):
    """Sums over rows in single precision: half the memory traffic, twice the numbers in a register."""

    def prepare(self) -> None:
        self.rough = np.empty((len(self.predictions), len(self.y)), dtype=np.float32)
        for candidate in range(len(self.predictions)):
            self.rough[candidate] = self.rough_part(candidate)
        self.rough_shares = None if self.weight is None else self.shares.astype(np.float32)

    def rough_part(self, candidate: int) -> np.ndarray:
        """Return what a candidate adds to the rough total."""
        return self.part(candidate)

    @abstractmethod
    def rough_total(self) -> np.ndarray:
        """Return the total that rough parts are added to."""

    @abstractmethod
    def rough_sums(self, values: np.ndarray, shares: np.ndarray | None) -> float:
        """Return the sum of the rows' losses of a total, whose array may be overwritten."""

    def rough_losses(self, candidates: np.ndarray) -> np.ndarray:
        """Return the mean of the rows' losses with each candidate."""
        n_rows = len(self.y)
        total = self.rough_total().astype(np.float32)
        buffer, found = np.empty(min(n_rows, CHUNK_CELLS), dtype=np.float32), np.zeros(len(candidates))
        for start in range(0, n_rows, CHUNK_CELLS):
            rows = slice(start, start + CHUNK_CELLS)
            shares = None if self.rough_shares is None else self.rough_shares[rows]
            for place, candidate in enumerate(candidates):
                values = np.add(total[rows], self.rough[candidate, rows], out=buffer[: len(total[rows])])
                found[place] += self.rough_sums(values, shares)
        return found if self.weight is not None else found / n_rows


def _sum(values: np.ndarray, shares: np.ndarray | None) -> float:
    """Sum by halves, whose rounding grows with the logarithm of the number of rows only."""
    return float((values if shares is None else np.multiply(values, shares, out=values)).sum())


SUM_ERROR = 32 * HALF_ULP
"""Relative error of `_sum` of at most CHUNK_CELLS numbers of one sign, each times a rounded weight."""


class LogLossScorer(SinglePrecisionScorer):
    """Log-loss from the probabilities of the true class."""

    def part(self, candidate: int) -> np.ndarray:
        part: np.ndarray = self.predictions[candidate][np.arange(len(self.y)), self.y]
        return part

    def loss_of(self, total: np.ndarray, size: float) -> float:
        return float(np.average(-log_probability(total / size), weights=self.weight))

    def rough_total(self) -> np.ndarray:
        return self.total

    def rough_sums(self, values: np.ndarray, shares: np.ndarray | None) -> float:
        np.multiply(values, np.float32(1.0 / (self.size + 1)), out=values)
        np.clip(values, np.float32(SMALLEST_PROBABILITY), np.float32(1.0), out=values)
        if shares is None and len(values) % 2 == 0:
            # A logarithm of two rows' product replaces two; the smallest product is 1e-30.
            half = len(values) // 2
            values = np.multiply(values[:half], values[half:], out=values[:half])
        return -_sum(np.log(values, out=values), shares)

    def floors(self, candidates: np.ndarray) -> np.ndarray:
        found = self.rough_losses(candidates)
        # Each factor is rounded five times; a logarithm errs by at most four units in the last place.
        floors: np.ndarray = found - 6 * HALF_ULP - (SUM_ERROR + 8 * HALF_ULP) * np.abs(found)
        return floors


class AbsoluteErrorScorer(SinglePrecisionScorer):
    """Mean absolute error of values."""

    def prepare(self) -> None:
        super().prepare()
        self.lengths = np.asarray([self.shares @ np.abs(one) for one in self.rough])

    def part(self, candidate: int) -> np.ndarray:
        part: np.ndarray = self.predictions[candidate][:, 0]
        return part

    def rough_part(self, candidate: int) -> np.ndarray:
        part: np.ndarray = self.part(candidate) - self.y
        return part

    def loss_of(self, total: np.ndarray, size: float) -> float:
        return float(np.average(np.abs(self.y - total / size), weights=self.weight))

    def rough_total(self) -> np.ndarray:
        return self.total - self.size * self.y

    def rough_sums(self, values: np.ndarray, shares: np.ndarray | None) -> float:
        return _sum(np.abs(values, out=values), shares)

    def floors(self, candidates: np.ndarray) -> np.ndarray:
        found = self.rough_losses(candidates)
        length = float(self.shares @ np.abs(self.rough_total()))
        # Both parts and their sum are rounded; the total is a difference of long sums in double precision.
        error = 3 * HALF_ULP * (length + self.lengths[candidates]) + SUM_ERROR * found
        error += 1e-14 * (self.size + 1) * float(self.shares @ np.abs(self.y)) + 1e-14 * length
        floors: np.ndarray = (found - error) / (self.size + 1)
        return floors


class RelativeErrorScorer(AbsoluteErrorScorer):
    """Mean absolute error in shares of targets, none of which is 0."""

    def prepare(self) -> None:
        shares = self.shares / np.abs(self.y)
        self.factor = float(shares.sum())
        self.weight = self.shares = shares / self.factor
        super().prepare()

    def loss_of(self, total: np.ndarray, size: float) -> float:
        return self.factor * super().loss_of(total, size)

    def floors(self, candidates: np.ndarray) -> np.ndarray:
        floors: np.ndarray = self.factor * super().floors(candidates) * (1.0 - 1e-14)
        return floors


class ProductScorer(BoundedScorer):
    """A loss made of the products of the candidates' errors, a few numbers for each two of them."""

    def prepare(self) -> None:
        self.products = self.error_products()
        self.lengths = np.sqrt(self.products.diagonal())
        self.rounding = (len(self.y) + 4.0 * len(self.predictions)) * np.finfo(np.float64).eps
        self.weights = np.zeros(len(self.predictions))
        largest = max(float(np.abs(one).max()) for one in (self.y, *self.predictions))
        self.last_digit = largest * np.finfo(np.float64).eps

    @abstractmethod
    def error_products(self) -> np.ndarray:
        """Return the mean products, (n_candidates, n_candidates)."""

    def add(self, candidate: int) -> None:
        super().add(candidate)
        self.weights[candidate] += 1

    def set(self, weights: np.ndarray) -> None:
        super().set(weights)
        self.weights = weights.astype(np.float64)

    def squares(self, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean squared errors with each candidate, and bounds of what rounding does to them."""
        slope = self.products @ self.weights
        found = self.weights @ slope + 2.0 * slope[candidates] + self.products.diagonal()[candidates]
        length = np.abs(self.weights) @ self.lengths + self.lengths[candidates]
        found = found / (self.size + 1) ** 2
        # What adding up, and taking the mean, may do to the errors of a row.
        moved = (self.size + 3) * self.last_digit
        error = self.rounding * (length / (self.size + 1)) ** 2
        return found, error + 2.0 * moved * np.sqrt(np.maximum(found, 0.0)) + moved**2

    def floors(self, candidates: np.ndarray) -> np.ndarray:
        found, error = self.squares(candidates)
        floors: np.ndarray = found - error
        return floors


class SquaredErrorScorer(ProductScorer):
    """Mean squared error of values."""

    def error_products(self) -> np.ndarray:
        return value_error_products(self.predictions, self.y, self.shares)

    def loss_of(self, total: np.ndarray, size: float) -> float:
        return float(self.shares @ (total[:, 0] / size - self.y) ** 2)


class R2Scorer(ProductScorer):
    """Share of the variance that is explained; undefined, whoever joins, where there is none."""

    unit = 1.0

    def error_products(self) -> np.ndarray:
        self.variance = float(self.shares @ (self.y - np.average(self.y, weights=self.weight)) ** 2)
        return value_error_products(self.predictions, self.y, self.shares)

    def floors(self, candidates: np.ndarray) -> np.ndarray:
        if not self.variance > 0:
            return np.full(len(candidates), -np.inf)
        floors: np.ndarray = super().floors(candidates) / self.variance * (1.0 - 1e-14) - 1.0 - 1e-14
        return floors


class RelativeRmseScorer(R2Scorer):
    """RMSE in units of the spread of the targets; undefined, whoever joins, where there is none."""

    unit = 0.0

    def floors(self, candidates: np.ndarray) -> np.ndarray:
        if not self.variance > 0:
            return np.full(len(candidates), -np.inf)
        squares = np.maximum(ProductScorer.floors(self, candidates), 0.0) / self.variance
        return np.asarray(np.sqrt(squares) * (1.0 - 1e-14))


class ExplainedVarianceScorer(R2Scorer):
    """Share of the variance that is explained where the mean error of an average is forgiven."""

    def error_products(self) -> np.ndarray:
        self.variance = float(self.shares @ (self.y - self.shares @ self.y) ** 2)
        centred = [one - self.shares @ (one[:, 0] - self.y) for one in self.predictions]
        return value_error_products(centred, self.y, self.shares)


class BrierScorer(ProductScorer):
    """Mean squared error of probabilities, summed over the classes that count."""

    def error_products(self) -> np.ndarray:
        return class_error_products(self.predictions, self.y, self.task.counted_classes, self.shares)


class PearsonScorer(ProductScorer):
    """Correlation from the products of centred predictions."""

    unit = 1.0

    def error_products(self) -> np.ndarray:
        means = [float(np.average(one[:, 0], weights=self.weight)) for one in self.predictions]
        centred_y = self.y - np.average(self.y, weights=self.weight)
        pairs = list(zip(self.predictions, means, strict=True))
        self.with_y = np.asarray([(self.shares * centred_y) @ (one[:, 0] - mean) for one, mean in pairs])
        self.length_of_y = float(np.sqrt(self.shares @ centred_y**2))
        return mean_products(len(pairs), self.shares, lambda i, rows: pairs[i][0][rows, 0] - pairs[i][1])

    def floors(self, candidates: np.ndarray) -> np.ndarray:
        squares, error = self.squares(candidates)
        # Where the variance drowns in rounding nothing is known but that it is a correlation, or 0.
        known = (squares > 100.0 * error) & (self.length_of_y > 0)
        squares = np.where(known, squares, 1.0)
        covariance = (self.weights @ self.with_y + self.with_y[candidates]) / (self.size + 1)
        loss = -covariance / (np.sqrt(squares) * (self.length_of_y or 1.0))
        return np.where(known, loss - 4.0 * error / squares, -2.0)


class RoundedKappaScorer(IncrementalScorer):
    """Quadratic weighted kappa of rounded values, from their moments."""

    unit = 1.0

    def prepare(self) -> None:
        centre = np.rint(self.shares @ self.y)
        self.centre, self.centred = centre, self.y - centre
        rows = np.ones(len(self.y)) if self.weight is None else self.weight
        self.rows, self.mean = rows, float(rows @ self.centred / rows.sum())
        self.square = float(rows @ self.centred**2 / rows.sum())

    def part(self, candidate: int) -> np.ndarray:
        part: np.ndarray = self.predictions[candidate][:, 0]
        return part

    def loss_of(self, total: np.ndarray, size: float) -> float:
        rounded = total / size
        np.rint(rounded, out=rounded)
        rounded -= self.centre
        weighted = rounded * self.rows
        whole = float(self.rows.sum())
        mean, square = float(weighted.sum()) / whole, float(weighted @ rounded) / whole
        by_chance = self.square - 2.0 * self.mean * mean + square
        apart = self.square - 2.0 * float(weighted @ self.centred) / whole + square
        return apart / by_chance - 1.0 if by_chance > 0 else 0.0


def row_shares(n_rows: int, weight: np.ndarray | None) -> np.ndarray:
    """Return row weights that sum to 1."""
    return np.full(n_rows, 1.0 / n_rows) if weight is None else weight / weight.sum()


def mean_products(
    n_predictions: int, shares: np.ndarray, errors_of: Callable[[int, slice], np.ndarray]
) -> np.ndarray:
    """Return the mean products of each two predictions' errors, a chunk of rows at a time.

    Parameters
    ----------
    n_predictions : int
    shares : array (n,)
        Row weights that sum to 1.
    errors_of : callable
        Of a prediction's number and a slice of rows: the errors of these rows.

    Returns
    -------
    float64 array (n_predictions, n_predictions)
        The mean squared error of an average with weights w is ``w @ products @ w``.
    """
    total = np.zeros((n_predictions, n_predictions))
    step = max(1, 4 * CHUNK_CELLS // n_predictions)
    for start in range(0, len(shares), step):
        rows = slice(start, start + step)
        errors = np.stack([errors_of(index, rows) for index in range(n_predictions)])
        errors *= np.sqrt(shares[rows])
        total += errors @ errors.T
    return total


def value_error_products(predictions: Sequence[np.ndarray], y: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the mean products of the errors of values."""
    return mean_products(len(predictions), shares, lambda i, rows: predictions[i][rows, 0] - y[rows])


def class_error_products(
    predictions: Sequence[np.ndarray], y: np.ndarray, codes: Sequence[int], shares: np.ndarray
) -> np.ndarray:
    """Return the mean products of the errors of probabilities, summed over some classes."""
    n_predictions = len(predictions)
    total = np.zeros((n_predictions, n_predictions))
    for code in codes:

        def errors_of(index: int, rows: slice, code: int = code) -> np.ndarray:
            errors: np.ndarray = predictions[index][rows, code] - (y[rows] == code)
            return errors

        total += mean_products(n_predictions, shares, errors_of)
    return total


def value_errors(predictions: Sequence[np.ndarray], y: np.ndarray) -> np.ndarray:
    """Return the errors of predicted values, of shape (n, n_predictions)."""
    return np.ascontiguousarray(np.hstack(predictions) - y[:, None])
