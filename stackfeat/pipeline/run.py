"""The whole flow on one page: a config in, a run folder out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from stackfeat.config import LoadedConfig
from stackfeat.config.planner import Planner, open_context, open_executor
from stackfeat.engine.crossfit import pending
from stackfeat.engine.plan import Plan
from stackfeat.engine.plan_warnings import PlanWarnings, warn_of_unsaveable
from stackfeat.engine.schedule import Deadlines, LevelReport, RunContext, run_levels
from stackfeat.errors import DamagedEntryError, RunFailed, TimeLimitReached, UsageError, machine_fault
from stackfeat.output.events import EVENTS, EventsFile
from stackfeat.output.live_table import Shown, shown
from stackfeat.output.run_folder import RunFolder, logging_to
from stackfeat.output.run_result import RunResult
from stackfeat.pipeline.file_checks import load_checked, look_at_files
from stackfeat.pipeline.prepare import DataFiles, find_tapped_layers, make_planner, open_store, read_data
from stackfeat.pipeline.results import collect, write_results
from stackfeat.pipeline.telling import RunTeller
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
    progress: bool | Shown = False,
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
    progress : bool or callable
        Whether what runs is shown: as a table on a terminal and in notebooks that have widgets, else as lines.
        A callable is given every `output.events.Event`, which are also the lines of ``events.jsonl``.
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
        Finished jobs are stored; the same call goes on from there.

    Examples
    --------
    >>> result = run("configs/quickstart.yaml")  # doctest: +SKIP
    >>> result.leaderboard.head()                # doctest: +SKIP
    """
    started = time.monotonic() if started is None else started
    if isinstance(config, LoadedConfig):
        loaded = config
    else:
        loaded = load_checked(config, overrides=overrides, trust_code=trust_code, data_roots=data_roots)
    code = loaded.code_under(trust_code)
    with _resumable(loaded), serving_agreed(code), shown(progress) as show:
        result = _carry_out(loaded, code, show, started)
    if code.is_remembered and loaded.path is not None:
        try:
            remember_run(result.folder, loaded.path, code)
        except UsageError as error:
            # The results are there; only `predict` will ask for trust again.
            logger.warning("%s", error)
    return result


def _carry_out(loaded: LoadedConfig, code: Code, show: Shown, started: float) -> RunResult:
    store = open_store(loaded)
    outputs = RunFolder(loaded.folder / loaded.config.run_dir, store.run, loaded.origin)
    outputs.refuse_foreign()
    limit = loaded.config.limits.seconds
    with store.running():
        planner = make_planner(loaded, store, code.is_trusted)
        look_at_files(planner)
        data = _repairing(lambda: read_data(planner))
        with (
            outputs.claimed(LOG, EVENTS),
            logging_to(outputs.folder / LOG),
            EventsFile(outputs.folder / EVENTS) as events,
            open_executor(loaded.config.executor, code, can_end=limit is not None) as executor,
            _end_logged(),
            RunTeller(store.run, planner, (events, show), started).telling(executor) as teller,
            teller.last_words(events),
        ):
            context = open_context(store, executor, code, teller)
            context.deadlines = Deadlines.starting_at(started, limit)
            planner, plan, of_plan = _repairing(lambda: _planned(planner, data), planner.read_rows)
            compute = partial(_compute, planner, plan, data, of_plan, context, outputs, teller)
            result = _repairing(compute, planner.read_rows)
            teller.finished(result)
            return result


def _planned(planner: Planner, data: DataFiles) -> tuple[Planner, Plan, PlanWarnings]:
    """Return the plan, and the planner that knows which layers are tapped; log what can be said before."""
    planner = find_tapped_layers(planner)
    plan = planner.plan()
    to_compute = {job.member for job in pending(plan.jobs(), planner.store)}
    of_plan = PlanWarnings.of(plan)
    unsaveable = warn_of_unsaveable(plan.graph, to_compute, trust_code=planner.trust_code)
    of_data = [note.removeprefix("warning: ") for note in data.notes if note.startswith("warning: ")]
    for note in data.notes:
        if not note.startswith("warning: "):
            logger.info("%s", note)
    for text in [*of_data, *of_plan.inputs, *unsaveable, *data.metric_warnings, *of_plan.averaging]:
        logger.warning(text)
    return planner, plan, of_plan


def _compute(
    planner: Planner,
    plan: Plan,
    data: DataFiles,
    of_plan: PlanWarnings,
    context: RunContext,
    outputs: RunFolder,
    teller: RunTeller,
) -> RunResult:
    """Run all levels, score them and write the run folder."""

    def told(plan: Plan) -> list[Plan]:
        teller.planned(plan, pending(plan.jobs(), planner.store))
        return [plan]

    (done,), report = run_levels(told(plan), context, lambda gone: told(planner.plan(excluded=gone)))
    teller.levels_done()
    if not any(node.prediction for node in done.graph.nodes):
        raise _nothing_left(report)
    # Without members that failed or had no time there may be less to warn of.
    of_plan = of_plan if done is plan else PlanWarnings.of(done)
    finished = collect(planner, done, report, data, of_plan, context)
    return write_results(planner, finished, data.sample, context.computed, outputs)


def _repairing(work: Callable[[], Result], prepare: Callable[[], object] = lambda: None) -> Result:
    """Return what the work gives; an entry found damaged on the way was put aside and is made again.

    Rows and folds are made by `prepare`, all else by the work itself.
    """
    n_repaired = 0
    while True:
        try:
            if n_repaired:
                prepare()
            return work()
        except DamagedEntryError as error:
            if n_repaired == _N_REPAIRS:
                raise
            n_repaired += 1
            logger.warning("%s; computing it again", error)


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
