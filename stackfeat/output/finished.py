"""Finished: everything a run found, as the one value that all writers of files read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stackfeat.data.folds import Folds
from stackfeat.data.holdout import Holdout
from stackfeat.data.samples import Samples
from stackfeat.ensemble.decision import Decision
from stackfeat.ensemble.plan import Plan
from stackfeat.ensemble.predictions import oof_prediction, test_prediction, view_places
from stackfeat.ensemble.units import Averaging
from stackfeat.metrics import Metric
from stackfeat.output.scores import Score
from stackfeat.store import EntryStore
from stackfeat.task import Task


@dataclass(frozen=True)
class HeldRows:
    """Rows that no level has seen, with their labels, and where they stand in the training file."""

    samples: Samples
    holdout: Holdout


@dataclass(frozen=True)
class Finished:
    """A computed stack.

    Attributes
    ----------
    scores : list of Score
        In the order of computing.
    chosen : Score
        The member behind the submission.
    seconds : dict of str to float
        Compute time of each member, whenever it was computed.
    computed : set of str
        Members with a unit computed by this run.
    diagnoses : dict of str to dict
        Feature block to its diagnostics.
    held : HeldRows or None
        With ``stack.holdout``; `train` and `folds` are then of the other rows.
    """

    plan: Plan
    store: EntryStore
    folds: Folds
    train: Samples
    test: Samples | None
    metric: Metric
    averaging: Averaging
    scores: list[Score]
    chosen: Score
    seconds: dict[str, float]
    computed: set[str]
    diagnoses: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    held: HeldRows | None = None

    @property
    def task(self) -> Task:
        return self.train.task

    def oof_recipe(self, score: Score) -> dict[str, Any]:
        """What the OOF predictions of a member are made of."""
        block = score.node.prediction
        assert block is not None
        return {
            "places": [self.plan.oof_places(block, repeat) for repeat in range(self.plan.sources.n_repeats)],
            "average": self.averaging.average,
            "samples": self.plan.sources.samples,
            "folds": self.plan.sources.folds,
        }

    def test_recipe(self, score: Score) -> dict[str, Any]:
        """What the test predictions of a member are made of."""
        return self._recipe_of(self.plan, score)

    def held_recipe(self, score: Score) -> dict[str, Any]:
        """What the predictions of the held-out rows are made of."""
        assert self.plan.held is not None
        return self._recipe_of(self.plan.held, score)

    def _recipe_of(self, plan: Plan, score: Score) -> dict[str, Any]:
        block = score.node.prediction
        assert block is not None
        return {
            "places": view_places(plan, block, self.averaging),
            "averaging": self.averaging.to_json(),
            "samples": plan.sources.test,
        }

    def oof(self, score: Score) -> np.ndarray:
        """OOF predictions on the scale of the target; NaN rows were never predicted."""
        places, average = self.oof_recipe(score)["places"], self.averaging.average
        prediction, covered = oof_prediction(self.store, places, self.folds, self.task, average)
        values = np.full(prediction.shape, np.nan)
        values[covered] = self.task.to_target_scale(prediction[covered])
        return values

    def test_rows(self, score: Score) -> np.ndarray:
        """Test predictions, averaged over pipelines, on the scale of the target."""
        return self._rows_of(self.plan, score)

    def held_rows(self, score: Score) -> np.ndarray:
        """Predictions of the held-out rows, averaged over pipelines, on the scale of the target."""
        assert self.plan.held is not None
        return self._rows_of(self.plan.held, score)

    def _rows_of(self, plan: Plan, score: Score) -> np.ndarray:
        block = score.node.prediction
        assert block is not None
        values = test_prediction(self.store, plan, block, self.averaging, self.task)
        return np.asarray(self.task.to_target_scale(values))

    def labels(self, score: Score, prediction: np.ndarray) -> np.ndarray | None:
        """Decided labels where the metric wants labels, else None."""
        if score.decision is None:
            return None
        return np.asarray(Decision.from_json(score.decision).apply(prediction))
