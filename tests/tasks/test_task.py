"""The loss of a row against scikit-learn's, and by hand at the ends."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_squared_error

from stackfeat.metrics.built_in import log_loss_rows
from stackfeat.tasks.classification import SMALLEST_PROBABILITY, log_probability
from stackfeat.tasks.task import Task

THREE = Task("multiclass", ("a", "b", "c"))


def test_the_mean_loss_of_rows_of_classes_is_scikit_learns_log_loss() -> None:
    rng = np.random.default_rng(0)
    y, proba = rng.integers(0, 3, 50), rng.dirichlet([0.3, 0.3, 0.3], 50)
    rows = THREE.row_loss(y, proba)
    assert rows.shape == (50,) and rows.min() >= 0
    assert rows.mean() == pytest.approx(log_loss(y, proba))
    weight = rng.exponential(size=50)
    assert np.average(rows, weights=weight) == pytest.approx(log_loss(y, proba, sample_weight=weight))


def test_a_row_that_is_surely_wrong_costs_the_same_wherever_it_is_judged() -> None:
    y, proba = np.array([0, 1, 2]), np.array([[0.0, 1.0, 0.0], [1e-9, 1 - 1e-9, 0.0], [0.5, 0.5, 1e-20]])
    found = THREE.row_loss(y, proba)
    np.testing.assert_allclose(found, [15 * np.log(10), 1e-9, 15 * np.log(10)], rtol=1e-6)
    np.testing.assert_array_equal(log_loss_rows(y, proba, THREE), found)
    assert log_probability(np.array([0.0]))[0] == np.log(SMALLEST_PROBABILITY)


@pytest.mark.parametrize("n_targets", [1, 3])
def test_the_loss_of_a_row_of_values_is_its_squared_error(n_targets: int) -> None:
    rng = np.random.default_rng(1)
    y, prediction = rng.normal(size=(20, n_targets)), rng.normal(size=(20, n_targets))
    task = Task("regression", n_targets=n_targets)
    rows = task.row_loss(y[:, 0] if n_targets == 1 else y, prediction)
    assert rows[4] == pytest.approx(np.mean((y[4] - prediction[4]) ** 2))
    assert rows.mean() == pytest.approx(mean_squared_error(y, prediction))
