"""Growing averages under NDCG: what does not change from one average to the next is worked out once.

In:  what `IncrementalScorer` takes, and how many places of each list count.
Out: exact losses. Lists of about the same size are the rows of one matrix, sorted at once; only lists in which scores
     are equal are gone through by runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.metrics.incremental_scores import IncrementalScorer
from stackfeat.metrics.ranked_lists import RankedRows, best_gains, discounted_gains, gains
from stackfeat.tasks.ranking import LIST, RELEVANCE


@dataclass(frozen=True)
class Lists:
    """Lists of about the same size, with room for the longest of them.

    Attributes
    ----------
    rows : int64 array (n_lists, width)
        Row numbers; the number of all rows where a list has ended.
    relevance, gain : float64 arrays (n_lists, width)
        0 where a list has ended.
    discount : float64 array (n_counted,)
        Of the places that count.
    share : float64 array (n_lists,)
        What a gain of 1 at the first place adds to the score.
    most : float
        How many places count.
    """

    rows: np.ndarray
    relevance: np.ndarray
    gain: np.ndarray
    discount: np.ndarray
    share: np.ndarray
    most: float

    def score(self, behind: np.ndarray) -> float:
        """Return what these lists add to the score, given how far behind each row is: (n + 1,), then infinity."""
        said = behind.take(self.rows)
        order = said.argsort(axis=1)
        # One place more, which may be tied with the last that counts.
        ordered = np.take_along_axis(said, order[:, : len(self.discount) + 1], axis=1)
        found = np.take_along_axis(self.gain, order[:, : len(self.discount)], axis=1) @ self.discount
        is_tied = ((ordered[:, 1:] == ordered[:, :-1]) & np.isfinite(ordered[:, 1:])).any(axis=1)
        if is_tied.any():
            tied, relevance = said[is_tied], self.relevance[is_tied]
            is_row = np.isfinite(tied)
            rows = RankedRows.of(relevance[is_row], np.nonzero(is_row)[0], -tied[is_row], len(tied))
            found[is_tied] = discounted_gains(rows, self.most)
        return float(found @ self.share)


class NdcgScorer(IncrementalScorer):
    """Discounted gains as a share of those in the best order.

    Parameters
    ----------
    most : float
        How many places of each list count.
    """

    unit = 1.0

    def __init__(self, *given: Any, most: float) -> None:
        self.most = most
        super().__init__(*given)

    def prepare(self) -> None:
        n_rows, relevance = len(self.y), self.y[:, RELEVANCE]
        _, place, sizes = np.unique(self.y[:, LIST], return_inverse=True, return_counts=True)
        best = best_gains(RankedRows.of(relevance, place, relevance, len(sizes)), self.most)
        weight = np.bincount(place, weights=self.weight, minlength=len(sizes)) / sizes * (best > 0)
        self.is_defined = bool(weight.sum() > 0)
        share = np.divide(weight, best * weight.sum(), out=np.zeros(len(sizes)), where=weight > 0)
        # Row numbers list by list, and in each list from its start.
        order = np.argsort(place, kind="stable")
        starts = np.cumsum(sizes) - sizes
        self.behind = np.full(n_rows + 1, np.inf)
        self.lists = list(self._by_width(order, starts, sizes, share))

    def _by_width(
        self, order: np.ndarray, starts: np.ndarray, sizes: np.ndarray, share: np.ndarray
    ) -> Iterator[Lists]:
        """Yield the lists that count, those of about the same size together."""
        relevance = np.append(self.y[:, RELEVANCE], 0.0)
        widths = np.ceil(2.0 * np.log2(sizes))
        for width in np.unique(widths[share > 0]):
            these = np.flatnonzero((widths == width) & (share > 0))
            places = np.arange(sizes[these].max())
            is_row = places < sizes[these][:, None]
            rows = np.where(is_row, order.take(starts[these][:, None] + places, mode="clip"), len(self.y))
            counted = places[places < self.most]
            discount = 1.0 / np.log2(counted + 2.0)
            said = relevance.take(rows)
            yield Lists(rows, said, gains(said), discount, share[these], self.most)

    def part(self, candidate: int) -> np.ndarray:
        part: np.ndarray = self.predictions[candidate][:, 0]
        return part

    def loss_of(self, total: np.ndarray, size: float) -> float:
        if not self.is_defined:
            return float("inf")
        np.divide(total, -size, out=self.behind[:-1])
        return -sum(one.score(self.behind) for one in self.lists)
