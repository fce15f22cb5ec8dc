"""Which job is next: what an engine asks whenever it has room for one.

In:  keys.
Out: one key at a time, or None: nothing may begin now. An order that knows of time also says which running
     jobs are to be ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol


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
