"""Files of a run: written whole or not at all.

In:  the run folder and what belongs in each file.
Out: files on disk, the same bytes for the same results.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from stackfeat.store.cleaning import unique_name
from stackfeat.store.disk import replace_file, reworded


def explained(must: str, remedy: str) -> AbstractContextManager[None]:
    """Turn an OSError of the block into a StoreError that says what must hold and what to do."""
    return reworded(lambda error: f"{must}; got {error.strerror or error}. {remedy}")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, then rename it into place.

    Raises
    ------
    StoreError
        If the disk is full or the folder may not be written to; the old file stays.
    """
    temporary = path.with_name(f".{unique_name()}.tmp")
    must = f"{path} must be written ({len(data)} bytes)"
    with explained(must, "Free some space, or choose a place that can be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data, temporary=temporary)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON with sorted keys."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Return readable JSON with sorted keys."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def finite(value: Any) -> Any:
    """Return nested values as JSON has them: nothing in the place of numbers that are none."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: Path, header: Sequence[str], columns: Sequence[Iterable[Any]]) -> None:
    """Write columns; floats in the shortest form that reads back to the same number."""
    write_bytes(path, csv_bytes(header, columns))


def csv_bytes(header: Sequence[str], columns: Sequence[Iterable[Any]]) -> bytes:
    """Return the text of columns; floats in the shortest form that reads back to the same number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(*[_cells(column) for column in columns], strict=True))
    return text.getvalue().encode()


def _cells(column: Iterable[Any]) -> list[Any]:
    if isinstance(column, np.ndarray) and column.dtype == np.float64:
        # Millions of numbers: the usual column, without a look at the type of each.
        texts: list[Any] = list(map(repr, column.tolist()))
        for row in np.flatnonzero(np.isnan(column)):
            texts[row] = ""
        return texts
    cells = list(column)
    # Ids of as many rows need no look either.
    return cells if set(map(type, cells)) == {str} else list(map(_cell, cells))


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else repr(float(value))
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    return "" if value is None else value
