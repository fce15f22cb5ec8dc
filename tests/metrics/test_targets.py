"""Metrics of several targets: the mean over them, or a function of all of them."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk

from stackfeat.meta.votes.greedy import greedy_selection
from stackfeat.meta.votes.weighted import fit_simplex_weights
from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.metric import draw_rows
from stackfeat.metrics.registry import user_metric
from stackfeat.tasks.task import Task

TASK = Task("regression", n_targets=3, targets=("a", "b", "c"))
UNITS = np.array([1.0, 50.0, 0.02])


def drawn(n: int = 120, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    random = np.random.default_rng(seed)
    y = random.normal(size=(n, 3)) * UNITS
    return y, [y + s * random.normal(size=(n, 3)) * UNITS for s in (0.4, 0.8, 1.5)]


def relative(y: np.ndarray, p: np.ndarray, sample_weight: np.ndarray | None) -> float:
    mean = np.average(y, axis=0, weights=sample_weight)
    parts = [np.average((y - one) ** 2, axis=0, weights=sample_weight) for one in (p, mean)]
    return float(np.mean(np.sqrt(parts[0] / parts[1])))


ORACLES = {
    "rmse": sk.root_mean_squared_error,
    "mcrmse": sk.root_mean_squared_error,
    "arrmse": relative,
    "mae": sk.mean_absolute_error,
    "r2": sk.r2_score,
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ORACLES)
def test_the_score_is_the_mean_over_targets(name: str, weighted: bool) -> None:
    y, predictions = drawn()
    weight = np.random.default_rng(1).uniform(0.2, 3.0, len(y)) if weighted else None
    for one in predictions:
        expected = ORACLES[name](y, one, sample_weight=weight)
        assert METRICS[name].score(y, one, TASK, weight) == pytest.approx(expected)


@pytest.mark.parametrize("name", [*ORACLES, "pearson"])
def test_resamples_are_those_of_scoring_drawn_rows(name: str) -> None:
    y, predictions = drawn(60)
    found = METRICS[name].bootstrap(y, predictions, TASK, n_resamples=4, seed=3)
    expected = [
        [METRICS[name].score(y[rows], one[rows], TASK) for one in predictions]
        for rows in draw_rows(len(y), 4, 3)
    ]
    np.testing.assert_allclose(found, expected)


def test_a_target_without_a_score_is_left_out_of_the_mean() -> None:
    y, (prediction, *_) = drawn(40)
    y[:, 1] = 7.0
    of_others = sk.r2_score(y[:, [0, 2]], prediction[:, [0, 2]])
    assert METRICS["r2"].score(y, prediction, TASK) == pytest.approx(of_others)


def test_a_users_function_is_given_all_targets() -> None:
    def worst(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        return float(np.sqrt(((y_true - y_pred) ** 2).mean(axis=0)).max())

    y, (prediction, *_) = drawn(40)
    expected = sk.root_mean_squared_error(y, prediction, multioutput="raw_values").max()
    assert user_metric("mine:worst", worst, "regression").score(y, prediction, TASK) == pytest.approx(
        expected
    )


@pytest.mark.parametrize("name", ["rmse", "mae", "r2"])
def test_votes_are_best_for_the_mean_whatever_the_units_of_targets(name: str) -> None:
    y, predictions = drawn()
    # The second is good at the target whose unit is large, and bad at both others.
    predictions[1][:, 1] = y[:, 1] + 0.3 * (predictions[1][:, 1] - y[:, 1])
    metric = METRICS[name]
    for weights in (
        fit_simplex_weights(predictions, y, metric, TASK),
        greedy_selection(predictions, y, metric, TASK),
    ):
        mixed = sum(w * one for w, one in zip(weights, predictions, strict=True))
        alone = min(metric.loss(y, one, TASK) for one in predictions)
        assert metric.loss(y, mixed, TASK) < alone and weights.sum() == pytest.approx(1)
    scaled = fit_simplex_weights([one / UNITS for one in predictions], y / UNITS, metric, TASK)
    if name == "r2":
        np.testing.assert_allclose(scaled, fit_simplex_weights(predictions, y, metric, TASK), atol=0.02)
