"""The engine that needs nothing: one job after the other, in this process.

In:  a function and keys.
Out: outcomes in the order of the keys.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from stackfeat.executors.job import Outcome, run_job


class InlineExecutor:
    """Runs jobs in this process; a crash of a job is a crash of everything."""

    def __init__(self, threads_per_job: int = 1, *, paths: Sequence[str] = ()) -> None:
        self.threads_per_job = threads_per_job
        self.paths = tuple(paths)
        self._stopped = False
        self._closed = False

    def submit(self, function: Callable[[str], Any], keys: Sequence[str]) -> Iterator[Outcome]:
        """Run the function on every key, in order; KeyboardInterrupt goes to the caller."""
        self._stopped = self._closed
        for key in keys:
            if self._stopped:
                return
            with _first_on_path(self.paths):
                outcome = run_job(function, key, self.threads_per_job)
            yield outcome

    def stop(self) -> None:
        """Begin no more keys of this `submit`."""
        self._stopped = True

    def close(self) -> None:
        """Begin no more keys, now and later; there are no workers to end."""
        self._stopped = self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _first_on_path(paths: Sequence[str]) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:0] = paths
    try:
        yield
    finally:
        sys.path[:] = before
