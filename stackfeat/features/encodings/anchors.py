"""Which rows the fold spaces are compared on. Their labels are never asked for.

Anchors are training rows, the same in every fold; a fold's map is fitted on those of them that the
fold model was trained on. So neither the out-of-fold rows nor the test rows of a fold are anchors of
its map, and the two look alike. Test rows as anchors fit their maps better than any other rows do:
telling them from out-of-fold rows gave an AUC of up to 0.96 (docs/decisions/0006-encodings.md).
"""

from __future__ import annotations

import numpy as np

MAX_ANCHORS = 4096
ANCHORS_PER_COLUMN = 8


def anchor_rows(n_rows: int, cap: int = MAX_ANCHORS, seed: int = 0) -> np.ndarray:
    """Draw anchors among training rows.

    Parameters
    ----------
    n_rows : int
        All training rows.
    cap : int, default 4096
        At most this many anchors.
    seed : int

    Returns
    -------
    int64 array, sorted
    """
    if n_rows <= cap:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).permutation(n_rows)[:cap])


def default_width(n_anchors: int) -> int:
    """Columns that so many anchors align well: one for every eight.

    A map is fitted to its anchors; with fewer of them rows that shaped other folds' maps, and test
    rows, which shaped none, can be told apart.
    """
    return max(1, n_anchors // ANCHORS_PER_COLUMN)
