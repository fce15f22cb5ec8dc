"""What a person may see of running jobs: that one begins, and how far its training is.

In:  a word from a training, in whatever process it runs.
Out: the same word for whoever watches the jobs; results know nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

EVERY_SECONDS = 0.5
"""A job says no more often how far it is."""


@dataclass(frozen=True)
class Epoch:
    """How far a training is: `number` of `total` epochs are done."""

    number: int
    total: int


class Watch(Protocol):
    """Told of jobs that run, in the process that submitted them."""

    def started(self, key: str) -> None:
        """Take note that a job begins, or begins again."""

    def epoch(self, key: str, epoch: Epoch) -> None:
        """Take note of how far a job is."""


_LISTENER: ContextVar[Callable[[Epoch], None] | None] = ContextVar("listener", default=None)


def tell_epoch(number: int, total: int) -> None:
    """Say that an epoch is done; nobody need listen."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(Epoch(number, total))


@contextmanager
def heard_by(listener: Callable[[Epoch], None]) -> Iterator[None]:
    """Pass on what `tell_epoch` says inside the block, at most twice a second."""
    said = time.monotonic()

    def pass_on(epoch: Epoch) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= EVERY_SECONDS:
            said = now
            listener(epoch)

    token = _LISTENER.set(pass_on)
    try:
        yield
    finally:
        _LISTENER.reset(token)
