"""Large arrays out of memory that the process already has.

In:  a shape.
Out: an array with arbitrary content. When the last view of it is gone its memory is kept, up to a
     limit, for the next array of about that size: asking the system for fresh pages costs up to
     twice the time of a small net's forward pass, because each page is cleared, and more where the
     system must first move others out of the way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

SMALLEST_BYTES = 1 << 20
KEPT_BYTES = 256 << 20

_SPARE: dict[int, np.ndarray] = {}


class Lease:
    """Memory lent to one array and its views; it comes back when all of them are gone."""

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

    def __del__(self) -> None:
        _SPARE[id(self.memory)] = self.memory
        while sum(memory.nbytes for memory in list(_SPARE.values())) > KEPT_BYTES:
            _SPARE.pop(next(iter(_SPARE)), None)  # the one that has waited longest


def spare_array(shape: Sequence[int]) -> np.ndarray:
    """Return a float32 array of `shape`; its content is arbitrary."""
    n_bytes = 4 * math.prod(shape)
    if not SMALLEST_BYTES <= n_bytes <= KEPT_BYTES:
        return np.empty(shape, dtype=np.float32)
    memory = take(n_bytes)
    if memory is None:
        # numpy asks for huge pages, torch does not: a third less time on large arrays.
        memory = np.empty(n_bytes, dtype=np.uint8)
    return np.asarray(Lease(memory))[:n_bytes].view(np.float32).reshape(shape)


def take(n_bytes: int) -> np.ndarray | None:
    """Take the smallest spare memory that fits without wasting more than it holds."""
    fitting = sorted(
        (memory.nbytes, key)
        for key, memory in list(_SPARE.items())
        if n_bytes <= memory.nbytes <= 2 * n_bytes
    )
    for _, key in fitting:
        memory = _SPARE.pop(key, None)  # another thread may have been first
        if memory is not None:
            return memory
    return None
