"""What every engine shares: the order of jobs, running one, its outcome, its threads, its errors.

In:  a function and keys.
Out: an Outcome for each, always; errors are values, in a form that reads the same from any process. The engines
     that need nothing else are here too: `InlineExecutor` and `JoblibExecutor`.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, ClassVar, Protocol, Self

from stackfeat.errors import MemberError
from stackfeat.executors.shared import Shared, Undo
from stackfeat.executors.watching import Watch, heard_by
from stackfeat.registry.user_code import NO_CODE, Code, importing


class Order(Protocol):
    """Gives out keys, and is told what became of them."""

    def take(self) -> str | None:
        """Return the key to begin now; None if none may. With nothing running, None is the end."""

    def put_back(self, key: str) -> None:
        """Take back a key whose job did not end: the next to be given out again."""

    def ended(self, key: str, seconds: float, *, well: bool) -> None:
        """Note that a key has an outcome."""

    def overdue(self) -> Sequence[str]:
        """Return the running keys whose jobs must be ended now."""


class InOrder:
    """Gives out keys as they were listed."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._waiting = deque(keys)

    def take(self) -> str | None:
        return self._waiting.popleft() if self._waiting else None

    def put_back(self, key: str) -> None:
        self._waiting.appendleft(key)

    def ended(self, key: str, seconds: float, *, well: bool) -> None:
        pass

    def overdue(self) -> Sequence[str]:
        return ()


def as_order(keys: Sequence[str] | Order) -> Order:
    """Return the order of keys given as a list or as an order."""
    return InOrder(keys) if isinstance(keys, Sequence) else keys


THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Attributes
    ----------
    key : str
        What the job was given.
    error : BaseException or None
        What it raised; the traceback's text is in ``error.__notes__``.
    seconds : float
        How long it ran, of the last try; without what its process does once (see `run_job`).
    value : object
        What it returned; small, as results go through the store.
    """

    key: str
    error: BaseException | None
    seconds: float
    value: Any


@dataclass
class Executor(ABC):
    """An engine that runs a function on keys; a context manager.

    Parameters
    ----------
    n_jobs : int
        Jobs at a time.
    threads_per_job : int
        Threads of BLAS, OpenMP and torch in a job.
    retries : int
        Times a key is tried again after the death of its worker.
    timeout : float, optional
        Seconds that one job may run; then it is ended and its outcome is a MemberError.
    code : Code
        What of the user's own may be imported while jobs run.
    """

    n_jobs: int = 1
    threads_per_job: int = 1
    retries: int = 2
    timeout: float | None = None
    code: Code = NO_CODE

    is_parallel: ClassVar[bool] = False
    """Whether it runs several jobs at a time."""
    ends_jobs: ClassVar[bool] = False
    """Whether it can end a job that is running."""

    _stopped: bool = field(default=False, init=False, repr=False)
    _closed: bool = field(default=False, init=False, repr=False)

    @abstractmethod
    def submit(
        self, function: Callable[[str], Any], keys: Sequence[str] | Order, watch: Watch | None = None
    ) -> Iterator[Outcome]:
        """Run the function on every key; yield outcomes as they come, and tell `watch` what runs.

        A key has no outcome only if it was not begun before `stop`, or if its order never gave it out.
        Leaving the iterator early ends the jobs that are still running.
        """

    def stop(self) -> None:
        """Begin no more keys of this `submit`, let running ones finish."""
        self._stopped = True

    def close(self) -> None:
        """End all jobs and workers now; nothing is run after this."""
        self._stopped = self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class InlineExecutor(Executor):
    """Runs jobs in this process; a crash of a job is a crash of everything."""

    def submit(
        self, function: Callable[[str], Any], keys: Sequence[str] | Order, watch: Watch | None = None
    ) -> Iterator[Outcome]:
        """Run the function on every key, in order; KeyboardInterrupt goes to the caller."""
        self._stopped = self._closed
        order = as_order(keys)
        while not self._stopped and (key := order.take()) is not None:
            with importing(self.code), _watched(watch, key):
                outcome = run_job(function, key, self.threads_per_job)
            order.ended(key, outcome.seconds, well=outcome.error is None)
            yield outcome


@contextmanager
def _watched(watch: Watch | None, key: str) -> Iterator[None]:
    """Tell `watch` of a job that this process runs in the block."""
    if watch is None:
        yield
        return
    watch.started(key)
    with heard_by(partial(watch.epoch, key)):
        yield


class JoblibExecutor(Executor):
    """Runs jobs by the caller's joblib, whatever `joblib.parallel_config` says; results come back by value.

    An error ends everything and is raised as it is, which users of scikit-learn expect of a `fit`.

    Parameters
    ----------
    n_jobs : int or None
        Workers at most of the joblib backend in use; None: one, or the context's.
    keep : callable
        Called in this process with every key and its result.
    verbose : int
        As in joblib; nothing is printed below 1.
    """

    def __init__(self, n_jobs: int | None, keep: Callable[[str, Any], None], *, verbose: int = 0) -> None:
        super().__init__()
        self._workers = n_jobs
        self._keep = keep
        self._verbose = verbose

    def submit(
        self, function: Callable[[str], Any], keys: Sequence[str] | Order, watch: Watch | None = None
    ) -> Iterator[Outcome]:
        """Run the function on every key, in their order; scikit-learn's configuration goes along."""
        assert isinstance(keys, Sequence), "joblib takes jobs as they are listed"
        from joblib import effective_n_jobs
        from sklearn.utils.parallel import Parallel, delayed

        if effective_n_jobs(self._workers) == 1 and self._verbose < 1:
            done = (_timed_here(function, key, watch) for key in keys)
        else:
            # As they come where somebody watches; otherwise an error may end others at once.
            how = "list" if watch is None else "generator"
            run = Parallel(n_jobs=self._workers, verbose=max(self._verbose, 0), return_as=how)
            done = iter(run(delayed(_timed)(function, key) for key in keys))
        for key, (seconds, value) in zip(keys, done, strict=True):
            self._keep(key, value)
            yield Outcome(key, None, seconds, None)
            if self._stopped:
                return


def _timed_here(function: Callable[[str], Any], key: str, watch: Watch | None) -> tuple[float, Any]:
    with _watched(watch, key):
        return _timed(function, key)


def _timed(function: Callable[[str], Any], key: str) -> tuple[float, Any]:
    started = time.perf_counter()
    value = function(key)
    return time.perf_counter() - started, value


def run_job(function: Callable[[str], Any], key: str, n_threads: int) -> Outcome:
    """Run a job with its threads pinned; whatever it raises is its outcome, but for KeyboardInterrupt."""
    started = time.perf_counter()
    try:
        with pinned_threads(n_threads):
            if prepare := getattr(function, "prepare", None):
                prepare(key)
                started = time.perf_counter()
            value = function(key)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Outcome(key, portable(error), time.perf_counter() - started, None)
    return Outcome(key, None, time.perf_counter() - started, value)


def work(payload: bytes, key: str, n_threads: int) -> tuple[bytes, str]:
    """Run one job in a worker process; return its pickled outcome, and its error in words.

    The function and the outcome travel as bytes: what cannot be unpickled is then an error of
    this job, and not the end of the worker.
    """
    try:
        function = pickle.loads(payload)
    except Exception as error:
        outcome = Outcome(key, portable(error), 0.0, None)
    else:
        try:
            outcome = run_job(function, key, n_threads)
        except KeyboardInterrupt as error:
            # Of the job's own making: no key of a terminal reaches a worker.
            outcome = Outcome(key, portable(error), 0.0, None)
    try:
        packed = to_bytes(outcome)
    except Exception as error:
        outcome = replace(outcome, value=None, error=portable(error))
        packed = to_bytes(outcome)
    return packed, "" if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}"


@lru_cache(maxsize=1)
def _thread_pools(n_modules: int) -> Any:
    """Return the BLAS and OpenMP libraries of this process; looked for anew where modules were imported since."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


_PINNED = Shared()


def pinned_threads(n_threads: int) -> AbstractContextManager[None]:
    """Limit the threads of BLAS, OpenMP and torch, also of libraries that are imported inside.

    Blocks in several threads of this process may overlap: what was there before comes back with the end of the last.
    """
    return _PINNED.use(partial(_pin, n_threads), n_threads)


def _pin(n_threads: int) -> Undo:
    variables = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    torch = sys.modules.get("torch")
    torch_threads = torch.get_num_threads() if torch else None
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
    limit = _thread_pools(len(sys.modules)).limit(limits=n_threads)
    limit.__enter__()
    if torch:
        torch.set_num_threads(n_threads)

    def undo() -> None:
        limit.__exit__(None, None, None)
        if torch:
            torch.set_num_threads(torch_threads)
        for name, text in variables.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text

    return undo


def portable(error: BaseException) -> BaseException:
    """Return an error as it looks after pickling; one that cannot be pickled as a MemberError.

    The copy holds no frames (which would keep a job's arrays alive); their text is in its notes.
    """
    text = "".join(traceback.format_exception(error))
    try:
        error.add_note(text)
        copy = pickle.loads(to_bytes(error))
        if type(copy) is type(error) and text in getattr(copy, "__notes__", ()):
            return copy
    except Exception:
        # Pickling runs the error's own code, which may raise anything.
        pass
    return restated(error, text)


def to_bytes(value: object) -> bytes:
    """Pickle a value; functions and classes a worker cannot import travel by value."""
    from stackfeat.executors._compat import dumps

    data: bytes = dumps(value)
    return data


def restated(error: BaseException, text: str) -> MemberError:
    """Return a MemberError that says what an error said."""
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    copy = MemberError(f"{name.removeprefix('builtins.')}: {_words_of(error)}")
    copy.add_note(text)
    return copy


def _words_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text could not be read)"
