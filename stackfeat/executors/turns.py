"""Whose turn it is: gives out keys, and finds the key that kills its worker.

In:  keys, and news of their ends and of deaths of workers.
Out: the next key to run, or none for now; pure bookkeeping.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence


class Turns:
    """Gives out keys, `n_jobs` at a time; after a death, the suspects one at a time.

    When a worker dies, the pool's other jobs die too, and nobody says whose fault it was. So every
    key that was running is tried again alone: if the worker dies again, it was that key.
    """

    def __init__(self, keys: Sequence[str], n_jobs: int, retries: int) -> None:
        self.n_jobs = n_jobs
        self.retries = retries
        self.deaths: Counter[str] = Counter()
        self._waiting = deque(keys)
        self._suspects: deque[str] = deque()
        self._alone: str | None = None

    def next_key(self, n_running: int) -> str | None:
        """Return the key to begin now, or None: none is left, or it must wait."""
        if self._alone is not None or n_running >= self.n_jobs:
            return None
        if self._suspects:
            if n_running == 0:
                self._alone = self._suspects.popleft()
            return self._alone
        return self._waiting.popleft() if self._waiting else None

    def put_back(self, key: str) -> None:
        """Take back a key that was given out but never began."""
        if key == self._alone:
            self._alone = None
            self._suspects.appendleft(key)
        else:
            self._waiting.appendleft(key)

    def ended(self, key: str) -> None:
        """Note that a key has an outcome."""
        if key == self._alone:
            self._alone = None

    def died(self, keys: Sequence[str]) -> str | None:
        """Note that a worker died while these keys ran; return the key to give up, if any."""
        self.deaths.update(keys)
        self._alone = None
        if len(keys) == 1 and self.deaths[keys[0]] > self.retries:
            return keys[0]
        self._suspects.extend(keys)
        return None
