"""The engine of local worker processes, with retries after a worker's death.

In:  a function and keys.
Out: outcomes as they come. A job that crashes its worker (out of memory, a fault in native code) or runs
longer than it may costs that job alone; it is tried again when nothing else runs. An interrupt of the parent ends
all workers, and none outlives it.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, cast

from stackfeat.errors import (
    JobEnded,
    JobTimeoutError,
    MemberError,
    StackfeatError,
    UsageError,
    WorkerLostError,
)
from stackfeat.executors.job import THREAD_VARIABLES, Executor, Order, Outcome, as_order, to_bytes
from stackfeat.executors.signals import WORKERS, end_worker
from stackfeat.executors.watching import Epoch, Watch
from stackfeat.registry.user_code import Code


class RetryingOrder:
    """An order, and the keys whose worker died: these are tried again, each when nothing else runs."""

    def __init__(self, order: Order, retries: int) -> None:
        self.order = order
        self.retries = retries
        self.deaths: Counter[str] = Counter()
        self._held: str | None = None
        self._alone: str | None = None

    def next_key(self, n_running: int) -> str | None:
        """Return the key to begin now, or None: none is left, or it must wait."""
        if self._alone is not None:
            return None
        key, self._held = self._held or self.order.take(), None
        if key is not None and self.deaths[key]:
            if n_running:
                self._held = key
                return None
            self._alone = key
        return key

    def ended(self, key: str, seconds: float, *, well: bool) -> None:
        """Note that a key has an outcome."""
        self._alone = None if key == self._alone else self._alone
        self.order.ended(key, seconds, well=well)

    def died(self, key: str) -> bool:
        """Note a death; return whether the key is to be tried again."""
        self.deaths[key] += 1
        self._alone = None if key == self._alone else self._alone
        if self.deaths[key] > self.retries:
            return False
        self.order.put_back(key)
        return True


logger = logging.getLogger(__name__)

SAFE_PATH = "PYTHONSAFEPATH"
"""Keeps the working folder off the path of whatever workers start: it may be one that somebody sent."""

_LOOK_SECONDS = 0.2
_LAST_ANSWER_SECONDS = 2.0
_KILL_SECONDS = 5.0
_SCRIPT = Path(__file__).with_name("worker.py")


class WorkerProcess:
    """One process that runs one job at a time."""

    def __init__(self, inbox: queue.SimpleQueue[Any], n_threads: int, code: Code) -> None:
        self.key: str | None = None
        self.started = 0.0
        self.seen_dead = 0.0
        flags = cast(Any, subprocess)._args_from_interpreter_flags()
        # The last word is for people who read lists of processes.
        command = [sys.executable, "-P", *flags, str(_SCRIPT), "loky"]
        # Threads are set before the worker imports anything: OpenMP and torch read them once.
        environment = {**os.environ, SAFE_PATH: "1", **dict.fromkeys(THREAD_VARIABLES, str(n_threads))}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, **_own_group()
        )
        WORKERS.add(self.process.pid)
        threading.Thread(target=self._listen, args=(inbox,), daemon=True).start()
        # As bytes: the worker finds our modules only once it has the path.
        self._send((sys.path, pickle.dumps(code)))

    def begin(self, payload: bytes, key: str, n_threads: int) -> None:
        """Give the worker a job; one that has died is found dead later, like one that dies in the job."""
        self.key, self.started = key, time.perf_counter()
        self._send((payload, key, n_threads))

    def _send(self, value: object) -> None:
        with suppress(OSError):
            pickle.dump(value, cast(IO[bytes], self.process.stdin))
            cast(IO[bytes], self.process.stdin).flush()

    def _listen(self, inbox: queue.SimpleQueue[Any]) -> None:
        try:
            while True:
                inbox.put((self, pickle.load(cast(IO[bytes], self.process.stdout))))
        except Exception:
            # The pipe has ended, perhaps in the middle of an answer.
            inbox.put((self, None))
        finally:
            cast(IO[bytes], self.process.stdout).close()

    @property
    def seconds(self) -> float:
        """How long its job has run."""
        return time.perf_counter() - self.started

    def died_long_ago(self) -> bool:
        """Whether it died so long ago that its last answer has been read: a child may hold the pipe open."""
        if self.process.poll() is None:
            return False
        self.seen_dead = self.seen_dead or time.monotonic()
        return time.monotonic() - self.seen_dead > _LAST_ANSWER_SECONDS

    def kill(self) -> None:
        """End the process and what its jobs began."""
        end_worker(self.process.pid)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_KILL_SECONDS)
        WORKERS.discard(self.process.pid)
        with suppress(OSError):
            cast(IO[bytes], self.process.stdin).close()


def _own_group() -> dict[str, Any]:
    """Options that keep interrupts of the terminal away, and hold together what a job begins."""
    if os.name == "posix":
        return {"process_group": 0}
    return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}


@dataclass
class ProcessExecutor(Executor):
    """Runs jobs in `n_jobs` worker processes, which stay between calls of `submit`."""

    is_parallel: ClassVar[bool] = True
    ends_jobs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._workers: list[WorkerProcess] = []
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._busy = False
        self._watch: Watch | None = None

    def submit(
        self, function: Callable[[str], Any], keys: Sequence[str] | Order, watch: Watch | None = None
    ) -> Iterator[Outcome]:
        """Run the function on every key; never more than `n_jobs` keys are in flight.

        Raises
        ------
        UsageError
            If an earlier call has not been read to its end.
        """
        if self._busy:
            raise UsageError(
                "an executor must run one submit at a time; got a second one while "
                f"{len(self._running)} jobs of the first are running; read the first to its end"
            )
        self._busy, self._stopped, self._watch = True, self._closed, watch
        turns = RetryingOrder(as_order(keys), self.retries)
        try:
            payload = to_bytes(function)
            self._begin(payload, turns)
            while self._running:
                outcomes = self._collect(turns)
                # Before yielding: workers need not wait for what the caller does with an outcome.
                self._begin(payload, turns)
                yield from outcomes
        finally:
            self._busy = False
            for worker in self._running:
                self._end(worker)

    def close(self) -> None:
        """Kill all workers; nothing is run after this."""
        super().close()
        for worker in list(self._workers):
            self._end(worker)

    @property
    def _running(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers if worker.key is not None]

    def _begin(self, payload: bytes, turns: RetryingOrder) -> None:
        """Give keys to workers as long as there is room."""
        while not self._stopped and len(running := self._running) < self.n_jobs:
            key = turns.next_key(len(running))
            if key is None:
                return
            self._idle_worker().begin(payload, key, self.threads_per_job)
            if self._watch is not None:
                self._watch.started(key)

    def _idle_worker(self) -> WorkerProcess:
        for worker in [worker for worker in self._workers if worker.key is None]:
            if worker.process.poll() is None:
                return worker
            self._end(worker)
        worker = WorkerProcess(self._inbox, self.threads_per_job, self.code)
        self._workers.append(worker)
        return worker

    def _collect(self, turns: RetryingOrder) -> list[Outcome]:
        """Wait a moment for a job to end, well or badly; end those that have run for too long."""
        outcomes: list[Outcome] = []
        with suppress(queue.Empty):
            worker, answer = self._inbox.get(timeout=_LOOK_SECONDS)
            outcomes += self._take_answer(worker, answer, turns)
        for worker in self._running:
            if worker.died_long_ago():
                outcomes += self._take_death(worker, turns)
        return outcomes + self._end_overdue(turns)

    def _take_answer(self, worker: WorkerProcess, answer: Any, turns: RetryingOrder) -> list[Outcome]:
        if worker not in self._workers:
            # Ended on purpose; this is the end of its pipe, or an answer that came too late.
            return []
        if isinstance(answer, Epoch):
            if self._watch is not None:
                self._watch.epoch(cast(str, worker.key), answer)
            return []
        if answer is None:
            return self._take_death(worker, turns)
        key, worker.key = cast(str, worker.key), None
        packed, words = answer
        try:
            outcome: Outcome = pickle.loads(packed)
        except Exception as error:
            unread = MemberError(words or f"the job's value cannot be read here: {error}")
            outcome = Outcome(key, unread, 0.0, None)
        turns.ended(key, outcome.seconds, well=outcome.error is None)
        return [outcome]

    def _take_death(self, worker: WorkerProcess, turns: RetryingOrder) -> list[Outcome]:
        """Decide what becomes of a job whose worker died."""
        key, seconds = worker.key, worker.seconds
        self._end(worker)
        if key is None:
            # It died idle, which costs nothing.
            return []
        if turns.died(key):
            logger.warning("a worker died while running %s; trying again, alone", key)
            return []
        turns.ended(key, seconds, well=False)
        error = WorkerLostError(
            f"a job must leave its worker process alive; got worker died {turns.deaths[key]} times on "
            f"{key}; out of memory? Use fewer executor.jobs or a smaller model; or did a library crash?"
        )
        return [Outcome(key, error, seconds, None)]

    def _end_overdue(self, turns: RetryingOrder) -> list[Outcome]:
        outcomes, overdue = [], turns.order.overdue()
        for worker in self._running:
            key, seconds = cast(str, worker.key), worker.seconds
            error: StackfeatError | None = None
            if self.timeout is not None and seconds > self.timeout:
                error = JobTimeoutError(
                    f"a job must end within executor.timeout={self.timeout:g} s; got one that ran longer, and was "
                    "ended; give more time, or the member less to do"
                )
            elif key in overdue:
                error = JobEnded(f"ended after {seconds:.0f} s: limits.time leaves no more")
            if error is not None:
                self._end(worker)
                turns.ended(key, seconds, well=False)
                outcomes.append(Outcome(key, error, seconds, None))
        return outcomes

    def _end(self, worker: WorkerProcess) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
        worker.kill()
