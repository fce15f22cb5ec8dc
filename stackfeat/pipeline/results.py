"""Results: scores and diagnostics of a computed plan collected, the run folder written.

In:  a planner, a plan whose members are done, and where jobs run.
Out: a Finished value; then files and a RunResult.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackfeat.config import dump_config
from stackfeat.config.planner import Planner
from stackfeat.data.samples import Samples, load_samples
from stackfeat.data.schema.columns import Schema
from stackfeat.data.splits.folds import Folds, load_folds
from stackfeat.data.splits.holdout import load_holdout
from stackfeat.encodings.diagnostics import block_warnings
from stackfeat.engine.plan import Plan
from stackfeat.engine.plan_warnings import warn_of_averaging, warn_of_inputs
from stackfeat.engine.schedule import LevelReport, RunContext, run_scores
from stackfeat.engine.scoring import diagnose_jobs, holdout_jobs, score_jobs
from stackfeat.errors import RunFailed, TimeLimitReached
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.metrics.metric import Metric
from stackfeat.output.completed_run import Finished, HeldRows, RunResult
from stackfeat.output.external_warnings import external_warnings
from stackfeat.output.provenance import Index, write_provenance
from stackfeat.output.run_file import PROVENANCE, SUBMISSION
from stackfeat.output.run_folder import RunFolder
from stackfeat.output.scores import (
    Score,
    choose_submission,
    find_overfit,
    fold_scale_warning,
    overfit_warnings,
    read_holdout,
    read_scores,
)
from stackfeat.output.submission import Form
from stackfeat.output.write import leaderboard, write_run
from stackfeat.pipeline.prepare import DataFiles
from stackfeat.store import EntryStore, reading
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def collect(
    planner: Planner, plan: Plan, report: LevelReport, data: DataFiles, context: RunContext
) -> Finished:
    """Score every member, diagnose every feature block, choose the submission."""
    config, store, metric = planner.config, planner.store, planner.metric()
    train, folds = load_samples(store.read(plan.sources.samples)), load_folds(store.read(plan.sources.folds))
    test = None if plan.sources.test is None else load_samples(store.read(plan.sources.test))
    measured = _measure(planner, plan, context)
    warnings = _warnings(plan, measured, metric, train, folds, data, store)
    wanted, absent = _wanted(config.submit, measured.scores)
    overfit = find_overfit(measured.scores, metric)
    passed_over = {item.member.node.full_name for item in overfit}
    notes = [*data.notes, *(f"warning: {text}" for text in report.notes)]
    failed = report.failed | measured.failed
    return Finished(
        plan=plan,
        store=store,
        folds=folds,
        train=train,
        test=test,
        metric=metric,
        averaging=planner.averaging(),
        scores=measured.scores,
        chosen=choose_submission(measured.scores, metric, wanted, passed_over),
        seconds=_seconds(plan, store),
        computed={job.member for job in plan.jobs() if job.key in context.computed},
        diagnoses=measured.diagnoses,
        failed={name: str(error) for name, error in failed.items()},
        left_out=list(dict.fromkeys([*report.left_out, *measured.left_out])),
        held=_held_rows(plan, store),
        notes=notes,
        warnings=[
            *(note.removeprefix("warning: ") for note in notes if note.startswith("warning: ")),
            *warnings,
            *absent,
            *overfit_warnings(overfit, metric, wanted),
        ],
    )


@dataclass(frozen=True)
class Measured:
    """Scores and diagnoses, and the members without a score: those whose score failed, or had no time."""

    scores: list[Score]
    diagnoses: dict[str, dict[str, Any]]
    failed: dict[str, BaseException]
    left_out: list[str]


def _measure(planner: Planner, plan: Plan, context: RunContext) -> Measured:
    """Run the jobs that score members and diagnose blocks, and read what they gave."""
    config, store, averaging = planner.config, planner.store, planner.averaging()
    scoring = score_jobs(plan, config.metric, config.decision, config.stack.average)
    diagnosing = diagnose_jobs(plan)
    outcome = run_scores([*scoring.values(), *diagnosing.values()], context)
    scores = read_scores(store, plan.graph, scoring, outcome.unfinished)
    if not scores and not outcome.failed:
        raise TimeLimitReached(
            "at least one member must be scored within limits.time; got none. Finished work is stored: run the "
            "same command to go on, or give more time"
        )
    if not scores:
        # Usually one reason: a metric that cannot be worked out is no member's fault.
        reasons = dict.fromkeys(map(str, outcome.failed.values()))
        raise RunFailed(f"no member could be scored: {'; '.join(reasons)}")
    scored = {score.node.full_name for score in scores}
    holding = holdout_jobs(plan, config.metric, averaging, scoring, scored)
    held = run_scores([*holding.values()], context)
    diagnoses = {
        name: store.read(job.key).structure("diagnosis", dict[str, Any])
        for name, job in diagnosing.items()
        if job.member not in outcome.unfinished or store.has(job.key)
    }
    left = {job.key for job in outcome.left}
    return Measured(
        scores=read_holdout(store, scores, holding, held.unfinished),
        diagnoses=diagnoses,
        failed=outcome.failed | held.failed,
        left_out=[name for name, job in scoring.items() if job.key in left],
    )


def _warnings(
    plan: Plan,
    measured: Measured,
    metric: Metric,
    train: Samples,
    folds: Folds,
    data: DataFiles,
    store: EntryStore,
) -> list[str]:
    """Return what to warn of in the scores, the plan that was carried out, and its members."""
    of_inputs = warn_of_inputs(plan.graph, train.n_rows)
    return [
        *_warn_of_blocks(measured.diagnoses, of_inputs),
        *fold_scale_warning(measured.scores, metric, train.task),
        *_fit_warnings(plan, store),
        *of_inputs,
        *_order_warnings(metric, train.task),
        *data.metric_warnings,
        *warn_of_averaging(plan.graph, plan.sources.averaging),
        *external_warnings(plan, store, measured.scores, train, folds, metric),
    ]


def _wanted(submit: str, scores: Sequence[Score]) -> tuple[str, list[str]]:
    """Return the member that `submit` names, or auto; and a warning where that member is not there."""
    if submit == "auto" or submit in [name for s in scores for name in (s.node.name, s.node.full_name)]:
        return submit, []
    text = f"submit: {submit} is not among the finished members; the best score was submitted instead"
    return "auto", [text]


def _held_rows(plan: Plan, store: EntryStore) -> HeldRows | None:
    if plan.sources.holdout is None:
        return None
    entry = store.read(plan.sources.holdout)
    return HeldRows(load_samples(entry), load_holdout(entry))


def _warn_of_blocks(diagnoses: Mapping[str, Mapping[str, Any]], of_inputs: Sequence[str]) -> list[str]:
    """Log what was measured of blocks, and warn of it where `of_inputs` does not name the block already."""
    warnings = block_warnings(
        {
            name: found["warnings"]
            for name, found in diagnoses.items()
            if not any(name in text for text in of_inputs)
        }
    )
    for name, found in diagnoses.items():
        measured = [f"{key} {value:.3g}" for key, value in found.items() if isinstance(value, float)]
        logger.info("%s: %s", name, ", ".join(measured))
    for text in warnings:
        logger.warning(text)
    return warnings


def _fit_warnings(plan: Plan, store: EntryStore) -> list[str]:
    """What libraries warned of while members were fitted, once for each member."""
    texts = []
    for (member, _, _), key in plan.fits.items():
        info = FitInfo.of(store.read(key))
        texts += [f"{member}: {text}" for text in info.warnings]
        if info.unsaved:
            texts.append(f"{member} cannot score later data: {info.unsaved}")
    return list(dict.fromkeys(texts))


def _order_warnings(metric: Metric, task: Task) -> list[str]:
    """Say in which order classes count as near each other, where their labels do not say it."""
    if metric.decision != "ordinal" or not any(isinstance(label, str) for label in task.classes):
        return []
    order = ", ".join(map(str, task.classes))
    return [
        f"{metric.name} takes the classes in the order of their texts: {order}. "
        "If another order is meant, number the labels of the target"
    ]


def _seconds(plan: Plan, store: EntryStore) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for (member, _, _), key in plan.fits.items():
        seconds[member] = seconds.get(member, 0.0) + FitInfo.of(store.read(key)).seconds
    return seconds


def write_results(
    planner: Planner,
    finished: Finished,
    sample: pd.DataFrame | None,
    computed: Container[str],
    outputs: RunFolder,
) -> RunResult:
    """Write the run folder and return where everything is; `computed` holds keys of jobs."""
    import pandas as pd

    config = planner.config
    form = Form.of(config.data, sample, as_labels=finished.metric.needs == "label")
    n_jobs = len(list(finished.plan.jobs()))
    n_computed = sum(job.key in computed for job in finished.plan.jobs())
    folder = outputs.folder
    with outputs.rewriting() as draft:
        write_run(
            draft,
            finished,
            config_yaml=dump_config(config),
            form=form,
            sample=sample,
            description=_reading(planner),
            title=config.name,
        )
        write_provenance(draft.path(PROVENANCE), Index.of(finished, **_origin(planner, folder)))
    header, rows = leaderboard(finished)
    return RunResult(
        folder=folder,
        leaderboard=pd.DataFrame(rows, columns=header),
        submitted=finished.chosen.node.full_name,
        score=finished.chosen.score,
        holdout=None if finished.chosen.holdout is None else finished.chosen.holdout.score,
        submission=None if finished.test is None else folder / SUBMISSION,
        n_computed=n_computed,
        n_cached=n_jobs - n_computed,
        failed=finished.failed,
        left_out=finished.left_out,
        warnings=[*finished.warnings, *draft.set_aside],
    )


def _origin(planner: Planner, folder: Path) -> dict[str, str]:
    """Where the store and the config's folder are, seen from the run folder."""
    home = planner.loaded.folder
    places = {"store": (home / planner.config.store).absolute(), "folder": home}
    return {name: Path(os.path.relpath(path, folder)).as_posix() for name, path in places.items()}


def _reading(planner: Planner) -> dict[str, Any]:
    """How the predictor reads later files."""
    entry = planner.store.read(planner.recipes.samples.key)
    with reading(entry):
        schema = entry.json("schema")
        Schema.from_json(schema)
    # User code is looked for beside the config; a relative path is the same on every machine.
    code = os.path.relpath(planner.loaded.folder, planner.loaded.folder / planner.config.run_dir)
    return {
        "schema": schema,
        "data": planner.config.data.to_json(),
        "metric": planner.config.metric,
        "code": Path(code).as_posix(),
    }
