"""Rows of predictions and targets: checks of their form, ranks, and draws that represent all of them.

In:  arrays with a row for each sample.
Out: the arrays in the form that tasks want, or an error that names its author; numbers of rows.
"""

from __future__ import annotations

import numpy as np

from stackfeat.errors import MemberError


def checked_finite(values: np.ndarray, who: str) -> np.ndarray:
    """Return predictions as float64; MemberError if there are NaN or infinite ones."""
    values = np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise MemberError(f"{who} must predict real numbers; got dtype={values.dtype}; return floats")
    if not np.isfinite(values).all():
        n_bad = int((~np.isfinite(values.reshape(len(values), -1))).any(axis=1).sum())
        raise MemberError(
            f"{who} must predict finite numbers; got {n_bad} rows with NaN or infinity; look at its parameters, "
            "its learning rate and the range of its inputs"
        )
    return values.astype(np.float64)


def of_length(values: np.ndarray, n_rows: int, n_columns: int, who: str) -> np.ndarray:
    """Return predictions as (n_rows, n_columns); MemberError where they have another shape."""
    if values.ndim == 0 or len(values) != n_rows or values.size < n_rows * n_columns or values.ndim > 2:
        raise MemberError(
            f"{who} must predict {n_columns} numbers for each of {n_rows} rows; got shape={values.shape}; "
            "return a row for each row of X, in their order"
        )
    return values.reshape(n_rows, -1)


def is_above_zero(values: np.ndarray, weights: np.ndarray) -> bool:
    """Whether the mean of rows is clearly above zero."""
    mean = np.average(values, weights=weights)
    error = np.sqrt(np.average((values - mean) ** 2, weights=weights) / len(values))
    return bool(mean > 2.0 * error)


def rank_shares(values: np.ndarray) -> np.ndarray:
    """Share of the rows that each value stands above, ties and itself counted half; between 0 and 1."""
    from scipy.stats import rankdata

    return np.asarray((rankdata(values) - 0.5) / len(values))


def spread_rows(y: np.ndarray, cap: int, seed: int) -> np.ndarray:
    """Return at most `cap` rows; shares of classes (or of quantiles of y) are kept.

    Returns
    -------
    int64 array
        Sorted; all rows where there are no more than `cap`.
    """
    if len(y) <= cap:
        return np.arange(len(y))
    if y.ndim == 2:
        # Several targets: by the sum of what each is above its mean, in units of its spread.
        spread = y.std(axis=0)
        y = ((y - y.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).sum(axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(y))
    by_value = shuffled[np.argsort(y[shuffled], kind="stable")]
    every = np.linspace(0, len(y) - 1, cap).round().astype(np.int64)
    return np.sort(by_value[every])
