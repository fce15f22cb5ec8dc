"""RunResult: what a run gives back, and where its files are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


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
