"""Growing averages under the mean of a metric over several targets: one scorer for each of them.

In:  what `IncrementalScorer` takes, and how the scorer of one target is made.
Out: exact losses and floors, the means of those of the targets that have a score (not one value only).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stackfeat.metrics.incremental_scores import BoundedScorer, IncrementalScorer


class MeanOverTargetsScorer(BoundedScorer):
    """The mean over targets, of which those are left out that have no score, whoever is in the average.

    Parameters
    ----------
    make : callable
        Makes the scorer of one target, of the arguments of an `IncrementalScorer`.
    root : bool
        Whether the square roots of its losses are averaged.
    """

    def __init__(self, *given: Any, make: Callable[..., IncrementalScorer], root: bool) -> None:
        self.make, self.root = make, root
        super().__init__(*given)
        # Each target's scorer adds to its part of the whole.
        for scorer, total in zip(self.scorers, self.total, strict=True):
            scorer.total = total

    def prepare(self) -> None:
        every = [self._scorer_of(place) for place in range(len(self.task.parts))]
        self.scorers = [one for one in every if np.isfinite(one.loss_of(one.part(0), 1.0))]

    def _scorer_of(self, place: int) -> IncrementalScorer:
        predictions = [self.task.part_of_prediction(one, place) for one in self.predictions]
        y = self.task.part_of_y(self.y, place)
        return self.make(predictions, y, self.task.parts[place], self.weight, self.loss)

    def part(self, candidate: int) -> np.ndarray:
        return np.stack([one.part(candidate) for one in self.scorers]) if self.scorers else np.zeros(0)

    def add(self, candidate: int) -> None:
        for one in self.scorers:
            one.add(candidate)
        self.size += 1

    def set(self, weights: np.ndarray) -> None:
        for one in self.scorers:
            one.set(weights)
        self.size = float(weights.sum())

    def loss_of(self, total: np.ndarray, size: float) -> float:
        pairs = zip(self.scorers, total, strict=True)
        return float(self._mean([np.array([one.loss_of(part, size)]) for one, part in pairs], 1)[0])

    def floors(self, candidates: np.ndarray) -> np.ndarray:
        return self._mean([_floors(one, candidates) for one in self.scorers], len(candidates))

    def limit(self, lowest: float) -> float:
        return self.scorers[0].limit(lowest) if self.scorers else lowest

    def _mean(self, of_targets: Sequence[np.ndarray], n: int) -> np.ndarray:
        """Return the means of losses, or of floors, of the targets; infinite without any."""
        if not of_targets:
            return np.full(n, np.inf)
        each = np.stack(of_targets)
        # What is at least a mean of squares may be below 0.
        return np.asarray((np.sqrt(np.maximum(each, 0.0)) if self.root else each).mean(axis=0))


def _floors(scorer: IncrementalScorer, candidates: np.ndarray) -> np.ndarray:
    """Return what the losses are at least: the losses where nothing cheaper is known."""
    return scorer.floors(candidates) if isinstance(scorer, BoundedScorer) else scorer.losses(candidates)
