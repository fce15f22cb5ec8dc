"""How rows and values are named in messages: the first five, then how many more; long ones are cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from stackfeat.registry.resolve import cut, quoted

SHOWN = 5
_LONGEST_LINE = 200


def name_rows(bad: np.ndarray) -> str:
    """Turn a row mask into ``row 3`` or ``rows 3, 7, 9 and 12 more``, counted from 1 below the header."""
    rows = np.flatnonzero(bad) + 1
    return ("row " if len(rows) == 1 else "rows ") + name_values(rows.tolist())


def name_values(values: Iterable[object], n_shown: int = SHOWN) -> str:
    """Join the first values and say how many more there are."""
    listed = list(values)
    return _first([cut(str(value)) for value in listed[:n_shown]], len(listed))


def quote_values(values: Iterable[object]) -> str:
    """Join values as `name_values`, each in quotes."""
    listed = list(values)
    return _first([quoted(value) for value in listed[:SHOWN]], len(listed))


def _first(shown: Sequence[str], n_values: int) -> str:
    return ", ".join(shown) + (f" and {n_values - len(shown)} more" if n_values > len(shown) else "")


def one_line(text: str) -> str:
    """Return the beginning of a text, on one line."""
    return cut(" ".join(text[: 10 * _LONGEST_LINE].split()), _LONGEST_LINE)
