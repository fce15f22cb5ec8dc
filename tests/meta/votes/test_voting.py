"""Votes keep what they are given, break ties as told, and come back from JSON."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from stackfeat.errors import UsageError
from stackfeat.meta.votes.voting import (
    MAX_POINTS,
    HardVote,
    RankVote,
    SoftVote,
    hard_vote,
    soft_vote,
    vote_from_json,
)
from stackfeat.tasks.task import Task

BINARY = Task("binary", (0, 1), positive=1)
VALUE = Task("regression")


@st.composite
def probabilities(draw, most_inputs=6):
    n_rows, n_classes = draw(st.integers(1, 8)), draw(st.integers(2, 5))
    # Few different values, so that ties are common.
    shape = (draw(st.integers(1, most_inputs)), n_rows, n_classes)
    raw = draw(arrays(np.float64, shape, elements=st.sampled_from([0.1, 1.0, 2.0, 3.0])))
    return list(raw / raw.sum(axis=2, keepdims=True))


@given(probabilities(1), st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_a_soft_vote_of_equal_inputs_is_the_input(inputs, weights):
    np.testing.assert_allclose(soft_vote(inputs * len(weights), weights), inputs[0], atol=1e-15)


@given(probabilities())
def test_soft_votes_are_probabilities_between_their_inputs(inputs):
    vote = soft_vote(inputs)
    np.testing.assert_allclose(vote.sum(axis=1), 1.0)
    assert (vote >= np.min(inputs, axis=0) - 1e-15).all()
    assert (vote <= np.max(inputs, axis=0) + 1e-15).all()


def winners_by_hand(inputs, weights, tie, priors):
    found = []
    for row in range(len(inputs[0])):
        votes = {}
        for p, w in zip(inputs, weights, strict=True):
            code = int(p[row].argmax())
            votes[code] = votes.get(code, 0) + w
        best = sorted(code for code, n in votes.items() if n == max(votes.values()))
        if tie == "soft":
            means = {
                code: sum(w * p[row, code] for p, w in zip(inputs, weights, strict=True)) for code in best
            }
            best = [code for code in best if means[code] > max(means.values()) - 1e-12]
        if tie == "prior":
            best = [code for code in best if priors[code] == max(priors[other] for other in best)]
        found.append(set(best) if tie == "soft" else {best[0]})
    return found


@given(
    probabilities(), st.sampled_from(["soft", "prior", "lowest"]), st.sampled_from([0.0, 1.0]), st.randoms()
)
@settings(max_examples=200)
def test_the_winner_of_a_hard_vote_obeys_the_tie_policy(inputs, tie, smooth, random):
    weights = [random.choice([1, 2]) for _ in inputs]
    priors = [random.choice([0.1, 0.3]) for _ in range(inputs[0].shape[1])]
    shares = hard_vote(inputs, weights, tie, priors, smooth)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (shares >= 0).all()
    for code, legal in zip(shares.argmax(axis=1), winners_by_hand(inputs, weights, tie, priors), strict=True):
        assert code in legal
    assert (
        hard_vote(inputs, weights, tie, priors).astype(np.float32).argmax(axis=1) == shares.argmax(axis=1)
    ).all()


def test_the_votes_equal_scikit_learns():
    X, y = load_iris(return_X_y=True)
    members = [
        ("lr", LogisticRegression(max_iter=500)),
        ("nb", GaussianNB()),
        ("tree", DecisionTreeClassifier(max_depth=1)),
    ]
    weights = [1, 1, 1.5]
    hard = VotingClassifier(members, voting="hard", weights=weights).fit(X, y)
    soft = VotingClassifier(members, voting="soft", weights=weights).fit(X, y)
    inputs = [member.predict_proba(X) for member in hard.estimators_]
    np.testing.assert_allclose(soft_vote(inputs, weights), soft.predict_proba(X))
    np.testing.assert_array_equal(hard_vote(inputs, weights, tie="lowest").argmax(axis=1), hard.predict(X))


def test_vote_shares_are_shares_and_smoothing_lifts_zeros():
    a, b = np.array([[0.9, 0.1, 0.0]]), np.array([[0.2, 0.8, 0.0]])
    np.testing.assert_allclose(hard_vote([a, a, b]), [[2 / 3, 1 / 3, 0]])
    np.testing.assert_allclose(hard_vote([a, a, b], smooth=1.0), [[3 / 6, 2 / 6, 1 / 6]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: soft_vote([]), "at least one prediction"),
        (lambda: soft_vote([np.ones((2, 2)), np.ones((3, 2))]), "one shape"),
        (lambda: soft_vote([np.ones((2, 2))], [1, 2]), "got 2 weights, 1 inputs"),
        (lambda: soft_vote([np.ones((2, 2))], [-1]), "at least 0"),
        (lambda: soft_vote([np.ones((2, 2))], [0]), "one above 0"),
        (lambda: hard_vote([np.ones((2, 1))]), "Use vote: soft for regression"),
        (lambda: hard_vote([np.ones((2, 2))], tie="prior"), "needs 2 priors"),
        (lambda: RankVote.fit([np.ones((2, 3))], Task("multiclass", (1, 2, 3))), "got multiclass"),
        (lambda: RankVote.fit([np.ones((2, 1))], VALUE).combine([]), "fitted on 1 inputs; got 0"),
    ],
)
def test_votes_that_make_no_sense_are_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def rank_inputs(n=200, seed=0):
    random = np.random.default_rng(seed)
    signal = random.normal(size=n)
    scores = [1 / (1 + np.exp(-scale * (signal + random.normal(size=n)))) for scale in (0.2, 1.0, 9.0)]
    return signal, [np.stack([1 - p, p], axis=1) for p in scores]


def test_rank_votes_order_the_fitted_rows_as_mean_ranks_do():
    signal, inputs = rank_inputs()
    vote = RankVote.fit(inputs, BINARY).combine(inputs)
    expected = np.mean([(rankdata(p[:, 1]) - 0.5) / len(signal) for p in inputs], axis=0)
    np.testing.assert_allclose(vote[:, 1], expected)
    np.testing.assert_allclose(vote.sum(axis=1), 1.0)
    y = signal > 0
    assert roc_auc_score(y, vote[:, 1]) > roc_auc_score(y, np.mean(inputs, axis=0)[:, 1])


def test_rank_votes_follow_the_positive_class():
    _, inputs = rank_inputs()
    swapped = RankVote.fit([p[:, ::-1] for p in inputs], Task("binary", (0, 1), positive=0))
    np.testing.assert_allclose(
        swapped.combine([p[:, ::-1] for p in inputs])[:, 0],
        RankVote.fit(inputs, BINARY).combine(inputs)[:, 1],
    )


@given(st.integers(0, 100))
@settings(max_examples=20)
def test_rank_votes_rise_with_their_inputs_and_take_rows_one_by_one(seed):
    _, inputs = rank_inputs(n=50, seed=seed)
    vote = RankVote.fit(inputs, BINARY)
    grid = np.linspace(0, 1, 101)
    rising = vote.combine([np.stack([1 - grid, grid], axis=1)] * 3)
    assert (np.diff(rising[:, 1]) > 0).all()
    alone = np.vstack([vote.combine([p[i : i + 1] for p in inputs]) for i in range(5)])
    np.testing.assert_array_equal(alone, vote.combine(inputs)[:5])


def test_rank_votes_in_regression_keep_the_distribution_of_the_mean():
    random = np.random.default_rng(0)
    inputs = [random.gamma(2, size=(300, 1)), random.normal(size=(300, 1))]
    combined = RankVote.fit(inputs, VALUE).combine(inputs)
    np.testing.assert_allclose(np.sort(combined[:, 0]), np.sort(np.mean(inputs, axis=0)[:, 0]), atol=0.1)
    same = RankVote.fit([inputs[0]] * 3, VALUE).combine([inputs[0]] * 3)
    np.testing.assert_allclose(same, inputs[0])


def test_rank_votes_stay_small_on_many_rows():
    column = np.random.default_rng(0).normal(size=(50_000, 1))
    vote = RankVote.fit([column], VALUE)
    assert len(vote.ranks[0][0]) <= MAX_POINTS
    np.testing.assert_allclose(vote.combine([column]), column, atol=0.05)


def test_fitted_votes_come_back_from_json():
    _, inputs = rank_inputs(n=30)
    votes = [
        SoftVote(),
        SoftVote((0.1, 0.2, 0.7)),
        HardVote((1.0, 1.0, 2.0), "prior", (0.3, 0.7), 1.0),
        RankVote.fit(inputs, BINARY),
        RankVote.fit([p[:, :1] for p in inputs], VALUE),
    ]
    for vote in votes:
        again = vote_from_json(json.loads(json.dumps(vote.to_json())))
        assert again == vote
        given_inputs = [p[:, :1] for p in inputs] if vote is votes[-1] else inputs
        np.testing.assert_array_equal(again.combine(given_inputs), vote.combine(given_inputs))
