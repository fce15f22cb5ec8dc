"""The engine of local worker processes (loky), with retries after a worker's death.

In:  a function and keys.
Out: outcomes as they come. A job that crashes its worker (out of memory, a fault in native code)
costs that job alone, an interrupt of the parent ends all workers, and no worker outlives it.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple, Self

from stackfeat.errors import MemberError, UsageError
from stackfeat.executors.job import THREAD_VARIABLES, Outcome, portable, run_job, to_bytes
from stackfeat.executors.turns import Turns

logger = logging.getLogger(__name__)

SAFE_PATH = "PYTHONSAFEPATH"
_WATCH_SECONDS = 1.0
_PASSED_ON_SECONDS = 2.0


class Running(NamedTuple):
    """A key in flight, and since when."""

    key: str
    started: float


class LokyExecutor:
    """Runs jobs in `n_jobs` worker processes, which stay between calls of `submit`."""

    def __init__(
        self, n_jobs: int, threads_per_job: int = 1, retries: int = 2, *, paths: Sequence[str] = ()
    ) -> None:
        self.n_jobs = n_jobs
        self.threads_per_job = threads_per_job
        self.retries = retries
        self.paths = tuple(paths)
        self._stopped = False
        self._closed = False
        self._pool: Any = None
        self._running: dict[Future[tuple[bytes, str]], Running] = {}

    def submit(self, function: Callable[[str], Any], keys: Sequence[str]) -> Iterator[Outcome]:
        """Run the function on every key; never more than `n_jobs` keys are in flight.

        Raises
        ------
        UsageError
            If an earlier call has not been read to its end.
        """
        if self._running:
            raise UsageError(
                "an executor must run one submit at a time; got a second one while "
                f"{len(self._running)} jobs of the first are running; read the first to its end"
            )
        self._stopped = self._closed
        payload = to_bytes(function)
        turns = Turns(keys, self.n_jobs, self.retries)
        try:
            self._begin(payload, turns)
            while self._running:
                outcomes = self._collect(turns)
                # Before yielding: workers need not wait for what the caller does with an outcome.
                self._begin(payload, turns)
                yield from outcomes
        finally:
            if self._running:
                self._end_pool(kill=True)

    def stop(self) -> None:
        """Begin no more keys of this `submit`, let running ones finish."""
        self._stopped = True

    def close(self) -> None:
        """Kill all workers; nothing is run after this."""
        self._stopped = self._closed = True
        self._end_pool(kill=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = self._closed = True
        self._end_pool(kill=kind is not None)

    def _begin(self, payload: bytes, turns: Turns) -> None:
        """Give keys to workers as long as there is room."""
        while not self._stopped and (key := turns.next_key(len(self._running))) is not None:
            self._pool = self._pool or _start_pool(self.n_jobs, self.threads_per_job, self.paths)
            try:
                future = self._pool.submit(_work, payload, key, self.threads_per_job)
            except BrokenExecutor:
                # A worker died while the pool was idle, or a moment ago: this key has not begun.
                turns.put_back(key)
                if self._running:
                    return
                self._end_pool(kill=True)
            else:
                self._running[future] = Running(key, time.perf_counter())

    def _collect(self, turns: Turns) -> list[Outcome]:
        """Wait for some jobs to end, well or badly."""
        ended, _ = wait(self._running, return_when=FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenExecutor) for future in ended):
            # All other jobs of this pool end with it.
            ended, _ = wait(self._running)
        jobs = [(future, self._running.pop(future)) for future in ended]
        dead = [job for future, job in jobs if isinstance(future.exception(), BrokenExecutor)]
        outcomes = [_unpack(*future.result(), job.key) for future, job in jobs if job not in dead]
        for outcome in outcomes:
            turns.ended(outcome.key)
        if dead:
            self._end_pool(kill=True)
            outcomes += self._judge(turns, dead)
        return outcomes

    def _judge(self, turns: Turns, dead: Sequence[Running]) -> list[Outcome]:
        """Decide what becomes of the jobs that ran when a worker died."""
        given_up = turns.died([job.key for job in dead])
        if given_up is None:
            logger.warning(
                "a worker died while running %s; trying again, one at a time", ", ".join(j.key for j in dead)
            )
            return []
        error = MemberError(
            f"a job must leave its worker process alive; got worker died {turns.deaths[given_up]} times on "
            f"{given_up}; out of memory? Use fewer executor.jobs or a smaller model; or did a library crash?"
        )
        return [Outcome(given_up, error, time.perf_counter() - dead[0].started, None)]

    def _end_pool(self, *, kill: bool) -> None:
        pool, self._pool = self._pool, None
        running, self._running = self._running, {}
        if pool is None:
            return
        # loky fails when it is told to kill workers before it has passed on every job.
        limit = time.monotonic() + _PASSED_ON_SECONDS
        while kill and time.monotonic() < limit and not all(job.running() or job.done() for job in running):
            time.sleep(0.001)
        pool.shutdown(wait=True, kill_workers=kill)


def _start_pool(n_jobs: int, n_threads: int, paths: Sequence[str]) -> Any:
    from joblib.externals.loky.process_executor import ProcessPoolExecutor

    # loky renews a worker whose memory has grown, which costs us nothing and needs no warning.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
    with _safe_path():
        return ProcessPoolExecutor(
            max_workers=n_jobs,
            initializer=_begin_worker,
            initargs=(os.getpid(), tuple(paths)),
            # Set before the worker imports anything: OpenMP and torch read them once.
            env={**dict.fromkeys(THREAD_VARIABLES, str(n_threads)), SAFE_PATH: "1"},
        )


@contextmanager
def _safe_path() -> Iterator[None]:
    """Start loky's helper process without the working folder on its path, as workers are by their `env`.

    Both are started with ``python -c`` and ``python -m``, which would import a file called joblib.py
    of the working folder, and so run code of a folder that somebody sent.
    """
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(SAFE_PATH, None)
        else:
            os.environ[SAFE_PATH] = before


def _begin_worker(parent: int, paths: Sequence[str]) -> None:
    # An interrupt of the terminal reaches all processes; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:0] = paths
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    """End this process when its parent is gone: a killed run must not go on in the background."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


def _work(payload: bytes, key: str, n_threads: int) -> tuple[bytes, str]:
    """Run one job in a worker; return its pickled outcome, and its error in words.

    The function and the outcome travel as bytes: what cannot be unpickled is then an error of
    this job, and not the end of the pool.
    """
    try:
        function = pickle.loads(payload)
    except Exception as error:
        outcome = Outcome(key, portable(error), 0.0, None)
    else:
        outcome = run_job(function, key, n_threads)
    try:
        packed = to_bytes(outcome)
    except Exception as error:
        outcome = replace(outcome, value=None, error=portable(error))
        packed = to_bytes(outcome)
    return packed, "" if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}"


def _unpack(packed: bytes, words: str, key: str) -> Outcome:
    try:
        outcome: Outcome = pickle.loads(packed)
    except Exception as error:
        return Outcome(key, MemberError(words or f"the job's value cannot be read here: {error}"), 0.0, None)
    return outcome
