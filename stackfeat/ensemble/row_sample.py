"""A few of many rows, for searches whose cost grows with the rows.

In:  true values, how many rows at most.
Out: sorted row numbers, spread evenly over the values of y.
"""

from __future__ import annotations

import numpy as np


def spread_rows(y: np.ndarray, cap: int, seed: int) -> np.ndarray:
    """Return at most `cap` rows; shares of classes (or of quantiles of y) are kept.

    Returns
    -------
    int64 array
        Sorted; all rows where there are no more than `cap`.
    """
    if len(y) <= cap:
        return np.arange(len(y))
    shuffled = np.random.default_rng(seed).permutation(len(y))
    by_value = shuffled[np.argsort(y[shuffled], kind="stable")]
    every = np.linspace(0, len(y) - 1, cap).round().astype(np.int64)
    return np.sort(by_value[every])
