"""Rank votes order rows as mean ranks do, on the scale of a prediction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from stackfeat.errors import UsageError
from stackfeat.meta.votes.rank import MAX_POINTS, RankVote
from stackfeat.meta.votes.vote import VoteTarget
from stackfeat.tasks.task import Task

BINARY = Task("binary", (0, 1), positive=1)
VALUE = Task("regression")


def fitted(inputs, task):
    return RankVote.fit(inputs, VoteTarget(task, np.zeros(len(inputs[0]))), {})


def rank_inputs(n=200, seed=0):
    random = np.random.default_rng(seed)
    signal = random.normal(size=n)
    scores = [1 / (1 + np.exp(-scale * (signal + random.normal(size=n)))) for scale in (0.2, 1.0, 9.0)]
    return signal, [np.stack([1 - p, p], axis=1) for p in scores]


def test_rank_votes_order_the_fitted_rows_as_mean_ranks_do():
    signal, inputs = rank_inputs()
    vote = fitted(inputs, BINARY).combine(inputs)
    expected = np.mean([(rankdata(p[:, 1]) - 0.5) / len(signal) for p in inputs], axis=0)
    np.testing.assert_allclose(vote[:, 1], expected)
    np.testing.assert_allclose(vote.sum(axis=1), 1.0)
    y = signal > 0
    assert roc_auc_score(y, vote[:, 1]) > roc_auc_score(y, np.mean(inputs, axis=0)[:, 1])


def test_rank_votes_follow_the_positive_class():
    _, inputs = rank_inputs()
    swapped = fitted([p[:, ::-1] for p in inputs], Task("binary", (0, 1), positive=0))
    np.testing.assert_allclose(
        swapped.combine([p[:, ::-1] for p in inputs])[:, 0],
        fitted(inputs, BINARY).combine(inputs)[:, 1],
    )


@given(st.integers(0, 100))
@settings(max_examples=20)
def test_rank_votes_rise_with_their_inputs_and_take_rows_one_by_one(seed):
    _, inputs = rank_inputs(n=50, seed=seed)
    vote = fitted(inputs, BINARY)
    grid = np.linspace(0, 1, 101)
    rising = vote.combine([np.stack([1 - grid, grid], axis=1)] * 3)
    assert (np.diff(rising[:, 1]) > 0).all()
    alone = np.vstack([vote.combine([p[i : i + 1] for p in inputs]) for i in range(5)])
    np.testing.assert_array_equal(alone, vote.combine(inputs)[:5])


def test_rank_votes_in_regression_keep_the_distribution_of_the_mean():
    random = np.random.default_rng(0)
    inputs = [random.gamma(2, size=(300, 1)), random.normal(size=(300, 1))]
    combined = fitted(inputs, VALUE).combine(inputs)
    np.testing.assert_allclose(np.sort(combined[:, 0]), np.sort(np.mean(inputs, axis=0)[:, 0]), atol=0.1)
    same = fitted([inputs[0]] * 3, VALUE).combine([inputs[0]] * 3)
    np.testing.assert_allclose(same, inputs[0])


def test_rank_votes_stay_small_on_many_rows():
    column = np.random.default_rng(0).normal(size=(50_000, 1))
    vote = fitted([column], VALUE)
    assert len(vote.ranks[0][0]) <= MAX_POINTS
    np.testing.assert_allclose(vote.combine([column]), column, atol=0.05)


def test_ranks_of_several_classes_and_of_too_few_inputs_are_refused():
    with pytest.raises(UsageError, match="got multiclass"):
        fitted([np.ones((2, 3))], Task("multiclass", (1, 2, 3)))
    with pytest.raises(UsageError, match="fitted on 1 inputs; got 0"):
        fitted([np.ones((2, 1))], VALUE).combine([])
