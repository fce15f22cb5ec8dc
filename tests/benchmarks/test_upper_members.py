"""The benchmarks of members above the first level and of extra rows: no label of a fold reaches its predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.derived_columns import Data
from benchmarks.extra_rows import EXTRA, allowed, joined, worth
from benchmarks.members import held_back
from benchmarks.upper_members import MEMBERS, PSEUDO, SECOND, Stack, gated, pseudo


def make_data(n_rows: int, seed: int, n_classes: int = 2, **others: object) -> Data:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n_rows, 3)).round(2), columns=["a", "b", "c"])
    signal = X["a"] * X["b"] + X["c"] + rng.normal(size=n_rows) / 3
    y = (signal > 0).astype(int).to_numpy() if n_classes else signal.to_numpy()
    return Data(X, y, n_classes, **others)


def make_stack(n_classes: int) -> Stack:
    data, back = make_data(150, 0, n_classes), make_data(40, 1, n_classes)
    rng, shape = np.random.default_rng(2), max(n_classes, 1)

    def said(n_rows: int) -> np.ndarray:
        return rng.dirichlet([3] * shape, n_rows) if n_classes else rng.normal(size=(n_rows, 1))

    folds = list(data.splits(0))
    views = [{name: said(40) for name in MEMBERS} for _ in folds]
    layers = rng.normal(size=(150, 4))
    return Stack(data, back, folds, {name: said(150) for name in MEMBERS}, views, [20] * 5, layers)


@pytest.mark.parametrize(
    "n_classes", [2, pytest.param(0, marks=pytest.mark.slow)], ids=["binary", "regression"]
)
@pytest.mark.parametrize("kind", ["gated", *SECOND, *PSEUDO])
def test_labels_of_a_fold_move_no_prediction_of_it(kind: str, n_classes: int) -> None:
    stack, k = make_stack(n_classes), 3
    y, outside = stack.data.y.copy(), stack.folds[k][1]
    y[outside] = 1 - y[outside]
    other = replace(stack, data=replace(stack.data, y=y))

    def predict(stack: Stack) -> np.ndarray:
        teacher = gated(stack, k)
        if kind in PSEUDO:
            return pseudo(stack, k, teacher, soft=PSEUDO[kind])
        return teacher[0] if kind == "gated" else SECOND[kind](stack, k)

    found = predict(stack)
    assert found.shape == (len(outside), max(n_classes, 1)) and np.isfinite(found).all()
    np.testing.assert_array_equal(found, predict(other))


def test_rows_held_back_share_no_group_with_the_others() -> None:
    data, back = held_back(make_data(100, 0, group=np.arange(100) // 4))
    assert data.group is not None and back.group is not None
    assert not set(data.group) & set(back.group) and len(data.y) + len(back.y) == 100


def test_extra_rows_that_equal_a_held_out_row_share_its_group_or_are_later_stay_out() -> None:
    held, extra = make_data(10, 0), make_data(8, 1)
    both = replace(extra, X=pd.concat([held.X.iloc[:3], extra.X.iloc[3:]]))
    assert list(allowed(both, held).y) == list(extra.y[3:])
    groups = allowed(replace(extra, group=np.arange(8)), replace(held, group=np.array([1, 4] * 5)))
    assert list(groups.y) == list(extra.y[[0, 2, 3, 5, 6, 7]])
    days = pd.Series(pd.date_range("2024-01-01", periods=20))
    in_time = allowed(replace(extra, dates=days[:8]), replace(held, dates=days[5:15], in_time=True))
    assert list(in_time.y) == list(extra.y[:5])


def test_extra_rows_are_worth_it_where_they_are_alike_and_not_where_labels_are_turned_round() -> None:
    train, extra = make_data(200, 0), make_data(400, 1)
    assert len(joined(train, extra).y) == 600
    assert worth(train, extra, (20, 40))
    assert not worth(train, replace(extra, y=1 - extra.y), (20, 40))


def test_noisy_rows_have_a_fifth_of_other_labels_and_shifted_ones_other_numbers() -> None:
    data = make_data(2_000, 0)
    assert (EXTRA["noisy"](data, data).y != data.y).mean() == pytest.approx(0.1, abs=0.03)
    moved = (EXTRA["shifted"](data, data).X - data.X).abs() / data.X.std()
    assert moved.to_numpy() == pytest.approx(0.5)
