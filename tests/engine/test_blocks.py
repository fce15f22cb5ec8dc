"""Rows that folds give are put where they belong; rows and folds are read once; anchors are the same for all."""

from __future__ import annotations

import numpy as np
import pytest

from stackfeat.data.splits.folds import Folds
from stackfeat.engine import blocks as module
from stackfeat.engine.blocks import (
    FeatureBlock,
    anchors_of,
    assemble,
    folds_of,
    read_view,
    samples_of,
    spread,
    store_reader,
    usable_anchors,
)
from stackfeat.store import MemoryStore
from tests.engine.by_hand import folds_of_rows, keep_arrays, keep_folds, keep_rows, rows


def folds_with(*predicted: list[int], n_rows: int = 6, kind: str = "custom") -> Folds:
    everything = np.arange(n_rows)
    splits = tuple((np.setdiff1d(everything, part), np.array(part)) for part in predicted)
    return Folds(kind, (splits,), n_rows)


def test_rows_of_every_fold_stand_where_the_fold_predicts_them() -> None:
    folds = folds_with([4, 0, 2], [1, 3, 5])
    values, covered = spread(folds, 0, [np.array([[40], [0], [20]]), np.array([[10], [30], [50]])])
    np.testing.assert_array_equal(values, np.arange(0, 60, 10)[:, None])
    assert covered.all() and values.dtype == np.int64, "labels stay whole numbers"


def test_rows_that_no_fold_predicts_are_empty_and_not_covered() -> None:
    folds = folds_with([0, 1], [2, 3], [4])
    parts = [np.array([1, 2]), None, np.array([5])]
    values, covered = spread(folds, 0, parts)
    np.testing.assert_array_equal(values, [1, 2, np.nan, np.nan, 5, np.nan])
    np.testing.assert_array_equal(covered, [True, True, False, False, True, False])
    assert spread(folds, 0, [np.ones((2, 1), np.float32), None, None])[0].dtype == np.float32


def test_rows_given_several_times_get_the_mean_of_what_is_given() -> None:
    folds = folds_with([0, 1, 2], [1, 2], [2])
    parts = [np.array([[1.0, 0], [2, 0], [3, 0]]), np.array([[4.0, 1], [6, 1]]), np.array([[9.0, 2]])]
    values, covered = spread(folds, 0, parts)
    np.testing.assert_array_equal(values[:3], [[1, 0], [3, 0.5], [6, 1]])
    assert np.isnan(values[3:]).all() and covered.tolist() == [True] * 3 + [False] * 3


def test_places_of_folds_are_read_and_a_fold_without_one_is_left_empty() -> None:
    store, folds = MemoryStore(), folds_with([0, 1, 2], [3, 4, 5])
    key = keep_arrays(store, oof=np.array([1.0, 2.0, 3.0]))
    values, covered = assemble(store, [None, (key, "oof")], folds, 0)
    np.testing.assert_array_equal(values, [np.nan] * 3 + [1, 2, 3])
    assert covered.sum() == 3


def test_several_places_are_read_as_their_mean_summed_in_double_precision() -> None:
    store = MemoryStore()
    parts = [np.array([2.0**24, 1.0], np.float32), np.array([1.0, 3.0], np.float32), np.ones(2, np.float32)]
    keys = [keep_arrays(store, view=part) for part in parts]
    found = read_view(store_reader(store), tuple((key, "view") for key in keys))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32([(2**24 + 2) / 3, 5 / 3]))
    np.testing.assert_array_equal(read_view(store_reader(store), (keys[1], "view")), parts[1])


def test_rows_and_folds_are_read_once_and_a_few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_values", {})
    store = MemoryStore()
    keys = [keep_rows(store, rows(4, seed)) for seed in range(module._SIZE)]
    first = samples_of(store, keys[0])
    assert samples_of(MemoryStore(), keys[0]) is first, "a key names contents, whatever the store"
    for key in keys[1:]:
        samples_of(store, key)
    assert samples_of(store, keys[0]) is first
    folds = folds_of(store, keep_folds(store, folds_of_rows(8)))
    assert folds.n_rows == 8 and len(module._values) == module._SIZE
    again = samples_of(store, keys[0])
    assert again is not first, "the oldest made room"
    np.testing.assert_array_equal(again.ids, first.ids)


def test_rows_and_folds_of_one_key_are_not_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_values", {})
    store = MemoryStore()
    key = keep_rows(store, rows(4))
    samples_of(store, key)
    with pytest.raises(Exception, match=r"splits|folds"):
        folds_of(store, key)


def test_anchors_are_all_rows_or_training_rows_of_the_earliest_fold() -> None:
    np.testing.assert_array_equal(np.sort(anchors_of(folds_of_rows(24))), np.arange(24))
    time = folds_of_rows(24, kind="time")
    np.testing.assert_array_equal(np.sort(anchors_of(time)), time.splits[0][0][0])
    few = anchors_of(folds_of_rows(24), cap=5)
    assert len(set(few)) == 5
    np.testing.assert_array_equal(few, anchors_of(folds_of_rows(24, n_repeats=2), cap=5))


def test_a_map_is_fitted_on_anchors_that_its_model_was_trained_on() -> None:
    folds = folds_of_rows(24, n_repeats=2)
    anchors = anchors_of(folds)
    for repeat in range(2):
        for usable, (train, predicted) in zip(
            usable_anchors(folds, repeat), folds.splits[repeat], strict=True
        ):
            assert set(anchors[usable]) == set(train) and set(anchors[~usable]) == set(predicted)
    assert all(usable.all() for usable in usable_anchors(folds_of_rows(24, kind="time"), 0))


@pytest.mark.parametrize(("n_columns", "last"), [(1, "#000"), (1000, "#999"), (1001, "#1000")])
def test_columns_of_a_block_are_numbered_so_that_they_sort(n_columns: int, last: str) -> None:
    names = FeatureBlock("base/cnn/fc", np.zeros((1, n_columns)), np.ones(1, bool), []).columns
    assert names[-1] == f"base/cnn/fc{last}" and names == sorted(names) and len(names) == n_columns
