"""How many rows have an equal feature row in another fold: such rows are predicted from memory.

In:  the inputs of `Samples` and the fold of each row.
Out: a share of rows. Rows are compared by a 64-bit hash of all their values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from stackfeat.data.files.lazy import chunk_rows
from stackfeat.data.samples import ArrayInput, Input, Table

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_SHIFT = np.uint64(31)


def share_of_split_duplicates(inputs: Mapping[str, Input], fold_of: np.ndarray) -> float:
    """Return the share of predicted rows with an equal row in another fold."""
    predicted = fold_of >= 0
    _, copy_of = np.unique(hash_rows(inputs)[predicted], return_inverse=True)
    fold = fold_of[predicted]
    lowest = np.full(copy_of.max() + 1, np.iinfo(np.int64).max)
    highest = np.full(copy_of.max() + 1, -1)
    np.minimum.at(lowest, copy_of, fold)
    np.maximum.at(highest, copy_of, fold)
    return float(np.mean((lowest < highest)[copy_of]))


def hash_rows(inputs: Mapping[str, Input]) -> np.ndarray:
    """Return a uint64 per row; rows with equal values (missing ones included) get equal hashes."""
    n_rows = next(len(v.numeric) if isinstance(v, Table) else len(v) for v in inputs.values())
    hashes = np.zeros(n_rows, dtype=np.uint64)
    for values in inputs.values():
        if isinstance(values, Table):
            for part in (values.numeric, values.codes):
                for j in range(part.shape[1]):
                    hashes = _mix(hashes, same_zero_and_nan(part[:, j].astype(np.float64)).view(np.uint64))
        else:
            hashes = _mix(hashes, _hash_array(values))
    return hashes


def _mix(hashes: np.ndarray, values: np.ndarray) -> np.ndarray:
    mixed: np.ndarray = (hashes ^ values) * _MIX + _STEP
    shifted: np.ndarray = mixed ^ (mixed >> _SHIFT)
    return shifted


def same_zero_and_nan(values: np.ndarray) -> np.ndarray:
    """Turn -0.0 into 0.0, and every NaN into the bits of one NaN."""
    values = values + values.dtype.type(0)
    values[np.isnan(values)] = np.nan
    return values


def _hash_array(values: ArrayInput | np.ndarray) -> np.ndarray:
    """Return a uint64 per row of an array of any shape: padding is left out, lengths count."""
    hashes = np.zeros(len(values), dtype=np.uint64)
    lengths = values.lengths if isinstance(values, ArrayInput) else None
    size = chunk_rows(values.shape[1:])
    for start in range(0, len(values), size):
        chunk = np.ascontiguousarray(values[start : start + size])
        chunk = same_zero_and_nan(chunk) if chunk.dtype.kind == "f" else chunk
        for i, row in enumerate(chunk):
            real = row if lengths is None else row[: lengths[start + i]]
            digest = hashlib.blake2b(np.ascontiguousarray(real).data, digest_size=8).digest()
            hashes[start + i] = int.from_bytes(digest, "little")
    return hashes
