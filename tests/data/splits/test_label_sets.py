"""Iterative stratification: every label is spread over the folds, groups stay together."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import KFold

from stackfeat.data.splits.label_sets import deal_label_sets


def drawn(n: int = 300, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.random((n, 6)) < [0.7, 0.3, 0.1, 0.05, 0.03, 0.02]).astype(np.int64)


def test_every_label_is_spread_over_the_folds_to_within_a_row_or_two() -> None:
    y = drawn()
    fold_of = deal_label_sets(y, 5, seed=0)
    counts = np.stack([y[fold_of == fold].sum(axis=0) for fold in range(5)])
    wanted = y.sum(axis=0) / 5
    dealt = np.stack([y[rows].sum(axis=0) for _, rows in KFold(5, shuffle=True, random_state=0).split(y)])
    assert np.abs(counts - wanted).max() <= 3 and np.abs(counts - wanted).sum() < np.abs(dealt - wanted).sum()
    assert (counts[:, -2:] >= np.floor(wanted[-2:])).all(), "the rarest labels are dealt first"
    sizes = np.bincount(fold_of, minlength=5)
    assert sizes.min() >= 55 and sizes.max() <= 65


def test_groups_stay_together_and_the_same_seed_deals_alike() -> None:
    y, group = drawn(), np.random.default_rng(1).integers(0, 80, 300)
    fold_of = deal_label_sets(y, 4, seed=3, group=group)
    assert all(len(set(fold_of[group == one])) == 1 for one in np.unique(group))
    np.testing.assert_array_equal(fold_of, deal_label_sets(y, 4, seed=3, group=group))
    assert set(fold_of) == {0, 1, 2, 3}


def test_rows_without_a_label_are_dealt_like_a_label() -> None:
    y = np.zeros((40, 2), dtype=np.int64)
    y[:8, 0] = 1
    fold_of = deal_label_sets(y, 4, seed=0)
    assert np.bincount(fold_of).tolist() == [10] * 4 and np.bincount(fold_of[:8]).tolist() == [2] * 4
