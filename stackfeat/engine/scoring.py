"""Scoring: what a member's OOF rows are worth, with a standard error.

In:  the places of OOF rows for every repeat, and the metric.
Out: the pooled score, its bootstrap, a score for each fold, and for label metrics the
     decision rule: fitted for fold k on the rows of the other folds only.

Also: the same on held-out rows, the diagnosis of feature blocks, the jobs that do all this, and a member's
predictions put together, OOF rows over repeats and test rows over pipelines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds
from stackfeat.encodings.alignment import report_of
from stackfeat.encodings.diagnostics import diagnose
from stackfeat.engine.blocks import Contents, assemble, folds_of, samples_of
from stackfeat.engine.graph import Node
from stackfeat.engine.jobs import Averaging, Job
from stackfeat.engine.judged import Judged
from stackfeat.engine.plan import Plan
from stackfeat.engine.recipes import (
    DiagnoseRecipe,
    HoldoutScoreRecipe,
    OofMetricRecipe,
    Place,
    ScoreRecipe,
)
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.meta.votes.averaging import average_oof
from stackfeat.meta.widening import Widening, averaged
from stackfeat.metrics.decision_rule import Decision
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


def test_prediction(
    store: EntryStore,
    places: Sequence[Place],
    task: Task,
    average: str,
    widening: Widening | None = None,
) -> np.ndarray:
    """Return the average of what stands at `view_places`, float64 (n_test, n_outputs)."""
    return averaged(_views(store, places), task, average, widening)


def _views(store: EntryStore, places: Sequence[Place]) -> list[np.ndarray]:
    return [store.read(key).array(name) for key, name in places]


def widening_of(store: EntryStore, plan: Plan, node: Node, averaging: Averaging) -> Widening | None:
    """Return the widening of a calibrated member's averages, by test rows, or held-out rows where there are none.

    None where there are neither, for ranks, which are not calibrated, and where it changes less than out-of-fold rows
    leave open.
    """
    seen = plan if plan.sources.test is not None else plan.held
    is_calibrated = plan.graph.options[node.full_name].is_calibrated
    if seen is None or node.prediction is None or not is_calibrated or not averaging.keeps_scale:
        return None
    assert seen.sources.test is not None
    task = samples_of(store, seen.sources.test).task
    views = _views(store, view_places(seen, node.prediction, averaging))
    found = Widening.of(views, task.average(views, averaging.average), task)
    noted = FitInfo.of(store.read(plan.fits[node.full_name, 0, "all"])).report["calibration"]
    slope_error = noted["slope_se"]
    return found if found is not None and slope_error is not None and found.is_sure(slope_error) else None


def score_jobs(
    plan: Plan, metric: str, decision: str | Mapping[str, Any], averaging: Averaging
) -> dict[str, Job]:
    """Return the job that scores each member, by its full name; `decision` says how a rule is found, or is one."""
    return {
        node.full_name: Job(
            node.full_name, 0, "all", (score_recipe(plan, node, metric, decision, averaging),), "score"
        )
        for node in plan.graph.nodes
        if node.prediction
    }


def score_recipe(
    plan: Plan, node: Node, metric: str, decision: str | Mapping[str, Any], averaging: Averaging
) -> ScoreRecipe:
    """Return the recipe of a member's score, on the rows that all members of the plan predict."""
    block, sources = node.prediction, plan.sources
    assert block is not None
    first = max(one.first_fold for one in plan.graph.nodes if one.prediction) if sources.is_time else 0
    return ScoreRecipe(
        block=block,
        places=tuple(tuple(plan.oof_places(block, repeat)) for repeat in range(sources.n_repeats)),
        samples=sources.samples,
        folds=sources.folds,
        metric=metric,
        metric_code=sources.settings.metric_code,
        decision=decision,
        average=averaging.average,
        first_fold=first,
        within_folds=averaging.ranks_within_folds(sources.is_time),
        seed=derive_seed(sources.seed, "bootstrap"),
    )


def holdout_jobs(
    plan: Plan,
    metric: str,
    averaging: Averaging,
    scoring: Mapping[str, Job],
    scored: Mapping[str, Widening | None],
) -> dict[str, Job]:
    """Return the job that scores each member on the held-out rows; none without them.

    Parameters
    ----------
    scoring : mapping
        The jobs of the OOF scores, by member.
    scored : mapping
        The members that have an OOF score, and the widening of their averages.
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
            widening=scored[node.full_name],
            metric=metric,
            metric_code=plan.sources.settings.metric_code,
            seed=derive_seed(plan.sources.seed, "bootstrap", "holdout"),
        )
        jobs[node.full_name] = Job(node.full_name, 0, "all", (recipe,), "holdout")
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
        jobs[name] = Job(node.full_name, 0, "all", (recipe,), "diagnose")
    return jobs


def score_member(store: EntryStore, recipe: ScoreRecipe, trust_code: bool) -> Contents:
    """Score one member's OOF predictions.

    Returns
    -------
    arrays : dict
        ``bootstrap``: scores on resampled rows, the same rows for all members of a run.
    values : dict
        ``score``: ``score``, ``se`` (bootstrap of rows, groups or blocks of time), ``folds`` (None where not
        covered), ``fold_mean``, ``n_rows``, ``decision`` (for test rows) or None; ``levels_off``, see `Task`.
    """
    samples, folds = samples_of(store, recipe.samples), folds_of(store, recipe.folds)
    task = samples.task
    prediction, covered = oof_prediction(store, recipe.places, folds, task, recipe.average)
    fold_of = folds.fold_of(0)
    rows = np.flatnonzero(covered & (fold_of >= recipe.first_fold))
    judged = judged_rows(samples, folds, recipe, trust_code).take(rows)
    decided, rules, decision = decide(
        judged, task.to_target_scale(prediction[rows]), rows, folds, recipe.decision
    )
    score, bootstrap = judged.score(decided), judged.bootstrap(decided, recipe.seed)
    judged.refuse_undefined(score, bootstrap)
    by_fold = [
        judged.take(inside).defined(decided[inside])
        for inside in (fold_of[rows] == fold for fold in range(folds.n_folds))
    ]
    known = [value for value in by_fold if value is not None]
    scored = {
        "score": score,
        "se": float(np.nanstd(bootstrap, ddof=1)),
        "folds": by_fold,
        "fold_mean": float(np.mean(known)) if known else None,
        "n_rows": len(rows),
        "decision": None if decision is None else decision.to_json(),
        "fold_decisions": {str(fold): rule.to_json() for fold, rule in rules.items()},
        "levels_off": task.levels_off(judged.y, decided),
    }
    return {"bootstrap": bootstrap}, {"score": scored}


def quick_score(store: EntryStore, recipe: ScoreRecipe, samples: Samples, folds: Folds) -> float | None:
    """Return a member's score without errors, and with labels that no rule was fitted for; to be shown alone.

    None where the metric is undefined, or is the user's own, which may take any time.
    """
    if recipe.metric_code is not None:
        return None
    prediction, covered = oof_prediction(store, recipe.places, folds, samples.task, recipe.average)
    rows = np.flatnonzero(covered & (folds.fold_of(0) >= recipe.first_fold))
    judged = judged_rows(samples, folds, recipe, trust_code=False).take(rows)
    decided, _, _ = decide(judged, samples.task.to_target_scale(prediction[rows]), rows, folds, "argmax")
    return judged.defined(decided)


def judged_rows(samples: Samples, folds: Folds, recipe: OofMetricRecipe, trust_code: bool) -> Judged:
    """Return training rows and the metric that their OOF predictions are judged by."""
    fold_of = folds.fold_of(0)
    judged = Judged.of(samples, recipe.metric, trust_code, fold_of, folds.is_time)
    is_ranked_within = recipe.within_folds and judged.metric.ranking
    return replace(judged, within=fold_of) if is_ranked_within else judged


def decide(
    judged: Judged,
    prediction: np.ndarray,
    row_numbers: np.ndarray,
    folds: Folds,
    kind: str | Mapping[str, Any],
) -> tuple[np.ndarray, dict[int, Decision], Decision | None]:
    """Turn predictions into labels where the metric wants them, each fold by a rule from its training rows.

    `kind` says how rules are found, or is the one for all folds.
    """
    if judged.metric.needs != "label":
        return prediction, {}, None
    shape = judged.y.shape if judged.task.has_label_sets else len(judged.y)
    decided = np.empty(shape, dtype=judged.task.dtype)
    rules: dict[int, Decision] = {}
    fold_of = folds.fold_of(0)[row_numbers]
    if not isinstance(kind, str):
        given = Decision.from_json(kind).checked(judged.task)
        return given.apply(prediction), dict.fromkeys(map(int, np.unique(fold_of)), given), given
    for fold in np.unique(fold_of):
        inside = fold_of == fold
        train = np.isin(row_numbers, folds.splits[0][fold][0])
        if train.any():
            rule = judged.take(train).fit_rule(prediction[train], kind)
        else:
            # The first fold of a time split has no earlier rows to fit a rule on.
            rule = judged.fit_rule(prediction, "argmax")
        decided[inside] = rule.apply(prediction[inside])
        rules[int(fold)] = rule
    listed = list(rules.values())
    return decided, rules, Decision.average(listed[-1:] if folds.is_time else listed)


def diagnose_block(store: EntryStore, recipe: DiagnoseRecipe, trust_code: bool) -> Contents:
    """Measure whether a feature block's folds, and its OOF and test rows, can be told apart."""
    samples, folds = samples_of(store, recipe.samples), folds_of(store, recipe.folds)
    values, covered = assemble(store, recipe.oof, folds, 0)
    found = diagnose(
        recipe.block,
        values,
        samples.labels,
        np.where(covered, folds.fold_of(0), -1),
        n_folds=folds.n_folds,
        is_time=folds.is_time,
        task=samples.task,
        group=samples.group,
        alignment=None if recipe.align is None else report_of(store.read(recipe.align)),
        seed=recipe.seed,
        views=[store.read(key).array(name) for key, name in recipe.views],
        averaging="early" if recipe.averaging == "early" else "late",
    )
    return {}, {"diagnosis": found}


def score_holdout(store: EntryStore, recipe: HoldoutScoreRecipe, trust_code: bool) -> Contents:
    """Score one member's predictions of the held-out rows.

    Returns
    -------
    arrays : dict
        ``bootstrap``: scores on resampled rows, the same rows for all members of a run.
    values : dict
        ``score``: ``score`` (None where the metric is undefined), ``se`` (row bootstrap), ``n_rows``.
    """
    samples = samples_of(store, recipe.samples)
    task = samples.task
    judged = Judged.of(
        samples, recipe.metric, trust_code, np.zeros(samples.n_rows, dtype=np.int64), samples.time is not None
    )
    averaged = test_prediction(store, recipe.views, task, recipe.average, recipe.widening)
    prediction = np.asarray(task.to_target_scale(averaged))
    # The rule for test rows: it was fitted on OOF rows, so it has not seen these labels.
    decision = store.read(recipe.score).structure("score", dict[str, Any])["decision"]
    decided = prediction if decision is None else Decision.from_json(decision).apply(prediction)
    score, bootstrap = judged.score(decided), judged.bootstrap(decided, recipe.seed)
    defined = judged.is_defined(score, bootstrap)
    se = float(np.nanstd(bootstrap, ddof=1)) if defined else None
    scored = {"score": score if defined else None, "se": se, "n_rows": samples.n_rows}
    return {"bootstrap": bootstrap}, {"score": scored}
