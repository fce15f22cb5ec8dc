"""What is kept of a result: a hash of its bytes, and a few of its numbers to judge a difference by.

In:  arrays, frames, files, texts and what is nested of them.
Out: an `Entry` for each.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

N_KEPT, N_HEX = 4, 12
Entries = Iterator[tuple[str, "Entry"]]


@dataclass(frozen=True)
class Entry:
    """One result: the hash of all of it, some of its numbers, and all of them where they are at hand."""

    sha: str
    values: tuple[float, ...] = ()
    whole: np.ndarray | None = None

    def to_json(self) -> dict[str, Any]:
        return {"sha": self.sha, "values": [float(f"{value:.9g}") for value in self.values]}


def of_bytes(content: bytes, numbers: Any = ()) -> Entry:
    """Return the entry of some bytes; of `numbers` evenly spread ones are kept."""
    whole = np.asarray(numbers, dtype=np.float64).ravel()
    places = np.unique(np.linspace(0, len(whole) - 1, min(N_KEPT, len(whole))).astype(int))
    kept = tuple(float(value) for value in whole[places])
    return Entry(hashlib.sha256(content).hexdigest()[:N_HEX], kept, whole)


def of_text(text: str) -> Entry:
    return of_bytes(text.encode())


def of_array(values: Any) -> Entry:
    """Return the entry of an array: type, shape and bytes count."""
    array = np.ascontiguousarray(values)
    header = f"{array.dtype.str} {array.shape} ".encode()
    if array.dtype.kind in "fiub":
        return of_bytes(header + array.tobytes(), array)
    return of_bytes("\n".join([str(np.shape(values)), *map(str, array.ravel())]).encode())


def of_numbers(*values: float) -> Entry:
    return of_array(np.array(values, dtype=np.float64))


def of_frame(frame: pd.DataFrame) -> Entry:
    """Return the entry of a frame: names, types and cells count."""
    parts = [str(list(frame.columns)).encode()]
    parts += [repr([str(frame[name].dtype), *frame[name].tolist()]).encode() for name in frame.columns]
    return of_bytes(b"\n".join(parts), frame.select_dtypes("number"))


def of_csv(path: Path, drop: tuple[str, ...] = ()) -> Entry:
    """Return the entry of a csv file: its bytes, or without some columns their text."""
    cells = pd.read_csv(path, dtype=str, keep_default_na=False)
    content = path.read_bytes()
    if drop:
        content = cells.drop(columns=list(drop)).to_csv(index=False).encode()
    numbers = cells.drop(columns=list(drop)).iloc[:, 1:].apply(pd.to_numeric, errors="coerce")
    return of_bytes(content, numbers)


def of_json(value: Any) -> Entry:
    """Return the entry of nested dicts and lists, of arrays too."""
    value = plain(value)
    return of_bytes(json.dumps(value, sort_keys=True).encode(), list(numbers_of(value)))


def plain(value: Any) -> Any:
    """Return nested values as JSON takes them."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict("list"))
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def numbers_of(value: Any) -> Iterator[float]:
    """Yield the numbers of nested dicts and lists, dicts in the order of their keys."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from numbers_of(value[key])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from numbers_of(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def flattened(name: str, value: Any) -> Entries:
    """Yield an entry for each array, frame, number and text of nested dicts."""
    if isinstance(value, Mapping):
        for key in value:
            yield from flattened(f"{name}/{key}", value[key])
    elif isinstance(value, pd.DataFrame):
        yield name, of_frame(value)
    elif isinstance(value, np.ndarray):
        yield name, of_array(value)
    elif hasattr(value, "detach"):
        yield name, of_array(value.detach().numpy())
    elif isinstance(value, int | float | np.number) and math.isfinite(value):
        yield name, of_numbers(float(value))
    elif isinstance(value, list | tuple) and value and not isinstance(value[0], str | int | float):
        for place, part in enumerate(value):
            yield from flattened(f"{name}/{place}", part)
    else:
        yield name, of_text(str(value))
