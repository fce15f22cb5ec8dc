"""Held-out rows are drawn as folds are: by class, by whole groups, the latest, or as given."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from stackfeat.data.options import FoldOptions
from stackfeat.data.samples import Samples, Table
from stackfeat.data.schema.roles import read_fold
from stackfeat.data.splits.folds import make_folds
from stackfeat.data.splits.holdout import Holdout, describe_holdout, draw_holdout, load_holdout, save_holdout
from stackfeat.errors import DataError, LeakWarning
from stackfeat.tasks.task import Task


def make_samples(n_rows: int, y: np.ndarray | None = None, **roles: Any) -> Samples:
    """Rows with two columns; labels are codes, or values without any."""
    rng = np.random.default_rng(5)
    table = Table(rng.normal(size=(n_rows, 2)), ("a", "b"), np.zeros((n_rows, 0), dtype=np.int32), (), ())
    ids = np.array([f"r{i}" for i in range(n_rows)])
    if y is None:
        return Samples(ids, {"table": table}, rng.normal(size=n_rows), Task("regression"), **roles)
    task = Task("multiclass", tuple("abcdef"[: int(y.max()) + 1]))
    return Samples(ids, {"table": table}, y, task, **roles)


def draw(
    samples: Samples, share: float | str = 0.1, kind: str = "kfold", gap: int = 0, seed: int = 0
) -> Holdout:
    return draw_holdout(samples, {"share": share, "kind": kind, "gap": gap, "seed": seed})


def test_classes_are_held_out_in_proportion_and_every_row_stands_on_one_side() -> None:
    y = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [600, 300, 100]))
    holdout = draw(make_samples(1000, y), kind="stratified")
    assert np.abs(np.bincount(y[holdout.held]) - [60, 30, 10]).max() <= 1
    np.testing.assert_array_equal(np.sort(np.concatenate([holdout.kept, holdout.held])), np.arange(1000))
    assert holdout.ids.tolist() == [f"r{i}" for i in range(1000)]


def test_the_draw_follows_from_the_seed() -> None:
    samples = make_samples(200)
    first, again, other = (draw(samples, 0.2, seed=seed).held for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert len(first) == 40 and not np.array_equal(first, other)


@pytest.mark.parametrize("classes", [True, False])
def test_groups_are_held_out_whole(classes: bool) -> None:
    group = np.random.default_rng(2).integers(0, 40, 400)
    y = np.random.default_rng(3).integers(0, 3, 400) if classes else None
    holdout = draw(make_samples(400, y, group=group), kind="group")
    assert not set(group[holdout.kept]) & set(group[holdout.held])
    assert 30 <= len(holdout.held) <= 50


def test_the_latest_rows_are_held_out_and_rows_of_one_time_stay_together() -> None:
    time = np.random.default_rng(4).permutation(np.arange(200) // 8).astype(float)
    holdout = draw(make_samples(200, time=time), kind="time")
    assert time[holdout.kept].max() < time[holdout.held].min()
    # 20 rows are wanted; the 20th from the end shares its time with 7 others.
    assert len(holdout.held) == 24 and len(holdout.kept) == 176


def test_the_gap_of_time_folds_stands_before_the_held_out_rows_too() -> None:
    time = np.arange(100.0)[::-1]
    holdout = draw(make_samples(100, time=time), kind="time", gap=7)
    assert sorted(time[holdout.held]) == list(range(90, 100))
    assert sorted(time[holdout.kept]) == list(range(83))


def test_earlier_rows_of_a_held_out_group_are_left_out_of_both() -> None:
    time, group = np.arange(100.0), np.arange(100) // 2 % 45
    holdout = draw(make_samples(100, time=time, group=group), kind="time")
    assert not set(group[holdout.kept]) & set(group[holdout.held])
    neither = set(range(100)) - set(holdout.kept) - set(holdout.held)
    assert neither == set(range(10)), "the groups of the last ten rows began with the first ten"
    text = describe_holdout(
        holdout, make_samples(100, time=time, group=group), {"share": 0.1, "kind": "time"}
    )
    assert text == (
        "held out of all levels: 10 of 100 rows (10.0%), the latest; "
        "10 rows before them or of their groups are left out"
    )


def test_given_rows_are_held_out_and_the_other_folds_stay() -> None:
    fold = np.arange(60) % 4 - 1
    samples = make_samples(60, np.arange(60) // 4 % 2, fold=fold)
    holdout = draw(samples, "column")
    np.testing.assert_array_equal(holdout.held, np.flatnonzero(fold == -1))
    folds = make_folds(FoldOptions(kind="column"), samples.take(holdout.kept))
    np.testing.assert_array_equal(folds.fold_of(0), fold[holdout.kept])
    with pytest.raises(
        DataError, match=r"got -1 in 15 rows; -1 marks rows to hold out: set stack\.holdout: column"
    ):
        make_folds(FoldOptions(kind="column"), samples)


@pytest.mark.parametrize(("given", "read"), [([0, 1, -1, 2], [0, 1, -1, 2]), ([1, -1, 2, 3], [0, -1, 1, 2])])
def test_a_fold_column_may_count_from_one_and_mark_rows(given: list[int], read: list[int]) -> None:
    pd = pytest.importorskip("pandas")
    assert read_fold(pd.Series(given), "f.csv").tolist() == read
    with pytest.raises(DataError, match=r"numbered 0, 1, .*; got -2, 0, 1; number them anew"):
        read_fold(pd.Series([0, 1, -2]), "f.csv")
    with pytest.raises(DataError, match=r"at least two; got -1, 0;"):
        read_fold(pd.Series([0, 0, -1]), "f.csv")


ODD = np.arange(100) % 2
WRONG: dict[str, tuple[Samples, dict[str, Any], str]] = {
    "too_few_rows": (
        make_samples(60, ODD[:60]),
        {},
        r"at least 10 rows; got [67] of 60 \(stack.holdout=0.1\)",
    ),
    "class_lost": (
        make_samples(100, np.array([0, 1] * 45 + [2, 1] * 5), time=np.arange(100.0)),
        {"kind": "time"},
        r"each class must have a row outside stack.holdout; got none of class 'c'; use a smaller",
    ),
    "one_class_held_out": (
        make_samples(100, np.array([0, 1] * 45 + [1] * 10), time=np.arange(100.0)),
        {"kind": "time"},
        r"must hold at least 2 classes; got only 'b' in 10 rows",
    ),
    "one_group": (make_samples(100, group=np.zeros(100, dtype=int)), {}, r"got one group in data.group"),
    "one_time": (
        make_samples(100, time=np.zeros(100)),
        {"kind": "time"},
        r"got none before the latest 100 of 100",
    ),
    "gap_too_wide": (
        make_samples(100, time=np.arange(100.0)),
        {"kind": "time", "gap": 95},
        r"got none before the latest 10 of 100 rows .*folds.gap=95",
    ),
    "groups_of_all_times": (
        make_samples(100, time=np.arange(100.0), group=np.arange(100) % 5),
        {"kind": "time"},
        r"groups whole",
    ),
    "one_late_time": (
        make_samples(100, time=np.array([*range(40), *[99] * 60], dtype=float)),
        {"kind": "time"},
        r"must leave half of the rows to train on; got 60 of 100",
    ),
    "no_weight": (
        make_samples(100, time=np.arange(100.0), weight=np.array([1.0] * 90 + [0.0] * 10)),
        {"kind": "time"},
        r"some weight must be above 0 .*; got 0 in all 10 rows held out",
    ),
    "none_marked": (
        make_samples(100, fold=np.arange(100) % 3),
        {"share": "column"},
        r"needs rows whose given fold is -1; got none in data.fold",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_held_out_is_said(case: str) -> None:
    samples, options, message = WRONG[case]
    with pytest.raises(DataError, match=message):
        draw(samples, **options)


def test_equal_rows_on_both_sides_are_warned_of() -> None:
    samples = make_samples(200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(samples)
    doubled = samples.take(np.repeat(np.arange(100), 2))
    with pytest.warns(
        LeakWarning, match=r"of the held-out rows have an equal feature row among those trained on"
    ):
        draw(doubled)


def test_a_holdout_is_stored_and_read() -> None:
    class Shelf(dict):  # type: ignore[type-arg]
        def array(self, name: str, values: Any = None) -> Any:
            return self[name] if values is None else self.__setitem__(name, values)

        def json(self, name: str, value: Any = None) -> Any:
            return self.array(name, value)

    shelf, holdout = Shelf(), draw(make_samples(120))
    save_holdout(holdout, shelf)
    found = load_holdout(shelf)
    for name in ("kept", "held", "ids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(holdout, name))
