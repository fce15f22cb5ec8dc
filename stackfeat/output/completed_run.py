"""A completed run: everything it found, as the one value that all writers of files read.

`RunResult` is what a user gets back of it, and says where its files are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds
from stackfeat.data.splits.holdout import Holdout
from stackfeat.engine.jobs import Averaging
from stackfeat.engine.plan import Plan
from stackfeat.engine.scoring import oof_prediction, test_prediction, view_places
from stackfeat.metrics.decision_rule import Decision
from stackfeat.metrics.metric import Metric
from stackfeat.output.scores import Score
from stackfeat.store import EntryStore
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd


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


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run.

    Attributes
    ----------
    folder : Path
        The run folder.
    leaderboard : DataFrame
        A row for each member: level, member, metric, score, se, fold_mean, a column per fold,
        seconds, cached. With ``stack.holdout`` also holdout and holdout_se.
    submitted : str
        Full name of the member behind the submission.
    score : float
        Its out-of-fold score.
    holdout : float or None
        Its score on the held-out rows, where there are any.
    submission : Path or None
        None without a test file.
    n_computed, n_cached : int
        Units (member, repeat, fold) computed by this run, and found in the store.
    failed : dict of str to str
        Members that failed, and why.
    left_out : list of str
        Members that time did not allow.
    warnings : list of str
    """

    folder: Path
    leaderboard: pd.DataFrame
    submitted: str
    score: float
    submission: Path | None
    n_computed: int
    n_cached: int
    failed: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    holdout: float | None = None

    @property
    def exit_code(self) -> int:
        """0 done; 4 some members failed; 5 the time limit was hit (resumable)."""
        return 5 if self.left_out else 4 if self.failed else 0

    @property
    def report(self) -> Path:
        return self.folder / "report.html"
