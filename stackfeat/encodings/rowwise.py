"""Row by row: what an encoding says of a row must not depend on the rows it comes with.

In:  rows of an embedding, and a function from a block of rows to columns.
Out: its columns for all rows. Blocks have one size, the last one padded, because a matrix
     product of another size may round a row differently.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stackfeat.errors import MemberError, UsageError

BLOCK_ROWS = 256


def in_blocks(describe: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, n_columns: int) -> np.ndarray:
    """Apply `describe` to blocks of 256 rows.

    Parameters
    ----------
    describe : callable
        From (256, d) to (256, n_columns).
    rows : float array of shape (n, d)
    n_columns : int

    Returns
    -------
    float32 array of shape (n, n_columns)
    """
    out = np.empty((len(rows), n_columns), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        padded = np.zeros((BLOCK_ROWS, rows.shape[1]), dtype=rows.dtype)
        padded[: len(block)] = block
        out[start : start + BLOCK_ROWS] = describe(padded)[: len(block)]
    return out


def checked_rows(embedding: np.ndarray, width: int | None = None) -> np.ndarray:
    """Return float32 rows of shape (n, width), or say what is wrong with them.

    Raises
    ------
    UsageError
        If the shape does not fit.
    MemberError
        If an activation is not finite.
    """
    rows = np.asarray(embedding, dtype=np.float32)
    if rows.ndim != 2 or (width is not None and rows.shape[1] != width):
        raise UsageError(f"embedding must have shape (n, {width or 'd'}); got {rows.shape}")
    if not np.isfinite(rows).all():
        n_bad = int((~np.isfinite(rows).all(axis=1)).sum())
        raise MemberError(
            f"an embedding must be finite; got NaN or infinite activations in {n_bad} of {len(rows)} rows. "
            "Lower the learning rate or clip the inputs of the net."
        )
    return rows
