"""What every engine shares: running one job, its outcome, its threads, its errors.

In:  a function and a key.
Out: an Outcome, always; errors are values, in a form that reads the same from any process.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol, Self

from stackfeat.errors import MemberError
from stackfeat.executors.order import Order

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


class Executor(Protocol):
    """An engine that runs a function on keys; a context manager."""

    def submit(self, function: Callable[[str], Any], keys: Sequence[str] | Order) -> Iterator[Outcome]:
        """Run the function on every key; yield outcomes as they come.

        A key has no outcome only if it was not begun before `stop`, or if its order never gave it out.
        Leaving the iterator early ends the jobs that are still running.
        """

    def stop(self) -> None:
        """Begin no more keys of this `submit`, let running ones finish."""

    def close(self) -> None:
        """End all jobs and workers now."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


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


@contextmanager
def pinned_threads(n_threads: int) -> Iterator[None]:
    """Limit the threads of BLAS, OpenMP and torch, also of libraries that are imported inside."""
    from threadpoolctl import threadpool_limits

    variables = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    torch = sys.modules.get("torch")
    torch_threads = torch.get_num_threads() if torch else None
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
    try:
        with threadpool_limits(n_threads):
            if torch:
                torch.set_num_threads(n_threads)
            yield
    finally:
        if torch:
            torch.set_num_threads(torch_threads)
        for name, text in variables.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text


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
    # The one name that holds for all joblib: cloudpickle came inside joblib before 1.6, beside it since.
    from joblib.externals.loky.cloudpickle_wrapper import dumps

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
