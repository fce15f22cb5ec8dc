"""Scores: every member on the same rows, and which one to submit.

In:  a plan whose members are done.
Out: a score entry for each member, the leaderboard, the choice for the submission.

Also the check for overfit levels: better out of fold and worse on rows that nothing has seen.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.engine.graph import Node
from stackfeat.engine.selection import choose
from stackfeat.members.options import MemberOptions
from stackfeat.meta.widening import Widening
from stackfeat.metrics.metric import Metric
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class HeldScore:
    """How good one member is on the held-out rows, which no level has seen.

    Attributes
    ----------
    score, se : float
        The metric, and its standard error from a bootstrap over rows.
    bootstrap : ndarray of shape (n_resamples,)
        Scores on resampled rows, the same rows for every member.
    """

    score: float
    se: float
    n_rows: int
    bootstrap: np.ndarray


@dataclass(frozen=True)
class Score:
    """How good one member is out of fold.

    Attributes
    ----------
    score, se : float
        The metric on all OOF rows pooled (ranking metrics where the last pipeline predicts: the mean over folds), and
        its standard error from a bootstrap over rows, groups, or blocks of time.
    fold_mean : float or None
        Mean of the scores of the folds.
    folds : list of float or None
        None for folds that are not covered.
    decision : dict or None
        For label metrics: the rule that turns test predictions into labels.
    fold_decisions : dict
        The rule of each fold, fitted on the other folds, by which its OOF rows are scored.
    bootstrap : ndarray of shape (n_resamples,)
        Scores on resampled rows, the same rows for every member.
    holdout : HeldScore or None
        None without held-out rows, and where the metric is undefined on them.
    widening : Widening or None
        Of the averages of a calibrated member's pipelines.
    levels_off : int
        How far coverage of quantiles is off out of fold: see `Task.levels_off`.
    """

    node: Node
    options: MemberOptions
    score: float
    se: float
    fold_mean: float | None
    folds: list[float | None]
    n_rows: int
    decision: dict[str, Any] | None
    fold_decisions: dict[str, dict[str, Any]]
    bootstrap: np.ndarray
    holdout: HeldScore | None = None
    widening: Widening | None = None
    levels_off: int = 0

    @property
    def name(self) -> str:
        """Full name of the member."""
        return self.node.full_name

    @property
    def block(self) -> str:
        """The block of its predictions."""
        assert self.node.prediction is not None
        return self.node.prediction

    @property
    def judged(self) -> Score | HeldScore:
        """The score that decides: on held-out rows where there are any."""
        return self.holdout or self


def choose_submission(
    scores: Sequence[Score], metric: Metric, wanted: str, refused: Container[str] = ()
) -> Score:
    """Return the member to submit.

    Parameters
    ----------
    wanted : str
        A member's name, level/name, or ``auto``: the best score; within one standard error of
        the paired difference to the best, quantiles whose coverage is nearest to what it should be
        come first, then greedy votes, then soft votes, then lower levels. A hard vote is never chosen
        under a metric of probabilities. Where rows were held out, scores are those on them.
    refused : container of str
        Members that ``auto`` passes over: full names.
    """
    if wanted != "auto":
        return next(score for score in scores if wanted in (score.name, score.node.name))
    ranks = submission_ranks(scores, metric)
    judged = contenders(scores, metric, refused)
    number = choose(
        [metric.signed(score.judged.score) for score in judged],
        [(score.levels_off, *ranks[score.name]) for score in judged],
        lambda one, other: paired_gap(judged[one].judged, judged[other].judged, metric)[1],
    )
    return judged[number]


def contenders(scores: Sequence[Score], metric: Metric, refused: Container[str] = ()) -> list[Score]:
    """Return the members that ``auto`` chooses among; see `choose_submission`."""
    allowed = [score for score in scores if can_be_chosen(score, metric)] or list(scores)
    trusted = [score for score in allowed if score.name not in refused] or allowed
    return [score for score in trusted if score.holdout is not None] or trusted


def submission_ranks(scores: Sequence[Score], metric: Metric) -> dict[str, tuple[int, ...]]:
    """Return the members that ``auto`` may choose, and their order among equals: votes first, then lower levels."""
    levels = list(dict.fromkeys(score.node.level for score in scores))
    allowed = [score for score in scores if can_be_chosen(score, metric)] or list(scores)
    return {score.name: (score.options.preference, levels.index(score.node.level)) for score in allowed}


@dataclass(frozen=True)
class ChoiceScore:
    """What ``submit: auto`` is worth: in each fold the member was chosen by the rows of the others.

    Attributes
    ----------
    score, se : float
        Of the members chosen, each on the rows of its fold.
    n_rows : int
        With time folds fewer than members are scored on: the first of their folds has no earlier rows to choose by.
    choices : dict of str to str
        The fold and the full name of the member chosen.
    bootstrap : ndarray of shape (n_resamples,)
    """

    score: float
    se: float
    n_rows: int
    choices: dict[str, str]
    bootstrap: np.ndarray

    def optimism(self, chosen: Score, metric: Metric) -> float | None:
        """Return by how much the submitted member's own score is too good; None where rows differ."""
        return (
            metric.signed(self.score) - metric.signed(chosen.score) if self.n_rows == chosen.n_rows else None
        )


def can_be_chosen(score: Score, metric: Metric) -> bool:
    """Whether ``submit: auto`` may choose a member: no hard vote under a metric of probabilities."""
    return metric.needs == "label" or score.options.gives_probabilities


def paired_gap(score: Score | HeldScore, other: Score | HeldScore, metric: Metric) -> tuple[float, float]:
    """Return by how much a score is worse than another, and the standard error, paired over rows."""
    gap = metric.signed(score.score) - metric.signed(other.score)
    return gap, float(np.nanstd(score.bootstrap - other.bootstrap, ddof=1))


def fold_scale_warning(scores: Sequence[Score], metric: Metric, task: Task) -> list[str]:
    """Say where a ranking metric is worse on pooled rows than inside folds: folds are on different scales."""
    names = [
        score.name
        for score in scores
        if score.fold_mean is not None
        and metric.signed(score.score) - metric.signed(score.fold_mean) > 2 * score.se
    ]
    if not metric.ranking or not names:
        return []
    # The last average is that which keeps least of the scales.
    remedy = task.averages[-1]
    return [
        f"{metric.name} on pooled rows is more than two standard errors below the mean over folds for "
        f"{', '.join(names)}: fold models are on different scales. Try stack.average: {remedy}"
    ]


@dataclass(frozen=True)
class Overfit:
    """A member that wins out of fold and loses on the held-out rows.

    Attributes
    ----------
    member : Score
    rival : Score
        The best member of lower levels out of fold; it is no such member itself.
    gap, se : float
        By how much the member is worse on the held-out rows, and the paired standard error.
    """

    member: Score
    rival: Score
    gap: float
    se: float


def find_overfit(scores: Sequence[Score], metric: Metric) -> list[Overfit]:
    """Compare each member with the best member of the levels below it.

    Parameters
    ----------
    scores : sequence of Score
        In the order of computing, with their scores on held-out rows.

    Returns
    -------
    list of Overfit
        Members with a better OOF score than every member of lower levels, that are worse than the best
        of those on the held-out rows by more than one standard error, paired over rows. Empty without
        held-out rows.
    """
    found: list[Overfit] = []
    lower: list[Score] = []
    for level in dict.fromkeys(score.node.level for score in scores):
        # The rival is chosen by its OOF score, so its holdout score is not the luckiest of many.
        rival = min(lower, key=lambda score: metric.signed(score.score), default=None)
        members = [score for score in scores if score.node.level == level and score.holdout is not None]
        past = [] if rival is None else [item for one in members for item in _overfit(one, rival, metric)]
        names = {item.member.name for item in past}
        lower += [score for score in members if score.name not in names and can_be_chosen(score, metric)]
        found += past
    return found


def _overfit(member: Score, rival: Score, metric: Metric) -> Iterator[Overfit]:
    gap, error = paired_gap(member.judged, rival.judged, metric)
    if metric.signed(member.score) < metric.signed(rival.score) and gap > error:
        yield Overfit(member, rival, gap, error)


def overfit_warnings(found: Sequence[Overfit], metric: Metric, wanted: str) -> list[str]:
    """Say what was found; `wanted` is what ``submit`` names."""
    texts = []
    for item in found:
        member, rival, held, better = item.member, item.rival, item.member.holdout, item.rival.holdout
        assert held is not None and better is not None
        outcome = f"submit: {wanted} decides what is submitted"
        if wanted in (member.name, member.node.name):
            outcome = f"It is submitted because submit names it; {rival.name} or submit: auto is safer"
        elif wanted == "auto":
            outcome = "submit: auto prefers the lower level"
        texts.append(
            f"{member.name} beats {rival.name} out of fold ({metric.name} {member.score:.5g} against "
            f"{rival.score:.5g}) but loses on the {held.n_rows} held-out rows ({held.score:.5g} against "
            f"{better.score:.5g}: worse by {item.gap:.2g} ± {item.se:.2g}), so its level is overfitted or leaks. "
            f"{outcome}"
        )
    return texts
