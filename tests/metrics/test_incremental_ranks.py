"""No area under a curve is larger than its bins allow, however close together the scores are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.incremental_ranks import CountedRows, RankingScorer
from stackfeat.tasks.task import Task

TASK = Task("binary", (0, 1), positive=1)


def scorer_of(name, columns, y, weight=None):
    predictions = [np.stack([1.0 - one, one], axis=1) for one in columns]
    found = METRICS[name].incremental_scorer(predictions, y, TASK, weight, seed=0)
    assert isinstance(found, RankingScorer)
    return found


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
@given(
    seed=st.integers(0, 10**6),
    centre=st.sampled_from([0.0, 1e-9, 0.3, 1.0, 1e6]),
    spread=st.sampled_from([0.0, 1e-310, 1e-35, 1e-15, 1e-9, 1e-3, 1.0, 1e3]),
    sizes=st.lists(st.integers(0, 40), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_floors_hold_for_scores_of_any_range(name, seed, centre, spread, sizes):
    random = np.random.default_rng(seed)
    y = np.r_[0, 1, random.integers(0, 2, 300)]
    columns = [centre + spread * random.normal(size=302) for _ in range(4)]
    columns += [np.round(columns[0] * 4) / 4]
    scorer = scorer_of(name, columns, y, random.random(302) if seed % 2 else None)
    for candidate in sizes:
        scorer.add(candidate % 5)
    everyone = np.arange(5)
    assert (scorer.floors(everyone) <= scorer.losses(everyone)).all()


def test_floors_are_near_where_scores_spread():
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 50_000)
    column = 1 / (1 + np.exp(-(2.0 * y - 1.0 + random.normal(size=50_000))))
    for name, width in (("roc_auc", 2e-5), ("average_precision", 1e-4)):
        scorer = scorer_of(name, [column, 1.0 - column], y)
        assert scorer.losses(np.array([0]))[0] - scorer.floors(np.array([0]))[0] < width


def test_rows_of_one_class_leave_the_first_candidate():
    columns = [np.linspace(0, 1, 9), np.linspace(1, 0, 9)]
    scorer = scorer_of("roc_auc", columns, np.ones(9, dtype=int))
    assert scorer.best(np.arange(2)) == (0, np.inf)
    scorer = scorer_of("average_precision", columns, np.zeros(9, dtype=int))
    assert scorer.best(np.arange(2)) == (0, np.inf)


def test_weights_that_leave_one_class_leave_the_first_candidate():
    y, columns = np.array([0, 1, 1]), [np.array([0.1, 0.5, 0.7]), np.array([0.9, 0.5, 0.3])]
    assert scorer_of("roc_auc", columns, y, np.array([0.0, 1.0, 1.0])).best(np.arange(2)) == (0, np.inf)
    picked, loss = scorer_of("roc_auc", columns[::-1], y, np.array([1.0, 0.0, 1.0])).best(np.arange(2))
    assert (picked, loss) == (1, -1.0)


@given(
    seed=st.integers(0, 10**6), n_rows=st.integers(0, 60), n_bins=st.integers(1, 40), weighted=st.booleans()
)
@settings(max_examples=40, deadline=None)
def test_rows_and_weights_are_counted_by_bin_again_and_again(seed, n_rows, n_bins, weighted):
    random = np.random.default_rng(seed)
    weight = random.random(n_rows) if weighted else None
    counted = CountedRows(n_rows, n_bins, weight)
    for _ in range(3):
        places = (
            random.uniform(0, n_bins, n_rows).astype(np.float32).clip(0, np.nextafter(np.float32(n_bins), 0))
        )
        expected = np.bincount(places.astype(int), weights=weight, minlength=n_bins)
        np.testing.assert_allclose(counted.of(places), expected, rtol=1e-12)
