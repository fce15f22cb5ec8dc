"""A completed run: everything it found, as the one value that all writers of files read."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds
from stackfeat.data.splits.holdout import Holdout
from stackfeat.engine.external.pool_verdicts import PoolVerdicts
from stackfeat.engine.intervals import IntervalScore
from stackfeat.engine.jobs import Averaging
from stackfeat.engine.plan import Plan
from stackfeat.engine.recipes import Fold, Place
from stackfeat.engine.scoring import oof_prediction, test_prediction, view_places
from stackfeat.engine.weights import Weight
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.meta.widening import Widening
from stackfeat.metrics.metric import Metric
from stackfeat.output.scores import ChoiceScore, Score
from stackfeat.store import EntryStore, safe_name
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd


def prediction_file(level: str, member: str) -> str:
    """Return the name of a member's files: ``level.member.csv``, percent-encoded where needed."""
    return f"{safe_name(f'{level}.{member}')}.csv"


def read_predictions(path: Path) -> pd.DataFrame:
    """Return the predictions in a file of a run by id, the very numbers that were written; NaN where it has none."""
    import pandas as pd

    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    values = [[float(cell or "nan") for cell in row[1:]] for row in rows]
    return pd.DataFrame(values, columns=header[1:], index=pd.Index([row[0] for row in rows], name=header[0]))


@dataclass(frozen=True)
class HeldRows:
    """Rows that no level has seen, with their labels, and where they stand in the training file."""

    samples: Samples
    holdout: Holdout


@dataclass(frozen=True)
class PredictedRows:
    """Predictions of a member for some rows: the folder of their file, what they are made of, and the values."""

    folder: str
    samples: Samples
    made_of: dict[str, Any]
    values: Callable[[], np.ndarray]


@dataclass(frozen=True)
class CompletedRun:
    """A computed stack.

    Attributes
    ----------
    scores : list of Score
        In the order of computing.
    chosen : Score
        The member behind the submission.
    wanted : str
        What `submit` named, or ``auto``.
    choice : ChoiceScore or None
        What choosing it is worth; None where nothing was chosen out of fold: `submit` names it, it is the only one,
        or held-out rows decide.
    interval_key : str
        Of the intervals of the chosen member; empty where there are none.
    interval : IntervalScore or None
        What those of the level are worth that the config asks for.
    weights : mapping of str to mapping of str to Weight
        Of fitted votes, by the block that is weighed.
    fits : dict of (str, int, int or str) to FitInfo
        What the fits noted, by member, repeat and fold.
    computed : set of str
        Members with a job computed by this run.
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
    fits: dict[tuple[str, int, Fold], FitInfo]
    computed: set[str]
    diagnoses: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    held: HeldRows | None = None
    choice: ChoiceScore | None = None
    interval_key: str = ""
    interval: IntervalScore | None = None
    weights: Mapping[str, Mapping[str, Weight]] = field(default_factory=dict)
    pools: Sequence[PoolVerdicts] = ()
    wanted: str = "auto"

    def seconds(self, score: Score) -> float:
        """Return the compute time of a member's fits, whenever they were computed."""
        return sum(info.seconds for (member, *_), info in self.fits.items() if member == score.name)

    @property
    def task(self) -> Task:
        return self.train.task

    @property
    def score(self) -> float:
        """What to expect of the submission: `choice`'s score, or that of the member that was named."""
        return self.chosen.score if self.choice is None else self.choice.score

    @property
    def se(self) -> float:
        return self.chosen.se if self.choice is None else self.choice.se

    @property
    def optimism(self) -> float | None:
        """By how much the submitted member's own score is better, in the direction of the metric."""
        return None if self.choice is None else self.choice.optimism(self.chosen, self.metric)

    @property
    def plain_notes(self) -> list[str]:
        """Notes that are no warnings."""
        return [note for note in self.notes if not note.startswith("warning: ")]

    def predicted(self, score: Score) -> Iterator[PredictedRows]:
        """Yield what a member predicts of training rows, test rows and held-out rows, as far as there are any."""
        block, sources = score.block, self.plan.sources
        oof = [self.plan.oof_places(block, repeat) for repeat in range(sources.n_repeats)]
        keys = {"average": self.averaging.average, "samples": sources.samples, "folds": sources.folds}
        yield PredictedRows("oof", self.train, {"places": oof, **keys}, partial(self._oof, oof))
        held = None if self.held is None else self.held.samples
        for folder, samples, plan in (("test", self.test, self.plan), ("holdout", held, self.plan.held)):
            if samples is not None and plan is not None:
                places = view_places(plan, block, self.averaging)
                made_of: dict[str, Any] = {"averaging": self.averaging.to_json()}
                made_of["samples"] = plan.sources.test
                values = partial(self._averaged, places, score.widening)
                if score.widening is not None:
                    made_of["widening"] = score.widening.to_json()
                yield PredictedRows(folder, samples, {"places": places, **made_of}, values)

    def oof(self, score: Score) -> np.ndarray:
        """Return a member's out-of-fold predictions of all training rows on the scale of the target.

        Rows that were never predicted are NaN.
        """
        n_repeats = self.plan.sources.n_repeats
        return self._oof([self.plan.oof_places(score.block, repeat) for repeat in range(n_repeats)])

    def _oof(self, places: Sequence[Sequence[Place | None]]) -> np.ndarray:
        """OOF predictions on the scale of the target; NaN rows were never predicted."""
        prediction, covered = oof_prediction(
            self.store, places, self.folds, self.task, self.averaging.average
        )
        values = np.full(prediction.shape, np.nan)
        values[covered] = self.task.to_target_scale(prediction[covered])
        return values

    def _averaged(self, places: Sequence[Place], widening: Widening | None) -> np.ndarray:
        """Predictions averaged over pipelines, on the scale of the target."""
        values = test_prediction(self.store, places, self.task, self.averaging.average, widening)
        return np.asarray(self.task.to_target_scale(values))
