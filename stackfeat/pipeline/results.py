"""Results: scores and diagnostics of a computed plan collected, the run folder written.

In:  a planner, a plan whose members are done, and where jobs run.
Out: a CompletedRun value; then files and a RunResult.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stackfeat.config import dump_config
from stackfeat.config.planner import Planner
from stackfeat.data.samples import load_samples
from stackfeat.data.schema.drift import TrainingSummary
from stackfeat.data.splits.folds import load_folds
from stackfeat.data.splits.holdout import load_holdout
from stackfeat.encodings.diagnostics import UNLIKE, block_warnings
from stackfeat.engine.external.leak_signs import better_order, far_above, order_text
from stackfeat.engine.graph import Graph
from stackfeat.engine.intervals import IntervalScore, interval_job, measure_intervals
from stackfeat.engine.jobs import Job
from stackfeat.engine.plan import Plan
from stackfeat.engine.plan_warnings import PlanWarnings
from stackfeat.engine.schedule import LevelReport, RunContext, run_scores
from stackfeat.engine.scoring import diagnose_jobs, holdout_jobs, oof_prediction, score_jobs, widening_of
from stackfeat.engine.selection import select_job
from stackfeat.engine.weights import flattered, weights_of
from stackfeat.errors import MemberError, RunFailed, TimeLimitReached
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.metrics.metric import Metric
from stackfeat.output.completed_run import CompletedRun, HeldRows
from stackfeat.output.explanation import kept_explanation
from stackfeat.output.files import write_bytes
from stackfeat.output.provenance import Index
from stackfeat.output.run_file import PROVENANCE, SUBMISSION
from stackfeat.output.run_folder import RunFolder
from stackfeat.output.run_result import RunResult
from stackfeat.output.scores import (
    ChoiceScore,
    HeldScore,
    Score,
    choose_submission,
    find_overfit,
    fold_scale_warning,
    overfit_warnings,
    paired_gap,
    submission_ranks,
)
from stackfeat.output.submission import Form
from stackfeat.output.verdicts import calibrations, gate_verdicts, verdict, why_submitted
from stackfeat.output.write import leaderboard, write_run
from stackfeat.pipeline.prepare import DataFiles, stored_schema
from stackfeat.store import EntryStore, reading
from stackfeat.tasks.task import task_class

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

Built = TypeVar("Built")


def collect(
    planner: Planner,
    plan: Plan,
    report: LevelReport,
    data: DataFiles,
    of_plan: PlanWarnings,
    context: RunContext,
) -> CompletedRun:
    """Score every member, diagnose every feature block, choose the submission."""
    config, store, metric, sources = planner.config, planner.store, planner.metric(), plan.sources
    measured = _measure(planner, plan, context)
    wanted, absent = _wanted(config.submit, measured.scores)
    overfit = find_overfit(measured.scores, metric)
    judged = _judge_choice(planner, context, measured) if wanted == "auto" else Choice()
    failed = report.failed | measured.failed
    refused = {item.member.name for item in overfit}
    chosen = choose_submission(measured.scores, metric, wanted, refused)
    interval = _fit_intervals(planner, plan, context, chosen)
    fits, held = {fit: FitInfo.of(store.read(key)) for fit, key in plan.fits.items()}, _held_rows(plan, store)
    fresh = None if held is None else held.samples
    weights = weights_of(store, plan, fits, planner.averaging(), fresh, planner.trust_code)
    finished = CompletedRun(
        plan=plan,
        store=store,
        folds=load_folds(store.read(sources.folds)),
        train=load_samples(store.read(sources.samples)),
        test=None if sources.test is None else load_samples(store.read(sources.test)),
        metric=metric,
        averaging=planner.averaging(),
        scores=measured.scores,
        chosen=chosen,
        fits=fits,
        computed={job.member for job in plan.jobs() if job.key in context.computed},
        diagnoses=measured.diagnoses,
        failed={name: str(error) for name, error in failed.items()},
        left_out=list(dict.fromkeys([*report.left_out, *measured.left_out])),
        held=held,
        weights=weights,
        pools=[found for _, found in planner.pool_verdicts()],
        notes=[*data.notes, *_extra_notes(fits), *(f"warning: {text}" for text in report.notes)],
        choice=judged.score,
        wanted=wanted,
        interval_key=interval.key,
        interval=interval.score,
    )
    noted = [note.removeprefix("warning: ") for note in finished.notes if note.startswith("warning: ")]
    warnings = [
        *noted,
        *_warnings(finished, data, of_plan),
        *absent,
        *overfit_warnings(overfit, metric, wanted),
        *flattered(weights),
        *judged.warnings,
        *interval.warnings,
    ]
    return replace(finished, warnings=warnings)


@dataclass(frozen=True)
class Measured:
    """Scores, the jobs that made them, diagnoses, and members without a score: it failed, or there was no time."""

    scoring: dict[str, Job]
    scores: list[Score]
    diagnoses: dict[str, dict[str, Any]]
    failed: dict[str, BaseException]
    left_out: list[str]


def _measure(planner: Planner, plan: Plan, context: RunContext) -> Measured:
    """Run the jobs that score members and diagnose blocks, and read what they gave."""
    config, store, averaging = planner.config, planner.store, planner.averaging()
    scoring = score_jobs(plan, config.metric, config.decision_rule, averaging)
    diagnosing = diagnose_jobs(plan)
    outcome = run_scores([*scoring.values(), *diagnosing.values()], context)

    def scored(name: str, **values: Any) -> Score:
        return Score(plan.graph.node(name), plan.graph.options[name], **values)

    def held_out(name: str, score: float | None, **values: Any) -> HeldScore | None:
        return None if score is None else HeldScore(score, **values)

    scores = [*_read_scores(store, scoring, outcome.unfinished, scored).values()]
    if not scores and not outcome.failed:
        raise TimeLimitReached(
            "at least one member must be scored within limits.time; got none. Finished work is stored: run the "
            "same command to go on, or give more time"
        )
    if not scores:
        # Usually one reason: a metric that cannot be worked out is no member's fault.
        reasons = dict.fromkeys(map(str, outcome.failed.values()))
        raise RunFailed(f"no member could be scored: {'; '.join(reasons)}")
    widenings = {score.name: widening_of(store, plan, score.node, averaging) for score in scores}
    holding = holdout_jobs(plan, config.metric, averaging, scoring, widenings)
    held = run_scores([*holding.values()], context)
    of_held = _read_scores(store, holding, held.unfinished, held_out)
    diagnoses = {
        name: store.read(job.key).structure("diagnosis", dict[str, Any])
        for name, job in diagnosing.items()
        if job.member not in outcome.unfinished or store.has(job.key)
    }
    left = {job.key for job in outcome.left}
    return Measured(
        scoring=scoring,
        scores=[
            replace(score, holdout=of_held.get(score.name), widening=widenings[score.name])
            for score in scores
        ],
        diagnoses=diagnoses,
        failed=outcome.failed | held.failed,
        left_out=[name for name, job in scoring.items() if job.key in left],
    )


@dataclass(frozen=True)
class Choice:
    """The score of ``submit: auto``; None where there was no choice out of fold, or a warning says why."""

    score: ChoiceScore | None = None
    warnings: tuple[str, ...] = ()


def _judge_choice(planner: Planner, context: RunContext, measured: Measured) -> Choice:
    """Run the job that scores what ``auto`` chooses; there is none where held-out rows decide."""
    scores = measured.scores
    if any(score.holdout is not None for score in scores):
        return Choice()
    job = select_job(measured.scoring, submission_ranks(scores, planner.metric()))
    if job is None:
        return Choice()
    outcome = run_scores([job], context)
    if planner.store.has(job.key):
        entry = planner.store.read(job.key)
        with reading(entry):
            values = entry.structure("select", dict[str, Any])
            return Choice(ChoiceScore(bootstrap=entry.array("bootstrap"), **values))
    why = "; ".join(str(error) for error in outcome.failed.values()) or "there was no time"
    text = f"what submit: auto is worth is not known ({why}); the score shown is that of the best of many"
    return Choice(warnings=(text,))


@dataclass(frozen=True)
class FittedIntervals:
    """Key of a member's intervals, "" where there are none; what they are worth at the level that is asked for."""

    key: str = ""
    score: IntervalScore | None = None
    warnings: tuple[str, ...] = ()


def _fit_intervals(planner: Planner, plan: Plan, context: RunContext, chosen: Score) -> FittedIntervals:
    """Run the job that fits the intervals of the submitted member, for whatever level its predictor is asked."""
    level, store = planner.config.interval, planner.store
    if not task_class(planner.config.task).has_regions:
        return FittedIntervals()
    job = interval_job(plan, chosen.name, planner.averaging().average)
    outcome = run_scores([job], context)
    if not store.has(job.key):
        why = "; ".join(str(error) for error in outcome.failed.values()) or "there was no time"
        logger.info("there are no intervals: %s", why)
        return FittedIntervals(warnings=() if level is None else (f"there are no intervals: {why}",))
    if level is None:
        return FittedIntervals(job.key)
    try:
        return FittedIntervals(job.key, measure_intervals(store, job.key, [level])[0])
    except MemberError as error:
        return FittedIntervals(job.key, warnings=(f"intervals are not measured: {error}",))


def _read_scores(
    store: EntryStore, jobs: Mapping[str, Job], unfinished: Container[str], build: Callable[..., Built]
) -> dict[str, Built]:
    """Return what is built of a member's name and what its job gave; unfinished members may be missing."""
    found = {}
    for name, job in jobs.items():
        if name not in unfinished or store.has(job.key):
            entry = store.read(job.key)
            with reading(entry):
                values = entry.structure("score", dict[str, Any])
                found[name] = build(name, bootstrap=entry.array("bootstrap"), **values)
    return found


def _warnings(finished: CompletedRun, data: DataFiles, of_plan: PlanWarnings) -> list[str]:
    """Return what to warn of in the scores, the plan that was carried out, and its members."""
    metric, task = finished.metric, finished.task
    return [
        *_warn_of_blocks(finished.diagnoses, of_plan.inputs, _only_gated(finished.plan.graph)),
        *fold_scale_warning(finished.scores, metric, task),
        *_fit_warnings(finished),
        *of_plan.inputs,
        *data.metric_warnings,
        *of_plan.averaging,
        *_external_warnings(finished),
    ]


def _wanted(submit: str, scores: Sequence[Score]) -> tuple[str, list[str]]:
    """Return the member that `submit` names, or auto; and a warning where that member is not there."""
    if submit == "auto" or submit in [name for s in scores for name in (s.node.name, s.name)]:
        return submit, []
    text = f"submit: {submit} is not among the finished members; the best score was submitted instead"
    return "auto", [text]


def _extra_notes(fits: Mapping[tuple[str, int, Any], FitInfo]) -> list[str]:
    """Say in how many folds extra rows train; all members of a fold get the same ones."""
    rows = {
        (repeat, fold): info.report["extra"]["rows"]
        for (_, repeat, fold), info in fits.items()
        if fold != "all" and "extra" in info.report
    }
    n_used = sum(n_rows > 0 for n_rows in rows.values())
    return [f"extra rows train in {n_used} of {len(rows)} folds"] if rows else []


def _held_rows(plan: Plan, store: EntryStore) -> HeldRows | None:
    if plan.sources.holdout is None:
        return None
    entry = store.read(plan.sources.holdout)
    return HeldRows(load_samples(entry), load_holdout(entry))


def _only_gated(graph: Graph) -> frozenset[str]:
    """Return the blocks that nothing reads but members which let a block in only where it helps."""
    read = {block for node in graph.nodes for block in node.blocks}
    ungated = {
        block for node in graph.nodes if not graph.options[node.full_name].is_gated for block in node.blocks
    }
    return frozenset(read - ungated)


def _warn_of_blocks(
    diagnoses: Mapping[str, Mapping[str, Any]], of_inputs: Sequence[str], only_gated: Container[str] = ()
) -> list[str]:
    """Log what was measured of blocks, and warn of it where `of_inputs` does not name the block already.

    Of a block that only gated members read, test rows that look unlike are worth a warning: whatever else it gives
    away, a gate judges it on whole folds, and nothing is left to do.
    """
    for name, found in diagnoses.items():
        measured = [f"{key} {value:.3g}" for key, value in found.items() if isinstance(value, float)]
        logger.info("%s: %s", name, ", ".join(measured))
    named = "\n".join(of_inputs)
    warnings = block_warnings(
        {
            name: [text for text in found["warnings"] if name not in only_gated or text.startswith(UNLIKE)]
            for name, found in diagnoses.items()
            if name not in named
        }
    )
    for text in warnings:
        logger.warning(text)
    return warnings


def _fit_warnings(finished: CompletedRun) -> list[str]:
    """What libraries warned of while members were fitted, once for each member."""
    texts = []
    for (member, *_), info in finished.fits.items():
        texts += [f"{member}: {text}" for text in info.warnings]
        if info.unsaved:
            texts.append(f"{member} cannot score later data: {info.unsaved}")
    return list(dict.fromkeys(texts))


def _external_warnings(finished: CompletedRun) -> list[str]:
    """Say what looks wrong about members made elsewhere: far above all others, near chance, another order."""
    metric, found = finished.metric, list[str]()
    own = [score for score in finished.scores if score.node.is_base and not score.options.is_foreign]
    best = min(own, key=lambda score: metric.signed(score.score), default=None)
    for score in [score for score in finished.scores if score.options.is_foreign]:
        if best is not None:
            found += _leak_warning(score, best, metric)
        if score.options.checkpoints is not None:
            found += _checkpoint_warnings(finished, score, score.options.checkpoints.has_classes)
    return found


def _leak_warning(score: Score, best: Score, metric: Metric) -> list[str]:
    gap, error = paired_gap(score, best, metric)
    if not far_above(score.score, best.score, -gap, error, metric.greater_is_better):
        return []
    return [
        f"{score.name}: its out-of-fold {metric.name} of {score.score:.5g} is far above that of the best member "
        f"trained here ({best.name}, {best.score:.5g}), by {-gap / max(error, 1e-12):.0f} standard errors: were "
        "its rows made by models that saw their labels? Ask for the folds; leave it out if in doubt"
    ]


def _checkpoint_warnings(finished: CompletedRun, score: Score, has_order: bool) -> list[str]:
    plan, train, task = finished.plan, finished.train, finished.task
    places = [plan.oof_places(score.block, repeat) for repeat in range(plan.sources.n_repeats)]
    values, covered = oof_prediction(finished.store, places, finished.folds, task, "mean")
    y, weight = train.labels[covered], None if train.weight is None else train.weight[covered]
    order = None if has_order else better_order(y, values[covered])
    if order is not None:
        return [f"{score.name}: {order_text(order, task)}"]
    if task.is_near_chance(y, values[covered], weight):
        return [
            f"{score.name}: out-of-fold rows of the checkpoints are no better than a constant prediction. "
            "Are inputs prepared as in training (scaling, order of columns), and classes in the right order?"
        ]
    return []


def write_results(
    planner: Planner,
    finished: CompletedRun,
    sample: pd.DataFrame | None,
    computed: Container[str],
    outputs: RunFolder,
) -> RunResult:
    """Write the run folder and return where everything is; `computed` holds keys of jobs."""
    import pandas as pd

    config, metric = planner.config, finished.metric
    form = Form.of(config.data, sample, as_labels=metric.needs == "label", n_best=metric.n_best)
    is_new = [job.key in computed for job in finished.plan.jobs()]
    folder, chosen = outputs.folder, finished.chosen
    home = planner.loaded.folder
    origin = {"store": (home / config.store).absolute(), "folder": home}
    seen = {name: Path(os.path.relpath(path, folder)).as_posix() for name, path in origin.items()}
    provenance = Index.of(finished, **seen).sealed()
    with outputs.rewriting() as draft:
        write_bytes(draft.path(PROVENANCE), provenance)
        write_run(
            draft,
            finished,
            config_yaml=dump_config(config),
            form=form,
            sample=sample,
            description=_reading(planner),
            title=config.name,
            explained=kept_explanation(folder, provenance),
        )
    header, rows = leaderboard(finished)
    return RunResult(
        folder=folder,
        leaderboard=pd.DataFrame(rows, columns=header),
        submitted=chosen.name,
        score=finished.score,
        se=finished.se,
        optimism=finished.optimism,
        interval=finished.interval,
        verdict=verdict(finished),
        why=why_submitted(finished),
        gates=gate_verdicts(finished),
        calibrations=calibrations(finished),
        holdout=None if chosen.holdout is None else chosen.holdout.score,
        submission=None if finished.test is None else folder / SUBMISSION,
        n_computed=sum(is_new),
        n_cached=len(is_new) - sum(is_new),
        failed=finished.failed,
        left_out=finished.left_out,
        warnings=[*finished.warnings, *draft.set_aside],
        notes=finished.plain_notes,
        config=dump_config(config),
        plan=finished.plan,
        store=finished.store,
        folds=finished.folds,
        averaging=finished.averaging,
    )


def _reading(planner: Planner) -> dict[str, Any]:
    """How the predictor reads later files."""
    schema = stored_schema(planner).to_json()
    entry = planner.store.read(planner.recipes.samples.key)
    with reading(entry):
        summary = entry.json("summary")
        TrainingSummary.from_json(summary)
    # User code is looked for beside the config; a relative path is the same on every machine.
    code = os.path.relpath(planner.loaded.folder, planner.loaded.folder / planner.config.run_dir)
    return {
        "schema": schema,
        "summary": summary,
        "data": planner.config.data.to_json(),
        "metric": planner.config.metric,
        "code": Path(code).as_posix(),
    }
