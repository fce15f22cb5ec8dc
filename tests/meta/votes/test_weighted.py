"""Vote weights lie on the simplex and are the best ones there."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, nnls

from stackfeat.meta.votes.soft import soft_vote
from stackfeat.meta.votes.weighted import fit_simplex_weights
from stackfeat.metrics.registry import get_metric, metric_names
from stackfeat.tasks.quantile import of_quantiles
from stackfeat.tasks.task import Task

BINARY = Task("binary", ("n", "y"))
MULTI = Task("multiclass", (1, 2, 3))
VALUE = Task("regression")


def members(task, n=200, n_inputs=4, seed=0):
    random = np.random.default_rng(seed)
    noise = np.linspace(0.5, 3, n_inputs)
    if not task.classes:
        y = random.gamma(3.0, size=n)
        return y, [np.maximum(y + s * random.normal(size=n), 0)[:, None] for s in noise]
    y = random.integers(0, task.n_outputs, n)
    logits = [np.eye(task.n_outputs)[y] + s * random.normal(size=(n, task.n_outputs)) for s in noise]
    proba = [np.exp(one) for one in logits]
    return y, [p / p.sum(axis=1, keepdims=True) for p in proba]


def loss_of(weights, predictions, y, metric, task, row_weight=None):
    mean = task.to_target_scale(soft_vote(predictions, weights))
    return metric.loss(task.to_target_scale(y), mean, task, row_weight)


@given(seed=st.integers(0, 100), weighted=st.booleans())
@settings(max_examples=5)
def test_weights_are_on_the_simplex_and_beat_equal_ones(seed, weighted):
    for task in (BINARY, MULTI, VALUE):
        y, predictions = members(task, n=80, seed=seed)
        row_weight = np.random.default_rng(seed).uniform(0.1, 2, len(y)) if weighted else None
        for name in metric_names(task.kind):
            metric = get_metric(name, task.kind)
            weights = fit_simplex_weights(predictions, y, metric, task, row_weight)
            assert (weights >= 0).all()
            assert weights.sum() == pytest.approx(1.0)
            found = loss_of(weights, predictions, y, metric, task, row_weight)
            assert found <= loss_of(None, predictions, y, metric, task, row_weight) + 1e-6, name


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (BINARY, "log_loss"),
        (MULTI, "log_loss"),
        (MULTI, "brier"),
        (VALUE, "rmse"),
        (VALUE, "mae"),
        (VALUE, "r2"),
    ],
)
def test_no_point_of_a_random_cloud_on_the_simplex_is_better(task, name):
    y, predictions = members(task, n_inputs=5, seed=3)
    metric = get_metric(name, task.kind)
    best = loss_of(fit_simplex_weights(predictions, y, metric, task), predictions, y, metric, task)
    cloud = np.random.default_rng(0).dirichlet(np.ones(5) * 0.7, size=2000)
    assert best <= min(loss_of(w, predictions, y, metric, task) for w in cloud) + 1e-7


def test_squared_error_weights_equal_nnls_with_a_heavy_sum_row():
    y, predictions = members(VALUE, seed=1)
    errors = np.hstack(predictions)
    heavy = 1e4
    expected, _ = nnls(np.vstack([errors, heavy * np.ones(4)]), np.r_[y, heavy])
    found = fit_simplex_weights(predictions, y, get_metric("rmse", "regression"), VALUE)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_absolute_error_weights_equal_the_linear_program():
    y, predictions = members(VALUE, n=150, seed=2)
    columns, n, m = np.hstack(predictions), 150, 4
    bounds = np.block([[columns, -np.eye(n)], [-columns, -np.eye(n)]])
    program = linprog(
        np.r_[np.zeros(m), np.ones(n) / n],
        A_ub=bounds,
        b_ub=np.r_[y, -y],
        A_eq=[np.r_[np.ones(m), np.zeros(n)]],
        b_eq=[1.0],
    )
    metric = get_metric("mae", "regression")
    found = fit_simplex_weights(predictions, y, metric, VALUE)
    assert loss_of(found, predictions, y, metric, VALUE) == pytest.approx(program.fun, rel=1e-4)


def test_log_targets_are_scored_on_the_scale_of_the_file():
    task = Task("regression", transform="log1p")
    y, predictions = members(VALUE, seed=4)
    y, predictions = np.log1p(y), [np.log1p(p) for p in predictions]
    for name in ("rmsle", "rmse", "mae"):
        metric = get_metric(name, "regression")
        weights = fit_simplex_weights(predictions, y, metric, task)
        assert loss_of(weights, predictions, y, metric, task) <= loss_of(None, predictions, y, metric, task)


def test_one_input_weighs_one_and_copies_share():
    y, predictions = members(BINARY)
    metric = get_metric("log_loss", "binary")
    assert fit_simplex_weights(predictions[:1], y, metric, BINARY).tolist() == [1.0]
    np.testing.assert_allclose(fit_simplex_weights([predictions[0]] * 2, y, metric, BINARY), [0.5, 0.5])


def test_the_same_inputs_give_the_same_weights():
    y, predictions = members(BINARY)
    metric = get_metric("roc_auc", "binary")
    a, b = (fit_simplex_weights(predictions, y, metric, BINARY, seed=5) for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_a_useless_member_gets_nothing():
    y, predictions = members(MULTI, n=500)
    noise = np.random.default_rng(9).dirichlet(np.ones(3) * 0.3, size=500)
    weights = fit_simplex_weights([*predictions, noise], y, get_metric("log_loss", "multiclass"), MULTI)
    assert weights[-1] < 0.05


def naive_search(starts, predictions, y, metric, task, row_weight):
    """Every neighbour of the weights, scored from scratch; the best one is the next, until none is better."""
    best = min(starts, key=lambda w: loss_of(w, predictions, y, metric, task, row_weight))
    lowest = loss_of(best, predictions, y, metric, task, row_weight)
    for step in (0.3, 0.1, 0.03, 0.01):
        for _ in range(5):
            moves = [best + step * one for one in np.eye(len(best))]
            moves += [np.maximum(best - step * one, 0.0) for one in np.eye(len(best))]
            losses = [
                loss_of(w, predictions, y, metric, task, row_weight) if w.sum() > 0 else np.inf for w in moves
            ]
            if not min(losses) < lowest - 1e-12:
                break
            lowest = min(losses)
            best = moves[int(np.argmin(losses))] / moves[int(np.argmin(losses))].sum()
    return best, lowest


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("task", "name"),
    [(BINARY, "roc_auc"), (BINARY, "average_precision"), (MULTI, "mcc"), (VALUE, "pearson")],
)
def test_searched_weights_score_as_a_naive_search_does(task, name, weighted):
    y, predictions = members(task, n=150, n_inputs=6, seed=8)
    row_weight = np.random.default_rng(0).uniform(0.1, 2, len(y)) if weighted else None
    usual, metric = get_metric(task.row_metric, task.kind), get_metric(name, task.kind)
    starts = [fit_simplex_weights(predictions, y, usual, task, row_weight), np.full(6, 1 / 6)]
    _, expected = naive_search(starts, predictions, y, metric, task, row_weight)
    found = fit_simplex_weights(predictions, y, metric, task, row_weight)
    assert loss_of(found, predictions, y, metric, task, row_weight) == pytest.approx(expected, abs=1e-9)


def test_a_search_over_many_members_scores_few_averages_from_scratch():
    y, predictions = members(MULTI, n=60, n_inputs=80, seed=2)
    metric, scored = get_metric("f1_macro", "multiclass"), []

    def counting(*given):
        scored.append(1)
        return metric.function(*given)

    fit_simplex_weights(predictions, y, replace(metric, function=counting), MULTI)
    assert 0 < len(scored) < 5 * len(predictions)


def test_weights_under_the_pinball_loss_are_those_of_a_linear_program():
    random, task = np.random.default_rng(4), of_quantiles((0.1, 0.5, 0.9))
    y = random.gamma(3.0, size=150)
    predictions = [
        task.checked(y[:, None] + s * random.normal(size=(150, 1)) + s * np.array([-1.0, 0.2, 1.5]), "one")
        for s in (0.6, 1.0, 2.0)
    ]
    found = fit_simplex_weights(predictions, y, get_metric("pinball", "quantile"), task)
    # Over weights, and what is above and below in each cell.
    cells, n = np.stack([one.ravel() for one in predictions], axis=1), 450
    levels = np.tile(task.levels, 150)
    cost = np.concatenate([np.zeros(3), levels, 1 - levels])
    equal = np.hstack([cells, np.eye(n), -np.eye(n)])
    equal = np.vstack([equal, np.concatenate([np.ones(3), np.zeros(2 * n)])])
    best = linprog(cost, A_eq=equal, b_eq=np.concatenate([np.repeat(y, 3), [1.0]]))
    np.testing.assert_allclose(found, best.x[:3], atol=0.02)
    combined = sum(weight * one for weight, one in zip(found, predictions, strict=True))
    assert task.row_loss(y, combined).mean() <= (1 + 1e-4) * best.fun / n
