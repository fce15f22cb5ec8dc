"""Softmax, ridge and quantile solvers against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, QuantileRegressor, Ridge
from sklearn.metrics import mean_pinball_loss

from stackfeat.meta.gating.linear_solver import Pinball, Softmax, Squares, softmax, with_intercept


def sample(n=400, d=7, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.choice(n_classes, size=n, p=np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum())
    return rng.normal(size=(n, d)) * np.linspace(0.2, 4, d) + rng.normal(size=(n_classes, d))[y], y


@pytest.mark.parametrize(("n_classes", "halves"), [(4, 1.0), (3, 1.0), (2, 2.0)])
@pytest.mark.parametrize("penalty", [0.1, 3.0, 1000.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_is_logistic_regression_at_c_of_one_over_the_penalty(n_classes, halves, penalty, weighted):
    X, y = sample(n_classes=n_classes)
    weight = np.random.default_rng(1).uniform(0, 2, size=len(y)) if weighted else np.ones(len(y))
    theirs = LogisticRegression(C=halves / penalty, tol=1e-10, max_iter=5000).fit(X, y, sample_weight=weight)
    ours = Softmax(y, n_classes).fit(with_intercept(X), np.full(X.shape[1], penalty), weight, tolerance=1e-14)
    np.testing.assert_allclose(softmax(with_intercept(X) @ ours), theirs.predict_proba(X), atol=1e-5)
    if n_classes > 2:
        np.testing.assert_allclose(ours[:-1], theirs.coef_.T, atol=1e-4)


def test_single_precision_is_near_enough_for_choosing():
    X, y = sample()
    ones = np.ones(len(y))
    double, single = (
        Softmax(y, 4).fit(with_intercept(X.astype(dtype)), np.ones(7), ones, tolerance=1e-7)
        for dtype in (np.float64, np.float32)
    )
    np.testing.assert_allclose(
        softmax(with_intercept(X) @ single), softmax(with_intercept(X) @ double), atol=1e-3
    )


def test_rows_of_weight_zero_are_left_out():
    X, y = sample()
    weight = (np.arange(len(y)) % 2).astype(float)
    kept = weight > 0
    whole = Softmax(y, 4).fit(with_intercept(X), np.ones(7), weight)
    part = Softmax(y[kept], 4).fit(with_intercept(X[kept]), np.ones(7), weight[kept])
    np.testing.assert_allclose(whole, part, atol=1e-4)


def test_more_columns_than_rows_and_dead_columns_are_fine():
    X, y = sample(n=12, d=30)
    X[:, :5] = 0
    found = Softmax(y, 4).fit(with_intercept(X), np.full(30, 0.1), np.ones(12))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:5], 0, atol=1e-8)


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_squares_is_ridge_at_alpha_of_the_penalty(penalty):
    X, _ = sample()
    rng = np.random.default_rng(2)
    y, weight = X @ rng.normal(size=7) + rng.normal(size=len(X)), rng.uniform(0, 2, size=len(X))
    theirs = Ridge(alpha=penalty).fit(X, y, sample_weight=weight)
    ours = Squares(y).fit(with_intercept(X), np.full(7, penalty), weight)
    np.testing.assert_allclose(ours[:, 0], np.r_[theirs.coef_, theirs.intercept_], atol=1e-8)


def test_squares_with_a_prior_is_ridge_on_what_the_prior_leaves():
    X, _ = sample()
    rng = np.random.default_rng(2)
    y, prior = X @ rng.normal(size=7) + rng.normal(size=len(X)), rng.normal(size=7)
    theirs = Ridge(alpha=10.0).fit(X, y - X @ prior)
    ours = Squares(y).fit(with_intercept(X), np.full(7, 10.0), np.ones(len(X)), prior=prior[:, None])
    np.testing.assert_allclose(ours[:, 0], np.r_[theirs.coef_ + prior, theirs.intercept_], atol=1e-8)


@pytest.mark.parametrize("penalty", [0.1, 10.0, 1e6])
def test_softmax_with_a_prior_has_no_slope_where_it_ends(penalty):
    X, y = sample()
    prior = np.random.default_rng(2).normal(size=(7, 4))
    found = Softmax(y, 4).fit(
        with_intercept(X), np.full(7, penalty), np.ones(len(y)), prior=prior, tolerance=1e-14
    )
    slope = X.T @ (softmax(with_intercept(X) @ found) - np.eye(4)[y]) + penalty * (found[:-1] - prior)
    np.testing.assert_allclose(slope / (len(y) + penalty), 0, atol=1e-5)
    if penalty == 1e6:
        np.testing.assert_allclose(found[:-1], prior, atol=1e-3)


@pytest.mark.parametrize("classes", [True, False])
def test_an_offset_is_a_part_of_the_scores_that_is_given(classes):
    X, y = sample()
    problem = Softmax(y, 4) if classes else Squares(y.astype(float))
    known = np.random.default_rng(2).normal(size=(7, problem.n_outputs))
    penalty, ones = np.full(7, 5.0), np.ones(len(y))
    whole = problem.fit(with_intercept(X), penalty, ones, prior=known, tolerance=1e-14)
    rest = problem.fit(with_intercept(X), penalty, ones, offset=X @ known, tolerance=1e-14)
    np.testing.assert_allclose(rest[:-1] + known, whole[:-1], atol=1e-4)


LEVELS = np.array([0.1, 0.5, 0.8])


def uneven(n=1500, seed=0):
    """Values whose spread grows with a column."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    return X, X[:, 0] + (0.3 + 0.5 * np.abs(X[:, 1])) * rng.normal(size=n)


def test_without_a_penalty_it_loses_as_little_as_linear_programs():
    X, y = uneven()
    design = with_intercept(X)
    problem = Pinball(y, LEVELS).near(np.tile(X[:, :1], (1, 3)))
    scores = design @ problem.fit(design, np.full(4, 1e-9), np.ones(len(y)))
    for place, level in enumerate(LEVELS):
        theirs = QuantileRegressor(quantile=level, alpha=0).fit(X, y)
        best = mean_pinball_loss(y, theirs.predict(X), alpha=level)
        assert best <= mean_pinball_loss(y, scores[:, place], alpha=level) <= 1.001 * best
        np.testing.assert_allclose(scores[:, place], theirs.predict(X), atol=0.1)


def test_rows_of_weight_0_are_left_out_and_each_level_holds_on_the_others():
    X, y = uneven()
    others = np.vstack([X, X + 5]), np.concatenate([y, y - 50])
    weight = np.repeat([1.0, 0.0], len(y))
    penalty = np.full(4, 10.0)
    alone = Pinball(y, LEVELS).fit(with_intercept(X), penalty, np.ones(len(y)))
    both = Pinball(others[1], LEVELS).fit(with_intercept(others[0]), penalty, weight)
    np.testing.assert_allclose(both, alone, atol=1e-3)
    below = (y[:, None] <= with_intercept(X) @ alone).mean(axis=0)
    np.testing.assert_allclose(below, LEVELS, atol=2 / len(y))


def test_a_strong_penalty_leads_to_the_prior_and_an_offset_is_added():
    X, y = uneven()
    prior = np.outer([1.0, 0, 0, 0], [1.0, 1.0, 1.0])
    strong = np.full(4, 1e9)
    found = Pinball(y, LEVELS).fit(with_intercept(X), strong, np.ones(len(y)), prior=prior)
    np.testing.assert_allclose(found[:-1], prior, atol=1e-4)
    expected = np.quantile(y - X[:, 0], LEVELS, method="weibull")
    np.testing.assert_allclose(found[-1], expected, atol=1e-3)
    offset = np.tile(3 * X[:, :1], (1, 3))
    moved = Pinball(y + offset[:, 0], LEVELS).fit(
        with_intercept(X), strong, np.ones(len(y)), prior=prior, offset=offset
    )
    np.testing.assert_allclose(moved, found, atol=1e-3)


def test_its_losses_are_pinball_losses_and_its_slopes_those_of_the_rounded_corner():
    X, y = uneven(n=60)
    problem, scores = Pinball(y, LEVELS, width=0.3), np.sort(np.outer(X[:, 0], [0.9, 1.0, 1.2]), axis=1)
    columns = zip(LEVELS, scores.T, strict=True)
    expected = np.mean([mean_pinball_loss(y, one, alpha=level) for level, one in columns])
    assert problem.row_loss(scores).mean() == pytest.approx(expected)
    weight, step = np.full(len(y), 1 / len(y)), 1e-6

    def value(given):
        return problem.value_and_residual(np.ascontiguousarray(given.T), weight)[0]

    slope = np.array(
        [
            [(value(scores + step * one) - value(scores - step * one)) / (2 * step) for one in rows]
            for rows in np.eye(3 * 60).reshape(60, 3, 60, 3)
        ]
    )
    np.testing.assert_allclose(-problem.residual(scores) / len(y), slope, atol=1e-7)
    np.testing.assert_allclose(
        problem.value_and_residual(scores.T.copy(), weight)[1].T, problem.residual(scores)
    )
