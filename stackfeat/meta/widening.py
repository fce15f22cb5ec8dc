"""Widening: what averaging takes from calibrated predictions, put back.

In:  what several pipelines say of the same rows, each calibrated by itself, and the average of it.
Out: a map of averages, made without labels.

Errors of pipelines cancel in their mean, which therefore lies nearer to the middle than its worth allows: the mean of
calibrated predictions is under-confident. Say p is what a calibrated pipeline says of a row, and h its scores
(logarithms of probabilities, or the values themselves): over many rows y and p have the same mean, and so have y h
and p h. Both hold for every pipeline, so the means of y, and of y times the mean of h, are known without any label.
The average, its scores times a factor plus offsets, is given just these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.structure import must, plain
from stackfeat.tasks.task import Task

LARGEST_FACTOR = 2.0
NEEDED_SE = 1.0
"""Standard errors of the slope of single pipelines that a factor must be above 1 by."""
FIT_ROWS = 10_000
SMALLEST = 1e-12
"""Smaller probabilities count as this one."""
_OFFSET_STEPS = 100
_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Widening:
    """A factor and an offset for the scores of each column.

    Attributes
    ----------
    factors, offsets : tuple of float
    """

    factors: tuple[float, ...]
    offsets: tuple[float, ...]

    @classmethod
    def of(cls, views: Sequence[np.ndarray], average: np.ndarray, task: Task) -> Widening | None:
        """Return the widening of an average of calibrated views; None where nothing was averaged.

        Parameters
        ----------
        views : sequence of ndarray of shape (n_rows, n_outputs)
            What each pipeline says of the same rows.
        average : ndarray of shape (n_rows, n_outputs)
        """
        if len(views) < 2 or not len(average):
            return None
        rows = np.unique(np.linspace(0, len(average) - 1, FIT_ROWS).round().astype(np.int64))
        said = [view[rows] for view in views]
        factors, offsets = np.ones(task.n_outputs), np.zeros(task.n_outputs)
        # Scores of classes share a unit and belong together; values of several targets do not.
        together = [slice(None)] if task.shares_unit else [slice(j, j + 1) for j in range(task.n_outputs)]
        for columns in together:
            moments = _Moments.of([one[:, columns] for one in said], average[rows][:, columns], task)
            factors[columns], offsets[columns] = moments.solved()
        return cls(tuple(factors.tolist()), tuple(offsets.tolist()))

    def is_sure(self, slope_error: float) -> bool:
        """Whether it changes more than what is not known of the slope of single pipelines."""
        return max(self.factors) - 1.0 > NEEDED_SE * slope_error

    def apply(self, average: np.ndarray, task: Task) -> np.ndarray:
        """Return the widened average, float64 (n_rows, n_outputs)."""
        return _moved(task.unbounded(average, SMALLEST), np.array(self.factors), np.array(self.offsets), task)

    def check(self, task: Task, where: str) -> None:
        """Raise StructureError unless it can be one of this task."""
        for name, numbers in (("factors", self.factors), ("offsets", self.offsets)):
            fits = len(numbers) == task.n_outputs and bool(np.isfinite(numbers).all())
            must(fits, f"{where}.{name}", f"be {task.n_outputs} finite numbers", numbers)

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = plain(self)
        return values


@dataclass(frozen=True)
class _Moments:
    """What the widened average must have in common with the pipelines.

    Attributes
    ----------
    scores : ndarray of shape (n_rows, n_columns)
        Of the average.
    mean_scores : ndarray of shape (n_rows, n_columns)
        The mean of those of the pipelines.
    mean : ndarray of shape (n_columns,)
        Of what the pipelines say.
    product : float
        The mean over rows and pipelines of what they say times its scores.
    """

    scores: np.ndarray
    mean_scores: np.ndarray
    mean: np.ndarray
    product: float
    task: Task

    @classmethod
    def of(cls, views: Sequence[np.ndarray], average: np.ndarray, task: Task) -> _Moments:
        scores = [task.unbounded(view, SMALLEST) for view in views]
        products = [(view * own).sum(axis=1).mean() for view, own in zip(views, scores, strict=True)]
        mean = np.mean([view.mean(axis=0) for view in views], axis=0)
        mean_scores = np.mean(scores, axis=0)
        return cls(task.unbounded(average, SMALLEST), mean_scores, mean, float(np.mean(products)), task)

    def solved(self) -> tuple[float, np.ndarray]:
        """Return the factor, from 1 on, and the offsets."""
        from scipy.optimize import brentq

        def lacks(factor: float) -> float:
            widened = _moved(self.scores, factor, self.offsets(factor), self.task)
            return self.product - float((widened * self.mean_scores).sum(axis=1).mean())

        # Pipelines that say the same leave nothing to put back.
        if not lacks(1.0) > _TOLERANCE:
            return 1.0, self.offsets(1.0)
        if not lacks(LARGEST_FACTOR) < 0:
            return LARGEST_FACTOR, self.offsets(LARGEST_FACTOR)
        factor = float(brentq(lacks, 1.0, LARGEST_FACTOR, xtol=1e-9))
        return factor, self.offsets(factor)

    def offsets(self, factor: float) -> np.ndarray:
        """Return the offsets with which the mean is that of the pipelines, for a factor."""
        offsets = np.zeros(self.scores.shape[1])
        wanted = self.task.unbounded(self.mean[None], SMALLEST)[0]
        for _ in range(_OFFSET_STEPS):
            mean = _moved(self.scores, factor, offsets, self.task).mean(axis=0)
            step = wanted - self.task.unbounded(mean[None], SMALLEST)[0]
            offsets = offsets + step
            if np.abs(step).max() < _TOLERANCE * max(1.0, float(np.abs(wanted).max())):
                break
        return offsets


def _moved(scores: np.ndarray, factors: Any, offsets: np.ndarray, task: Task) -> np.ndarray:
    return task.of_scores(factors * scores + offsets)


def averaged(views: Sequence[np.ndarray], task: Task, average: str, widening: Widening | None) -> np.ndarray:
    """Return the average of what all pipelines say, widened where there is a widening: wherever it is asked for.

    Parameters
    ----------
    views : sequence of ndarray of shape (n_rows, n_outputs)
        At `engine.scoring.view_places`.
    """
    found = task.average(views, average)
    return found if widening is None else widening.apply(found, task)


def checked_widenings(widenings: Mapping[str, Widening], task: Task, where: str) -> None:
    """Raise StructureError unless all can be of this task."""
    for name, widening in widenings.items():
        widening.check(task, f"{where}.{name}")
