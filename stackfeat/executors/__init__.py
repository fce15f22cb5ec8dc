"""Where jobs run: keys go in, outcomes come out in the order they are done.

Here belong engines (this process, local worker processes) and what they share: pinned threads, errors
that survive the way back, retries after a worker's death. What a job computes does not belong here,
and neither do results: they travel through the store.
"""

from __future__ import annotations

import os
from typing import Literal

from stackfeat.errors import ConfigError
from stackfeat.executors.job import Executor, InlineExecutor, Order, Outcome, pinned_threads
from stackfeat.executors.processes import ProcessExecutor
from stackfeat.registry.user_code import NO_CODE, Code

__all__ = [
    "EXECUTORS",
    "NOT_BUILT",
    "Executor",
    "InlineExecutor",
    "Order",
    "Outcome",
    "ProcessExecutor",
    "make_executor",
    "pinned_threads",
    "resolve_jobs",
]

EXECUTORS: dict[str, type[Executor]] = {"inline": InlineExecutor, "loky": ProcessExecutor}
"""Kinds of a config."""

NOT_BUILT = ("dask", "ray", "slurm")


def make_executor(
    kind: str = "inline",
    jobs: int | Literal["auto"] = "auto",
    threads_per_job: int = 1,
    retries: int = 2,
    *,
    timeout: float | None = None,
    can_end: bool = False,
    code: Code = NO_CODE,
) -> Executor:
    """Return an executor; a context manager that stops its workers at the end.

    Parameters
    ----------
    kind : {"inline", "loky"}
        This process, or local worker processes.
    jobs : int or "auto"
        Jobs at a time (`inline` always runs one); ``auto``: as many as CPUs have room for.
    threads_per_job : int
        Threads of BLAS, OpenMP and torch in a job. Results may depend on it, on `jobs` they do not.
    retries : int
        Times a key is tried again after the death of its worker.
    timeout : float, optional
        Seconds that one job may run; then it is ended, and its outcome is an error.
    can_end : bool
        Whether an order must be able to end running jobs. No process can end what runs in itself, so
        `inline` then has one worker process, as with a `timeout`.
    code : Code
        What of the user's own may be imported while jobs run.

    Raises
    ------
    ConfigError
        If the kind is unknown or not built yet, or a number is out of range.

    Examples
    --------
    >>> with make_executor("inline") as executor:
    ...     [outcome.value for outcome in executor.submit(len, ["a", "bc"])]
    [1, 2]
    """
    if kind not in EXECUTORS:
        built, later = " or ".join(EXECUTORS), ", which is not built yet; use loky"
        remedy = later if kind in NOT_BUILT else "; use one of them"
        raise ConfigError(f"executor.kind must be {built}; got kind={kind!r}{remedy}")
    if threads_per_job < 1 or retries < 0:
        raise ConfigError(
            "executor.threads_per_job must be at least 1 and executor.retries at least 0; "
            f"got threads_per_job={threads_per_job}, retries={retries}; use 1 and 2"
        )
    n_jobs, executor = resolve_jobs(jobs, threads_per_job), EXECUTORS[kind]
    if not executor.is_parallel:
        n_jobs = 1
    if (can_end or timeout is not None) and not executor.ends_jobs:
        executor = ProcessExecutor
    return executor(n_jobs, threads_per_job, retries, timeout, code)


def resolve_jobs(jobs: int | Literal["auto"], threads_per_job: int = 1) -> int:
    """Return the number of jobs at a time; ``auto`` is this process's CPUs over threads per job."""
    if jobs != "auto":
        if jobs < 1:
            raise ConfigError(f"executor.jobs must be auto or at least 1; got jobs={jobs}; use auto")
        return jobs
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cpus // threads_per_job)
