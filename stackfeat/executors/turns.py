"""Whose turn it is when workers die: an order, and the keys to be tried again.

In:  an order of keys, and news of their ends and of deaths of workers.
Out: the next key to run, or none for now; pure bookkeeping.
"""

from __future__ import annotations

from collections import Counter

from stackfeat.executors.order import Order


class Turns:
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
