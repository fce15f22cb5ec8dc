"""Weights of a vote: against scikit-learn where it can say the same, and never below zero."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from stackfeat.ensemble.gating.linear_solver import Softmax, Squares
from stackfeat.ensemble.gating.pool import pool, pooled

RNG = np.random.default_rng(0)


def test_weights_of_values_are_a_regression_that_may_not_go_below_zero():
    base = RNG.normal(size=(500, 3))
    y = base @ [0.7, 0.4, 0.2] + 3 + 0.1 * RNG.normal(size=500)
    weight = RNG.uniform(0.5, 2, size=500)
    votes = [np.eye(3)[:, [m]] for m in range(3)]
    theirs = LinearRegression(positive=True).fit(base, y, sample_weight=weight)
    np.testing.assert_allclose(pool(Squares(y), base, votes, weight), theirs.coef_, atol=1e-8)
    assert pool(Squares(-y), base, votes, weight).tolist() == [0, 0, 0]


def test_the_weight_of_one_member_of_two_classes_is_a_logistic_regression_on_its_log_odds():
    y = RNG.integers(2, size=2000)
    odds = 1.3 * (2 * y - 1) + 1.5 * RNG.normal(size=2000)
    base = np.column_stack([-odds, odds]) / 2  # centred log-probabilities
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(odds[:, None], y)
    found = pool(Softmax(y, 2), base, [np.eye(2)], np.ones(2000))
    assert found[0] == pytest.approx(theirs.coef_[0, 0], abs=1e-3)


def test_the_better_member_gets_the_greater_weight_and_a_wrong_one_none():
    y = RNG.integers(4, size=3000)
    good, fair, wrong = (scale * np.eye(4)[y] + RNG.normal(size=(3000, 4)) for scale in (2.0, 1.0, -1.0))
    base = np.hstack([good, fair, wrong])
    votes = [np.eye(12, 4, k=-4 * m) for m in range(3)]
    weights = pool(Softmax(y, 4), base, votes, np.ones(3000))
    assert weights[0] > weights[1] > 0.5
    assert weights[2] == 0
    np.testing.assert_array_equal(pooled(votes, weights, (12, 4))[:4], weights[0] * np.eye(4))


def test_a_sample_of_rows_does_where_there_are_many(monkeypatch):
    base = RNG.normal(size=(4000, 2))
    y = base @ [0.7, 0.3] + 0.1 * RNG.normal(size=4000)
    votes, ones = [np.eye(2)[:, [m]] for m in range(2)], np.ones(4000)
    monkeypatch.setattr("stackfeat.ensemble.gating.pool.MOST_CELLS", 2000)
    found = pool(Squares(y), base, votes, ones)
    np.testing.assert_allclose(found, [0.7, 0.3], atol=0.02)
    assert found.tolist() == pool(Squares(y), base, votes, ones).tolist()


def test_no_votes_lead_to_zero():
    assert pool(Softmax(np.array([0, 1]), 2), np.zeros((2, 3)), [], np.ones(2)).shape == (0,)
    assert not pooled([], np.zeros(0), (3, 2)).any()
