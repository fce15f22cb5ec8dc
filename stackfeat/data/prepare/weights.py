"""Row weights of one fit.

In:  weights of the rows that are fitted on, on whatever scale the file has them.
Out: weights of mean 1. A penalty, or the least weight of a leaf, is measured against the sum of the weights, so that
     only what rows weigh beside each other may reach a learner.
"""

from __future__ import annotations

import numpy as np

from stackfeat.errors import MemberError


def mean_one(weight: np.ndarray) -> np.ndarray:
    """Return row weights divided by their mean, float64 of the same shape; equal weights are exactly 1.

    Parameters
    ----------
    weight : ndarray of shape (n_rows,)
        Finite numbers of at least 0.

    Raises
    ------
    MemberError
        If no row has a weight above 0.

    Examples
    --------
    >>> mean_one(np.array([1.0, 2.0, 3.0]) / 5000).tolist()
    [0.5, 1.0, 1.5]
    """
    weight = np.asarray(weight, dtype=np.float64)
    largest = weight.max(initial=0.0)
    if not largest > 0:
        raise MemberError(
            f"some row of a fit must have a weight above 0; got 0 in all {len(weight)} rows; use fewer folds "
            "(folds.n), or remove data.weight"
        )
    # By the largest first: weights near the ends of float64 have no mean, and equal ones become exactly 1.
    shares = weight / largest
    return np.asarray(shares / shares.mean())
