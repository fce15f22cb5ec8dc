"""Hard votes count classes and break ties as told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackfeat.errors import UsageError
from stackfeat.meta.votes.hard import HardVote
from tests.meta.votes.predictions import probabilities


def vote_of(n_inputs, priors=None, weights=None, tie="soft"):
    return HardVote.of(n_inputs, priors, {"weights": weights, "tie": tie})


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


@given(probabilities(), st.sampled_from(["soft", "prior", "lowest"]), st.randoms())
@settings(max_examples=200, deadline=None)
def test_the_winner_of_a_hard_vote_obeys_the_tie_policy(inputs, tie, random):
    weights = [random.choice([1, 2]) for _ in inputs]
    priors = [random.choice([0.1, 0.3]) for _ in range(inputs[0].shape[1])]
    vote = vote_of(len(inputs), priors, weights, tie)
    shares = vote.combine(inputs)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (shares > 0).all()
    for code, legal in zip(shares.argmax(axis=1), winners_by_hand(inputs, weights, tie, priors), strict=True):
        assert code in legal
    np.testing.assert_array_equal(shares.astype(np.float32).argmax(axis=1), shares.argmax(axis=1))
    codes = [prediction.argmax(axis=1) for prediction in inputs]
    winners = vote.winners(codes, inputs[0].shape[1], lambda: inputs)
    np.testing.assert_array_equal(winners, shares.argmax(axis=1))


def test_every_class_gets_the_vote_of_one_more_input():
    a, b = np.array([[0.9, 0.1, 0.0]]), np.array([[0.2, 0.8, 0.0]])
    np.testing.assert_allclose(vote_of(3).combine([a, a, b]), [[3 / 6, 2 / 6, 1 / 6]])


def test_probabilities_are_read_only_where_a_tie_depends_on_them():
    def read():
        raise AssertionError("no tie depends on probabilities")

    codes = [np.array([0, 1]), np.array([0, 2])]
    for tie, winners in (("lowest", [0, 1]), ("prior", [0, 2])):
        vote = vote_of(2, [1.0, 2.0, 3.0], None, tie)
        np.testing.assert_array_equal(vote.winners(codes, 3, read), winners)


def test_votes_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="Use vote: soft for regression"):
        vote_of(1).combine([np.ones((2, 1))])
    with pytest.raises(UsageError, match="needs 2 priors"):
        vote_of(1, tie="prior").combine([np.ones((2, 2))])
