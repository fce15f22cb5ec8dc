"""A completed run: everything it found, as the one value that all writers of files read.

`RunResult` is what a user gets back of it, and says where its files are.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds
from stackfeat.data.splits.holdout import Holdout
from stackfeat.engine.blocks import FeatureBlock, assemble
from stackfeat.engine.external.pool_verdicts import PoolVerdicts
from stackfeat.engine.jobs import Averaging
from stackfeat.engine.plan import Plan
from stackfeat.engine.recipes import Fold, Place
from stackfeat.engine.scoring import oof_prediction, test_prediction, view_places
from stackfeat.engine.weights import Weight
from stackfeat.errors import UsageError
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.meta.widening import Widening
from stackfeat.metrics.metric import Metric
from stackfeat.output.scores import ChoiceScore, Score
from stackfeat.registry.resolve import suggest
from stackfeat.store import EntryStore, safe_name
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd

    from stackfeat.output.calibrations import CalibrationVerdict
    from stackfeat.output.gates import GateVerdict
    from stackfeat.output.saved_predictor import SavedPredictor


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


@dataclass(frozen=True, repr=False)
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
    score, se : float
        What to expect of the submission: of ``submit: auto`` the out-of-fold score of choices that each fold makes by
        the rows of the others; of a named member, or where held-out rows decide, the member's own.
    verdict : str
        The same in words, and the difference to the best single model.
    why : str
        Why this member is submitted.
    gates : list of GateVerdict
        Which feature blocks the gates let in, and by what gain.
    calibrations : list of CalibrationVerdict
        What members that are calibrated kept, and by what gain.
    optimism : float or None
        By how much the submitted member's own score is better than that, chosen on the same rows: of the best of
        many scores a part is luck. None where nothing was chosen, or the rows differ.
    holdout : float or None
        Its score on the held-out rows, where there are any.
    submission : Path or None
        None without a test file.
    n_computed, n_cached : int
        Jobs (member, repeat, fold) computed by this run, and found in the store.
    failed : dict of str to str
        Members that failed, and why.
    left_out : list of str
        Members that time did not allow.
    warnings : list of str
    notes : list of str
        How the data files were read: what was guessed.
    config : str
        The config of the run, as YAML: with every option written out, or as `init` would have written it (`fit`).
    plan, store, folds, averaging
        Where `block` finds arrays; no rows and no metric, so a result is small and can be pickled.
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
    _: KW_ONLY
    verdict: str = ""
    why: str = ""
    gates: list[GateVerdict] = field(default_factory=list)
    calibrations: list[CalibrationVerdict] = field(default_factory=list)
    se: float = float("nan")
    optimism: float | None = None
    notes: list[str] = field(default_factory=list)
    config: str = ""
    plan: Plan
    store: EntryStore
    folds: Folds
    averaging: Averaging

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "predictor"}

    def __repr__(self) -> str:
        metric = self.leaderboard["metric"].iloc[0]
        said = f"{self.submitted}, {metric} {self.score:.5g} ± {self.se:.2g}, {len(self.leaderboard)} members"
        return f"RunResult({said}, {str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """Return the verdict, warnings and the leaderboard, as notebooks show them."""
        shown = self.leaderboard[["level", "member", "metric", "score", "se", "seconds"]]
        table = shown.to_html(index=False, border=0, float_format="{:.5g}".format)
        warnings = "".join(f"<li>{escape(text)}</li>" for text in self.warnings)
        folder = f"<p>{escape(str(self.folder))}</p>"
        return f"<div><p>{escape(self.verdict)}</p><ul>{warnings}</ul>{table}{folder}</div>"

    @cached_property
    def predictor(self) -> SavedPredictor:
        """The models behind the submission, for new rows; see `stackfeat.load`."""
        # Its import takes pandas, which `check` does without.
        from stackfeat.output.saved_predictor import load_run

        return load_run(self.folder)

    @property
    def oof(self) -> pd.DataFrame:
        """Out-of-fold predictions of all members by id: a column ``MEMBER:CLASS`` for each class, else ``MEMBER``.

        NaN in rows that were never predicted.
        """
        import pandas as pd

        found: dict[str, pd.Series] = {}
        for level, member in zip(self.leaderboard["level"], self.leaderboard["member"], strict=True):
            values = read_predictions(self.folder / "oof" / prediction_file(level, member))
            is_value = list(values) == ["prediction"]
            for name in values:
                found[f"{level}/{member}" if is_value else f"{level}/{member}:{name}"] = values[name]
        return pd.DataFrame(found)

    @property
    def exit_code(self) -> int:
        """0 done; 4 some members failed; 5 the time limit was hit (resumable)."""
        return 5 if self.left_out else 4 if self.failed else 0

    @property
    def files(self) -> dict[str, Path]:
        """Where the files are that people look for, by what they are."""
        found = {} if self.submission is None else {"submission": self.submission}
        found |= {"leaderboard": self.folder / "leaderboard.csv", "report": self.report}
        return found | {"OOF": self.folder / "oof", "predictor": self.folder / "predictor"}

    def block(self, name: str) -> FeatureBlock:
        """Return what a member passed on, as arrays: of the first repeat, test rows for each pipeline.

        Parameters
        ----------
        name : str
            Such as ``base/mlp/proba`` or ``base/mlp/penultimate@aligned``.

        Raises
        ------
        UsageError
            If there is no such block.
        """
        plan, store = self.plan, self.store
        blocks = plan.graph.blocks()
        if name not in blocks:
            raise UsageError(
                f"block must be one of {', '.join(blocks)}; got {name!r}.{suggest(name, blocks)}"
            )
        oof, covered = assemble(store, plan.oof_places(name, 0), self.folds, 0)
        views = [] if plan.sources.test is None else plan.test_views(blocks[name][0])
        places = [plan.view_place(name, 0, view, self.averaging.chain) for view in views]
        return FeatureBlock(name, oof, covered, [store.read(key).array(array) for key, array in places])

    @property
    def report(self) -> Path:
        return self.folder / "report.html"
