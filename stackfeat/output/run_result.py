"""What a run gives back to whoever called it: its scores and verdicts, and where its files are.

In:  the run folder and the store of a completed run.
Out: `RunResult`: small, can be pickled; blocks, predictions, pictures and the predictor are read when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackfeat.data.splits.folds import Folds
from stackfeat.engine.blocks import FeatureBlock, assemble
from stackfeat.engine.intervals import IntervalScore
from stackfeat.engine.jobs import Averaging
from stackfeat.engine.plan import Plan
from stackfeat.errors import UsageError
from stackfeat.output.completed_run import prediction_file, read_predictions
from stackfeat.output.digits import significant, to_error, with_error
from stackfeat.output.report.plots import Plots
from stackfeat.registry.resolve import suggest
from stackfeat.store import EntryStore

if TYPE_CHECKING:
    import pandas as pd

    from stackfeat.output.calibrations import CalibrationVerdict
    from stackfeat.output.gates import GateVerdict
    from stackfeat.output.saved_predictor import SavedPredictor


@dataclass(frozen=True, repr=False)
class RunResult(Plots):
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
    interval : IntervalScore or None
        How many targets its intervals hold, where the config asks for their level.
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
    interval: IntervalScore | None = None
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
        said = (
            f"{self.submitted}, {metric} {with_error(self.score, self.se)}, {len(self.leaderboard)} members"
        )
        return f"RunResult({said}, {str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """Return the verdict, warnings and the leaderboard, as notebooks show them."""
        warnings = "".join(f"<li>{escape(text)}</li>" for text in self.warnings)
        folder = f"<p>{escape(str(self.report))}</p>"
        verdict = self.verdict if self.interval is None else f"{self.verdict} {self.interval.sentence}"
        return f"<div><p>{escape(verdict)}</p><ul>{warnings}</ul>{self._html_board()}{folder}</div>"

    def _html_board(self) -> str:
        """Return the leaderboard, numbers to the second digit of their standard errors."""
        board = self.leaderboard
        pairs = [pair for pair in (("score", "se"), ("holdout", "holdout_se")) if pair[1] in board]
        held = ["holdout", "± se"] if len(pairs) > 1 else []
        rows = [_html_row(["member", str(board["metric"].iloc[0]), "± se", *held, "fit s"], "th")]
        for row in board.to_dict("records"):
            name = f"{row['level']}/{row['member']}"
            numbers = [to_error(row[one], row[pair[1]]) for pair in pairs for one in pair]
            cells = [name, *numbers, significant(row["seconds"], 3)]
            rows.append(_html_row(cells, "th" if name == self.submitted else "td"))
        return f"<table>{''.join(rows)}</table>"

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


def _html_row(cells: Sequence[str], tag: str) -> str:
    """Return a row of a table, names on the left and numbers on the right."""
    sides = ["left", *["right"] * (len(cells) - 1)]
    inner = [
        f"<{tag} style='text-align: {side}'>{escape(text)}</{tag}>"
        for side, text in zip(sides, cells, strict=True)
    ]
    return f"<tr>{''.join(inner)}</tr>"
