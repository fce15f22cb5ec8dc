"""Folds partition rows, keep groups whole and time in order, whatever the rows are."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold, TimeSeriesSplit

from stackfeat.data.options import FoldOptions
from stackfeat.data.samples import Samples, Table
from stackfeat.data.splits.folds import (
    Folds,
    hash_rows,
    load_folds,
    make_folds,
    save_folds,
    share_of_split_duplicates,
)
from stackfeat.data.splits.holdout import inner_split
from stackfeat.data.splits.splitters import resolve_kind
from stackfeat.errors import ConfigError, DataError, DataWarning, LeakWarning
from stackfeat.store import MemoryStore
from stackfeat.tasks.task import Task

seeds = st.integers(0, 10_000)


def test_rows_that_differ_in_a_text_alone_are_not_equal() -> None:
    texts = np.array([["one"], ["other"], ["one"], [""]], dtype=object)
    table = Table(np.zeros((4, 1)), ("a",), np.zeros((4, 0), np.int32), (), (), texts, ("t",))
    hashes = hash_rows({"table": table}).tolist()
    assert hashes[0] == hashes[2] and len(set(hashes)) == 3


def _samples(n: int, seed: int = 0, n_classes: int = 3, **roles: Any) -> Samples:
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(n, 2))
    table = Table(numeric, ("a", "b"), np.zeros((n, 0), dtype=np.int32), (), ())
    if n_classes:
        y: np.ndarray = rng.permutation(np.arange(n) % n_classes)
        task = Task("multiclass", tuple(range(n_classes)))
    else:
        y, task = rng.normal(size=n), Task("regression")
    return Samples(ids=np.arange(n).astype(str), inputs={"table": table}, y=y, task=task, **roles)


def _check_partition(folds: Folds, complement: bool = True) -> None:
    for repeat in folds.splits:
        predicted = np.concatenate([p for _, p in repeat])
        assert len(np.unique(predicted)) == len(predicted)
        for train, held_out in repeat:
            assert train.dtype == held_out.dtype == np.int64
            assert (np.diff(train) > 0).all() and (np.diff(held_out) > 0).all()
            assert not np.intersect1d(train, held_out).size
            if complement:
                assert len(train) + len(held_out) == folds.n_rows == len(predicted)


@settings(max_examples=25)
@given(
    st.integers(40, 120),
    seeds,
    st.integers(2, 5),
    st.integers(1, 3),
    st.sampled_from(["kfold", "stratified"]),
)
def test_plain_folds_partition_the_rows(n: int, seed: int, n_folds: int, repeats: int, kind: str) -> None:
    samples = _samples(n, seed)
    folds = make_folds(FoldOptions(kind=kind, n=n_folds, repeats=repeats, seed=seed), samples)
    assert (folds.n_repeats, folds.n_folds, folds.kind) == (repeats, n_folds, kind)
    _check_partition(folds)
    again = make_folds(FoldOptions(kind=kind, n=n_folds, repeats=repeats, seed=seed), samples)
    assert all(
        (folds.fold_of(r) == again.fold_of(r)).all() and (folds.fold_of(r) >= 0).all() for r in range(repeats)
    )
    if repeats > 1:
        assert (folds.fold_of(0) != folds.fold_of(1)).any()


@settings(max_examples=25)
@given(st.integers(60, 150), seeds, st.sampled_from(["group", "stratified_group"]))
def test_groups_are_never_on_both_sides(n: int, seed: int, kind: str) -> None:
    group = np.random.default_rng(seed).integers(0, 12, n)
    samples = _samples(n, seed, group=group)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        folds = make_folds(FoldOptions(kind=kind, n=3, repeats=2, seed=seed), samples)
    _check_partition(folds)
    for repeat in folds.splits:
        for train, predicted in repeat:
            assert not np.intersect1d(group[train], group[predicted]).size
            fit, validation = inner_split(samples, train, kind, 0.2, seed)
            assert not np.intersect1d(group[fit], group[validation]).size
            np.testing.assert_array_equal(np.union1d(fit, validation), train)


@settings(max_examples=40)
@given(st.integers(40, 150), seeds, st.integers(0, 5), st.booleans(), st.booleans())
def test_training_rows_are_strictly_earlier(n: int, seed: int, gap: int, ties: bool, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    time = rng.integers(0, 25, n).astype(float) if ties else rng.permutation(n).astype(float)
    group = rng.integers(0, 40, n) if grouped else None
    samples = _samples(n, seed, n_classes=0, time=time, group=group)
    try:
        folds = make_folds(FoldOptions(kind="time", n=3, gap=gap), samples)
    except DataError:
        return
    assert folds.is_time
    _check_partition(folds, complement=False)
    for train, predicted in folds.splits[0]:
        assert time[train].max() < time[predicted].min()
        if group is not None:
            assert not np.intersect1d(group[train], group[predicted]).size
    assert (folds.fold_of(0) == -1).any()


@pytest.mark.parametrize("extra", [{}, {"gap": 2}, {"test_size": 7}, {"max_train_size": 11, "gap": 1}])
def test_time_folds_equal_scikit_learns_where_times_differ(extra: dict[str, Any]) -> None:
    samples = _samples(60, n_classes=0, time=np.arange(60.0))
    folds = make_folds(FoldOptions(kind="time", n=4, **extra), samples)
    expected = TimeSeriesSplit(n_splits=4, **extra).split(np.zeros((60, 1)))
    for (train, predicted), (their_train, their_predicted) in zip(folds.splits[0], expected, strict=True):
        np.testing.assert_array_equal(train, their_train)
        np.testing.assert_array_equal(predicted, their_predicted)


def test_the_first_repeat_equals_scikit_learns_splitter() -> None:
    samples = _samples(50)
    folds = make_folds(FoldOptions(n=5, seed=7), samples)
    expected = StratifiedKFold(5, shuffle=True, random_state=7).split(np.zeros(50), samples.y)
    for (_, predicted), (_, theirs) in zip(folds.splits[0], expected, strict=True):
        np.testing.assert_array_equal(predicted, theirs)


def test_repeats_as_blocks_share_the_assignment() -> None:
    folds = make_folds(FoldOptions(repeats=3, repeats_as="blocks"), _samples(50))
    assert all((folds.fold_of(0) == folds.fold_of(r)).all() for r in range(3))


def test_given_folds_are_taken_as_they_are() -> None:
    fold = np.arange(50) % 4
    folds = make_folds(FoldOptions(), _samples(50, fold=fold))
    assert folds.kind == "column"
    np.testing.assert_array_equal(folds.fold_of(0), fold)
    group = np.arange(50) // 2
    with pytest.raises(DataError, match=r"one group must stand on one side of a fold; fold 0 has"):
        make_folds(FoldOptions(), _samples(50, fold=fold, group=group))
    make_folds(FoldOptions(allow_leak=True), _samples(50, fold=fold, group=group))


def test_a_splitter_of_the_user_is_checked() -> None:
    samples = _samples(40)
    options = FoldOptions(kind="mine:Splitter", repeats=2)
    folds = make_folds(options, samples, KFold(4, shuffle=True, random_state=1))
    _check_partition(folds)
    assert (folds.fold_of(0) != folds.fold_of(1)).any()
    with pytest.raises(DataError, match="a row must be predicted by one fold"):
        make_folds(options, samples, ShuffleSplit(4, random_state=0))
    with pytest.raises(ConfigError, match=r"must have split\(X, y, groups\)"):
        make_folds(options, samples, None)
    with pytest.raises(DataError, match="training rows must be earlier"):
        make_folds(options, _samples(40, time=np.arange(40.0)), KFold(4))


def test_a_splitter_of_the_user_that_follows_time_is_treated_as_time_folds() -> None:
    samples = _samples(40, time=np.arange(40.0))
    assert make_folds(FoldOptions(kind="mine:Splitter"), samples, TimeSeriesSplit(4)).is_time
    free = FoldOptions(kind="mine:Splitter", allow_leak=True)
    assert not make_folds(free, samples, KFold(4)).is_time


@pytest.mark.parametrize(
    ("options", "has", "task", "kind"),
    [
        ({}, (1, 1, 1), "binary", "column"),
        ({}, (1, 1, 0), "binary", "time"),
        ({}, (1, 0, 0), "multiclass", "stratified_group"),
        ({}, (1, 0, 0), "regression", "group"),
        ({}, (0, 0, 0), "multiclass", "stratified"),
        ({}, (0, 0, 0), "regression", "kfold"),
        ({"kind": "a.b:C"}, (1, 1, 1), "binary", "custom"),
        ({"kind": "kfold", "allow_leak": True}, (1, 1, 1), "binary", "kfold"),
    ],
)
def test_kinds_are_resolved(options: dict[str, Any], has: tuple[int, ...], task: Any, kind: str) -> None:
    assert resolve_kind(FoldOptions(**options), task, *map(bool, has)) == kind


@pytest.mark.parametrize(
    ("kind", "has", "task", "message"),
    [
        ("group", (0, 0, 0), "binary", "needs a column; got no data.group"),
        ("time", (0, 0, 0), "binary", "needs a column; got no data.time"),
        ("column", (0, 0, 0), "binary", "needs a column; got no data.fold"),
        ("kfold", (1, 0, 0), "binary", "ignores data.group.*allow_leak"),
        ("stratified", (0, 1, 0), "binary", "ignores data.time.*allow_leak"),
        ("stratified", (0, 0, 0), "regression", "needs classes.*use kind: kfold"),
    ],
)
def test_kinds_that_do_not_fit_are_errors(kind: str, has: tuple[int, ...], task: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_kind(FoldOptions(kind=kind), task, *map(bool, has))


def test_too_few_rows_groups_or_rows_of_a_class_are_errors() -> None:
    rare = _samples(40, n_classes=2)
    rare.labels[:] = 0
    rare.labels[[3, 5]] = 1
    with pytest.raises(DataError, match=r"at least 5 rows for folds.n=5; got class 1 \(2\)"):
        make_folds(FoldOptions(), rare)
    with pytest.raises(DataError, match=r"a row for each fold; got 3 rows, folds.n=5"):
        make_folds(FoldOptions(), _samples(3))
    with pytest.raises(DataError, match=r"a group for each fold; got 4 groups, folds.n=5"):
        make_folds(FoldOptions(kind="group"), _samples(40, group=np.arange(40) % 4))
    with pytest.raises(DataError, match="leave rows to train on before the first fold"):
        make_folds(FoldOptions(kind="time", gap=30), _samples(40, time=np.arange(40.0)))
    late = _samples(40, n_classes=3, time=np.arange(40.0))
    late.labels[:] = np.where(np.arange(40) > 30, 2, np.arange(40) % 2)
    with pytest.warns(DataWarning, match="without a training row: 2 in fold 0"):
        make_folds(FoldOptions(), late)


def test_duplicates_across_folds_warn() -> None:
    samples = _samples(60)
    table = samples.inputs["table"]
    assert isinstance(table, Table)
    table.numeric[30:] = table.numeric[:30]
    table.numeric[[0, 30]] = np.nan
    with pytest.warns(LeakWarning, match=r"of the rows have an equal feature row in another fold"):
        make_folds(FoldOptions(), samples)
    hashes = hash_rows(samples.inputs)
    assert (hashes[:30] == hashes[30:]).all() and len(np.unique(hashes)) == 30
    assert share_of_split_duplicates(samples, np.arange(60) % 30) == 0.0
    assert share_of_split_duplicates(samples, np.arange(60) // 30) == 1.0


@pytest.mark.parametrize(
    ("roles", "remedy"),
    [
        ({}, "or name what they share as data.group"),
        ({"group": np.arange(60)}, "or check data.group, which does not keep them together"),
        ({"fold": np.arange(60) // 12}, "or give equal rows the same data.fold"),
        ({"group": np.arange(60), "fold": np.arange(60) // 12}, "or check data.group"),
    ],
)
def test_the_advice_on_duplicates_is_about_columns_that_can_still_be_named(
    roles: dict[str, Any], remedy: str
) -> None:
    samples = _samples(60, **roles)
    table = samples.inputs["table"]
    assert isinstance(table, Table)
    table.numeric[30:] = table.numeric[:30]
    kind = "column" if "fold" in roles else "auto"
    with pytest.warns(LeakWarning, match=remedy) as said:
        make_folds(FoldOptions(kind=kind), samples)
    assert ("name what they share" in str(said[0].message)) == (not roles)


def test_rows_that_differ_in_a_column_that_is_not_read_are_not_equal() -> None:
    samples = _samples(60)
    table = samples.inputs["table"]
    assert isinstance(table, Table)
    table.numeric[30:] = table.numeric[:30]
    fold_of = np.arange(60) // 30
    assert share_of_split_duplicates(replace(samples, unread=np.arange(60)), fold_of) == 0.0
    assert share_of_split_duplicates(replace(samples, unread=np.arange(60) % 30), fold_of) == 1.0
    half = np.where(np.arange(60) % 30 < 15, np.arange(60), 0)
    assert share_of_split_duplicates(replace(samples, unread=half), fold_of) == 0.5


def test_folds_go_through_a_store_entry() -> None:
    folds = make_folds(FoldOptions(kind="time", n=3, repeats=2), _samples(40, time=np.arange(40.0)))
    store = MemoryStore()
    with store.write("folds", "folds", {}) as writer:
        save_folds(folds, writer)
    back = load_folds(store.read("folds"))
    assert (back.kind, back.n_rows, back.n_repeats, back.n_folds) == ("time", 40, 2, 3)
    for ours, theirs in zip(folds.splits[1], back.splits[1], strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
    fold_of = back.fold_of(0).tolist()
    assert fold_of[:2] == [-1, -1] and max(fold_of) == 2


@settings(max_examples=60)
@given(st.integers(4, 200), seeds, st.floats(0.05, 0.6), st.integers(0, 4))
def test_inner_splits_partition_their_rows(n: int, seed: int, fraction: float, n_classes: int) -> None:
    samples = _samples(n, seed, n_classes=n_classes)
    rows = np.flatnonzero(np.random.default_rng(seed).random(n) < 0.7)
    if len(rows) < 4:
        return
    fit, validation = inner_split(samples, rows, "stratified", fraction, seed)
    assert len(fit) and len(validation)
    np.testing.assert_array_equal(np.sort(np.concatenate([fit, validation])), rows)
    if n_classes and np.bincount(samples.labels[rows]).max() > 1:
        assert set(samples.labels[fit]) == set(samples.labels[rows])
        for label in set(samples.labels[rows]):
            expected = fraction * np.sum(samples.labels[rows] == label)
            assert abs(np.sum(samples.labels[validation] == label) - expected) < 2


@settings(max_examples=40)
@given(st.integers(6, 100), seeds, st.floats(0.05, 0.6), st.integers(2, 20))
def test_inner_time_splits_validate_on_the_last_rows(
    n: int, seed: int, fraction: float, n_times: int
) -> None:
    time = np.random.default_rng(seed).integers(0, n_times, n).astype(float)
    samples = _samples(n, seed, n_classes=0, time=time)
    if len(np.unique(time)) < 2:
        return
    fit, validation = inner_split(samples, np.arange(n), "time", fraction, seed)
    assert time[fit].max() < time[validation].min()


def test_inner_splits_without_a_way_to_divide_are_errors() -> None:
    with pytest.raises(DataError, match="at least 2 rows; got 1"):
        inner_split(_samples(10), np.array([3]), "kfold", 0.2, 0)
    with pytest.raises(DataError, match="at least 2 groups"):
        inner_split(_samples(10, group=np.zeros(10, dtype=int)), np.arange(10), "group", 0.2, 0)
    with pytest.raises(DataError, match="at least 2 times"):
        inner_split(_samples(10, time=np.zeros(10)), np.arange(10), "time", 0.2, 0)
