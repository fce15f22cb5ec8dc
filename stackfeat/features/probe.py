"""Probe: would a meta-learner over one block be helped by rows of the same fold?

In:  a block's OOF rows, labels, the fold of each row.
Out: each row's loss under fold-grouped and under random cross-validation of one small ridge model.
     Where random is better, columns mean different things in different folds.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

MAX_ROWS = 2000
FEWEST_ROWS = 60
PENALTY = 0.03
"""Of the ridge, for each row; columns have variance one."""


def probe_losses(
    values: np.ndarray,
    y: np.ndarray,
    fold_of: np.ndarray,
    *,
    is_classification: bool,
    group: np.ndarray | None,
    seed: int,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Cross-validate a ridge model on a block twice.

    Parameters
    ----------
    values : float array of shape (n, c)
    y : array of shape (n,)
        Class codes (the model learns their indicators) or values.
    fold_of : int array of shape (n,)
    group : int array of shape (n,) or None
        Groups stay whole in the random folds too, else these would be better for another reason.

    Returns
    -------
    tuple of two float64 arrays of shape (n_used,), or None
        Squared error of each row, as a share of the target's variance: grouped on folds, random.
        None with fewer than 60 rows, two folds, or a constant target.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(values))[:MAX_ROWS])
    folds = np.unique(fold_of[rows], return_inverse=True)[1]
    targets = _targets(y[rows], is_classification)
    variance = float(np.mean(np.sum(targets**2, axis=1)))
    if len(rows) < FEWEST_ROWS or folds.max() < 1 or variance == 0:
        return None
    X = StandardScaler().fit_transform(np.asarray(values[rows], dtype=np.float64))
    units = np.arange(len(rows)) if group is None else np.unique(group[rows], return_inverse=True)[1]
    dealt = rng.permutation(units.max() + 1) % (folds.max() + 1)
    losses = [_cross_validated(X, targets, split) / variance for split in (folds, dealt[units])]
    return losses[0], losses[1]


def _targets(y: np.ndarray, is_classification: bool) -> np.ndarray:
    columns = (y[:, None] == np.unique(y)).astype(np.float64) if is_classification else y[:, None]
    return np.asarray(columns - columns.mean(axis=0), dtype=np.float64)


def _cross_validated(X: np.ndarray, targets: np.ndarray, split: np.ndarray) -> np.ndarray:
    loss = np.empty(len(X))
    for fold in np.unique(split):
        inside = split == fold
        model = Ridge(alpha=PENALTY * np.count_nonzero(~inside)).fit(X[~inside], targets[~inside])
        error = model.predict(X[inside]).reshape(targets[inside].shape) - targets[inside]
        loss[inside] = np.sum(error**2, axis=1)
    return loss
