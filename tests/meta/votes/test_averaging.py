"""Pipelines are averaged at the end: mean, logit, rank."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stackfeat.meta.votes.averaging import rank_within_folds
from stackfeat.tasks.task import Task

BINARY = Task("binary", (0, 1))
VALUES = arrays(np.float64, (6,), elements=st.floats(0.001, 0.999))


def proba(positive: np.ndarray) -> np.ndarray:
    return np.column_stack([1 - positive, positive])


@given(VALUES, VALUES)
def test_every_average_gives_probabilities(first: np.ndarray, second: np.ndarray) -> None:
    for average in ("mean", "logit", "rank"):
        mixed = BINARY.average([proba(first), proba(second)], average)
        np.testing.assert_allclose(mixed.sum(axis=1), 1)
        assert mixed.min() >= 0


def test_the_logit_average_is_the_geometric_mean() -> None:
    views = [proba(np.array([0.9])), proba(np.array([0.5]))]
    odds = np.sqrt((0.9 / 0.1) * (0.5 / 0.5))
    np.testing.assert_allclose(BINARY.average(views, "logit")[0, 1], odds / (1 + odds))


def test_ranks_ignore_the_scale_of_a_pipeline() -> None:
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    np.testing.assert_allclose(
        BINARY.average([proba(scores)], "rank"), BINARY.average([proba(scores / 10)], "rank")
    )


def test_ranks_go_to_the_positive_class() -> None:
    task = Task("binary", ("bad", "good"), positive=0)
    ranked = task.average([np.array([[0.9, 0.1], [0.2, 0.8]])], "rank")
    assert ranked[0, 0] > ranked[1, 0]


def test_oof_rows_are_ranked_inside_their_fold_and_uncovered_rows_stay_missing() -> None:
    oof = proba(np.array([0.1, 0.2, 0.01, 0.02, np.nan]))
    ranked = rank_within_folds(oof, np.array([0, 0, 1, 1, -1]), BINARY)
    np.testing.assert_allclose(ranked[:4, 1], [0.25, 0.75, 0.25, 0.75])
    assert np.isnan(ranked[4]).all()


VALUES_TASK = Task("regression", ())


def test_ranks_of_values_go_back_to_values_through_the_mean_quantiles() -> None:
    views = [np.array([[10.0], [30.0], [20.0], [0.0]]), np.array([[0.1], [0.2], [0.4], [0.3]])]
    # Places (0-based) 1 3 2 0 and 0 1 3 2; quantiles are means of the sorted columns.
    quantiles = np.array([0.05, 5.1, 10.15, 15.2])
    places = np.array([0.5, 2.0, 2.5, 1.0])
    expected = np.interp(places, np.arange(4), quantiles)
    np.testing.assert_allclose(VALUES_TASK.average(views, "rank")[:, 0], expected)


@given(VALUES)
def test_one_view_of_values_is_its_own_rank_average(values: np.ndarray) -> None:
    np.testing.assert_allclose(VALUES_TASK.average([values[:, None]], "rank")[:, 0], values)


def test_oof_values_get_one_distribution_in_every_fold() -> None:
    oof = np.array([[1.0], [3.0], [2.0], [101.0], [103.0], [102.0], [np.nan]])
    ranked = rank_within_folds(oof, np.array([0, 0, 0, 1, 1, 1, -1]), VALUES_TASK)
    np.testing.assert_allclose(ranked[:3], ranked[3:6])
    # Shares 1/6, 3/6, 5/6 of the pooled values, between places half a row apart.
    np.testing.assert_allclose(np.sort(ranked[:3, 0]), [1.5, 52.0, 102.5])
    assert np.isnan(ranked[6]).all()
