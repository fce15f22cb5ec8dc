"""Compare: finished runs side by side. Which is better, by how much, is it chance, and what is done differently.

In:  run folders over the same training file.
Out: `Comparison`: scores on common rows, gaps with standard errors that count rows and training, a verdict; what
     differs in configs and members, what each cost, public scores that were noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from stackfeat.config.differences import Difference, differences
from stackfeat.errors import UsageError
from stackfeat.metrics.paired import LEVEL, Gap, holm, optimism_of_best
from stackfeat.metrics.registry import check_metric
from stackfeat.output.digits import places_worth, rounded
from stackfeat.output.files import finite, write_csv
from stackfeat.pipeline.opened_run import OpenedRun
from stackfeat.pipeline.paired_rows import (
    PairedGap,
    PairedRun,
    pair_rows,
    paired_gap,
    refuse_other_targets,
    units_text,
)
from stackfeat.registry.trust import code_of_run, explaining_refusals
from stackfeat.registry.user_code import serving_agreed

MOST_RUNS = 30


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs.

    Attributes
    ----------
    compared : str
        The member whose predictions are compared; ``auto`` where each fold has the member chosen by the others.
    score, se : float
        On the common rows.
    n_rows : int
        Rows that it predicts out of fold.
    n_fits, n_members, n_cached : int
        Fits behind it, its members, and those among these that its last run found in the store.
    seconds : float or None
        Compute time of the fits of its members, whenever they were computed.
    public, private : float or None
        Scores that were noted.
    only : tuple of str
        Members that no other of the runs has.
    """

    name: str
    folder: str
    compared: str
    score: float
    se: float
    n_rows: int
    n_fits: int
    n_members: int
    n_cached: int
    seconds: float | None
    public: float | None
    private: float | None
    only: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """Two of the runs.

    Attributes
    ----------
    better, worse : str
        By their scores, whether or not that is chance.
    gap : Gap
        By how much, in units of the metric.
    p_corrected : float
        The p-value of the gap, with more than two runs corrected for all pairs by Holm.
    training : {"folds", "repeats", "none"}
        What shows how much the training adds to the standard error.
    same_folds : bool
    """

    better: str
    worse: str
    gap: Gap
    p_corrected: float
    training: str
    test_share: float | None
    same_folds: bool

    @property
    def is_sure(self) -> bool:
        """Whether the difference is beyond chance."""
        return self.p_corrected < 1 - LEVEL


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    metric : str
    greater_is_better : bool
    n_rows : int
        Rows that all runs predict.
    units : str
        What was resampled: rows, groups, blocks of time or folds.
    runs : tuple of ComparedRun
        Best score first.
    pairs : tuple of Pair
        Every two of them.
    optimism : float or None
        With more than two runs: by how much the best score is too good, because it is the best of them.
    verdict : str
    notes : tuple of str
        How the standard errors came about, and what to keep in mind.
    differences : tuple of Difference
        Options that are not the same, values in the order in which the runs were named.
    order : tuple of str
        The names of the runs in that order.
    """

    metric: str
    greater_is_better: bool
    n_rows: int
    units: str
    runs: tuple[ComparedRun, ...]
    pairs: tuple[Pair, ...]
    optimism: float | None
    verdict: str
    notes: tuple[str, ...]
    differences: tuple[Difference, ...]
    order: tuple[str, ...]

    def __str__(self) -> str:
        return self.verdict

    def pair(self, one: str, other: str) -> Pair:
        """Return what was found of two of the runs."""
        return next(pair for pair in self.pairs if {pair.better, pair.worse} == {one, other})

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        pairs = [{**asdict(pair), "beyond_chance": pair.is_sure} for pair in self.pairs]
        changed = [
            {"path": one.path, "values": dict(zip(self.order, one.values, strict=True))}
            for one in self.differences
        ]
        values: dict[str, Any] = finite(
            {**asdict(self), "pairs": pairs, "differences": changed, "level": LEVEL}
        )
        return values

    def save(self, path: str | Path) -> None:
        """Write every pair as a line of a csv file."""
        scores = {run.name: run.score for run in self.runs}
        rows = [
            (
                *(pair.better, pair.worse, self.metric, scores[pair.better], scores[pair.worse]),
                *(getattr(pair.gap, name) for name in ("value", *_OF_GAP)),
                *(pair.p_corrected, pair.is_sure, pair.training, self.n_rows),
            )
            for pair in self.pairs
        ]
        write_csv(Path(path), PAIR_COLUMNS, list(zip(*rows, strict=True)))


_OF_GAP = ("se", "se_rows", "se_training", "df", "low", "high", "p")
PAIR_COLUMNS = (
    *("better", "worse", "metric", "score_better", "score_worse", "gain", *_OF_GAP),
    *("p_corrected", "beyond_chance", "training", "n_rows"),
)
"""Of the file that has a line for each pair of runs."""


def compare(
    *runs: str | Path,
    member: str | None = None,
    metric: str | None = None,
    store: str | Path | None = None,
    trust_code: bool | None = None,
) -> Comparison:
    """Compare finished runs over the same training rows, row by row.

    Parameters
    ----------
    runs : paths
        Folders of at least two finished runs.
    member : str, optional
        ``level/name`` of a member of every run. Without it what each run submits; under ``submit: auto`` the member
        that each fold was given by the scores of the others, so that no run profits from a larger choice.
    metric : str, optional
        Needed where the runs have different ones.
    store : path, optional
        Where the store of the runs is now, if it was moved.
    trust_code : bool, optional
        For a metric of one's own. None: unless `stackfeat trust` remembers it.

    Returns
    -------
    Comparison

    Raises
    ------
    UsageError
        If a folder is no finished run's, or runs have other targets, ids or metrics.
    DataError
        If the rows of a run are gone or damaged.

    Examples
    --------
    >>> print(compare("runs/plain", "runs/wide"))  # doctest: +SKIP
    wide is better than plain: log_loss 0.4120 against 0.4191, gain 0.0071 ± 0.0012 (95 %: 0.0047 to 0.0095)
    """
    folders = [Path(run) for run in runs]
    _check_folders(folders)
    where = None if store is None else Path(store)
    names = _names(folders)
    opened = [OpenedRun.of(folder, name, where) for folder, name in zip(folders, names, strict=True)]
    refuse_other_targets(opened)
    wanted = _metric(opened, metric)
    code = code_of_run(folders[0], trust_code).beside((folders[0] / opened[0].index.folder).resolve())
    with explaining_refusals(code), serving_agreed(code):
        check_metric(wanted, opened[0].task.kind, trust_code=code.is_trusted, search_path=code.folder)
        paired = pair_rows(opened, wanted, member, code.is_trusted)
        return _compared(paired, member)


def _compared(paired: Sequence[PairedRun], member: str | None) -> Comparison:
    ranked = sorted(paired, key=lambda one: one.loss)
    gaps = [(worse, better, paired_gap(worse, better)) for better, worse in combinations(ranked, 2)]
    corrected = holm([found.gap.p for _, _, found in gaps])
    pairs = tuple(
        Pair(
            better.run.name, worse.run.name, found.gap, p, found.training, found.test_share, found.same_folds
        )
        for (worse, better, found), p in zip(gaps, corrected, strict=True)
    )
    judged = paired[0].judged
    losses = np.stack([judged.metric.signed(1.0) * one.resampled for one in ranked], axis=1)
    optimism = optimism_of_best([one.loss for one in ranked], losses) if len(paired) > 2 else None
    runs = tuple(_compared_run(one, paired, member) for one in ranked)
    return Comparison(
        metric=judged.metric.name,
        greater_is_better=judged.metric.greater_is_better,
        n_rows=len(judged.y),
        units=units_text(paired),
        runs=runs,
        pairs=pairs,
        optimism=optimism,
        verdict=_verdict(judged.metric.name, runs, pairs),
        notes=tuple(_notes(paired, [found for _, _, found in gaps], optimism)),
        differences=tuple(differences(*(one.run.summary.config for one in paired))),
        order=tuple(one.run.name for one in paired),
    )


def _compared_run(one: PairedRun, paired: Sequence[PairedRun], member: str | None) -> ComparedRun:
    run, summary = one.run, one.run.summary
    others = {name for other in paired if other is not one for name in other.run.summary.members}
    return ComparedRun(
        name=run.name,
        folder=str(summary.folder),
        compared=run.compared(member),
        score=one.score,
        se=one.se,
        n_rows=one.n_covered,
        n_fits=sum(map(len, run.index.fits.values())),
        n_members=len(summary.members),
        n_cached=summary.n_cached,
        seconds=summary.seconds,
        public=summary.public,
        private=summary.private,
        only=tuple(name for name in summary.members if name not in others),
    )


def _verdict(metric: str, runs: Sequence[ComparedRun], pairs: Sequence[Pair]) -> str:
    """Say in a sentence which run is better, and how sure that is."""
    best, scores = runs[0].name, {run.name: run for run in runs}
    of_best = [pair for pair in pairs if pair.better == best]
    unsure = [pair for pair in of_best if not pair.is_sure]
    nearest = of_best[0]
    if len(runs) == 2:
        if nearest.gap.value == 0 and nearest.gap.se == 0:
            return f"no difference: {best} and {nearest.worse} predict the same ({metric} {scores[best].score:.5g})"
        told = _told(metric, scores, nearest)
        if nearest.is_sure:
            return f"{best} is better than {nearest.worse}: {told}"
        return f"no difference beyond chance: {best} and {nearest.worse}: {told}"
    if not unsure:
        return (
            f"{best} is better than all {len(runs) - 1} others; than the nearest, {nearest.worse}: "
            + _told(metric, scores, nearest)
        )
    beaten = [pair.worse for pair in of_best if pair.is_sure]
    text = f"no difference beyond chance: {best} has the best {metric}, but its lead over "
    text += f"{', '.join(pair.worse for pair in unsure)} may be chance; the nearest, {unsure[0].worse}: "
    text += _told(metric, scores, unsure[0])
    return text + (f". It is better than {', '.join(beaten)}" if beaten else "")


def _told(metric: str, scores: dict[str, ComparedRun], pair: Pair) -> str:
    gap, digits = pair.gap, places_worth(pair.gap.se)
    better, worse = scores[pair.better].score, scores[pair.worse].score
    return (
        f"{metric} {better:.{digits}f} against {worse:.{digits}f}, gain {gap.value:.{digits}f} ± {gap.se:.{digits}f} "
        f"({LEVEL * 100:.0f} %: {gap.low:.{digits}f} to {gap.high:.{digits}f})"
    )


def _notes(paired: Sequence[PairedRun], found: Sequence[PairedGap], optimism: float | None) -> Iterator[str]:
    """Say how the standard errors came about, and what to keep in mind."""
    judged = paired[0].judged
    n_rows = len(judged.y)
    if any(one.n_covered != n_rows for one in paired):
        each = ", ".join(f"{one.n_covered:,} in {one.run.name}" for one in paired)
        yield f"the {n_rows:,} rows that all runs predict are compared, matched by id: {each}"
    yield _on_error(units_text(paired), found)
    if not all(one.same_folds for one in found):
        yield (
            "folds differ: the comparison holds, as every row is out of fold in each run, but the assignment of rows "
            "adds to the standard error; the same folds.seed makes it smaller"
        )
    if len({one.run.n_repeats for one in paired}) > 1:
        yield "runs with more repeats average more fits, which is a part of their gain"
    weights = {one.run.config.data.weight for one in paired}
    if len(weights) > 1:
        yield f"rows count by the weights of {paired[0].run.name}: data.weight differs"
    if optimism is not None:
        n_pairs = len(found)
        yield f"p-values and verdict are corrected for {n_pairs} comparisons (Holm); intervals are not"
        worse = rounded(optimism, paired[0].se)
        yield f"best of {len(paired)} runs: expect its score to be {worse} worse, by selection"


def _on_error(units: str, found: Sequence[PairedGap]) -> str:
    """Say what the standard errors are made of."""
    kinds = dict.fromkeys(one.training for one in found)
    one = found[0].gap
    digits = places_worth(one.se)
    parts = [f" {part:.{digits}f}" if len(found) == 1 else "" for part in (one.se_rows, one.se_training)]
    texts = {
        "repeats": "differences between repeats",
        "folds": "how much more differences between folds vary than their rows explain, times 1/K + n_test/n_train",
        "none": "unknown, as fewer than two folds have a score",
    }
    training = "; ".join(texts[kind] for kind in kinds)
    return (
        f"the standard error combines that of the rows{parts[0]} (a paired bootstrap over {units}) and that of the "
        f"training{parts[1]} ({training})"
    )


def _check_folders(folders: Sequence[Path]) -> None:
    if not 2 <= len(folders) <= MOST_RUNS:
        raise UsageError(f"compare takes 2 to {MOST_RUNS} runs; got {len(folders)}; name their folders")
    places = [folder.resolve() for folder in folders]
    twice = [str(folder) for folder, place in zip(folders, places, strict=True) if places.count(place) > 1]
    if twice:
        raise UsageError(
            f"compare takes different runs; got {twice[0]} more than once; name each folder once"
        )


def _names(folders: Sequence[Path]) -> list[str]:
    """Return short names: of the folders, or their paths where two folders have the same name."""
    names = [folder.resolve().name for folder in folders]
    return names if len({*names}) == len(names) else [str(folder) for folder in folders]


def _metric(runs: Sequence[OpenedRun], wanted: str | None) -> str:
    found = {run.name: run.config.metric for run in runs}
    if wanted is not None:
        return wanted
    if len({*found.values()}) > 1:
        got = ", ".join(f"{metric} ({name})" for name, metric in found.items())
        raise UsageError(
            f"runs must have the same metric; got {got}; give --metric NAME to score all of them with"
        )
    return next(iter(found.values()))
