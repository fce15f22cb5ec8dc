"""Ranking: predictions are compared within lists, and so is chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stackfeat.tasks.ranking import average_ranks, standardised
from stackfeat.tasks.task import Task

TASK = Task("ranking")
RNG = np.random.default_rng(0)
LISTS = RNG.permutation(np.repeat([7, 3, 11, 20], [5, 9, 1, 6]))
VALUES = np.round(RNG.normal(size=21), 1)


def by_list(function, *columns):
    """Apply a function to the rows of each list, in their places."""
    found = np.empty(len(LISTS))
    for number in np.unique(LISTS):
        inside = number == LISTS
        found[inside] = function(*(column[inside] for column in columns))
    return found


def test_scores_have_mean_0_and_spread_1_in_each_list():
    def alone(values):
        return stats.zscore(values) if len(values) > 1 else 0.0

    np.testing.assert_allclose(standardised(VALUES, LISTS), by_list(alone, VALUES), atol=1e-12)


@pytest.mark.parametrize("value", [0.1, 1e9 / 3, -7.0, 0.0])
def test_a_list_of_equal_scores_says_nothing_whatever_they_are(value):
    assert not standardised(np.full(7, value), np.zeros(7)).any()


def test_without_lists_all_rows_are_one():
    np.testing.assert_allclose(standardised(VALUES, None), stats.zscore(VALUES))


def test_ranks_are_those_within_the_list():
    expected = by_list(stats.rankdata, VALUES)
    _, place = np.unique(LISTS, return_inverse=True)
    np.testing.assert_array_equal(average_ranks(VALUES, place), expected)
    shares = by_list(lambda values: (stats.rankdata(values) - 0.5) / len(values), VALUES)
    np.testing.assert_allclose(TASK.ranked_within(VALUES[:, None], LISTS)[:, 0], shares)


def test_the_loss_of_a_list_is_that_of_its_correlation():
    relevance = np.arange(21.0) % 4
    y = TASK.in_lists(relevance, LISTS)
    losses = TASK.row_loss(y, VALUES[:, None])
    for number in np.unique(LISTS):
        inside = number == LISTS
        r = stats.pearsonr(relevance[inside], VALUES[inside])[0] if inside.sum() > 1 else 1.0
        assert losses[inside].mean() == pytest.approx(2 * (1 - r), abs=1e-9)


def test_shuffling_keeps_what_is_relevant_in_each_list():
    relevance = RNG.integers(0, 4, 21).astype(float)
    y = TASK.in_lists(relevance, LISTS)
    mixed = TASK.shuffled(y, np.random.default_rng(1))
    np.testing.assert_array_equal(TASK.lists(mixed), LISTS)
    for number in np.unique(LISTS):
        inside = number == LISTS
        assert sorted(TASK.learnt(mixed)[inside]) == sorted(relevance[inside])
    assert not np.array_equal(mixed, y)


def test_each_order_of_a_list_is_drawn_as_often():
    y = TASK.in_lists(np.array([0.0, 1.0, 2.0, 5.0]), np.array([0, 1, 0, 1]))
    rng = np.random.default_rng(0)
    drawn = [tuple(TASK.shuffled(y, rng)[:, 0]) for _ in range(2000)]
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    assert len(counts) == 4 and stats.chisquare(counts).pvalue > 1e-3


def test_drawn_rows_are_whole_lists():
    y = TASK.in_lists(np.zeros(21), LISTS)
    rows = TASK.spread(y, 15, seed=0)
    assert set(LISTS[rows]).isdisjoint(np.delete(LISTS, rows)) and 0 < len(rows) <= 15
    assert len(TASK.spread(y, 0, seed=0)) > 0, "one list at least"


def test_differences_between_lists_are_no_skill():
    lists = np.repeat(np.arange(40), 6)
    easy = np.repeat(RNG.integers(0, 3, 40), 6)
    y = TASK.in_lists(easy + RNG.integers(0, 2, 240).astype(float), lists)
    # It knows which lists have relevant rows, and nothing of the rows.
    assert TASK.is_near_chance(y, (easy + 0.01 * RNG.normal(size=240))[:, None], None)
    assert not TASK.is_near_chance(y, TASK.learnt(y)[:, None], None)


@pytest.mark.parametrize(
    ("relevance", "wrong"),
    [([0, 3, 31], []), ([0.5, 1], [0]), ([-1, 1], [0]), ([1, 32], [1]), ([np.nan, 1], [0])],
)
def test_relevance_is_a_whole_number_from_0(relevance, wrong):
    is_wrong, must = type(TASK).target_problem(np.array(relevance, dtype=float))
    assert np.flatnonzero(is_wrong).tolist() == wrong and "whole number" in must
