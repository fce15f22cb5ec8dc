"""The engine that needs nothing: one job after the other, in this process.

In:  a function and keys.
Out: outcomes in the order of the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from stackfeat.executors.job import Outcome, run_job
from stackfeat.executors.order import Order, as_order
from stackfeat.registry.user_code import NO_CODE, Code, importing


class InlineExecutor:
    """Runs jobs in this process; a crash of a job is a crash of everything."""

    def __init__(self, threads_per_job: int = 1, code: Code = NO_CODE) -> None:
        self.threads_per_job = threads_per_job
        self.code = code
        self._stopped = False
        self._closed = False

    def submit(self, function: Callable[[str], Any], keys: Sequence[str] | Order) -> Iterator[Outcome]:
        """Run the function on every key, in order; KeyboardInterrupt goes to the caller."""
        self._stopped = self._closed
        order = as_order(keys)
        while not self._stopped and (key := order.take()) is not None:
            with importing(self.code):
                outcome = run_job(function, key, self.threads_per_job)
            order.ended(key, outcome.seconds, well=outcome.error is None)
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
