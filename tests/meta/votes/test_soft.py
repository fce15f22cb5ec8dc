"""Soft votes are weighted means of what they are given."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from stackfeat.errors import MemberError, UsageError
from stackfeat.meta.votes.hard import HardVote
from stackfeat.meta.votes.soft import SoftVote, soft_vote
from stackfeat.meta.votes.vote import VoteTarget
from stackfeat.tasks.task import Task
from tests.meta.votes.predictions import probabilities


@given(probabilities(1), st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_a_soft_vote_of_equal_inputs_is_the_input(inputs, weights):
    np.testing.assert_allclose(soft_vote(inputs * len(weights), weights), inputs[0], atol=1e-15)


@given(probabilities())
def test_soft_votes_are_probabilities_between_their_inputs(inputs):
    vote = soft_vote(inputs)
    np.testing.assert_allclose(vote.sum(axis=1), 1.0)
    assert (vote >= np.min(inputs, axis=0) - 1e-15).all()
    assert (vote <= np.max(inputs, axis=0) + 1e-15).all()


def test_given_weights_count_as_in_scikit_learn():
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
    target = VoteTarget(Task("multiclass", (0, 1, 2)), y)
    mean = SoftVote.fit(inputs, target, {"weights": weights}).combine(inputs)
    np.testing.assert_allclose(mean, soft.predict_proba(X))
    shares = HardVote.fit(inputs, target, {"weights": weights, "tie": "lowest"}).combine(inputs)
    np.testing.assert_array_equal(shares.argmax(axis=1), hard.predict(X))


@pytest.mark.parametrize(
    ("inputs", "weights", "message"),
    [
        ([], None, "at least one prediction"),
        ([np.ones((2, 2)), np.ones((3, 2))], None, "one shape"),
        ([np.ones((2, 2))], [1, 2], "got 2 weights, 1 inputs"),
        ([np.ones((2, 2))], [0], "not sum to 0"),
        ([np.ones((2, 2))], [np.inf], "must be finite"),
    ],
)
def test_means_that_make_no_sense_are_refused(inputs, weights, message):
    with pytest.raises(UsageError, match=message):
        soft_vote(inputs, weights)


@pytest.mark.parametrize("weights", [[-1.0, 2.0], [0.0, 0.0]])
def test_stored_weights_that_are_none_are_refused(weights):
    with pytest.raises(UsageError, match="at least 0 with one above 0"):
        SoftVote.from_json({"weights": weights}, Task("regression"), {"weights": None}, "vote.json")


def test_a_vote_without_any_weight_left_is_refused():
    vote = SoftVote.of(2, None, {"weights": (1.0, 0.0)})
    with pytest.raises(MemberError, match="Leave out fewer members"):
        vote.subset([1])
