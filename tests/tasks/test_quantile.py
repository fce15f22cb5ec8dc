"""Quantiles: they never cross, their loss is the pinball loss, and their constants are those of the target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mean_pinball_loss

from stackfeat.data.options import DataOptions
from stackfeat.errors import StructureError
from stackfeat.tasks.quantile import of_quantiles, weighted_quantiles
from stackfeat.tasks.task import DEFAULT_QUANTILES, Task

LEVELS = (0.05, 0.3, 0.5, 0.95)
TASK = of_quantiles(LEVELS)
FINITE = st.floats(-1e6, 1e6, width=32)


def loss(y: np.ndarray, prediction: np.ndarray) -> float:
    pairs = zip(LEVELS, prediction.T, strict=True)
    return float(np.mean([mean_pinball_loss(y, column, alpha=level) for level, column in pairs]))


@given(arrays(np.float64, (7, 4), elements=FINITE), arrays(np.float64, 7, elements=FINITE))
def test_predictions_never_cross_and_sorting_them_costs_nothing(said: np.ndarray, y: np.ndarray) -> None:
    class Crossing:
        def predict(self, columns: Any) -> np.ndarray:
            return said

    for made in (
        TASK.checked(said, "one"),
        TASK.ask(Crossing(), np.zeros((7, 1))),
        TASK.placed(said),
        TASK.of_scores(said),
        TASK.to_member_scale(said),
    ):
        assert (np.diff(made, axis=1) >= 0).all()
        np.testing.assert_array_equal(np.sort(said, axis=1), made)
        before, after = TASK.row_loss(y, said), TASK.row_loss(y, made)
        assert (after <= before + 1e-9 * (1 + np.abs(before))).all()
    averaged = TASK.average([TASK.checked(said, "one"), TASK.checked(said[::-1], "two")], "mean")
    assert (np.diff(averaged, axis=1) >= 0).all()


@given(arrays(np.float64, (5, 4), elements=st.floats(-3, 20, width=32)))
def test_quantiles_of_a_logarithm_do_not_cross_on_the_scale_of_the_target(said: np.ndarray) -> None:
    task = of_quantiles(LEVELS, "log1p")
    assert (np.diff(task.to_target_scale(task.checked(said, "one")), axis=1) >= 0).all()


def test_the_loss_of_a_row_is_its_mean_pinball_loss() -> None:
    rng = np.random.default_rng(0)
    y, prediction = rng.normal(size=50), np.sort(rng.normal(size=(50, 4)), axis=1)
    assert TASK.row_loss(y, prediction).mean() == pytest.approx(loss(y, prediction))


def test_the_best_constant_is_made_of_the_quantiles_of_the_target() -> None:
    y = np.random.default_rng(1).exponential(size=501)
    (best,) = TASK.constants(y, None)
    np.testing.assert_allclose(best, np.quantile(y, LEVELS, method="weibull"))
    for moved in (best + 0.05, best - 0.05, best * 1.1):
        assert loss(y, np.tile(best, (501, 1))) < loss(y, np.tile(moved, (501, 1)))


def test_a_new_value_lies_below_a_quantile_as_often_as_its_level_says() -> None:
    rng = np.random.default_rng(2)
    below = [
        [rng.random() <= one for one in weighted_quantiles(rng.random(9), np.array([0.1, 0.5, 0.9]), None)]
        for _ in range(20_000)
    ]
    np.testing.assert_allclose(np.mean(below, axis=0), [0.1, 0.5, 0.9], atol=0.01)


def test_weights_count_as_rows_and_rows_of_weight_0_not_at_all() -> None:
    rng = np.random.default_rng(3)
    values, levels = rng.normal(size=400), np.array([0.2, 0.5, 0.8])
    plain = weighted_quantiles(values, levels, None)
    np.testing.assert_allclose(weighted_quantiles(values, levels, np.full(400, 7.0)), plain)
    with_others = np.concatenate([values, rng.normal(9.0, size=100)])
    weight = np.repeat([1.0, 0.0], [400, 100])
    np.testing.assert_allclose(weighted_quantiles(with_others, levels, weight), plain)
    counts = rng.integers(1, 4, 400)
    repeated = weighted_quantiles(np.repeat(values, counts), levels, None)
    np.testing.assert_allclose(weighted_quantiles(values, levels, counts.astype(float)), repeated, atol=0.02)


def test_an_interval_is_made_of_two_quantiles_where_both_are_predicted() -> None:
    prediction = np.array([[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(TASK.at_level(prediction, 0.9), [[1.0, 4.0]])
    assert TASK.at_level(prediction, 0.8) is None
    # Stretched around the middle one, in units of the way to the outer ones.
    np.testing.assert_allclose(TASK.region(prediction, np.array([[1.0]])), [[1.0, 4.0]])
    np.testing.assert_allclose(TASK.region(prediction, np.array([[2.0]])), [[-1.0, 5.0]])
    np.testing.assert_allclose(TASK.nonconformity(np.array([5.0]), prediction), [[2.0]])
    np.testing.assert_allclose(TASK.nonconformity(np.array([2.0]), prediction), [[0.5]])


def test_a_single_quantile_has_intervals_as_wide_as_its_errors() -> None:
    task = of_quantiles([0.5])
    np.testing.assert_allclose(task.nonconformity(np.array([5.0]), np.array([[3.0]])), [[2.0]])
    np.testing.assert_allclose(task.region(np.array([[3.0]]), np.array([[2.0]])), [[1.0, 5.0]])


def test_columns_are_called_by_their_levels() -> None:
    assert TASK.columns == ("q0.05", "q0.3", "q0.5", "q0.95") and TASK.columns_of("a")[0] == "a:q0.05"
    assert of_quantiles(None).quantiles == DEFAULT_QUANTILES == (0.1, 0.5, 0.9)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((0.9, 0.1), "ascend, each once"),
        ((0.5, 0.5), "ascend, each once"),
        ((0.0, 0.5), "lie between 0 and 1"),
        ((0.5, 1.5), "lie between 0 and 1"),
        ((float("nan"),), "lie between 0 and 1"),
        ((), "name at least one level"),
    ],
)
def test_levels_that_make_no_sense_are_refused(levels: tuple[float, ...], message: str) -> None:
    with pytest.raises(StructureError, match=message):
        of_quantiles(levels)
    with pytest.raises(ValueError, match=message):
        DataOptions(train="train.csv", quantiles=levels)


def test_other_tasks_have_no_quantiles_and_say_nothing_of_them_in_their_json() -> None:
    assert "quantiles" not in Task("regression").to_json()
    with pytest.raises(StructureError, match="be of a quantile task"):
        Task("regression", quantiles=(0.5,)).check("task")


@pytest.mark.parametrize(
    ("n", "share", "off"),
    [
        (1000, 0.785, 0),
        (1000, 0.77, 1),
        (1000, 0.76, 1),
        (100, 0.77, 0),
        (1000, 0.755, 2),
        (1000, 0.55, 4),
        (1000, 0.85, 2),
    ],
)
def test_levels_are_kept_within_two_points_or_a_standard_error(n: int, share: float, off: int) -> None:
    """The standard error of a share of 80 % is 1.3 points of 1,000 rows, and 4 of 100."""
    y = np.zeros(n)
    y[: n - round(share * n)] = 5.0
    assert of_quantiles((0.1, 0.9)).levels_off(y, np.tile([-1.0, 1.0], (n, 1))) == off
    assert of_quantiles((share,)).levels_off(y, np.ones((n, 1))) == 0
    assert of_quantiles((0.3,)).levels_off(y, np.ones((n, 1))) > 0
