"""NDCG of growing averages: the losses and picks of scoring every average from scratch, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.incremental_lists import NdcgScorer
from stackfeat.metrics.incremental_scores import IncrementalScorer
from stackfeat.tasks.task import Task

TASK = Task("ranking")
NAMES = ["ndcg", "ndcg@1", "ndcg@3", "ndcg@10"]


def drawn(seed, n_rows, n_lists, grid):
    """Relevance and lists in any order of rows; scores on a grid (ties), with a copy and a constant."""
    random = np.random.default_rng(seed)
    y = np.column_stack([random.integers(0, 4, n_rows), 7 * random.integers(0, n_lists, n_rows)]).astype(
        float
    )
    found = [(y[:, :1] + 2.0 * random.normal(size=(n_rows, 1))) for _ in range(5)]
    if grid:
        found = [np.rint(one * grid) / grid for one in found]
    found[1], found[4] = np.zeros((n_rows, 1)), found[0].copy()
    weight = random.integers(0, 3, n_rows).astype(float) if seed % 3 == 0 else None
    return y, found, weight


@pytest.mark.parametrize("name", NAMES)
@given(
    seed=st.integers(0, 10**6),
    n_rows=st.integers(1, 120),
    n_lists=st.integers(1, 12),
    grid=st.sampled_from([0, 1, 2, 50]),
)
@settings(max_examples=30, deadline=None)
def test_every_pick_is_that_of_scoring_all_averages_from_scratch(name, seed, n_rows, n_lists, grid):
    y, predictions, weight = drawn(seed, n_rows, n_lists, grid)
    metric = METRICS[name]
    fast = metric.incremental_scorer(predictions, y, TASK, weight, seed=0)
    plain = IncrementalScorer(predictions, y, TASK, weight, metric.loss)
    assert isinstance(fast, NdcgScorer)
    everyone = np.arange(5)
    for _ in range(5):
        expected = plain.losses(everyone)
        np.testing.assert_allclose(fast.losses(everyone), expected, rtol=1e-12)
        picked, lowest = fast.best(everyone)
        assert (picked, lowest) == (fast.first_best(expected), pytest.approx(expected.min(), rel=1e-12))
        fast.add(picked)
        plain.add(picked)


def test_every_row_counts_and_lists_without_a_relevant_row_do_not():
    random = np.random.default_rng(0)
    y = np.column_stack([random.integers(0, 3, 20_000), np.repeat(np.arange(1_000), 20)]).astype(float)
    y[:40, 0] = 0.0
    predictions = [y[:, :1] + random.normal(size=(20_000, 1)) for _ in range(2)]
    scorer = METRICS["ndcg@5"].incremental_scorer(predictions, y, TASK, None, seed=0)
    scorer.add(0)
    mean = ((predictions[0] + predictions[1]) / 2).reshape(1_000, 20)
    of_lists = [
        ndcg_score([2.0**one - 1.0], [said], k=5)
        for one, said in zip(y[:, 0].reshape(1_000, 20)[2:], mean[2:], strict=True)
    ]
    assert scorer.losses(np.array([1]))[0] == pytest.approx(-np.mean(of_lists))


def test_rows_of_no_relevance_leave_the_first_candidate():
    y = np.column_stack([np.zeros(6), [1, 1, 2, 2, 2, 3]]).astype(float)
    predictions = [np.arange(6.0)[:, None], -np.arange(6.0)[:, None]]
    scorer = METRICS["ndcg"].incremental_scorer(predictions, y, TASK, None, seed=0)
    assert scorer.best(np.arange(2)) == (0, np.inf)
