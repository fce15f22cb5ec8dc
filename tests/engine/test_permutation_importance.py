"""Permutation importance: units that share nothing, errors that are those of a mean, values that are known."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import stats

from stackfeat.data.samples import Samples, Table
from stackfeat.data.schema.features import Feature
from stackfeat.engine.judged import Judged
from stackfeat.engine.permutation_importance import (
    Importance,
    Metered,
    Moved,
    Rise,
    donors_of,
    number_units,
)
from stackfeat.metrics.metric import Metric
from stackfeat.metrics.registry import get_metric
from stackfeat.tasks.task import Task

REGRESSION = Task("regression")
MSE = Metric(
    name="mse",
    needs="value",
    greater_is_better=False,
    tasks=("regression",),
    row_values=lambda y, prediction, task: (prediction - y) ** 2,
)


def test_units_lie_in_folds_and_are_alike_in_size() -> None:
    fold_of = np.repeat([0, 1, 2, 3], [200, 200, 200, 20])
    units = number_units(fold_of, None, None, False, seed=0)
    for unit in np.unique(units):
        assert len(np.unique(fold_of[units == unit])) == 1
    counts = np.bincount(units[fold_of < 3])
    assert counts.max() <= counts[counts > 0].min() + 1
    # Of few rows there are few units, so that a value is rarely swapped for its like.
    assert len(np.unique(units[fold_of == 3])) == 2
    assert 40 <= len(np.unique(units)) <= 52


def test_units_are_made_of_whole_groups_or_of_neighbours_in_time() -> None:
    fold_of, group = np.repeat([0, 1], 60), np.repeat(np.arange(40), 3)
    units = number_units(fold_of, group, None, False, seed=1)
    for one in np.unique(group):
        assert len(np.unique(units[group == one])) == 1
    assert all(len(np.unique(group[units == unit])) >= 5 for unit in np.unique(units))
    time = np.random.default_rng(0).permutation(120).astype(float)
    units = number_units(fold_of, None, time, True, seed=1)
    for fold in (0, 1):
        inside = fold_of == fold
        ordered = units[inside][np.argsort(time[inside])]
        assert np.count_nonzero(np.diff(ordered)) == len(np.unique(ordered)) - 1 > 3


def test_donors_are_others_of_the_unit_and_each_gives_once() -> None:
    units = np.random.default_rng(0).integers(0, 6, 90)
    donors = donors_of(units, np.random.default_rng(1))
    assert sorted(donors) == list(range(90))
    assert (units[donors] == units).all() and (donors != np.arange(90)).all()


def test_the_error_of_a_mean_is_that_of_its_units() -> None:
    values, units = np.random.default_rng(0).normal(1.0, 2.0, 60), np.arange(60) // 3
    moved = Moved(lambda prediction: prediction[:, 0], units)
    means = values.reshape(20, 3).mean(axis=1)
    rise = Rise.of(moved(values[:, None]), 1, trains_others=False)
    assert rise.value == pytest.approx(values.mean())
    assert rise.se == pytest.approx(stats.sem(means))
    low, high = stats.t.interval(0.95, 19, means.mean(), stats.sem(means))
    assert (rise.low, rise.high) == pytest.approx((low, high))
    # One of ten, all of which are to hold.
    low, high = stats.t.interval(1 - 0.05 / 10, 19, means.mean(), stats.sem(means))
    several = Rise.of(moved(values[:, None]), 10, trains_others=False)
    assert (several.low, several.high) == pytest.approx((low, high))
    shared = Rise.of(moved(values[:, None]), 1, trains_others=True)
    assert shared.se == pytest.approx(stats.sem(means) * np.sqrt(2))


def test_without_two_units_there_is_no_error() -> None:
    alone = Moved(lambda prediction: prediction[:, 0], np.zeros(5, dtype=np.int64))
    assert Rise.of(alone(np.ones((5, 1))), 1, trains_others=False) == Rise(1.0)
    assert Rise.of(np.array([0.5, np.nan, 0.4]), 1, trains_others=False) == Rise(0.5)


@dataclass
class Linear:
    """Rows that pass through a linear model, in the place of a stack."""

    rows: np.ndarray
    samples: Samples
    weights: np.ndarray
    asked: int = 0

    @property
    def prediction(self) -> np.ndarray:
        return self.changed(self.samples, ())

    def changed(self, samples: Samples, inputs: Collection[str]) -> np.ndarray:
        table = samples.inputs["t"]
        assert isinstance(table, Table)
        self.asked += 1
        return (table.numeric @ self.weights)[:, None]


def importance_of(
    X: np.ndarray, y: np.ndarray, weights: np.ndarray, metric: Metric, repeats: int
) -> tuple[Importance, Linear]:
    names = tuple(f"x{j}" for j in range(X.shape[1]))
    table = Table(X, names, np.zeros((len(X), 0), np.int32), (), ())
    samples = Samples(np.arange(len(X)).astype(str), {"t": table}, y, REGRESSION)
    fold_of = np.zeros(len(X), dtype=np.int64)
    units = number_units(fold_of, None, None, False, seed=0)
    judged = Judged(metric, REGRESSION, y, None, None)
    part: Any = Linear(np.arange(len(X)), samples, weights)
    losses = Metered(judged, lambda prediction: prediction, units)
    return Importance(samples, [part], losses, units, repeats, 0, trains_others=False), part


def test_the_importance_of_a_linear_models_column_is_twice_its_variance() -> None:
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(2000, 4)), np.array([2.0, -1.0, 0.3, 0.0])
    y = X @ weights + rng.normal(size=2000)
    importance, part = importance_of(X, y, weights, MSE, repeats=8)
    features = [Feature(f"x{j}", "numeric", (f"x{j}",), {"t": (j,)}) for j in range(4)]
    found = list(importance.of_features(features))
    for weight, one in zip(weights[:3], found, strict=False):
        assert one.se is not None and abs(one.value - 2 * weight**2) < 4 * one.se
    assert found[3] == Rise(0.0, 0.0, 0.0, 0.0)
    # Permutations of several columns are predicted together.
    assert part.asked <= 8
    joined = next(iter(importance.of_features([Feature.joined(features[:2])])))
    assert joined.se is not None and abs(joined.value - 10) < 4 * joined.se
    again, _ = importance_of(X, y, weights, MSE, repeats=8)
    assert list(again.of_features(features[::-1]))[::-1] == found


def test_a_metric_that_is_better_when_greater_falls() -> None:
    rng = np.random.default_rng(1)
    X, weights = rng.normal(size=(400, 2)), np.array([1.0, 0.0])
    importance, _ = importance_of(X, X @ weights, weights, get_metric("r2", "regression"), repeats=2)
    signal = next(iter(importance.of_features([Feature("x0", "numeric", ("x0",), {"t": (0,)})])))
    assert signal.value == pytest.approx(2.0, abs=0.3) and signal.low is not None and signal.low > 1.5
