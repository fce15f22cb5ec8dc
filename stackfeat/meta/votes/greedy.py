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
PATIENCE = 10
"""A bag's ensemble stops growing when so many picks in a row made it no better than it had been."""


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
    (1 to `start`) as score best together, grows to `picks` or until 10 picks in a row have not made it better, and
    is cut where it scored best.

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
    The picks are those of scoring every average from scratch; of candidates of one loss (to 12 digits) the first is
    taken. All rows count for metrics with a scorer of their own (`Metric.incremental`) on the scale of the members.
    Others are scored on at most 10,000 rows, areas under curves of several classes on at
    most 50,000 probabilities.
    """
    check_predictions(predictions)
    n_inputs = len(predictions)
    drawn = draw_bags(n_inputs, bags, seed)
    scorer = metric.incremental_scorer(predictions, y, task, weight, derive_seed(seed, "greedy rows"))
    weights = np.zeros(n_inputs)
    for bag in drawn:
        chosen = _grow(scorer, bag, picks, start)
        weights += np.bincount(chosen, minlength=n_inputs) / (len(chosen) * len(drawn))
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


def _grow(scorer: IncrementalScorer, bag: np.ndarray, picks: int, start: int) -> list[int]:
    """Return the picks up to the best size."""
    chosen, losses = _start(scorer, scorer.best_alone(bag, min(start, picks)))
    while len(chosen) < picks and len(chosen) - scorer.first_best(losses) <= PATIENCE:
        best, loss = scorer.best(bag)
        scorer.add(best)
        chosen.append(best)
        losses.append(loss)
    return chosen[: scorer.first_best(losses) + 1]


def _start(scorer: IncrementalScorer, ranking: Sequence[int]) -> tuple[list[int], list[float]]:
    """Add inputs in order of their own loss, as many as are best together."""
    scorer.reset()
    together: list[float] = []
    for candidate in ranking:
        together.append(float(scorer.losses(np.array([candidate]))[0]))
        scorer.add(candidate)
    size = scorer.first_best(together) + 1
    scorer.reset()
    for candidate in ranking[:size]:
        scorer.add(candidate)
    return list(ranking[:size]), together[:size]


@dataclass(frozen=True)
class GreedyVote(WeightVote):
    """The mean of members picked one at a time."""

    name: ClassVar[str] = "greedy"
    is_fitted: ClassVar[bool] = True
    options: ClassVar[tuple[str, ...]] = ("picks", "bags", "start")
    preference: ClassVar[int] = 0

    @classmethod
    def stage(cls, options: Mapping[str, Any]) -> str | None:
        return "greedy_vote"

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
