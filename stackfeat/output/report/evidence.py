"""Evidence: the rows, labels and out-of-fold predictions of a run that the report is made of.

In:  a completed run.
Out: `Evidence`: the scored rows of the submitted member on the scale of the target, and any member's predictions
     of them; of many rows a part that is drawn once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from stackfeat.data.schema.columns import Schema
from stackfeat.data.schema.drift import TrainingSummary
from stackfeat.engine.intervals import IntervalScore, measure_intervals
from stackfeat.engine.judged import Judged
from stackfeat.errors import MemberError
from stackfeat.output.completed_run import CompletedRun
from stackfeat.output.explanation import Explanation
from stackfeat.output.scores import Score
from stackfeat.seeds import derive_seed
from stackfeat.tasks.task import Task

MOST_ROWS = 20_000
"""Rows that pictures are made of: more of them change no picture."""

USUAL_LEVEL = 0.9
LEVELS = (0.6, 0.8, USUAL_LEVEL, 0.95)
"""Of intervals, whose coverage is shown."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """A completed run as the report looks at it.

    Attributes
    ----------
    finished : CompletedRun
    schema : Schema
        How the data files were read.
    summary : TrainingSummary
        Of the columns of the training file.
    explained : Explanation or None
        What ``explain.json`` of the run folder says, where it is of this very run.
    """

    finished: CompletedRun
    schema: Schema
    summary: TrainingSummary
    explained: Explanation | None = None

    @classmethod
    def of(
        cls, finished: CompletedRun, description: Mapping[str, Any], explained: Explanation | None = None
    ) -> Evidence:
        """Return the evidence of a run; `description` is what its predictor keeps of the training file."""
        summary = TrainingSummary.from_json(description["summary"])
        return cls(finished, Schema.from_json(description["schema"]), summary, explained)

    @property
    def task(self) -> Task:
        return self.finished.task

    @cached_property
    def scores(self) -> list[Score]:
        """All members, the best first."""
        return sorted(self.finished.scores, key=lambda score: self.finished.metric.signed(score.score))

    @property
    def chosen(self) -> Score:
        return self.finished.chosen

    @cached_property
    def fold_of(self) -> np.ndarray:
        """The fold of every training row; -1 where it has none."""
        return self.finished.folds.fold_of(0)

    @cached_property
    def scored_rows(self) -> np.ndarray:
        """Numbers of the rows that members are compared on."""
        prediction = self.finished.oof(self.chosen)
        covered = np.isfinite(prediction).all(axis=1) & (self.fold_of >= 0)
        # With time folds levels start at different folds; members are compared from the last of those on.
        first = max(score.node.first_fold for score in self.finished.scores)
        return np.flatnonzero(covered & (self.fold_of >= first if self.finished.folds.is_time else True))

    @cached_property
    def rows(self) -> np.ndarray:
        """Numbers of the rows that pictures are made of."""
        scored = self.scored_rows
        labels = self.finished.train.labels
        if (labels.ndim > 1 and not self.task.has_lists) or len(scored) <= MOST_ROWS:
            return np.asarray(scored[:MOST_ROWS])
        return np.asarray(scored[self.task.spread(labels[scored], MOST_ROWS, derive_seed(0, "report"))])

    @cached_property
    def target(self) -> np.ndarray:
        """Targets of `rows`: codes, or values on the scale of the file."""
        return np.asarray(self.task.to_target_scale(self.finished.train.labels[self.rows]))

    @cached_property
    def folds(self) -> np.ndarray:
        """The fold of each of `rows`."""
        return np.asarray(self.fold_of[self.rows])

    @cached_property
    def prediction(self) -> np.ndarray:
        """Out-of-fold prediction of the submitted member for `rows`."""
        return self.predicted(self.chosen)

    def predicted(self, score: Score) -> np.ndarray:
        """Return the out-of-fold prediction of a member for `rows`, (n, n_outputs), on the scale of the target."""
        if score.name not in self._predicted:
            self.predicted_whole(score)
        return self._predicted[score.name]

    def predicted_whole(self, score: Score) -> np.ndarray:
        """Return the same for all `scored_rows`; those of `rows` are remembered, these are not."""
        values = self.finished.oof(score)
        self._predicted[score.name] = values[self.rows]
        return np.asarray(values[self.scored_rows])

    @cached_property
    def _predicted(self) -> dict[str, np.ndarray]:
        return {}

    @cached_property
    def test_prediction(self) -> np.ndarray | None:
        """What the submitted member predicts of test rows, (n, n_outputs), on the scale of the target."""
        found = (rows.values() for rows in self.finished.predicted(self.chosen) if rows.folder == "test")
        return next(found, None)

    @cached_property
    def calibrated(self) -> list[Score]:
        """Members that look for a calibration, in the order of computing."""
        return [score for score in self.finished.scores if score.options.is_calibrated]

    @cached_property
    def intervals(self) -> list[IntervalScore]:
        """What intervals of the submitted member are worth, at usual levels and the one asked for."""
        finished = self.finished
        if not finished.interval_key:
            return []
        asked = set() if finished.interval is None else {finished.interval.level}
        try:
            return measure_intervals(finished.store, finished.interval_key, sorted({*LEVELS, *asked}))
        except MemberError:
            return []

    @cached_property
    def judged(self) -> Judged:
        """The scored rows, and the metric."""
        finished, rows = self.finished, self.scored_rows
        is_time = finished.folds.is_time
        judged = Judged.by(finished.train, finished.metric, self.fold_of, is_time).take(rows)
        is_within = finished.averaging.ranks_within_folds(is_time) and finished.metric.ranking
        return replace(judged, within=self.fold_of[rows]) if is_within else judged
