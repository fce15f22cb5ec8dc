"""Results: scores and diagnostics of a computed plan collected, the run folder written.

In:  a planner, a plan whose members are done, how to run the scoring jobs.
Out: a Finished value; then files and a RunResult.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.config import dump_config
from stackfeat.data.files.tables import read_frame
from stackfeat.data.load import find_file
from stackfeat.data.samples import load_samples
from stackfeat.data.schema.columns import Schema
from stackfeat.data.splits.folds import load_folds
from stackfeat.data.splits.holdout import load_holdout
from stackfeat.encodings.diagnostics import block_warnings
from stackfeat.engine.blocks import samples_of
from stackfeat.engine.crossfit import CrossFit
from stackfeat.engine.jobs import Job
from stackfeat.engine.plan import Plan
from stackfeat.engine.plan_warnings import warn_of_averaging, warn_of_inputs
from stackfeat.engine.recipes import key_of
from stackfeat.engine.schedule import LevelReport
from stackfeat.errors import DamagedEntryError, RunFailed, TimeLimitReached
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.metrics.metric import METRICS, Metric, get_metric
from stackfeat.output.completed_run import Finished, HeldRows, RunResult
from stackfeat.output.external_warnings import external_warnings
from stackfeat.output.provenance import write_provenance
from stackfeat.output.run_file import PROVENANCE, SUBMISSION
from stackfeat.output.run_folder import RunFolder
from stackfeat.output.scores import (
    choose_submission,
    diagnose_jobs,
    find_overfit,
    fold_scale_warning,
    holdout_jobs,
    overfit_warnings,
    read_holdout,
    read_scores,
    score_jobs,
)
from stackfeat.output.submission import Form, make_submission, order_like_sample
from stackfeat.output.write import leaderboard, write_run
from stackfeat.pipeline.planner import Planner, averaging_of
from stackfeat.store import EntryStore, reading
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def collect(
    planner: Planner,
    plan: Plan,
    report: LevelReport,
    notes: Sequence[str],
    run_jobs: Callable[[list[Job]], CrossFit],
    trust_code: bool,
) -> Finished:
    """Score every member, diagnose every feature block, choose the submission."""
    config, store = planner.config, planner.store
    metric = get_metric(config.metric, config.task, trust_code=trust_code, search_path=planner.loaded.folder)
    scoring = score_jobs(plan, config.metric, config.decision, config.stack.average)
    diagnosing = diagnose_jobs(plan)
    outcome = run_jobs([*scoring.values(), *diagnosing.values()])
    _raise_damaged(outcome)
    scores = read_scores(store, plan.graph, scoring, _unfinished(outcome))
    if not scores and not outcome.failed:
        raise TimeLimitReached(
            "at least one member must be scored within limits.time; got none. Finished work is stored: run the "
            "same command to go on, or give more time"
        )
    if not scores:
        # Usually one reason: a metric that cannot be worked out is no member's fault.
        reasons = dict.fromkeys(map(str, outcome.failed.values()))
        raise RunFailed(f"no member could be scored: {'; '.join(reasons)}")
    averaging = averaging_of(planner.loaded, planner.recipes)
    holding = holdout_jobs(plan, config.metric, averaging, scoring, scores)
    held_outcome = run_jobs([*holding.values()])
    _raise_damaged(held_outcome)
    scores = read_holdout(store, scores, holding, _unfinished(held_outcome))
    diagnoses = {
        name: store.read(job.key).structure("diagnosis", dict[str, Any])
        for name, job in diagnosing.items()
        if job.member not in _unfinished(outcome) or store.has(job.key)
    }
    train = load_samples(store.read(plan.sources.samples))
    of_inputs = warn_of_inputs(plan.graph, train.n_rows)
    warnings = _warn_of_blocks(diagnoses, of_inputs)
    warnings += [*fold_scale_warning(scores, metric, train.task), *_fit_warnings(plan, store)]
    warnings += [*of_inputs, *_order_warnings(metric, train.task)]
    warnings += metric_warnings(planner, trust_code)
    warnings += warn_of_averaging(plan.graph, plan.sources.averaging)
    folds = load_folds(store.read(plan.sources.folds))
    warnings += external_warnings(plan, store, scores, train, folds, metric)
    wanted = config.submit
    if wanted != "auto" and wanted not in [name for s in scores for name in (s.node.name, s.node.full_name)]:
        warnings.append(
            f"submit: {wanted} is not among the finished members; the best score was submitted instead"
        )
        wanted = "auto"
    overfit = find_overfit(scores, metric)
    warnings += overfit_warnings(overfit, metric, wanted)
    failed = report.failed | outcome.failed | held_outcome.failed
    test_key = plan.sources.test
    return Finished(
        plan=plan,
        store=store,
        folds=folds,
        train=train,
        test=None if test_key is None else load_samples(store.read(test_key)),
        metric=metric,
        averaging=averaging,
        scores=scores,
        chosen=choose_submission(scores, metric, wanted, {item.member.node.full_name for item in overfit}),
        seconds=_seconds(plan, planner.store),
        computed={job.member for job in plan.jobs() if job.key in report.computed},
        diagnoses=diagnoses,
        failed={name: str(error) for name, error in failed.items()},
        left_out=list(dict.fromkeys([*report.left_out, *_not_scored(outcome, scoring)])),
        held=_held_rows(plan, store),
        notes=list(notes),
        warnings=[*_data_warnings(notes), *warnings],
    )


def _not_scored(outcome: CrossFit, scoring: Mapping[str, Job]) -> list[str]:
    """Return the members whose scores time did not allow."""
    left = {job.key for job in outcome.left}
    return [name for name, job in scoring.items() if job.key in left]


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


def _unfinished(outcome: CrossFit) -> set[str]:
    """Members that may have no result; of all others a missing one means that the store was emptied."""
    return {*outcome.failed, *(job.member for job in outcome.left)}


def _raise_damaged(outcome: CrossFit) -> None:
    for error in outcome.failed.values():
        if isinstance(error, DamagedEntryError):
            raise error


def _data_warnings(notes: Sequence[str]) -> list[str]:
    return [note.removeprefix("warning: ") for note in notes if note.startswith("warning: ")]


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
    if metric.name != "quadratic_weighted_kappa" or not any(isinstance(label, str) for label in task.classes):
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


def check_rows(planner: Planner, trust_code: bool) -> None:
    """Read the data files, try a metric of one's own on them, and see that the sample submission fits.

    Raises
    ------
    DataError
        If a file cannot be used.
    UsageError
        If the metric gives no number for guesses.
    """
    planner.read_rows(trust_code)
    metric_warnings(planner, trust_code)
    sample, test = _read_sample(planner), planner.recipes.test
    if sample is None or test is None:
        return
    rows = load_samples(planner.store.read(key_of(test)))
    even = np.full((rows.n_rows, rows.task.n_outputs), 1 / rows.task.n_outputs)
    form = _form(planner, sample, as_labels=False)
    order_like_sample(make_submission(rows.ids, even, None, rows.task, form), sample)


def metric_warnings(planner: Planner, trust_code: bool) -> list[str]:
    """Return what to warn of a metric of one's own; UsageError if it cannot be used."""
    config = planner.config
    if config.metric in METRICS:
        return []
    metric = get_metric(config.metric, config.task, trust_code=trust_code, search_path=planner.loaded.folder)
    train = samples_of(planner.store, key_of(planner.recipes.samples))
    return metric.tried_on(train.task.to_target_scale(train.labels), train.task, train.weight)


def _read_sample(planner: Planner) -> pd.DataFrame | None:
    data = planner.config.data
    if data.sample_submission is None:
        return None
    return read_frame(find_file(data.sample_submission, planner.loaded.folder), data, "test")


def _form(planner: Planner, sample: pd.DataFrame | None, *, as_labels: bool) -> Form:
    data = planner.config.data
    return Form(
        id_name=data.id or "id",
        target_name=data.target,
        as_labels=as_labels,
        sample_header=None if sample is None else tuple(str(name) for name in sample.columns),
    )


def write_results(
    planner: Planner, finished: Finished, computed: Container[str], outputs: RunFolder
) -> RunResult:
    """Write the run folder and return where everything is; `computed` holds keys of jobs."""
    import pandas as pd

    config = planner.config
    sample = _read_sample(planner)
    form = _form(planner, sample, as_labels=finished.metric.needs == "label")
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
        write_provenance(draft.path(PROVENANCE), finished, _origin(planner, folder))
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
    places = {"store": planner.store.root, "folder": planner.loaded.folder}
    return {name: Path(os.path.relpath(path, folder)).as_posix() for name, path in places.items()}


def _reading(planner: Planner) -> dict[str, Any]:
    """How the predictor reads later files."""
    entry = planner.store.read(key_of(planner.recipes.samples))
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
