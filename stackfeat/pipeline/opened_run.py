"""An opened run: the out-of-fold predictions of a finished run, by which it is compared with others.

In:  a run folder and its store.
Out: what the submitted member, or a named one, predicts of training rows that it did not see, as the metric wants it.
     Where ``submit: auto`` chose the member, each fold has the one that was chosen by the rows of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stackfeat.config.run_config import RunConfig
from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.judged import Judged
from stackfeat.engine.scoring import decide, oof_prediction
from stackfeat.errors import DataError, UsageError, as_written
from stackfeat.output.provenance import REMEDY, BlockPlaces, Index
from stackfeat.output.run_file import whole_run
from stackfeat.output.run_summary import RunSummary, summarise
from stackfeat.output.stored_run import open_rows, read_run
from stackfeat.registry.resolve import suggest
from stackfeat.store import Store
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class OpenedRun:
    """A finished run, its rows and its folds.

    Attributes
    ----------
    name : str
        What it is called beside others.
    """

    name: str
    summary: RunSummary
    index: Index
    config: RunConfig
    store: Store
    samples: Samples
    folds: Folds

    @classmethod
    def of(cls, folder: Path, name: str, store: Path | None = None) -> OpenedRun:
        """Open a run folder; `store` is where its store is now, if it was moved.

        Raises
        ------
        UsageError
            If the folder is no finished run's.
        DataError
            If its rows are gone or damaged.
        """
        with whole_run(folder):
            index, config = read_run(folder)
            summary = summarise(folder)
            if summary.problem:
                raise DataError(
                    f"{folder} must be as the run wrote it; got {summary.problem}; run the config again"
                )
        return cls(name, summary, index, config, *open_rows(store or folder / index.store, index))

    @property
    def n_repeats(self) -> int:
        return self.folds.n_repeats

    @property
    def task(self) -> Task:
        return self.samples.task

    def members(self, named: str | None) -> dict[int, str]:
        """Return the member that counts in each fold: the named one, else what ``submit: auto`` chose for it.

        Raises
        ------
        UsageError
            If the run scored no member of this name.
        """
        known = self.summary.members
        if named is not None and named not in known:
            raise UsageError(
                f"--member must be a member of every run; {self.name} has {', '.join(known)}; got "
                f"{named!r}.{suggest(named, known)}"
            )
        if named is None and self.summary.choices:
            return {int(fold): member for fold, member in self.summary.choices.items()}
        return dict.fromkeys(range(self.folds.n_folds), named or self.summary.submitted)

    def compared(self, named: str | None) -> str:
        """Say which predictions are compared."""
        if named is None and self.summary.choices:
            return "auto"
        return named or self.summary.submitted

    def judged(self, metric: str, trust_code: bool) -> Judged:
        """Return all rows and a metric, as the run itself judges its members."""
        fold_of, is_time = self.folds.fold_of(0), self.folds.is_time
        judged = Judged.of(self.samples, metric, trust_code, fold_of, is_time)
        is_within = judged.metric.ranking and self.index.averaging.ranks_within_folds(is_time)
        return replace(judged, within=fold_of) if is_within else judged

    def decided(
        self, judged: Judged, members: Mapping[int, str], repeat: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return out-of-fold predictions of all rows as the metric wants them, and which rows have one.

        Parameters
        ----------
        members : mapping
            The member of each fold.
        repeat : int, optional
            Of one repeat alone; without it the mean over repeats.
        """
        first = self.folds.fold_of(0)
        folds = self.folds if repeat is None else replace(self.folds, splits=(self.folds.splits[repeat],))
        values, covered = None, np.zeros(self.folds.n_rows, dtype=bool)
        for member in dict.fromkeys(members.values()):
            places = self._block(member).oof
            with as_written("the entries of the run", REMEDY):
                prediction, known = oof_prediction(
                    self.store,
                    places if repeat is None else [places[repeat]],
                    folds,
                    self.task,
                    self.index.averaging.average,
                )
            rows = np.flatnonzero(known & (first >= self._first_fold()))
            on_scale = self.task.to_target_scale(prediction[rows])
            said, _, _ = decide(judged.take(rows), on_scale, rows, folds, self.config.decision_rule)
            values = np.full((self.folds.n_rows, *said.shape[1:]), np.nan) if values is None else values
            mine = np.isin(first[rows], [fold for fold, name in members.items() if name == member])
            values[rows[mine]] = said[mine]
            covered[rows[mine]] = True
        assert values is not None, "a run must have a member"
        return values, covered

    def test_share(self) -> float:
        """Return how many rows a fold predicts for each that it trains on: the mean over folds."""
        return float(np.mean([len(held) / len(train) for train, held in self.folds.splits[0]]))

    def _block(self, member: str) -> BlockPlaces:
        found = [one for one in self.index.blocks if one.member == member and one.kind == "prediction"]
        if not found:
            raise DataError(f"{self.summary.folder} must hold predictions of {member}; got none; {REMEDY}")
        return found[0]

    def _first_fold(self) -> int:
        """Return the first fold that all members predict, where folds follow time; the run scores from there on."""
        if not self.folds.is_time:
            return 0
        predicted = [one.oof[0] for one in self.index.blocks if one.kind == "prediction"]
        return max(
            next((fold for fold, place in enumerate(places) if place is not None), 0) for places in predicted
        )
