"""Rank vote: the mean of ranks instead of values, for members whose scales do not agree.

In:  predictions of one column: the probability of a class, or a value.
Out: their mean rank, on the scale of a prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from stackfeat.errors import UsageError
from stackfeat.meta.votes.vote import Vote, VoteTarget
from stackfeat.structure import must, structured
from stackfeat.tasks.task import Task

MAX_POINTS = 10_001
"""Points kept of a distribution."""

Curve = tuple[tuple[float, ...], tuple[float, ...]]
"""A monotone function through points (x, y), x strictly increasing."""

_AS_IS: Curve = ((0.0, 1.0), (0.0, 1.0))


@dataclass(frozen=True)
class RankVote(Vote):
    """Mean of ranks, on the scale of a prediction.

    Binary: the mean rank r in (0, 1) of the positive column, as ``[1 - r, r]``: good for ranking metrics,
    not a calibrated probability. Regression: the mean rank goes through the monotone map that gives
    the out-of-fold rows the distribution of the plain mean of inputs. Ranking: the mean of the ranks within the lists
    of the rows themselves; nothing is learnt.

    Attributes
    ----------
    ranks : tuple of curves
        Value to rank, one for each input.
    values : curve or None
        Regression: mean rank to value.
    positive : int or None
        Binary: the positive column.
    """

    name: ClassVar[str] = "rank"
    is_fitted: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...] | None] = ("binary", "regression", "ranking")
    takes_targets: ClassVar[bool] = False
    needs: ClassVar[str] = "orders one column of values"

    ranks: tuple[Curve, ...]
    values: Curve | None
    positive: int | None

    @classmethod
    def fit(cls, predictions: Sequence[np.ndarray], target: VoteTarget, options: Mapping[str, Any]) -> Self:
        """Learn the distribution of every input.

        Raises
        ------
        UsageError
            If there are more than two classes, whose ranks cannot be compared.
        """
        task = target.task
        if not cls.serves(task.kind):
            raise UsageError(
                f"rank vote needs a task of {', '.join(cls.tasks or ())}; got {task.kind}. Use vote: soft."
            )
        if task.n_targets > 1:
            raise UsageError(f"rank vote needs one target; got {task.n_targets}. Use vote: soft.")
        if task.has_lists:
            return cls.of_lists(len(predictions))
        positive = task.positive if task.takes_positive else None
        columns = [task.counted(values).astype(np.float64) for values in predictions]
        ranks = tuple(_rank_curve(column, is_proba=positive is not None) for column in columns)
        if positive is not None:
            return cls(ranks, None, positive)
        mean_rank = np.sort(_mean_rank(columns, ranks))
        mean_value = np.sort(np.mean(columns, axis=0))
        return cls(ranks, _curve(_thin(mean_rank), _thin(mean_value)), None)

    @classmethod
    def reads(
        cls, predictions: Sequence[np.ndarray], task: Task, lists: np.ndarray | None
    ) -> Sequence[np.ndarray]:
        return [task.ranked_within(prediction, lists) for prediction in predictions]

    @classmethod
    def of_lists(cls, n_inputs: int) -> Self:
        """Return the vote of inputs that are ranks within lists already."""
        return cls((_AS_IS,) * n_inputs, _AS_IS, None)

    @property
    def n_inputs(self) -> int:
        return len(self.ranks)

    def subset(self, places: Sequence[int]) -> Self:
        return replace(self, ranks=tuple(self.ranks[place] for place in places))

    def combine(self, predictions: Sequence[np.ndarray]) -> np.ndarray:
        if len(predictions) != len(self.ranks):
            raise UsageError(f"rank vote was fitted on {len(self.ranks)} inputs; got {len(predictions)}.")
        curve = self.values
        task = Task("regression") if curve else Task("binary", (0, 1), self.positive or 0)
        columns = [task.counted(values).astype(np.float64) for values in predictions]
        mean_rank = _mean_rank(columns, self.ranks)
        return task.whole(np.interp(mean_rank, *curve) if curve else mean_rank)

    def to_json(self) -> dict[str, Any]:
        return {self.name: {"vote": self.name, **asdict(self)}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], task: Task, options: Mapping[str, Any], where: str) -> Self:
        curves, where = values.get(cls.name), "rank vote"
        if isinstance(curves, dict):
            curves = {name: part for name, part in curves.items() if name != "vote"}
        vote = structured(cls, curves, where)
        must(vote.positive in (None, 0, 1), f"{where}.positive", "be 0, 1 or null", vote.positive)
        for x, y in (*vote.ranks, *([] if vote.values is None else [vote.values])):
            must(len(x) == len(y) > 0, where, "have curves of as many x as y", (len(x), len(y)))
        return vote


def _mean_rank(columns: Sequence[np.ndarray], ranks: Sequence[Curve]) -> np.ndarray:
    total = np.zeros(len(columns[0]))
    for column, (x, y) in zip(columns, ranks, strict=True):
        total += np.interp(column, x, y)
    mean: np.ndarray = total / len(ranks)
    return mean


def _rank_curve(column: np.ndarray, is_proba: bool) -> Curve:
    """Mid-ranks in (0, 1) of the values; probabilities beyond the ones seen still differ in rank."""
    ordered = np.sort(column)
    x, y = _curve(_thin(ordered), _thin((np.arange(len(ordered)) + 0.5) / len(ordered)))
    if is_proba and x[0] > 0.0:
        x, y = (0.0, *x), (0.0, *y)
    if is_proba and x[-1] < 1.0:
        x, y = (*x, 1.0), (*y, 1.0)
    return x, y


def _thin(ordered: np.ndarray) -> np.ndarray:
    """Keep at most MAX_POINTS of sorted values, evenly by position, both ends included."""
    if len(ordered) <= MAX_POINTS:
        return ordered
    kept: np.ndarray = ordered[np.linspace(0, len(ordered) - 1, MAX_POINTS).round().astype(np.int64)]
    return kept


def _curve(x: np.ndarray, y: np.ndarray) -> Curve:
    """Join points of equal x at their mean y."""
    unique, place = np.unique(x, return_inverse=True)
    means = np.bincount(place, weights=y) / np.bincount(place)
    return tuple(unique.tolist()), tuple(means.tolist())
