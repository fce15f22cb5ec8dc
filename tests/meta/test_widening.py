"""Widening: the mean of calibrated predictions is brought back to what it is worth, without labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit, softmax
from sklearn.linear_model import LogisticRegression

from stackfeat.errors import StructureError
from stackfeat.meta.widening import Widening, averaged, checked_widenings
from stackfeat.tasks.task import Task

BINARY, THREE, VALUE = Task("binary", ("no", "yes")), Task("multiclass", ("a", "b", "c")), Task("regression")
N = 40_000


def normal_views(k: int = 5, noise: float = 0.8, shift: float = 0.0) -> tuple[np.ndarray, list[np.ndarray]]:
    """A truth, and the means of it given each of k measurements of their own, (N,)."""
    random = np.random.default_rng(0)
    truth = random.normal(size=N)
    share = 1 / (1 + noise**2)
    return truth + shift, [share * (truth + noise * random.normal(size=N)) + shift for _ in range(k)]


def binary_views(shift: float = 0.0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels, and the probabilities of each of five calibrated pipelines."""
    random = np.random.default_rng(1)
    truth, given = normal_views(shift=shift)
    y = (random.random(N) < expit(2 * truth)).astype(int)
    # What each measurement says is fitted once, so that its view is calibrated.
    views = [LogisticRegression(C=1e6).fit(one[:, None], y).predict_proba(one[:, None]) for one in given]
    return y, views


def slope(y: np.ndarray, p: np.ndarray) -> float:
    return float(LogisticRegression(C=1e6).fit(logit(p)[:, None], y).coef_[0, 0])


@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_a_mean_of_calibrated_pipelines_gets_its_slope_back(shift: float) -> None:
    y, views = binary_views(shift)
    mean = np.mean(views, axis=0)
    found = Widening.of(views, mean, BINARY)
    assert found is not None
    assert [slope(y, view[:, 1]) for view in views] == pytest.approx([1] * 5, abs=0.01)
    assert slope(y, mean[:, 1]) > 1.2
    put_back = found.apply(mean, BINARY)
    assert slope(y, put_back[:, 1]) == pytest.approx(1, abs=0.04)
    assert put_back[:, 1].mean() == pytest.approx(y.mean(), abs=0.005)
    assert BINARY.row_loss(y, put_back).mean() < BINARY.row_loss(y, mean).mean() - 0.003


def test_the_order_of_rows_stays() -> None:
    _, views = binary_views()
    mean = np.mean(views, axis=0)
    found = Widening.of(views, mean, BINARY)
    assert found is not None
    assert (np.argsort(found.apply(mean, BINARY)[:, 1]) == np.argsort(mean[:, 1])).mean() > 0.999


def test_values_get_the_share_of_variance_that_averaging_took() -> None:
    """By hand: least squares of the truth on the mean has the slope var(view) / var(mean)."""
    truth, given = normal_views(shift=3.0)
    views = [one[:, None] for one in given]
    mean = np.mean(views, axis=0)
    found = Widening.of(views, mean, VALUE)
    assert found is not None
    expected = np.polyfit(mean[:, 0], truth, 1)
    assert found.factors[0] == pytest.approx(expected[0], rel=0.02)
    assert found.offsets[0] == pytest.approx(expected[1], abs=0.05)


def test_targets_are_widened_each_by_its_own_factor() -> None:
    _, given = normal_views()
    views = [np.column_stack([one, 1000 * given[0]]) for one in given]
    mean = np.mean(views, axis=0)
    found = Widening.of(views, mean, Task("regression", n_targets=2))
    assert found is not None
    assert found.factors[0] > 1.2 and found.factors[1] == 1.0


def test_classes_share_one_factor() -> None:
    random = np.random.default_rng(2)
    truth = random.normal(size=(N, 3)) * 1.5
    views = [softmax(0.8 * (truth + 0.7 * random.normal(size=truth.shape)), axis=1) for _ in range(4)]
    mean = np.mean(views, axis=0)
    found = Widening.of(views, mean, THREE)
    assert found is not None and len(set(found.factors)) == 1 and found.factors[0] > 1.05
    np.testing.assert_allclose(found.apply(mean, THREE).sum(axis=1), 1)


@pytest.mark.parametrize("task", [BINARY, VALUE])
def test_pipelines_that_say_the_same_are_not_widened(task: Task) -> None:
    one = binary_views()[1][0] if task is BINARY else normal_views()[1][0][:, None]
    found = Widening.of([one, one], one, task)
    assert found is not None and set(found.factors) == {1.0}
    np.testing.assert_allclose(found.apply(one, task), one, atol=1e-6)


def test_one_pipeline_is_no_average() -> None:
    one = np.array([[0.2, 0.8]])
    assert Widening.of([one], one, BINARY) is None
    assert Widening.of([one[:0]] * 2, one[:0], BINARY) is None
    np.testing.assert_array_equal(averaged([one], BINARY, "mean", None), one)


def test_an_average_is_widened_wherever_it_is_made() -> None:
    views = binary_views()[1]
    found = Widening.of(views, np.mean(views, axis=0), BINARY)
    assert found is not None and found.factors[0] > 1
    expected = found.apply(np.mean(views, axis=0), BINARY)
    np.testing.assert_array_equal(averaged(views, BINARY, "mean", found), expected)


def test_constant_predictions_stay_constant() -> None:
    views = [np.tile([0.3, 0.7], (50, 1)), np.tile([0.4, 0.6], (50, 1))]
    found = Widening.of(views, np.mean(views, axis=0), BINARY)
    assert found is not None
    np.testing.assert_allclose(found.apply(np.mean(views, axis=0), BINARY), [[0.35, 0.65]] * 50, atol=1e-6)


def test_what_no_run_wrote_is_refused() -> None:
    with pytest.raises(StructureError, match=r"at\.m/proba\.factors must be 2 finite numbers; got"):
        checked_widenings({"m/proba": Widening((1.0,), (0.0, 0.0))}, BINARY, "at")
    with pytest.raises(StructureError, match=r"offsets must be 2 finite numbers"):
        checked_widenings({"m/proba": Widening((1.0, 1.0), (0.0, float("nan")))}, BINARY, "at")


def test_a_widening_must_change_more_than_is_open_about_the_slope() -> None:
    found = Widening((1.05, 1.05), (0.0, 0.0))
    assert found.is_sure(0.04) and not found.is_sure(0.06)
