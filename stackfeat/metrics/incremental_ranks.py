"""Growing averages under metrics of order: areas under curves are at most what counts in many bins allow.

In:  what `IncrementalScorer` takes.
Out: losses. Positive rows are moved up, and others down, by as much as single precision may err, and all pairs of a
     bin count as in order: no area is larger than that. The few candidates that may be the best are sorted.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stackfeat.metrics.incremental_scores import HALF_ULP, BoundedScorer
from stackfeat.metrics.sorted_scores import SortedScores, area_of_pairs, mean_defined

MOST_BINS = 131_072
TINY_SPREAD = 1e-30
ROUNDING = 1e-11
"""Of sums of row weights."""


@dataclass(frozen=True)
class OneClass:
    """A class against the rest; of arrays of rows the positive ones come first.

    Attributes
    ----------
    order : int64 array (n,)
        Row numbers.
    n_positive : int
    weight : array (n,) or None
    """

    order: np.ndarray
    n_positive: int
    weight: np.ndarray | None

    def totals(self) -> tuple[float, float]:
        """Return the weights of the positive and of the other rows."""
        if self.weight is None:
            return float(self.n_positive), float(len(self.order) - self.n_positive)
        return float(self.weight[: self.n_positive].sum()), float(self.weight[self.n_positive :].sum())


class CountedRows:
    """Some rows, or their weights, counted by bin: in half the time of `np.bincount`, which reads int64 twice.

    Parameters
    ----------
    n_rows, n_bins : int
    weight : array (n_rows,) or None
    """

    def __init__(self, n_rows: int, n_bins: int, weight: np.ndarray | None) -> None:
        # Here, because metrics are asked for their facts where SciPy is too slow to import.
        from scipy.sparse import csc_array

        each = np.ones(n_rows, dtype=np.int32) if weight is None else weight.astype(np.float64)
        column = (each, np.zeros(n_rows, dtype=np.int32), np.array([0, n_rows], dtype=np.int32))
        self.rows, self.one = csc_array(column, (n_bins, 1)), np.ones(1, dtype=each.dtype)

    def of(self, bins: np.ndarray) -> np.ndarray:
        """Return what is in each bin, given the bin of each row, of any type, cut to a whole number."""
        np.copyto(self.rows.indices, bins, casting="unsafe")
        counts: np.ndarray = self.rows @ self.one
        return counts


class RankingScorer(BoundedScorer):
    """What areas under curves share: bins of averages, of the class that counts or of each against the rest.

    Attributes
    ----------
    few_bins : int
        Bins that all candidates are counted in before some are counted in more.
    """

    unit = 1.0
    few_bins: ClassVar[int]

    def prepare(self) -> None:
        n_rows, counted = len(self.y), self.task.counted_classes
        self.classes = [one_class(self.y == code, self.weight) for code in counted]
        self.low = float(min(one.min() for one in self.predictions))
        self.high = float(max(one.max() for one in self.predictions))
        # By class, then by candidate.
        self.rough = np.empty((len(counted), len(self.predictions), n_rows), dtype=np.float32)
        for place, code in enumerate(counted):
            for candidate, prediction in enumerate(self.predictions):
                self.rough[place, candidate] = prediction[self.classes[place].order, code] - self.low
        # More bins than rows would hold nothing.
        self.n_bins = min(MOST_BINS, 1 << max(6, n_rows.bit_length()))
        self.values = np.empty(n_rows, dtype=np.float32)
        self.bases: dict[tuple[int, int], np.ndarray] = {}
        self.counters: dict[tuple[int, int], tuple[CountedRows, CountedRows]] = {}

    def add(self, candidate: int) -> None:
        super().add(candidate)
        self.bases.clear()

    def set(self, weights: np.ndarray) -> None:
        super().set(weights)
        self.bases.clear()

    def part(self, candidate: int) -> np.ndarray:
        rows = zip(self.task.counted_classes, self.classes, strict=True)
        return np.stack([self.predictions[candidate][of.order, code] for code, of in rows])

    @abstractmethod
    def area(self, of: OneClass, mean: np.ndarray) -> float:
        """Return the area under a class's curve, NaN where undefined; lower losses are larger areas."""

    @abstractmethod
    def most(self, of: OneClass, positive: np.ndarray, negative: np.ndarray) -> float:
        """Return what it is at most, given what positive and other rows weigh in each bin; NaN where undefined."""

    def loss_of(self, total: np.ndarray, size: float) -> float:
        area = mean_defined([self.area(of, one / size) for of, one in zip(self.classes, total, strict=True)])
        return float("inf") if np.isnan(area) else -area

    def cheap_floors(self, candidates: np.ndarray) -> np.ndarray | None:
        return self._floors(candidates, min(self.few_bins, self.n_bins))

    def floors(self, candidates: np.ndarray) -> np.ndarray:
        return self._floors(candidates, self.n_bins)

    def _floors(self, candidates: np.ndarray, n_bins: int) -> np.ndarray:
        factor = np.float32(self._scale(n_bins)[0] / (self.size + 1))
        most = np.zeros((len(self.classes), len(candidates)))
        for place, of in enumerate(self.classes):
            base, (positive, negative) = self._base(place, n_bins), self._counters(place, n_bins)
            for number, candidate in enumerate(candidates):
                np.multiply(self.rough[place, candidate], factor, out=self.values)
                self.values += base
                found = positive.of(self.values[: of.n_positive]), negative.of(self.values[of.n_positive :])
                most[place, number] = self.most(of, *found)
        # Undefined of one is undefined of all.
        defined = most[~np.isnan(most).any(axis=1)]
        if not len(defined):
            return np.full(len(candidates), -np.inf)
        floors: np.ndarray = -defined.mean(axis=0) - ROUNDING
        return floors

    def _base(self, place: int, n_bins: int) -> np.ndarray:
        """Return where a class's rows are without a candidate, in bins: positive ones too high, others too low."""
        if (place, n_bins) not in self.bases:
            (scale, error), n_positive = self._scale(n_bins), self.classes[place].n_positive
            base = (self.total[place] - self.size * self.low) * (scale / (self.size + 1)) + 1.0
            base[:n_positive] += error
            base[n_positive:] -= error
            self.bases[place, n_bins] = base.astype(np.float32)
        return self.bases[place, n_bins]

    def _scale(self, n_bins: int) -> tuple[float, float]:
        """Return bins per unit of a mean, and how far rounding may move a row, in bins.

        Rows are in bins 1 to n_bins; one more at each end is room for what is moved.
        """
        spread = self.high - self.low
        scale = n_bins / spread if spread > TINY_SPREAD else 0.0
        lost = 8 * np.finfo(np.float64).eps * scale * max(abs(self.low), abs(self.high))
        # Of means that differ by little more than rounding nothing is known: they share a bin.
        return (scale, 8 * HALF_ULP * n_bins + lost) if lost < 0.25 else (0.0, 0.25)

    def _counters(self, place: int, n_bins: int) -> tuple[CountedRows, CountedRows]:
        """Return what counts a class's positive rows, and its other rows."""
        if (place, n_bins) not in self.counters:
            of = self.classes[place]
            parts = slice(None, of.n_positive), slice(of.n_positive, None)
            weights = [None if of.weight is None else of.weight[rows] for rows in parts]
            sizes = of.n_positive, len(of.order) - of.n_positive
            first, second = (
                CountedRows(n_rows, n_bins + 2, weight) for n_rows, weight in zip(sizes, weights, strict=True)
            )
            self.counters[place, n_bins] = first, second
        return self.counters[place, n_bins]


class AucScorer(RankingScorer):
    """Area under the ROC curve: the share of pairs in order, ties half."""

    few_bins = 8_192

    def area(self, of: OneClass, mean: np.ndarray) -> float:
        if of.weight is None:
            return area_of_pairs(mean[: of.n_positive], mean[of.n_positive :])
        return _sorted(of, mean).auc(of.weight.astype(np.float64))

    def most(self, of: OneClass, positive: np.ndarray, negative: np.ndarray) -> float:
        n_positive, n_negative = of.totals()
        if not n_positive > 0 or not n_negative > 0:
            return float("nan")
        below = np.cumsum(negative, out=negative)
        pairs = float(np.einsum("i,i", positive, below, dtype=np.float64))
        return pairs / (n_positive * n_negative)


class GiniScorer(AucScorer):
    """Twice the area under the ROC curve, less 1."""

    def loss_of(self, total: np.ndarray, size: float) -> float:
        return 1.0 + 2.0 * super().loss_of(total, size)

    def cheap_floors(self, candidates: np.ndarray) -> np.ndarray | None:
        cheap = super().cheap_floors(candidates)
        return None if cheap is None else 1.0 + 2.0 * cheap - ROUNDING

    def floors(self, candidates: np.ndarray) -> np.ndarray:
        floors: np.ndarray = 1.0 + 2.0 * super().floors(candidates) - ROUNDING
        return floors


class AveragePrecisionScorer(RankingScorer):
    """Sum of precision times gain in recall."""

    few_bins = 32_768

    def area(self, of: OneClass, mean: np.ndarray) -> float:
        return _sorted(of, mean).average_precision(_weight(of))

    def most(self, of: OneClass, positive: np.ndarray, negative: np.ndarray) -> float:
        n_positive, _ = of.totals()
        if not n_positive > 0:
            return float("nan")
        positive, above = positive[::-1], np.cumsum(negative[::-1])
        filled = np.flatnonzero(positive)
        gain = positive[filled]
        # As if a bin's positive rows were a tie before its other rows.
        found = np.cumsum(gain)
        wrong = np.where(filled > 0, above[filled - 1], 0)
        return float(gain @ (found / (found + wrong))) / n_positive


def one_class(is_positive: np.ndarray, weight: np.ndarray | None) -> OneClass:
    """Return the class whose rows these are, against the rest."""
    order = np.concatenate([np.flatnonzero(is_positive), np.flatnonzero(~is_positive)])
    return OneClass(order, int(is_positive.sum()), None if weight is None else weight[order])


def _sorted(of: OneClass, mean: np.ndarray) -> SortedScores:
    return SortedScores(np.arange(len(mean)) < of.n_positive, mean)


def _weight(of: OneClass) -> np.ndarray:
    return np.ones(len(of.order)) if of.weight is None else of.weight.astype(np.float64)
