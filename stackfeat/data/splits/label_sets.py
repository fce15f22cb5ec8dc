"""Folds that hold every label in proportion, where a row may have any number of labels.

In:  a table of 0 and 1, a column for each label; groups whose rows stay together.
Out: the fold of each row.

Iterative stratification: K. Sechidis, G. Tsoumakas and I. Vlahavas, "On the stratification of multi-label data", ECML
PKDD 2011. The label with the fewest rows left is dealt first, each of its rows to the fold that lacks most of it.
"""

from __future__ import annotations

import numpy as np


def deal_label_sets(y: np.ndarray, n_folds: int, seed: int, group: np.ndarray | None = None) -> np.ndarray:
    """Return the fold of each row, int64 (n_rows,).

    Parameters
    ----------
    y : int array of shape (n_rows, n_labels)
    n_folds, seed : int
    group : int array of shape (n_rows,), optional
        Rows of one group are dealt together.

    Examples
    --------
    >>> y = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
    >>> fold_of = deal_label_sets(y, 2, seed=0)
    >>> [y[fold_of == fold].sum(axis=0).tolist() for fold in (0, 1)]
    [[1, 1], [1, 1]]
    """
    unit = np.arange(len(y)) if group is None else np.unique(group, return_inverse=True)[1]
    sizes = np.bincount(unit).astype(np.float64)
    # Rows without a label are as a label of their own.
    marks = np.column_stack([y, ~y.any(axis=1)]).astype(np.float64)
    held = np.zeros((len(sizes), marks.shape[1]))
    np.add.at(held, unit, marks)
    fold_of_unit = _deal(held, sizes, n_folds, np.random.default_rng(seed))
    return np.asarray(fold_of_unit[unit], dtype=np.int64)


def _deal(held: np.ndarray, sizes: np.ndarray, n_folds: int, random: np.random.Generator) -> np.ndarray:
    """Deal units, of which each holds rows of labels, (n_units, n_labels)."""
    lacks = np.tile(held.sum(axis=0) / n_folds, (n_folds, 1))
    room = np.full(n_folds, sizes.sum() / n_folds)
    fold_of = np.full(len(sizes), -1, dtype=np.int64)
    left = held.sum(axis=0)
    # Large groups first: what is small fills the gaps that they leave.
    order = random.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    while (left > 0).any():
        label = int(np.where(left > 0, left, np.inf).argmin())
        for number in order[(held[order, label] > 0) & (fold_of[order] < 0)]:
            most = np.flatnonzero(lacks[:, label] == lacks[:, label].max())
            most = most[room[most] == room[most].max()]
            fold = int(most[0] if len(most) == 1 else random.choice(most))
            fold_of[number] = fold
            lacks[fold] -= held[number]
            room[fold] -= sizes[number]
            left -= held[number]
        left[label] = 0.0
    return fold_of
