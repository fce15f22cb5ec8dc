"""Scores: every member on the same rows, and which one to submit.

In:  a plan whose members are done.
Out: a score entry for each member, the leaderboard, the choice for the submission.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.ensemble.graph import Graph, Node
from stackfeat.ensemble.options import VoteOptions
from stackfeat.ensemble.plan import Plan
from stackfeat.ensemble.units import Job, Step
from stackfeat.features.keys import diagnose_recipe, key_of, score_recipe
from stackfeat.metrics import Metric
from stackfeat.seeds import derive_seed
from stackfeat.store import EntryStore
from stackfeat.task import Task

_PREFERENCE = {"greedy": 0, "soft": 1}


@dataclass(frozen=True)
class Score:
    """How good one member is out of fold.

    Attributes
    ----------
    score, se : float
        The metric on all OOF rows pooled, and its standard error from a bootstrap over rows.
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
    """

    node: Node
    score: float
    se: float
    fold_mean: float | None
    folds: list[float | None]
    n_rows: int
    decision: dict[str, Any] | None
    fold_decisions: dict[str, dict[str, Any]]
    bootstrap: np.ndarray


def score_jobs(plan: Plan, metric: str, decision: str, average: str) -> dict[str, Job]:
    """Return the job that scores each member, by its full name."""
    nodes = [node for node in plan.graph.nodes if node.prediction]
    first = max((node.first_fold for node in nodes), default=0) if plan.sources.is_time else 0
    jobs = {}
    for node in nodes:
        block = node.prediction
        assert block is not None
        recipe = score_recipe(
            block=block,
            places=[plan.oof_places(block, repeat) for repeat in range(plan.sources.n_repeats)],
            samples=plan.sources.samples,
            folds=plan.sources.folds,
            metric=metric,
            metric_code=plan.sources.settings["metric_code"],
            decision=decision,
            average=average,
            first_fold=first,
            seed=derive_seed(plan.sources.seed, "bootstrap"),
        )
        jobs[node.full_name] = Job(node.full_name, 0, "all", (Step(key_of(recipe), recipe),), "score")
    return jobs


def diagnose_jobs(plan: Plan) -> dict[str, Job]:
    """Return the job that diagnoses each feature block, by the block's name."""
    jobs = {}
    for name, (node, output) in plan.graph.blocks().items():
        if output.kind != "feature":
            continue
        has_test = plan.sources.test is not None
        recipe = diagnose_recipe(
            block=name,
            oof=plan.oof_places(name, 0),
            views=[plan.view_place(name, 0, view, "fold") for view in plan.test_views(node)]
            if has_test
            else [],
            align=plan.aligns.get((name, 0)),
            folds=plan.sources.folds,
            seed=derive_seed(plan.sources.seed, "diagnose"),
            averaging=plan.sources.averaging,
        )
        jobs[name] = Job(node.full_name, 0, "all", (Step(key_of(recipe), recipe),), "diagnose")
    return jobs


def read_scores(store: EntryStore, graph: Graph, jobs: Mapping[str, Job]) -> list[Score]:
    """Return the scores of the jobs that are done, in the order of computing."""
    scores = []
    for name, job in jobs.items():
        if not store.has(job.key):
            continue
        entry = store.read(job.key)
        scores.append(Score(node=graph.node(name), bootstrap=entry.array("bootstrap"), **entry.json("score")))
    return scores


def choose_submission(scores: Sequence[Score], metric: Metric, wanted: str) -> Score:
    """Return the member to submit.

    Parameters
    ----------
    wanted : str
        A member's name, level/name, or ``auto``: the best score; within one standard error of
        the paired difference to the best, greedy votes come first, then soft votes, then
        lower levels. A hard vote is never chosen under a metric of probabilities.
    """
    if wanted != "auto":
        return next(score for score in scores if wanted in (score.node.full_name, score.node.name))
    levels = list(dict.fromkeys(score.node.level for score in scores))
    allowed = [
        score for score in scores if metric.needs == "label" or not _is_vote(score.node, "hard")
    ] or list(scores)
    best = min(allowed, key=lambda score: metric.signed(score.score))
    close = [score for score in allowed if _within_one_se(score, best, metric)]

    def rank(score: Score) -> tuple[int, int, float]:
        options = score.node.options
        preference = _PREFERENCE.get(options.vote, 2) if isinstance(options, VoteOptions) else 2
        return preference, levels.index(score.node.level), metric.signed(score.score)

    return min(close, key=rank)


def _is_vote(node: Node, kind: str) -> bool:
    return isinstance(node.options, VoteOptions) and node.options.vote == kind


def _within_one_se(score: Score, best: Score, metric: Metric) -> bool:
    gap = metric.signed(score.score) - metric.signed(best.score)
    return gap <= float(np.nanstd(score.bootstrap - best.bootstrap, ddof=1))


def fold_scale_warning(scores: Sequence[Score], metric: Metric, task: Task) -> list[str]:
    """Say where a ranking metric is worse on pooled rows than inside folds: folds are on different scales."""
    if not metric.ranking:
        return []
    names = [
        score.node.full_name
        for score in scores
        if score.fold_mean is not None
        and metric.signed(score.score) - metric.signed(score.fold_mean) > 2 * score.se
    ]
    if not names:
        return []
    # Ranks of several classes cannot be averaged, and are refused.
    remedy = "logit" if task.kind == "multiclass" else "rank"
    return [
        f"{metric.name} on pooled rows is more than two standard errors below the mean over folds for "
        f"{', '.join(names)}: fold models are on different scales. Try stack.average: {remedy}"
    ]
