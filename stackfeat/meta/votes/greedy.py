"""Greedy ensemble selection with replacement (Caruana and others, ICML 2004).

In:  out-of-fold predictions of several members on the members' scale, true values, a metric.
Out: a weight for each member: how often it was picked, averaged over bags of members.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from stackfeat.meta.votes.soft import WeightVote, check_predictions
from stackfeat.meta.votes.vote import VoteTarget
from stackfeat.metrics.incremental_scores import IncrementalScorer
from stackfeat.metrics.metric import Metric
from stackfeat.seeds import derive_seed
from stackfeat.tasks.task import Task

SMALLEST_BAG = 5
"""With no more inputs than this there is one bag, of all inputs."""
SAME_LOSS = 1e-12
"""A longer ensemble must be better by more than this (relative) than a shorter one."""


def greedy_selection(
    predictions: Sequence[np.ndarray],
    y: np.ndarray,
    metric: Metric,
    task: Task,
    *,
    picks: int = 50,
    bags: int = 5,
    start: int = 3,
    seed: int = 0,
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """Pick members one at a time, each the one that most improves the mean of those picked.

    Each bag is a random half of the inputs (five at least). It starts from its best few inputs, as many
    (1 to `start`) as score best together, grows to `picks`, and is cut where it scored best.

    Parameters
    ----------
    predictions : sequence of float arrays (n, n_classes) or (n, 1)
        On the members' scale; mapped back with the task before scoring.
    y : array (n,)
        Codes, or values on the members' scale.
    metric : Metric
    task : Task
    picks : int
        Members in a bag's ensemble at most, repeats counted.
    bags : int
    start : int
    seed : int
    weight : array (n,) or None

    Returns
    -------
    float64 array (n_inputs,)
        How often each was picked, averaged over bags; at least 0, sum 1.

    Notes
    -----
    Exact and fast for metrics with a scorer of their own (`Metric.incremental`); the others are scored from
    scratch on at most 10,000 rows.
    """
    check_predictions(predictions)
    n_inputs = len(predictions)
    drawn = draw_bags(n_inputs, bags, seed)
    weights = np.zeros(n_inputs)
    for bag in drawn:
        inside = [predictions[index] for index in bag]
        scorer = metric.incremental_scorer(inside, y, task, weight, derive_seed(seed, "greedy rows"))
        chosen = _grow(scorer, picks, start)
        weights += np.bincount(bag[chosen], minlength=n_inputs) / (len(chosen) * len(drawn))
    shares: np.ndarray = weights / weights.sum()
    return shares


def draw_bags(n_inputs: int, bags: int, seed: int) -> list[np.ndarray]:
    """Return sorted input numbers for each bag; one bag of all inputs where they are few."""
    size = max(min(n_inputs, SMALLEST_BAG), math.ceil(n_inputs / 2))
    if bags == 1 or size == n_inputs:
        return [np.arange(n_inputs)]
    return [
        np.sort(
            np.random.default_rng(derive_seed(seed, "greedy bag", bag)).choice(n_inputs, size, replace=False)
        )
        for bag in range(bags)
    ]


def _grow(scorer: IncrementalScorer, picks: int, start: int) -> list[int]:
    """Return the picks up to the best size."""
    chosen, losses = _start(scorer, min(start, picks))
    while len(chosen) < picks:
        candidates = scorer.losses()
        best = int(candidates.argmin())
        scorer.add(best)
        chosen.append(best)
        losses.append(float(candidates[best]))
    return chosen[: _best_size(losses)]


def _start(scorer: IncrementalScorer, at_most: int) -> tuple[list[int], list[float]]:
    """Add the best inputs in order of their own loss, as many as are best together."""
    single = scorer.losses()
    order = single.argsort(kind="stable")[:at_most].tolist()
    together: list[float] = []
    for candidate in order:
        together.append(float(scorer.losses()[candidate]))
        scorer.add(candidate)
    size = _best_size(together)
    scorer.reset()
    for candidate in order[:size]:
        scorer.add(candidate)
    return order[:size], together[:size]


def _best_size(losses: Sequence[float]) -> int:
    """Return the smallest size whose loss nothing longer beats."""
    best = 0
    for index, loss in enumerate(losses):
        if loss < losses[best] - SAME_LOSS * abs(losses[best]):
            best = index
    return best + 1


@dataclass(frozen=True)
class GreedyVote(WeightVote):
    """The mean of members picked one at a time."""

    name: ClassVar[str] = "greedy"
    is_fitted: ClassVar[bool] = True
    options: ClassVar[tuple[str, ...]] = ("picks", "bags", "start")
    preference: ClassVar[int] = 0

    @classmethod
    def fit(cls, predictions: Sequence[np.ndarray], target: VoteTarget, options: Mapping[str, Any]) -> Self:
        assert target.metric is not None
        weights = greedy_selection(
            predictions,
            target.y,
            target.metric,
            target.task,
            seed=target.seed,
            weight=target.weight,
            **options,
        )
        return cls(tuple(weights.tolist()))
