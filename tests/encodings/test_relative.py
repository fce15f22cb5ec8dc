"""Which rows fold spaces are compared on."""

from __future__ import annotations

import numpy as np

from stackfeat.data.splits.folds import Folds
from stackfeat.encodings import anchor_rows, default_width
from stackfeat.engine.blocks import anchors_of, usable_anchors


def folds(kind="kfold", n=60, window=None):
    rows = np.arange(n)
    if kind == "kfold":
        splits = [(rows[rows % 3 != k], rows[rows % 3 == k]) for k in range(3)]
    else:
        ends = [15, 30, 45]
        splits = [(rows[max(0, end - (window or n)) : end], rows[end : end + 15]) for end in ends]
    return Folds(kind, (tuple(splits),), n)


def test_all_rows_are_anchors_up_to_the_cap():
    np.testing.assert_array_equal(anchor_rows(20), np.arange(20))
    few, again, other = (anchor_rows(500, cap=50, seed=seed) for seed in (0, 0, 1))
    assert len(few) == 50
    assert np.all(np.diff(few) > 0)
    assert few.tolist() == again.tolist() != other.tolist()


def test_a_column_takes_eight_anchors():
    assert [default_width(n) for n in (3, 8, 450, 4096)] == [1, 1, 56, 512]


def test_held_out_rows_of_a_fold_are_no_anchors_of_its_map():
    made = folds()
    rows = anchors_of(made)
    for (train, held_out), usable in zip(made.splits[0], usable_anchors(made, 0), strict=True):
        np.testing.assert_array_equal(rows[usable], train)
        assert not np.isin(rows[usable], held_out).any()


def test_in_time_every_anchor_is_earlier_than_every_fold():
    for window in (None, 10):
        made = folds("time", window=window)
        assert made.is_time
        rows = anchors_of(made)
        assert rows.max() < min(held_out.min() for _, held_out in made.splits[0])
        assert all(usable.all() for usable in usable_anchors(made, 0))
