"""Which rows a fit was given, kept beside its results, one bit for each training row.

In:  row numbers, as they were handed to a member; later the entry of the fit.
Out: packed bits. They are no part of the key: keys name what was asked for, these say what was done.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stackfeat.store import Entry, EntryWriter

NAME = "rows/fitted"


def write_fitted_rows(writer: EntryWriter, rows: np.ndarray, n_rows: int) -> None:
    """Note in the entry of a fit which rows (and so which labels) it was given."""
    writer.array(NAME, pack_rows(rows, n_rows))


def read_fitted_rows(entry: Entry) -> np.ndarray | None:
    """Return the packed rows of a fit; None in entries made before they were noted."""
    return entry.array(NAME) if entry.has(f"{NAME}.npy") else None


def pack_rows(rows: Any, n_rows: int) -> np.ndarray:
    """Turn row numbers, or a mask, into uint8 of shape (ceil(n_rows / 8),)."""
    mask = np.zeros(n_rows, dtype=bool)
    mask[rows] = True
    return np.packbits(mask)


def unpack_rows(packed: np.ndarray, n_rows: int) -> np.ndarray:
    """Return the mask of `pack_rows`, bool of shape (n_rows,)."""
    return np.unpackbits(packed, count=n_rows).astype(bool)
