"""Category codes of the training rows of one fold, numbered anew.

In:  codes of a `Table` (-1 missing, -2 not in the training file).
Out: codes that only know the levels seen in the rows fitted on.
"""

from __future__ import annotations

import numpy as np


def seen_levels(codes: np.ndarray, at_most: int | None = None) -> np.ndarray:
    """Return the codes present in one column, sorted; only the most frequent where there are too many."""
    counts = np.bincount(codes[codes >= 0])
    seen = np.flatnonzero(counts)
    if at_most is not None and len(seen) > at_most:
        seen = np.sort(seen[np.argsort(-counts[seen], kind="stable")[:at_most]])
    return seen


def renumber(codes: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return positions in `seen`, int64; -1 for every other code."""
    if len(seen) == 0:
        return np.full(len(codes), -1, dtype=np.int64)
    position = np.minimum(np.searchsorted(seen, codes), len(seen) - 1)
    return np.where(seen[position] == codes, position, -1)
