"""Means over targets of growing averages: the losses and picks of scoring every average from scratch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.incremental_scores import IncrementalScorer
from stackfeat.metrics.incremental_targets import MeanOverTargetsScorer
from stackfeat.tasks.task import Task

TASK = Task("regression", n_targets=3, targets=("a", "b", "c"))
UNITS = np.array([1.0, 50.0, 0.02])
MEANS = ["rmse", "mcrmse", "arrmse", "mae", "r2", "mape", "pearson", "explained_variance"]


def drawn(seed, n_rows, grid, constant=False):
    """Values of three units, the second of one value only where wanted, and predictions with a copy and a tie."""
    random = np.random.default_rng(seed)
    y = random.integers(1, 6, (n_rows, 3)) * UNITS
    if constant:
        y[:, 1] = UNITS[1]
    found = [y + random.normal(size=(n_rows, 3)) * UNITS for _ in range(5)]
    if grid:
        found = [np.rint(one / UNITS * grid) / grid * UNITS for one in found]
    found[1], found[4] = 3.0 * np.ones((n_rows, 3)) * UNITS, found[0].copy()
    weight = np.r_[1.0, random.integers(0, 3, n_rows - 1)] if seed % 3 == 0 else None
    return y, found, weight


@pytest.mark.parametrize("name", MEANS)
@given(
    seed=st.integers(0, 10**6),
    n_rows=st.integers(2, 50),
    grid=st.sampled_from([0, 2, 16]),
    constant=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_every_pick_is_that_of_scoring_all_averages_from_scratch(name, seed, n_rows, grid, constant):
    y, predictions, weight = drawn(seed, n_rows, grid, constant)
    metric = METRICS[name]
    fast = metric.incremental_scorer(predictions, y, TASK, weight, seed=0)
    plain = IncrementalScorer(predictions, y, TASK, weight, metric.loss)
    assert isinstance(fast, MeanOverTargetsScorer)
    everyone = np.arange(5)
    for _ in range(5):
        expected = plain.losses(everyone)
        assert (fast.floors(everyone) <= fast.losses(everyone)).all()
        np.testing.assert_allclose(fast.losses(everyone), expected, rtol=1e-9, atol=1e-12)
        picked, lowest = fast.best(everyone)
        assert (picked, lowest) == (fast.first_best(expected), pytest.approx(expected.min(), rel=1e-9))
        fast.add(picked)
        plain.add(picked)


@pytest.mark.parametrize("name", MEANS)
def test_an_average_can_begin_with_any_weights_and_be_emptied(name):
    y, predictions, _ = drawn(1, 40, 0)
    weights = np.array([0.3, 0.0, 1.2, 0.5, 0.0])
    scorer = METRICS[name].incremental_scorer(predictions, y, TASK, None, seed=0)
    scorer.add(3)
    scorer.set(weights)
    mean = sum(w * one for w, one in zip(weights, predictions, strict=True)) / 2.0
    assert scorer.loss_of(scorer.total, scorer.size) == pytest.approx(METRICS[name].loss(y, mean, TASK))
    with_first = (2.0 * mean + predictions[0]) / 3.0
    assert scorer.losses(np.array([0]))[0] == pytest.approx(METRICS[name].loss(y, with_first, TASK))
    scorer.reset()
    assert scorer.size == 0 and not scorer.total.any()
    assert (
        scorer.best_alone(np.arange(5), 5) == np.argsort(scorer.losses(np.arange(5)), kind="stable").tolist()
    )


def test_every_row_counts():
    y, predictions, _ = drawn(2, 30_000, 0)
    scorer = METRICS["arrmse"].incremental_scorer(predictions, y, TASK, None, seed=0)
    scorer.add(0)
    mean = (predictions[0] + predictions[2]) / 2.0
    expected = np.mean(np.sqrt(((y - mean) ** 2).mean(axis=0)) / y.std(axis=0))
    assert scorer.losses(np.array([2]))[0] == pytest.approx(expected)


def test_targets_of_one_value_leave_the_first_candidate():
    y = np.ones((9, 3))
    predictions = [y + 1.0, y + 0.5]
    assert METRICS["r2"].incremental_scorer(predictions, y, TASK, None, 0).best(np.arange(2)) == (0, np.inf)


def test_targets_of_several_scales_are_scored_from_scratch():
    task = Task("regression", transform=("none", "log1p", "none"), n_targets=3, targets=("a", "b", "c"))
    y, predictions, _ = drawn(3, 20, 0)
    assert type(METRICS["rmse"].incremental_scorer(predictions, y, task, None, 0)) is IncrementalScorer
