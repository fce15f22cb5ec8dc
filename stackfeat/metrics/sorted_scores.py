"""Scores of one class against the rest, or values, sorted: areas and ranks, also where row weights change.

In:  which rows are positive, their scores; values; weights of rows.
Out: area under the ROC curve, average precision, where ties are one threshold; ranks.
"""

from __future__ import annotations

import numpy as np

FEW_ROWS = 2_000
"""Sorted at once."""


class SortedScores:
    """Scores of one class sorted once, so that AUC under new row weights is a few sums.

    Parameters
    ----------
    is_positive : bool array (n,)
    score : float array (n,)
    """

    def __init__(self, is_positive: np.ndarray, score: np.ndarray) -> None:
        self.order = order_of(score)
        ordered = score[self.order]
        self.is_positive = is_positive[self.order]
        self.starts = np.flatnonzero(np.diff(ordered, prepend=np.nan) != 0.0)

    def auc(self, weight: np.ndarray) -> float:
        """Area under the ROC curve with `weight` (n,) in the original row order; NaN with one class."""
        positive, negative = self._by_tie(weight)
        if not positive.sum() > 0 or not negative.sum() > 0:
            return float("nan")
        below = np.cumsum(negative) - negative
        return float(positive @ (below + 0.5 * negative) / (positive.sum() * negative.sum()))

    def average_precision(self, weight: np.ndarray) -> float:
        """Sum of precision times gain in recall, thresholds from high to low; NaN without positives."""
        positive, negative = (group[::-1] for group in self._by_tie(weight))
        if not positive.sum() > 0:
            return float("nan")
        found = np.cumsum(positive)
        called = found + np.cumsum(negative)
        precision = np.divide(found, called, out=np.zeros(len(found)), where=called > 0)
        return float(positive @ precision / positive.sum())

    def _by_tie(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ordered = weight[self.order]
        if not len(ordered):
            return np.zeros(0), np.zeros(0)
        positive = np.where(self.is_positive, ordered, 0.0)
        negative = ordered - positive
        if len(self.starts) == len(ordered):
            return positive, negative
        return np.add.reduceat(positive, self.starts), np.add.reduceat(negative, self.starts)


class SortedValues:
    """Values sorted once, so that their ranks under new row weights are a few sums.

    Parameters
    ----------
    values : float array (n,)
    """

    def __init__(self, values: np.ndarray) -> None:
        self.order = order_of(values)
        self.ties = np.cumsum(np.diff(values[self.order], prepend=values[self.order][:1]) != 0.0)

    def ranks(self, weight: np.ndarray) -> np.ndarray:
        """Return the weight below each value in shares of the whole, ties and itself counted half: float64 (n,)."""
        by_tie = np.bincount(self.ties, weights=weight[self.order])
        middle = (np.cumsum(by_tie) - 0.5 * by_tie) / by_tie.sum()
        ranks = np.empty(len(self.order))
        ranks[self.order] = middle[self.ties]
        return ranks


def area_of_pairs(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the share of pairs in order, ties half, of finite scores of two classes; NaN with one class."""
    if not len(positive) or not len(negative):
        return float("nan")
    # Sorts of values, and searches for sorted ones, are several times faster than a sort of their order.
    kept, left = np.sort(positive), np.sort(negative)
    twice = int(left.searchsorted(kept, "left").sum() + left.searchsorted(kept, "right").sum())
    return twice / 2 / (len(kept) * len(left))


def mean_defined(values: list[float]) -> float:
    """Mean over the classes whose value is defined; NaN where none is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def order_of(values: np.ndarray) -> np.ndarray:
    """Return the order of finite values, ties in any order; several times faster than one sort of many values.

    Two radix sorts, of 16 bits each, leave little for a sort that is fast on what is nearly in order.
    """
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    scale = float(2**32 - 1) / (high - low) if 0.0 < high - low < np.inf else 0.0
    if len(values) < FEW_ROWS or not 0.0 < scale < np.inf:
        return np.argsort(values)
    fixed = ((values - low) * scale).astype(np.uint32)
    order = np.argsort(fixed.astype(np.uint16), kind="stable")
    order = order[np.argsort((fixed >> np.uint32(16)).astype(np.uint16)[order], kind="stable")]
    return np.asarray(order[np.argsort(values[order], kind="stable")])
