"""Shares of a vote: the best of those that add up to one, and never below zero."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from stackfeat.meta.gating.linear_solver import Softmax, Squares
from stackfeat.meta.gating.opinion_pool import fit_shares, weighted_sum

RNG = np.random.default_rng(0)


def pool_of(problem, base, votes, weight, shares):
    """`pool` of what votes read out of base columns."""
    said = np.stack([base @ vote for vote in votes]) if votes else np.empty((0, *base.shape))
    return fit_shares(problem, said, weight, shares)


def test_shares_of_values_are_the_best_on_the_simplex(monkeypatch):
    monkeypatch.setattr("stackfeat.meta.gating.opinion_pool.PULL", 0.0)
    base = RNG.normal(size=(500, 3))
    y = base @ [0.7, 0.4, -0.3] + 3 + 0.1 * RNG.normal(size=500)
    weight = RNG.uniform(0.5, 2, size=500)
    found = pool_of(Squares(y), base, [np.eye(3)[:, [m]] for m in range(3)], weight, "simplex")
    best = min(
        (np.average((y - (said := base @ [a, b, 1 - a - b]) - np.average(y - said, weights=weight)) ** 2,
                    weights=weight), a, b)
        for a in np.linspace(0, 1, 101) for b in np.linspace(0, 1 - a, 101)
    )  # fmt: skip
    np.testing.assert_allclose(found[:2], best[1:], atol=0.01)
    assert found.sum() == pytest.approx(1) and found.min() >= 0


def test_the_better_member_gets_the_greater_share_and_a_wrong_one_none():
    y = RNG.integers(4, size=3000)
    good, fair, wrong = (scale * np.eye(4)[y] + RNG.normal(size=(3000, 4)) for scale in (2.0, 1.0, -1.0))
    base = np.hstack([good, fair, wrong])
    votes = [np.eye(12, 4, k=-4 * m) for m in range(3)]
    shares = pool_of(Softmax(y, 4), base, votes, np.ones(3000), "simplex")
    assert shares[0] > shares[1] > 0.03
    assert shares[2] == pytest.approx(0, abs=1e-9)
    np.testing.assert_array_equal(weighted_sum(votes, shares, (12, 4))[:4], shares[0] * np.eye(4))


def test_members_as_good_as_each_other_have_equal_shares():
    y = RNG.integers(3, size=20_000)
    base = np.hstack([np.eye(3)[y] + RNG.normal(size=(20_000, 3)) for _ in range(2)])
    shares = pool_of(Softmax(y, 3), base, [np.eye(6, 3), np.eye(6, 3, k=-3)], np.ones(20_000), "simplex")
    np.testing.assert_allclose(shares, 0.5, atol=0.03)


def test_members_that_make_no_mistake_keep_a_finite_sum():
    y = RNG.integers(3, size=300)
    base = np.hstack([8 * np.eye(3)[y] + RNG.normal(size=(300, 3)) for _ in range(2)])
    shares = pool_of(Softmax(y, 3), base, [np.eye(6, 3), np.eye(6, 3, k=-3)], np.ones(300), "free")
    assert 0.9 < shares.sum() < 1.5


def test_a_free_sum_of_values_is_a_regression_that_may_not_go_below_zero(monkeypatch):
    monkeypatch.setattr("stackfeat.meta.gating.opinion_pool.PULL", 0.0)
    base = RNG.normal(size=(500, 3))
    y = base @ [0.7, 0.4, 0.2] + 3 + 0.1 * RNG.normal(size=500)
    weight = RNG.uniform(0.5, 2, size=500)
    votes = [np.eye(3)[:, [m]] for m in range(3)]
    theirs = LinearRegression(positive=True).fit(base, y, sample_weight=weight)
    np.testing.assert_allclose(pool_of(Squares(y), base, votes, weight, "free"), theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(pool_of(Squares(-y), base, votes, weight, "free"), 0, atol=1e-6)


def test_a_free_sum_of_one_member_of_two_classes_is_a_logistic_regression_on_its_log_odds(monkeypatch):
    monkeypatch.setattr("stackfeat.meta.gating.opinion_pool.PULL", 0.0)
    y = RNG.integers(2, size=2000)
    odds = 1.3 * (2 * y - 1) + 1.5 * RNG.normal(size=2000)
    base = np.column_stack([-odds, odds]) / 2  # centred log-probabilities
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(odds[:, None], y)
    found = pool_of(Softmax(y, 2), base, [np.eye(2)], np.ones(2000), "free")
    assert found[0] == pytest.approx(theirs.coef_[0, 0], abs=1e-3)


def test_equal_shares_add_up_to_one():
    votes = [np.eye(3)[:, [m]] for m in range(3)]
    assert pool_of(Squares(np.ones(4)), np.ones((4, 3)), votes, np.ones(4), "equal").tolist() == [1 / 3] * 3


def test_one_member_has_it_all():
    assert pool_of(Squares(np.ones(3)), np.ones((3, 1)), [np.eye(1)], np.ones(3), "simplex").tolist() == [1.0]


def test_a_sample_of_rows_does_where_there_are_many(monkeypatch):
    base = RNG.normal(size=(4000, 2))
    y = base @ [0.7, 0.3] + 0.1 * RNG.normal(size=4000)
    votes, ones = [np.eye(2)[:, [m]] for m in range(2)], np.ones(4000)
    monkeypatch.setattr("stackfeat.meta.gating.opinion_pool.MOST_CELLS", 2000)
    found = pool_of(Squares(y), base, votes, ones, "free")
    np.testing.assert_allclose(found, [0.7, 0.3], atol=0.02)
    assert found.tolist() == pool_of(Squares(y), base, votes, ones, "free").tolist()


def test_no_votes_lead_to_zero():
    assert pool_of(Softmax(np.array([0, 1]), 2), np.zeros((2, 3)), [], np.ones(2), "free").shape == (0,)
    assert not weighted_sum([], np.zeros(0), (3, 2)).any()


def test_read_outs_begin_with_nothing_and_are_heard_where_they_know_something():
    y = RNG.integers(3, size=4000)
    member, read_out, noise = (size * np.eye(3)[y] + RNG.normal(size=(4000, 3)) for size in (1.0, 1.0, 0.0))
    said = np.stack([member, read_out, noise])
    shares = fit_shares(Softmax(y, 3), said, np.ones(4000), "free", n_members=1)
    np.testing.assert_allclose(shares, [1.0, 1.0, 0.0], atol=0.06)
    few = fit_shares(Softmax(y[:4], 3), said[:, :4], np.ones(4), "free", n_members=1)
    np.testing.assert_allclose(few, [1.0, 0.0, 0.0], atol=0.4)
