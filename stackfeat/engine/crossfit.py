"""cross_fit: the one loop over folds. Every member of every level goes through it.

In:  jobs, each one (member, repeat, fold), and the store that results go to.
Out: which jobs are done; what failed, with its error. Finished jobs are in the store, so
     a run that is killed goes on where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from stackfeat.engine.jobs import Job
from stackfeat.errors import (
    ChangedCodeError,
    DamagedEntryError,
    JobEnded,
    JobTimeoutError,
    StoreError,
    in_one_line,
    machine_fault,
)
from stackfeat.executors import Executor, Order, Outcome
from stackfeat.executors.watching import Epoch
from stackfeat.store import EntryStore

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Told what happens, so that it can be shown."""

    def plan(self, jobs: Sequence[Job], pending: Sequence[Job]) -> None: ...

    def started(self, job: Job) -> None: ...

    def epoch(self, job: Job, epoch: Epoch) -> None: ...

    def done(self, job: Job, seconds: float, error: BaseException | None) -> None: ...


@dataclass(frozen=True)
class _Watch:
    """Tells `progress` of running jobs, which executors know by their keys."""

    progress: Progress
    jobs: Mapping[str, Job]

    def started(self, key: str) -> None:
        self.progress.started(self.jobs[key])

    def epoch(self, key: str, epoch: Epoch) -> None:
        self.progress.epoch(self.jobs[key], epoch)


@dataclass
class CrossFit:
    """What became of the jobs.

    Attributes
    ----------
    computed : dict of str to float
        Job key to seconds.
    failed : dict of str to BaseException
        Member to its first error.
    left : list
        Jobs that were not begun, or were ended, because time ran out.
    """

    computed: dict[str, float] = field(default_factory=dict)
    failed: dict[str, BaseException] = field(default_factory=dict)
    left: list[Job] = field(default_factory=list)

    @property
    def unfinished(self) -> set[str]:
        """Members that may have no result; of all others a missing one means that the store was emptied."""
        return {*self.failed, *(job.member for job in self.left)}


def pending(jobs: Iterable[Job], store: EntryStore) -> list[Job]:
    """Return the jobs with a step that is not in the store."""
    return [job for job in jobs if not all(store.has(step.key) for step in job.steps)]


def cross_fit(
    jobs: Sequence[Job],
    store: EntryStore,
    executor: Executor,
    worker: Callable[[str], Sequence[str] | None],
    *,
    progress: Progress | None = None,
    order: Callable[[Sequence[Job]], Order] | None = None,
) -> CrossFit:
    """Run the jobs whose results are not stored yet.

    Parameters
    ----------
    worker : callable
        Takes a job's key, returns lines for the log; must be picklable for process executors.
    order : callable, optional
        Makes an order of the jobs to be run, which may leave jobs out or end them; without it, all run.

    Raises
    ------
    InfrastructureError
        At the first job that the machine fails: the others would fail the same way.
    """
    todo = pending(jobs, store)
    by_key = {job.key: job for job in todo}
    result = CrossFit()
    if progress is not None:
        progress.plan(jobs, todo)
    watch = None if progress is None else _Watch(progress, {job.key: job for job in todo})
    try:
        for job in todo:
            steps = [step.to_json() for step in job.steps]
            store.write_job(job.key, {"steps": steps})
        for outcome in executor.submit(worker, list(by_key) if order is None else order(todo), watch):
            job = by_key.pop(outcome.key)
            _note(job, outcome, result)
            if progress is not None:
                error = None if outcome.error is None else in_one_line(outcome.error)
                progress.done(job, outcome.seconds, error)
    finally:
        for job in todo:
            # What ended the loop is the news, and not that a broken store cannot be tidied up either.
            with suppress(StoreError):
                store.remove_job(job.key)
    not_begun = [job for job in by_key.values() if job.member not in result.failed]
    result.left += not_begun
    for job in not_begun:
        if progress is not None:
            progress.done(job, 0.0, JobEnded("not begun: limits.time leaves no more"))
    return result


def _note(job: Job, outcome: Outcome, result: CrossFit) -> None:
    if isinstance(outcome.error, ChangedCodeError):
        raise outcome.error
    for line in outcome.value or ():
        logger.info("%s: %s", job.label, line)
    if outcome.error is None:
        result.computed[job.key] = outcome.seconds
        logger.info("%s: %.1f s", job.label, outcome.seconds)
        return
    if isinstance(outcome.error, JobEnded):
        result.left.append(job)
        logger.warning("%s: %s", job.label, outcome.error)
        return
    notes = "\n".join(getattr(outcome.error, "__notes__", ()))
    logger.error("%s failed: %s\n%s", job.label, outcome.error, notes)
    fault = machine_fault(outcome.error)
    if fault is not None and not isinstance(fault, DamagedEntryError):
        raise fault.reworded(f"{job.label}: {fault}") from outcome.error
    error = fault or in_one_line(outcome.error)
    if isinstance(error, JobTimeoutError):
        # Whoever reports it names the member.
        error = JobTimeoutError(f"{job.label.removeprefix(job.member).lstrip()}: {error}")
    result.failed.setdefault(job.member, error)
