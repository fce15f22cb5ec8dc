"""How many rows have an equal feature row in another fold: such rows are predicted from memory.

In:  the inputs of `Samples` and the fold of each row.
Out: a share of rows. Rows are compared by a 64-bit hash of all their values.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stackfeat.data.samples import Table

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_SHIFT = np.uint64(31)


def share_of_split_duplicates(inputs: Mapping[str, Table | np.ndarray], fold_of: np.ndarray) -> float:
    """Return the share of predicted rows with an equal row in another fold."""
    predicted = fold_of >= 0
    _, copy_of = np.unique(hash_rows(inputs)[predicted], return_inverse=True)
    fold = fold_of[predicted]
    lowest = np.full(copy_of.max() + 1, np.iinfo(np.int64).max)
    highest = np.full(copy_of.max() + 1, -1)
    np.minimum.at(lowest, copy_of, fold)
    np.maximum.at(highest, copy_of, fold)
    return float(np.mean((lowest < highest)[copy_of]))


def hash_rows(inputs: Mapping[str, Table | np.ndarray]) -> np.ndarray:
    """Return a uint64 per row; rows with equal values (missing ones included) get equal hashes."""
    parts: list[np.ndarray] = []
    for values in inputs.values():
        parts += (
            [values.numeric, values.codes] if isinstance(values, Table) else [values.reshape(len(values), -1)]
        )
    hashes = np.zeros(len(parts[0]), dtype=np.uint64)
    for part in parts:
        for j in range(part.shape[1]):
            # Adding 0.0 turns -0.0 into 0.0; every NaN gets the bits of one NaN.
            column = part[:, j].astype(np.float64) + 0.0
            column[np.isnan(column)] = np.nan
            hashes = (hashes ^ column.view(np.uint64)) * _MIX + _STEP
            hashes ^= hashes >> _SHIFT
    return hashes
