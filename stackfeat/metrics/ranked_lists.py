"""Metrics of ranked lists: NDCG, mean average precision, mean reciprocal rank.

In:  y (n, 2), relevance and the number of the list of each row; a score for each row.
Out: the mean over the lists that have a relevant row, the others are left out; a list weighs what its rows weigh on
     average. Rows of equal scores count as if their order were drawn: the mean over all their orders, so that neither
     the order of a file nor a score that orders nothing is worth more than chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from stackfeat.metrics.metric import MakeScorer, Metric, Reweighted
from stackfeat.tasks.ranking import LIST, RELEVANCE, run_ends
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class RankedRows:
    """Rows sorted by list, and in it by falling score.

    Attributes
    ----------
    relevance : float64 array (n,)
    place : int64 array (n,)
        The list's number, from 0.
    position : int64 array (n,)
        In the list, from 0.
    starts, sizes : int64 array (n_runs,)
        Of runs of equal scores in a list.
    n_lists : int
    """

    relevance: np.ndarray
    place: np.ndarray
    position: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    n_lists: int

    @classmethod
    def of(cls, relevance: np.ndarray, place: np.ndarray, scores: np.ndarray, n_lists: int) -> RankedRows:
        order = np.lexsort((-scores, place))
        lists, said = place[order], scores[order]
        ends = run_ends(lists, said)
        starts = np.concatenate([[0], ends[:-1]])
        position = np.arange(len(order)) - np.searchsorted(lists, lists)
        return cls(relevance[order], lists, position, starts, ends - starts, n_lists)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of a value of each row over each list."""
        return np.bincount(self.place, weights=values, minlength=self.n_lists)

    def of_run(self, values: np.ndarray) -> np.ndarray:
        """Return for each row the sum of a value over the rows of its run."""
        return np.repeat(np.add.reduceat(values, self.starts), self.sizes)

    @property
    def is_relevant(self) -> np.ndarray:
        return (self.relevance > 0).astype(np.float64)

    @property
    def run_size(self) -> np.ndarray:
        return np.repeat(self.sizes, self.sizes)

    @property
    def run_position(self) -> np.ndarray:
        """Where each row's run begins in its list."""
        return np.repeat(self.position[self.starts], self.sizes)

    @property
    def relevant_before_run(self) -> np.ndarray:
        """How many relevant rows of its list stand before each row's run."""
        sums = np.cumsum(self.is_relevant) - self.is_relevant
        in_list = sums - sums[np.searchsorted(self.place, self.place)]
        return np.repeat(in_list[self.starts], self.sizes)


def gains(relevance: np.ndarray) -> np.ndarray:
    """Return 2^relevance - 1, as LightGBM, XGBoost and competitions count."""
    return np.asarray(np.exp2(relevance) - 1.0)


def discounts(rows: RankedRows, most: float) -> np.ndarray:
    """Return 1 / log2(position + 1) for positions from 1 to `most`, 0 beyond."""
    return np.where(rows.position < most, 1.0 / np.log2(rows.position + 2.0), 0.0)


def discounted_gains(rows: RankedRows, most: float) -> np.ndarray:
    """Return the sum of each list's gains by the discounts of their places; equal scores share the mean discount."""
    return rows.total(gains(rows.relevance) * rows.of_run(discounts(rows, most)) / rows.run_size)


def best_gains(rows: RankedRows, most: float) -> np.ndarray:
    """Return the discounted gains of each list in the order of relevance."""
    best = RankedRows.of(rows.relevance, rows.place, rows.relevance, rows.n_lists)
    return best.total(gains(best.relevance) * discounts(best, most))


def ndcg(rows: RankedRows, most: float) -> np.ndarray:
    """Return discounted gains as a share of those in the best order, for each list."""
    return np.asarray(discounted_gains(rows, most) / best_gains(rows, most))


def average_precision(rows: RankedRows, most: float) -> np.ndarray:
    """Return the mean, over the relevant rows, of the share of relevant rows down to each, for each list.

    Relevant rows beyond position `most` count 0; the mean is over as many as could stand before.
    """
    relevant = rows.is_relevant
    n_run, n_relevant = rows.run_size, rows.of_run(relevant)
    # Of the rows that share a score each is relevant by a chance, and so are those before it.
    others = (rows.position - rows.run_position) * (n_relevant - 1) / np.maximum(n_run - 1, 1)
    precision = n_relevant / n_run * (rows.relevant_before_run + 1 + others) / (rows.position + 1)
    found = rows.total(np.where(rows.position < most, precision, 0.0))
    return np.asarray(found / np.minimum(rows.total(relevant), most))


def reciprocal_rank(rows: RankedRows, most: float) -> np.ndarray:
    """Return 1 / position of the first relevant row, 0 beyond `most`, for each list."""
    relevant = rows.is_relevant
    n_run, n_relevant, inside = rows.run_size, rows.of_run(relevant), rows.position - rows.run_position
    # The first run with a relevant row decides; its first relevant row may stand at each place that leaves room.
    left = n_run - inside - n_relevant
    decides = (rows.relevant_before_run == 0) & (n_relevant > 0) & (left >= 0) & (rows.position < most)
    chance = _log_choose(n_run - inside - 1, n_relevant - 1) - _log_choose(n_run, n_relevant)
    return rows.total(np.where(decides, np.exp(np.where(decides, chance, 0.0)) / (rows.position + 1), 0.0))


def _log_choose(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    from scipy.special import gammaln

    n, k = np.maximum(n, 0), np.maximum(k, 0)
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1))


OfLists = Callable[[RankedRows, float], np.ndarray]


def reweighted_lists(
    y: np.ndarray, prediction: np.ndarray, task: Task, *, value: OfLists, most: float
) -> Callable[[np.ndarray], float]:
    """Return a function from row weights to the mean of a value over the lists that have a relevant row."""
    lists, place, sizes = np.unique(y[:, LIST], return_inverse=True, return_counts=True)
    relevance = y[:, RELEVANCE]
    tells = np.bincount(place, weights=relevance > 0, minlength=len(lists)) > 0
    with np.errstate(invalid="ignore"):
        values = value(RankedRows.of(relevance, place, prediction, len(lists)), most)

    def mean(weight: np.ndarray) -> float:
        of_list = np.bincount(place, weights=weight, minlength=len(lists)) / sizes * tells
        total = of_list.sum()
        return float(of_list[tells] @ values[tells] / total) if total > 0 else float("nan")

    return mean


def ranked_metric(
    value: OfLists, name: str, most: float = np.inf, incremental: MakeScorer | None = None
) -> Metric:
    """Return the metric that is the mean of a value of the lists, of their first `most` rows."""
    reweighted: Reweighted = partial(reweighted_lists, value=value, most=most)
    return Metric(
        name=name,
        needs="value",
        greater_is_better=True,
        tasks=("ranking",),
        reweighted=reweighted,
        incremental=incremental,
        n_best=int(most) if np.isfinite(most) else None,
    )
