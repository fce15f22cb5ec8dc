"""Paired rows: runs on the rows that all of them predict, so that they can be compared row by row.

In:  opened runs, the metric.
Out: for each run its score and scores of resamples, the same for all; for two of them the gap, with a standard error
     that counts the rows and the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from stackfeat.engine.judged import FEWEST_PERIODS, Judged
from stackfeat.errors import UsageError
from stackfeat.metrics.paired import Gap, Part, folds_part, gap_of, repeats_part, rows_part
from stackfeat.pipeline.opened_run import OpenedRun
from stackfeat.seeds import derive_seed
from stackfeat.tasks.task import Task

FEWEST_ROWS = 20


@dataclass(frozen=True)
class FoldScores:
    """Losses of a run on the parts of one assignment of folds, and on resamples of each; NaN where undefined."""

    losses: np.ndarray
    resampled: np.ndarray


class PairedRun:
    """A run on the rows that are compared.

    Parameters
    ----------
    run : OpenedRun
    judged : Judged
        The compared rows: labels, weights and what is resampled together are those of one run for all.
    own : Judged
        All rows of the run itself.
    rows : array of int
        Which of its rows are compared, in the order of `judged`.
    decided : array
        What it predicts of them, as the metric wants it.
    n_covered : int
        How many of its rows it predicts out of fold.
    member : str or None
        Named; None for what the run submits.
    """

    def __init__(
        self,
        run: OpenedRun,
        judged: Judged,
        own: Judged,
        rows: np.ndarray,
        decided: np.ndarray,
        n_covered: int,
        member: str | None,
    ) -> None:
        self.run = run
        self.n_covered = n_covered
        self.judged = judged
        self.rows = rows
        self.decided = in_class_order(decided, run.task, judged.task)
        self.fold_of = run.folds.fold_of(0)[rows]
        self._own, self._member = own, member
        self._by_parts: dict[bytes, FoldScores] = {}
        self._seed = derive_seed(0, "compare")

    @cached_property
    def score(self) -> float:
        score = self.judged.score(self.decided)
        self.judged.refuse_undefined(score, self.resampled)
        return score

    @property
    def loss(self) -> float:
        return self.judged.metric.signed(self.score)

    @cached_property
    def resampled(self) -> np.ndarray:
        """Scores of resamples, float64 (n_resamples,)."""
        return self.judged.bootstrap(self.decided, self._seed)

    @property
    def se(self) -> float:
        return float(np.nanstd(self.resampled, ddof=1))

    @cached_property
    def repeats(self) -> list[float]:
        """The loss of each repeat by itself."""
        return [self._of_repeat(repeat) for repeat in range(self.run.n_repeats)]

    def on_parts(self, fold_of: np.ndarray) -> FoldScores:
        """Return losses on the parts of an assignment of folds, this run's or another's."""
        key = fold_of.tobytes()
        if key not in self._by_parts:
            metric, found = self.judged.metric, []
            for fold in np.unique(fold_of):
                inside = np.flatnonzero(fold_of == fold)
                part, decided = replace(self.judged.take(inside), within=None), self.decided[inside]
                value = part.defined(decided)
                drawn = part.bootstrap(decided, derive_seed(self._seed, "fold", int(fold)))
                found.append((np.nan if value is None else metric.signed(value), drawn))
            losses, drawn_losses = zip(*found, strict=True)
            self._by_parts[key] = FoldScores(np.asarray(losses), np.stack(drawn_losses))
        return self._by_parts[key]

    def _of_repeat(self, repeat: int) -> float:
        values, _ = self.run.decided(self._own, self.run.members(self._member), repeat)
        judged = self.judged
        if judged.within is not None:
            judged = replace(judged, within=self.run.folds.fold_of(repeat)[self.rows])
        decided = in_class_order(values[self.rows], self.run.task, judged.task)
        return judged.metric.signed(judged.score(decided))


def pair_rows(
    runs: Sequence[OpenedRun], metric: str, member: str | None, trust_code: bool
) -> list[PairedRun]:
    """Return the runs on the rows that all of them predict out of fold, matched by id.

    Raises
    ------
    UsageError
        If they have other labels for the same ids, or too few ids in common.
    """
    first = runs[0]
    own = [run.judged(metric, trust_code) for run in runs]
    decided = [run.decided(judged, run.members(member)) for run, judged in zip(runs, own, strict=True)]
    rows = _common_rows(runs, [covered for _, covered in decided])
    on_rows = [judged.take(chosen) for judged, chosen in zip(own, rows, strict=True)]
    for run, chosen in zip(runs[1:], rows[1:], strict=True):
        _refuse_other_labels(first, rows[0], run, chosen)
    # What belongs together is resampled together, whichever run knows of it.
    units = next(
        (one for one in on_rows if one.clusters is not None and one.periods is None),
        next((one for one in on_rows if one.periods is not None), on_rows[0]),
    )
    shared = replace(on_rows[0], clusters=units.clusters, periods=units.periods)
    return [
        PairedRun(
            run,
            replace(shared, within=judged.within),
            whole,
            chosen,
            values[chosen],
            int(known.sum()),
            member,
        )
        for run, judged, whole, chosen, (values, known) in zip(runs, on_rows, own, rows, decided, strict=True)
    ]


@dataclass(frozen=True)
class PairedGap:
    """By how much one run is better than another, and where the standard error comes from.

    Attributes
    ----------
    training : {"folds", "repeats", "none"}
        What shows how much the training adds; "none" where too few folds have a score.
    test_share : float or None
        The n_test / n_train of Nadeau and Bengio, where folds show it.
    same_folds : bool
    """

    gap: Gap
    training: str
    test_share: float | None
    same_folds: bool


def paired_gap(worse: PairedRun, better: PairedRun) -> PairedGap:
    """Return by how much the loss of `worse` is above that of `better`."""
    n_units, holds_folds = _units(better.judged)
    rows = rows_part(worse.resampled - better.resampled, n_units)
    value = worse.loss - better.loss
    same = np.array_equal(worse.fold_of, better.fold_of)
    if worse.run.n_repeats > 1 and better.run.n_repeats > 1:
        return PairedGap(gap_of(value, rows, _of_repeats(worse, better)), "repeats", None, same)
    shares = [one.run.test_share() for one in (worse, better)]
    assignments = (
        [(worse.fold_of, shares[0])] if same else [*zip((worse.fold_of, better.fold_of), shares, strict=True)]
    )
    parts = [_of_folds(worse, better, fold_of, share, holds_folds) for fold_of, share in assignments]
    known = [part for part in parts if part is not None]
    gap = gap_of(value, rows, known)
    return PairedGap(gap, "folds" if known else "none", float(np.mean(shares)) if known else None, same)


def _of_folds(
    worse: PairedRun, better: PairedRun, fold_of: np.ndarray, share: float, holds_folds: bool
) -> Part | None:
    one, other = worse.on_parts(fold_of), better.on_parts(fold_of)
    gaps = one.losses - other.losses
    of_rows = np.nanvar(one.resampled - other.resampled, axis=1, ddof=1)
    known = np.isfinite(gaps) & np.isfinite(of_rows)
    if known.sum() < 2:
        return None
    return folds_part(gaps[known].tolist(), of_rows[known].tolist(), share, rows_hold_folds=holds_folds)


def _of_repeats(worse: PairedRun, better: PairedRun) -> list[Part]:
    """Return what repeats show: their differences where both have the same folds in each, else each run's own."""
    folds = [one.run.folds for one in (worse, better)]
    is_paired = folds[0].n_repeats == folds[1].n_repeats and all(
        np.array_equal(folds[0].fold_of(repeat)[worse.rows], folds[1].fold_of(repeat)[better.rows])
        for repeat in range(folds[0].n_repeats)
    )
    if is_paired:
        return [repeats_part((np.asarray(worse.repeats) - np.asarray(better.repeats)).tolist())]
    return [repeats_part(worse.repeats), repeats_part(better.repeats)]


def _units(judged: Judged) -> tuple[int, bool]:
    """Return how many units are resampled, and whether they are whole folds; as `Judged.bootstrap` draws them."""
    if judged.within is None and judged.periods is not None:
        n_periods = len(np.unique(judged.periods))
        if n_periods >= FEWEST_PERIODS:
            return n_periods, True
    n_clusters = 0 if judged.clusters is None else len(np.unique(judged.clusters))
    return (n_clusters if n_clusters > 1 else len(judged.y)), False


def units_text(paired: Sequence[PairedRun]) -> str:
    """Say what is resampled."""
    judged = paired[0].judged
    n_units, is_folds = _units(judged)
    if is_folds:
        return f"{n_units} folds that follow time"
    if n_units == len(judged.y):
        return "rows"
    is_grouped = any(one.run.samples.group is not None for one in paired)
    return f"{n_units} {'groups' if is_grouped else 'blocks of time'}"


def in_class_order(values: np.ndarray, task: Task, wanted: Task) -> np.ndarray:
    """Return probabilities, or codes of classes, in the order of another task's classes."""
    if task.classes == wanted.classes:
        return values
    order = [task.classes.index(one) for one in wanted.classes]
    if values.ndim == 2:
        return values[:, order]
    return np.asarray(np.argsort(order)[values.astype(np.int64)], dtype=values.dtype)


def refuse_other_targets(runs: Sequence[OpenedRun]) -> None:
    """Raise UsageError where runs predict different things."""
    one = runs[0].task
    for other in runs[1:]:
        two = other.task
        is_same = one.kind == two.kind and (one.n_targets, one.quantiles) == (two.n_targets, two.quantiles)
        if is_same and {*one.classes} == {*two.classes}:
            continue
        said = [
            f"{run.name} ({', '.join(filter(None, (run.task.kind, run.task.described)))})"
            for run in (runs[0], other)
        ]
        raise UsageError(
            f"runs must predict the same target; got {' and '.join(said)}; compare runs of one training file and "
            "target"
        )


def _common_rows(runs: Sequence[OpenedRun], covered: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return for each run the numbers of the rows that all runs predict, in the order of the first."""
    places = [
        {one: row for row, one in enumerate(run.samples.ids.tolist()) if known[row]}
        for run, known in zip(runs, covered, strict=True)
    ]
    common = [one for one in places[0] if all(one in place for place in places[1:])]
    if len(common) < FEWEST_ROWS:
        raise UsageError(
            f"runs must predict at least {FEWEST_ROWS} rows of the same ids; got {len(common)} in common of "
            f"{', '.join(f'{len(place):,} ({run.name})' for run, place in zip(runs, places, strict=True))}; compare "
            "runs of one training file, with the same data.id"
        )
    return [np.array([place[one] for one in common], dtype=np.int64) for place in places]


def _refuse_other_labels(first: OpenedRun, rows: np.ndarray, other: OpenedRun, chosen: np.ndarray) -> None:
    labels = [
        run.task.labels_of(run.task.to_target_scale(run.samples.labels[numbers]))
        for run, numbers in ((first, rows), (other, chosen))
    ]
    one, two = labels
    unlike = ~np.isclose(one, two, rtol=1e-5, atol=0) if one.dtype.kind == "f" else one != two
    differ = np.flatnonzero(unlike.reshape(len(rows), -1).any(axis=1))
    if not len(differ):
        return
    row = int(differ[0])
    raise UsageError(
        f"runs must have the same target for the same ids; got {len(differ):,} of {len(rows):,} ids with another: "
        f"id {first.samples.ids[rows[row]]} is {one[row]} in {first.name} and {two[row]} in {other.name}; compare "
        "runs of one training file and one target"
    )
