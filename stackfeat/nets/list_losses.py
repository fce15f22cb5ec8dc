"""Losses of nets that order the rows of lists.

In:  scores (n_rows, k), k predictions of a row; relevance and list of each row (n_rows, 2). Rows of a list stand
     together.
Out: a loss for each row, (n_rows,): the mean over the k predictions, each of which orders the lists by itself. The
     losses of a list's rows sum up to the loss of the list, whatever its length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Padded:
    """Where each row stands in a table of lists as long as the longest.

    Attributes
    ----------
    place, position : int64 Tensor of shape (n_rows,)
    shape : (int, int)
        Lists, and rows of the longest.
    """

    place: Tensor
    position: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, lists: Tensor) -> Padded:
        _, place, sizes = torch.unique_consecutive(lists, return_inverse=True, return_counts=True)
        starts = sizes.cumsum(0) - sizes
        position = torch.arange(len(lists), device=lists.device) - starts[place]
        return cls(place, position, (len(sizes), int(sizes.max())))

    def table(self, values: Tensor, fill: float) -> Tensor:
        """Return values of rows (n_rows, ...) as (n_lists, longest, ...)."""
        table = values.new_full((*self.shape, *values.shape[1:]), fill)
        table[self.place, self.position] = values
        return table

    def rows(self, table: Tensor) -> Tensor:
        """Return what stands in a table for each row."""
        return table[self.place, self.position]


def listwise(scores: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the scores' soft-max within the list with shares of its gains, 2^relevance - 1 (ListNet)."""
    padded = Padded.of(y[:, 1])
    gains = padded.table(torch.exp2(y[:, 0]) - 1, 0.0)
    shares = gains / gains.sum(1, keepdim=True).clamp_min(1.0)
    logs = F.log_softmax(padded.table(scores, -torch.inf), dim=1)
    # Places that no row fills have a share of 0, and a logarithm of minus infinity.
    return -(padded.rows(shares)[:, None] * padded.rows(logs)).mean(1)


def pairwise(scores: Tensor, y: Tensor) -> Tensor:
    """Mean logistic loss of the pairs of a list of which one row is more relevant, by their difference (RankNet)."""
    padded = Padded.of(y[:, 1])
    relevance = padded.table(y[:, 0], -1.0)
    is_pair = (relevance[:, :, None] > relevance[:, None, :]) & (relevance[:, None, :] >= 0)
    n_pairs = is_pair.sum((1, 2)).clamp_min(1)
    total = torch.zeros_like(scores[:, 0])
    for column in scores.unbind(1):
        table = padded.table(column, 0.0)
        losses = F.softplus(table[:, None, :] - table[:, :, None]) * is_pair
        total = total + padded.rows(losses.sum(2) / n_pairs[:, None])
    return total / scores.shape[1]


def pointwise(scores: Tensor, y: Tensor) -> Tensor:
    """Squared error of relevance itself."""
    return (scores - y[:, :1]).square().mean(1)


LIST_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "listwise": listwise,
    "pairwise": pairwise,
    "mse": pointwise,
}
"""By the names of `Ranking.losses`."""
