"""Scoring: what a member's OOF rows are worth, with a standard error.

In:  the places of OOF rows for every repeat, and the metric.
Out: the pooled score, its bootstrap, a score for each fold, and for label metrics the
     decision rule: fitted for fold k on the rows of the other folds only.

Also: the same on held-out rows, the diagnosis of feature blocks, the jobs that do all this, and a member's
predictions put together, OOF rows over repeats and test rows over pipelines.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds
from stackfeat.encodings.diagnostics import diagnose
from stackfeat.engine.blocks import assemble
from stackfeat.engine.jobs import Averaging, Job, Step
from stackfeat.engine.plan import Plan
from stackfeat.engine.recipes import DiagnoseRecipe, HoldoutScoreRecipe, Place, ScoreRecipe
from stackfeat.meta.votes.averaging import average_oof
from stackfeat.metrics.decision_rule import Decision
from stackfeat.metrics.metric import Metric
from stackfeat.metrics.registry import get_metric
from stackfeat.seeds import derive_seed
from stackfeat.store import EntryStore
from stackfeat.tasks.task import Task


def oof_prediction(
    store: EntryStore, places: Sequence[Sequence[Place | None]], folds: Folds, task: Task, average: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return OOF predictions averaged over repeats, and the rows that every repeat covers.

    Parameters
    ----------
    places : sequence over repeats of a sequence over folds
    """
    parts, masks = [], []
    for repeat, listed in enumerate(places):
        values, covered = assemble(store, listed, folds, repeat)
        parts.append(values)
        masks.append(covered)
    covered = np.logical_and.reduce(masks)
    fold_of = [folds.fold_of(repeat) for repeat in range(len(parts))]
    return average_oof(parts, fold_of, covered, task, average), covered


def view_places(plan: Plan, block: str, averaging: Averaging) -> list[Place]:
    """Where the test rows of all pipelines of a block stand, every repeat's."""
    node = plan.graph.blocks()[block][0]
    views = plan.test_views(node)
    used = views[-1:] if averaging.last_view else views
    return [
        plan.view_place(block, repeat, view, averaging.chain)
        for repeat in range(plan.sources.n_repeats)
        for view in used
    ]


def test_prediction(store: EntryStore, places: Sequence[Place], task: Task, average: str) -> np.ndarray:
    """Return the average of what stands at `view_places`, float64 (n_test, n_outputs)."""
    return task.average([store.read(key).array(name) for key, name in places], average)


def score_jobs(plan: Plan, metric: str, decision: str, average: str) -> dict[str, Job]:
    """Return the job that scores each member, by its full name."""
    nodes = [node for node in plan.graph.nodes if node.prediction]
    first = max((node.first_fold for node in nodes), default=0) if plan.sources.is_time else 0
    jobs = {}
    for node in nodes:
        block = node.prediction
        assert block is not None
        recipe = ScoreRecipe(
            block=block,
            places=tuple(tuple(plan.oof_places(block, repeat)) for repeat in range(plan.sources.n_repeats)),
            samples=plan.sources.samples,
            folds=plan.sources.folds,
            metric=metric,
            metric_code=plan.sources.settings["metric_code"],
            decision=decision,
            average=average,
            first_fold=first,
            seed=derive_seed(plan.sources.seed, "bootstrap"),
        )
        jobs[node.full_name] = Job(node.full_name, 0, "all", (Step.of(recipe),), "score")
    return jobs


def holdout_jobs(
    plan: Plan, metric: str, averaging: Averaging, scoring: Mapping[str, Job], scored: Container[str]
) -> dict[str, Job]:
    """Return the job that scores each member on the held-out rows; none without them.

    Parameters
    ----------
    scoring : mapping
        The jobs of the OOF scores, by member.
    scored : container of str
        The members that have an OOF score.
    """
    jobs: dict[str, Job] = {}
    if plan.held is None:
        return jobs
    for node in [node for node in plan.graph.nodes if node.full_name in scored]:
        assert plan.held.sources.test is not None and node.prediction is not None
        recipe = HoldoutScoreRecipe(
            block=node.prediction,
            views=tuple(view_places(plan.held, node.prediction, averaging)),
            average=averaging.average,
            samples=plan.held.sources.test,
            score=scoring[node.full_name].key,
            metric=metric,
            metric_code=plan.sources.settings["metric_code"],
            seed=derive_seed(plan.sources.seed, "bootstrap", "holdout"),
        )
        jobs[node.full_name] = Job(node.full_name, 0, "all", (Step.of(recipe),), "holdout")
    return jobs


def diagnose_jobs(plan: Plan) -> dict[str, Job]:
    """Return the job that diagnoses each feature block, by the block's name."""
    jobs = {}
    for name, (node, output) in plan.graph.blocks().items():
        if output.kind != "feature":
            continue
        views = plan.test_views(node) if plan.sources.test is not None else []
        recipe = DiagnoseRecipe(
            block=name,
            oof=tuple(plan.oof_places(name, 0)),
            views=tuple(plan.view_place(name, 0, view, "fold") for view in views),
            align=plan.aligns.get((name, 0)),
            samples=plan.sources.samples,
            folds=plan.sources.folds,
            seed=derive_seed(plan.sources.seed, "diagnose"),
            averaging=plan.sources.averaging,
        )
        jobs[name] = Job(node.full_name, 0, "all", (Step.of(recipe),), "diagnose")
    return jobs


N_RESAMPLES = 200


def score_member(
    store: EntryStore, recipe: ScoreRecipe, samples: Samples, folds: Folds, *, trust_code: bool = False
) -> tuple[dict[str, Any], np.ndarray]:
    """Score one member's OOF predictions.

    Returns
    -------
    scored : dict
        ``score``, ``se`` (row bootstrap), ``folds`` (None where not covered), ``fold_mean``,
        ``n_rows``, ``decision`` (for test rows) or None.
    bootstrap : ndarray of shape (n_resamples,)
        Scores on resampled rows, the same rows for all members of a run.
    """
    task = samples.task
    metric = get_metric(recipe.metric, task.kind, trust_code=trust_code)
    prediction, covered = oof_prediction(store, recipe.places, folds, task, recipe.average)
    fold_of = folds.fold_of(0)
    rows = np.flatnonzero(covered & (fold_of >= recipe.first_fold))
    y = task.to_target_scale(samples.labels)[rows]
    weight = None if samples.weight is None else samples.weight[rows]
    decided, rules, decision = _decide(
        metric, y, task.to_target_scale(prediction[rows]), rows, folds, task, recipe.decision, weight
    )
    bootstrap = metric.bootstrap(y, [decided], task, weight, n_resamples=N_RESAMPLES, seed=recipe.seed)[:, 0]
    by_fold = [
        _fold_score(metric, y, decided, fold_of[rows] == k, task, weight) for k in range(folds.n_folds)
    ]
    known = [value for value in by_fold if value is not None]
    scored = {
        "score": metric.score(y, decided, task, weight),
        "se": float(np.nanstd(bootstrap, ddof=1)),
        "folds": by_fold,
        "fold_mean": float(np.mean(known)) if known else None,
        "n_rows": len(rows),
        "decision": None if decision is None else decision.to_json(),
        "fold_decisions": {str(fold): rule.to_json() for fold, rule in rules.items()},
    }
    return scored, bootstrap


def _fold_score(
    metric: Metric,
    y: np.ndarray,
    decided: np.ndarray,
    inside: np.ndarray,
    task: Task,
    weight: np.ndarray | None,
) -> float | None:
    if not inside.any():
        return None
    # A fold can lack a class, which leaves ranking metrics undefined there.
    try:
        value = metric.score(y[inside], decided[inside], task, None if weight is None else weight[inside])
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _decide(
    metric: Metric,
    y: np.ndarray,
    prediction: np.ndarray,
    row_numbers: np.ndarray,
    folds: Folds,
    task: Task,
    kind: str,
    weight: np.ndarray | None,
) -> tuple[np.ndarray, dict[int, Decision], Decision | None]:
    """Turn predictions into labels where the metric wants them, each fold by a rule from its training rows."""
    if metric.needs != "label":
        return prediction, {}, None
    decided = np.empty(len(y), dtype=task.dtype)
    rules: dict[int, Decision] = {}
    fold_of = folds.fold_of(0)[row_numbers]
    for fold in np.unique(fold_of):
        inside = fold_of == fold
        train_rows = np.isin(row_numbers, folds.splits[0][fold][0])
        rule = _fit_rule(metric, y, prediction, train_rows, task, kind, weight)
        decided[inside] = rule.apply(prediction[inside])
        rules[int(fold)] = rule
    listed = list(rules.values())
    return decided, rules, Decision.average(listed[-1:] if folds.is_time else listed)


def _fit_rule(
    metric: Metric,
    y: np.ndarray,
    prediction: np.ndarray,
    rows: np.ndarray,
    task: Task,
    kind: Any,
    weight: np.ndarray | None,
) -> Decision:
    # The first fold of a time split has no earlier rows to fit a rule on.
    if not rows.any():
        rows, kind = np.ones_like(rows), "argmax"
    return Decision.fit(
        metric, y[rows], prediction[rows], task, kind, None if weight is None else weight[rows]
    )


def diagnose_block(
    store: EntryStore, recipe: DiagnoseRecipe, samples: Samples, folds: Folds
) -> dict[str, Any]:
    """Measure whether a feature block's folds, and its OOF and test rows, can be told apart."""
    values, covered = assemble(store, recipe.oof, folds, 0)
    return diagnose(
        recipe.block,
        values,
        samples.labels,
        np.where(covered, folds.fold_of(0), -1),
        n_folds=folds.n_folds,
        is_time=folds.is_time,
        task=samples.task,
        group=samples.group,
        alignment=store.read(recipe.align).structure("report", dict[str, Any]) if recipe.align else {},
        seed=recipe.seed,
        views=[store.read(key).array(name) for key, name in recipe.views],
        averaging="early" if recipe.averaging == "early" else "late",
    )


def score_holdout(
    store: EntryStore, recipe: HoldoutScoreRecipe, samples: Samples, *, trust_code: bool = False
) -> tuple[dict[str, Any], np.ndarray]:
    """Score one member's predictions of the held-out rows.

    Parameters
    ----------
    samples : Samples
        The held-out rows, with their labels.

    Returns
    -------
    scored : dict
        ``score`` (None where the metric is undefined), ``se`` (row bootstrap), ``n_rows``.
    bootstrap : ndarray of shape (n_resamples,)
        Scores on resampled rows, the same rows for all members of a run.
    """
    task = samples.task
    metric = get_metric(recipe.metric, task.kind, trust_code=trust_code)
    views = [store.read(key).array(name) for key, name in recipe.views]
    prediction = np.asarray(task.to_target_scale(task.average(views, recipe.average)))
    # The rule for test rows: it was fitted on OOF rows, so it has not seen these labels.
    decision = store.read(recipe.score).structure("score", dict[str, Any])["decision"]
    decided = prediction if decision is None else Decision.from_json(decision).apply(prediction)
    y = task.to_target_scale(samples.labels)
    score = metric.score(y, decided, task, samples.weight)
    bootstrap = metric.bootstrap(
        y, [decided], task, samples.weight, n_resamples=N_RESAMPLES, seed=recipe.seed
    )[:, 0]
    defined = bool(np.isfinite(score))
    se = float(np.nanstd(bootstrap, ddof=1)) if defined else None
    return {"score": score if defined else None, "se": se, "n_rows": samples.n_rows}, bootstrap
