"""Judged rows: labelled rows, and the metric by which predictions of them are scored.

In:  stored rows, their folds, a metric's name.
Out: a score and scores of resamples. What is not independent is resampled together: rows of a group, and rows
     close in time where folds follow time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.errors import UsageError
from stackfeat.metrics.decision_rule import Decision
from stackfeat.metrics.metric import Metric
from stackfeat.metrics.registry import get_metric
from stackfeat.seeds import derive_seed
from stackfeat.tasks.task import Task

N_RESAMPLES = 200
_FEWEST_RESAMPLES = 2

FEWEST_PERIODS = 3
"""With fewer folds that follow time, their blocks are resampled."""

BLOCKS_A_FOLD = 10
"""Rows of a fold that follow each other in time are resampled in so many blocks."""


@dataclass(frozen=True)
class Judged:
    """Labelled rows, and the metric that predictions of them are judged by.

    Attributes
    ----------
    y : array (n,)
        On the scale of the target.
    weight : array (n,) or None
    clusters : int64 array (n,) or None
        Rows that are resampled together; None where each row stands for itself.
    within : int64 array (n,) or None
        The fold of each row, where the mean of the scores of the folds counts.
    periods : int64 array (n,) or None
        The fold of each row where folds follow time. A score drifts from one to the next, so pooled rows are
        resampled by them: blocks inside them are too much alike.
    """

    metric: Metric
    task: Task
    y: np.ndarray
    weight: np.ndarray | None
    clusters: np.ndarray | None
    within: np.ndarray | None = None
    periods: np.ndarray | None = None

    @classmethod
    def of(
        cls, samples: Samples, metric: str, trust_code: bool, fold_of: np.ndarray, is_time: bool
    ) -> Judged:
        """Return stored rows and the metric of a name; see `by`."""
        found = get_metric(metric, samples.task.kind, trust_code=trust_code)
        return cls.by(samples, found, fold_of, is_time)

    @classmethod
    def by(cls, samples: Samples, metric: Metric, fold_of: np.ndarray, is_time: bool) -> Judged:
        """Return stored rows and a metric; `fold_of` numbers the folds, whose blocks of time are kept apart."""
        y = samples.task.to_target_scale(samples.labels)
        clusters = clusters_of(samples, fold_of, is_time)
        periods = np.asarray(fold_of) if is_time and samples.group is None else None
        return cls(metric, samples.task, y, samples.weight, clusters, periods=periods)

    def take(self, rows: np.ndarray) -> Judged:
        """Return some of the rows; by their numbers, or a mask."""

        def part(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[rows]

        return replace(
            self,
            y=self.y[rows],
            weight=part(self.weight),
            clusters=part(self.clusters),
            within=part(self.within),
            periods=part(self.periods),
        )

    def score(self, decided: np.ndarray) -> float:
        """Return the score; within folds the mean over those where it is defined, NaN where it nowhere is."""
        if self.within is None:
            return self.metric.score(self.y, decided, self.task, self.weight)
        scores = [
            value for part, inside in self._folds() if (value := part.defined(decided[inside])) is not None
        ]
        return float(np.mean(scores)) if scores else float("nan")

    def defined(self, decided: np.ndarray) -> float | None:
        """Return the score; None where these rows have none: a fold can lack a class, or rows."""
        if not len(decided):
            return None
        try:
            value = self.score(decided)
        except ValueError:
            return None
        return value if np.isfinite(value) else None

    def bootstrap(self, decided: np.ndarray, seed: int) -> np.ndarray:
        """Return scores of resamples, float64 (N_RESAMPLES,), NaN where there is none."""
        if self.within is None:
            return self._resampled(decided, seed)
        by_fold = np.stack(
            [
                part._resampled(decided[inside], derive_seed(seed, "fold", fold))
                for fold, (part, inside) in enumerate(self._folds())
            ]
        )
        counts = np.isfinite(by_fold).sum(axis=0)
        return np.where(counts > 0, np.nansum(by_fold, axis=0) / np.maximum(counts, 1), np.nan)

    def _resampled(self, decided: np.ndarray, seed: int) -> np.ndarray:
        clusters = self.clusters
        n_periods = 0 if self.within is not None or self.periods is None else len(np.unique(self.periods))
        if n_periods >= FEWEST_PERIODS:
            clusters = self.periods
        if clusters is not None and len(np.unique(clusters)) < 2:
            clusters = None
        scores = self.metric.bootstrap(
            self.y,
            [decided],
            self.task,
            self.weight,
            n_resamples=N_RESAMPLES,
            seed=seed,
            clusters=clusters,
        )[:, 0]
        scores = np.where(np.isfinite(scores), scores, np.nan)
        if n_periods < FEWEST_PERIODS or not np.isfinite(scores).any():
            return scores
        # Draws of few periods vary too little, by the share of a sum of squares that its mean takes.
        centre = np.nanmean(scores)
        return np.asarray(centre + (scores - centre) * np.sqrt(n_periods / (n_periods - 1)))

    def _folds(self) -> Iterator[tuple[Judged, np.ndarray]]:
        assert self.within is not None
        for fold in np.unique(self.within):
            inside = self.within == fold
            yield replace(self.take(inside), within=None), inside

    def is_defined(self, score: float, bootstrap: np.ndarray) -> bool:
        """Whether there is a number for the predictions, and for enough resamples."""
        return bool(np.isfinite(score)) and int(np.isfinite(bootstrap).sum()) >= _FEWEST_RESAMPLES

    def refuse_undefined(self, score: float, bootstrap: np.ndarray) -> None:
        """Raise UsageError where the metric gives no number for predictions, or none for resampled ones."""
        if self.is_defined(score, bootstrap):
            return
        n_undefined = len(bootstrap) - int(np.isfinite(bootstrap).sum())
        got = f"{score}"
        of = ""
        if np.isfinite(score):
            got, of = "nan", f" on {n_undefined} of {len(bootstrap)} resamples"
        raise UsageError(
            f"metric {self.metric.name!r} must return a finite number; got {got} for out-of-fold predictions of "
            f"{len(self.y)} rows{of}; {self.metric.remedy}"
        )

    def fit_rule(self, prediction: np.ndarray, kind: Any) -> Decision:
        """Fit the rule that turns predictions into labels."""
        return Decision.fit(self.metric, self.y, prediction, self.task, kind, self.weight)


def clusters_of(samples: Samples, fold_of: np.ndarray, is_time: bool) -> np.ndarray | None:
    """Number what a resample keeps whole, int64 (n_rows,): groups; else blocks of time; None where rows are apart.

    Parameters
    ----------
    samples : Samples
    fold_of : int64 array (n_rows,)
        Blocks of time do not cross folds.
    is_time : bool
        Whether the folds follow time.
    """
    return number_clusters(samples.group, samples.time, fold_of, is_time)


def number_clusters(
    group: np.ndarray | None, time: np.ndarray | None, fold_of: np.ndarray, is_time: bool
) -> np.ndarray | None:
    """Number clusters as `clusters_of`, by the groups of rows, or their times: without any their order."""
    if group is not None:
        return np.asarray(np.unique(group, return_inverse=True)[1], dtype=np.int64)
    if not is_time:
        return None
    n_rows = len(fold_of)
    order = np.lexsort((np.arange(n_rows) if time is None else time, fold_of))
    place = np.empty(n_rows, dtype=np.int64)
    place[order] = np.arange(n_rows)
    fold, sizes = np.unique_inverse(fold_of).inverse_indices, np.unique_counts(fold_of).counts
    starts = np.cumsum(sizes) - sizes
    return np.asarray(fold * BLOCKS_A_FOLD + (place - starts[fold]) * BLOCKS_A_FOLD // sizes[fold])
