"""What members predict, checked before anything is clipped or normalised.

In:  predictions as foreign code gave them.
Out: the same numbers, rounding errors of probabilities taken away; a MemberError where they are none.
"""

from __future__ import annotations

import numpy as np

from stackfeat.errors import MemberError

LARGEST_OVERSHOOT = 1e-6
"""How far below 0 or above 1 a probability may lie by rounding."""
LARGEST_SUM_ERROR = 0.01
"""How far the probabilities of a row may be from a sum of 1: half precision, two digits of a file."""


def checked_probabilities(values: np.ndarray, who: str) -> np.ndarray:
    """Return probabilities (n_rows, n_classes) as float64, in [0, 1] and with rows that sum to 1.

    Raises
    ------
    MemberError
        If they are not finite, out of range, or do not sum to 1, by more than rounding.

    Examples
    --------
    >>> checked_probabilities(np.array([[-1e-9, 1.0]]), "Net").tolist()
    [[0.0, 1.0]]
    """
    values = checked_finite(values, who)
    low, high = values.min(initial=0.0), values.max(initial=1.0)
    if low < -LARGEST_OVERSHOOT or high > 1 + LARGEST_OVERSHOOT:
        worst = low if -low > high - 1 else high
        outside = (values < -LARGEST_OVERSHOOT) | (values > 1 + LARGEST_OVERSHOOT)
        raise MemberError(
            f"{who} must predict probabilities between 0 and 1; got {worst:g}, in {int(outside.any(axis=1).sum())} "
            "rows. If these are scores before the logistic or soft-max function, apply it first"
        )
    shares = np.clip(values, 0.0, 1.0)
    sums = shares.sum(axis=1, keepdims=True)
    off = np.abs(sums[:, 0] - 1.0)
    if off.max(initial=0.0) > LARGEST_SUM_ERROR:
        n_off = int((off > LARGEST_SUM_ERROR).sum())
        raise MemberError(
            f"{who} must predict probabilities that sum to 1 in each row; got a sum of "
            f"{sums[off.argmax(), 0]:g}, {n_off} rows are off. Normalise them, or predict scores by decision_function"
        )
    return np.asarray(shares / sums)


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
