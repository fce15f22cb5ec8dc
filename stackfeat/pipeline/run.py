"""The whole flow on one page: a config in, a run folder out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

from stackfeat.config import LoadedConfig, load_config
from stackfeat.engine.blocks import samples_of
from stackfeat.engine.crossfit import CrossFit, Progress, cross_fit, pending
from stackfeat.engine.jobs import Job
from stackfeat.engine.plan import Plan
from stackfeat.engine.plan_warnings import forewarn, warn_of_averaging
from stackfeat.engine.schedule import Deadlines, LevelReport, RunContext, Schedule, at_least_grace, run_level
from stackfeat.engine.worker import Worker
from stackfeat.errors import DamagedEntryError, RunFailed, TimeLimitReached, UsageError, machine_fault
from stackfeat.executors import Executor, make_executor, resolve_jobs
from stackfeat.output.completed_run import RunResult
from stackfeat.output.run_folder import RunFolder, logging_to
from stackfeat.pipeline.planner import Planner, find_tapped_layers, make_planner, open_store
from stackfeat.pipeline.results import check_rows, collect, metric_warnings, write_results
from stackfeat.registry.trust import remember_run
from stackfeat.registry.user_code import Code, serving_agreed

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

LOG = "run.log"
_N_REPAIRS = 20


def run(
    config: str | Path | LoadedConfig,
    *,
    overrides: Sequence[str] = (),
    trust_code: bool | None = None,
    data_roots: Sequence[Path] = (),
    progress: Progress | None = None,
    started: float | None = None,
) -> RunResult:
    """Compute what a config asks for and is not stored yet, and write the run folder.

    Parameters
    ----------
    config : path or LoadedConfig
        A YAML file.
    overrides : sequence of str
        Such as ``levels.base.mlp.train.lr=1e-4``.
    trust_code : bool, optional
        Whether classes outside the tables and trusted packages may be imported. None: where
        `stackfeat trust` remembers it for these very files; False: not even then.
    data_roots : sequence of Path
        Folders outside the config's that its paths may lead to.
    progress : Progress, optional
        Told of every finished unit.
    started : float, optional
        `time.monotonic()` from which ``limits.time`` counts, where loading and imports count too.

    Returns
    -------
    RunResult

    Raises
    ------
    ConfigError, DataError
        Before anything is computed or written.
    RunFailed
        If no member is left to make an ensemble of.
    InfrastructureError
        If the machine has not what the run needs: disk, memory, permissions. The same call goes on.
    KeyboardInterrupt
        Finished units are stored; the same call goes on from there.

    Examples
    --------
    >>> result = run("configs/quickstart.yaml")  # doctest: +SKIP
    >>> result.leaderboard.head()                # doctest: +SKIP
    """
    started = time.monotonic() if started is None else started
    if isinstance(config, LoadedConfig):
        loaded = config
    else:
        loaded = load_config(config, overrides=overrides, trust_code=trust_code, data_roots=data_roots)
    code = loaded.code_under(trust_code)
    with _resumable(loaded), serving_agreed(code):
        result = _carry_out(loaded, code, progress, started)
    if code.is_remembered and loaded.path is not None:
        _remember(result, loaded.path, code)
    return result


def _remember(result: RunResult, config: Path, code: Code) -> None:
    try:
        remember_run(result.folder, config, code)
    except UsageError as error:
        # The results are there; only `predict` will ask for trust again.
        logger.warning("%s", error)


def _carry_out(loaded: LoadedConfig, code: Code, progress: Progress | None, started: float) -> RunResult:
    trust_code = code.is_trusted
    store = open_store(loaded)
    outputs = RunFolder(loaded.folder / loaded.config.run_dir, store.run)
    outputs.refuse_foreign()
    with store.running():
        planner = make_planner(loaded, store)
        _repairing(lambda: check_rows(planner, trust_code))
        with (
            outputs.claimed(LOG),
            logging_to(outputs.folder / LOG),
            _executor(loaded, code) as executor,
            _end_logged(),
        ):
            planner = _repairing(lambda: _with_layers(planner, trust_code))
            context = _run_context(planner, executor, progress, trust_code, started)
            for text in _repairing(lambda: _forewarnings(planner, trust_code)):
                logger.warning(text)
            computed: dict[str, float] = {}
            return _repairing(lambda: _compute(planner, context, outputs, computed, trust_code))


def _with_layers(planner: Planner, trust_code: bool) -> Planner:
    planner.read_rows(trust_code)
    return find_tapped_layers(planner, trust_code)


@contextmanager
def _resumable(loaded: LoadedConfig) -> Iterator[None]:
    """Say of what the machine could not give that the run can go on, whatever library met it."""
    places = (loaded.folder / loaded.config.store, loaded.folder / loaded.config.run_dir)
    try:
        yield
    except Exception as error:
        fault = machine_fault(error, places)
        if fault is None:
            raise
        raise fault.reworded(f"{fault}. Finished folds are stored: run the same command to go on") from error


@contextmanager
def _end_logged() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        logger.error("the run has ended: %s", error, exc_info=error)
        raise


def _executor(loaded: LoadedConfig, code: Code) -> Executor:
    options = loaded.config.executor
    # A file beside the config could hide an installed package; only trusted code may look there.
    return make_executor(
        options.kind,
        options.jobs,
        options.threads_per_job,
        options.retries,
        timeout=options.timeout_seconds,
        can_end=loaded.config.limits.seconds is not None,
        code=code,
    )


def _run_context(
    planner: Planner, executor: Executor, progress: Progress | None, trust_code: bool, started: float
) -> RunContext:
    options, store = planner.config.executor, planner.store
    worker = Worker(str(store.root), store.cache, store.started, trust_code, store.run)
    n_parallel = 1 if options.kind == "inline" else resolve_jobs(options.jobs, options.threads_per_job)
    deadlines = Deadlines.starting_at(started, planner.config.limits.seconds)
    has_timeout = options.timeout is not None
    return RunContext(store, executor, worker, n_parallel, progress, deadlines, has_timeout)


def _forewarnings(planner: Planner, trust_code: bool) -> list[str]:
    planner.read_rows(trust_code)
    plan = planner.plan()
    to_compute = {job.member for job in pending(list(plan.jobs()), planner.store)}
    n_rows = samples_of(planner.store, plan.sources.samples).n_rows
    found = forewarn(plan.graph, to_compute, n_rows, trust_code=trust_code)
    found += metric_warnings(planner, trust_code)
    return [*found, *warn_of_averaging(plan.graph, plan.sources.averaging)]


def _repairing(work: Callable[[], Result]) -> Result:
    """Return what the work gives; an entry found damaged on the way was put aside and is made again."""
    for _ in range(_N_REPAIRS):
        try:
            return work()
        except DamagedEntryError as error:
            logger.warning("%s; computing it again", error)
    return work()


def _compute(
    planner: Planner, context: RunContext, outputs: RunFolder, computed: dict[str, float], trust_code: bool
) -> RunResult:
    """Run all levels, score them and write the run folder; `computed` remembers what earlier tries did."""
    notes = planner.read_rows(trust_code)
    plan, report = run_levels(planner, context)
    computed |= report.computed
    report = replace(report, computed=computed)
    notes += [f"warning: {text}" for text in report.notes]
    finished = collect(planner, plan, report, notes, lambda jobs: _score(jobs, context), trust_code)
    return write_results(planner, finished, computed, outputs)


def run_levels(planner: Planner, context: RunContext) -> tuple[Plan, LevelReport]:
    """Run level after level; members that fail, or do not fit the time, leave with what needs them."""
    whole = LevelReport()
    plan = planner.plan()
    for level in planner.config.levels:
        if level not in plan.waves:
            continue
        report = run_level(plan, level, context)
        damaged = [error for error in report.failed.values() if isinstance(error, DamagedEntryError)]
        if damaged:
            raise damaged[0]
        whole = LevelReport(
            whole.computed | report.computed,
            whole.failed | report.failed,
            whole.left_out + report.left_out,
            whole.notes + report.notes,
        )
        if report.gone:
            plan = planner.plan(excluded=whole.gone)
        if not any(node.prediction for node in plan.graph.nodes):
            raise _nothing_left(whole)
    return plan, whole


def _nothing_left(report: LevelReport) -> RunFailed:
    reasons = "; ".join(f"{name}: {error}" for name, error in report.failed.items())
    if report.left_out:
        notes = "".join(f" {text[0].upper()}{text[1:]}." for text in report.notes)
        failed = f" Failed: {reasons}" if reasons else ""
        return TimeLimitReached(
            f"at least one member must be finished within limits.time; got none. Finished folds are stored: "
            f"run the same command to go on, or give more time.{notes}{failed}"
        )
    return RunFailed(f"at least one member must be left to make an ensemble of; all failed: {reasons}")


def _score(jobs: Sequence[Job], context: RunContext) -> CrossFit:
    deadline = at_least_grace(context.deadlines.final)

    def scheduled(todo: Sequence[Job]) -> Schedule:
        # Each for itself: a diagnosis that fails takes no score with it.
        alone = [replace(job, member=job.key) for job in jobs if job in todo]
        return Schedule(alone, context.n_parallel, cast(float, deadline))

    order = None if deadline is None else scheduled
    return cross_fit(jobs, context.store, context.executor, context.worker, order=order)
