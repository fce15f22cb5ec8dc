"""How rows and values are named in messages: the first five, then how many more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

SHOWN = 5


def name_rows(bad: np.ndarray) -> str:
    """Turn a row mask into ``row 3`` or ``rows 3, 7, 9 and 12 more``, counted from 1 below the header."""
    rows = np.flatnonzero(bad) + 1
    return ("row " if len(rows) == 1 else "rows ") + name_values(rows.tolist())


def name_values(values: Iterable[object]) -> str:
    """Join the first five values and say how many more there are."""
    listed: Sequence[object] = list(values)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(str(value) for value in listed[:SHOWN]) + more
