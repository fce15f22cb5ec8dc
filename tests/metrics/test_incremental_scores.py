"""Averages that grow by one prediction are scored without working out the averages."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from stackfeat.metrics import incremental_scores as module
from stackfeat.metrics.incremental_scores import (
    AbsoluteErrorScorer,
    AccuracyScorer,
    BrierScorer,
    LogLossScorer,
    RescoringScorer,
    SquaredErrorScorer,
    error_products,
    row_shares,
)
from stackfeat.tasks.task import Task

TASK = Task("multiclass", ("a", "b", "c"))
VALUES = Task("regression")


def classes(n=70, n_candidates=3, seed=0):
    random = np.random.default_rng(seed)
    y = random.integers(3, size=n)
    logits = np.eye(3)[y] + 2 * random.normal(size=(n_candidates, n, 3))
    return [*special.softmax(logits, axis=2)], y


def values(n=70, n_candidates=3):
    random = np.random.default_rng(0)
    y = random.normal(size=n)
    return [*(y[:, None] + random.normal(size=(n_candidates, n, 1)))], y


def log_loss(mean, y, weight):
    return np.average(-np.log(mean[np.arange(len(y)), y]), weights=weight)


def brier(mean, y, weight):
    return np.average(((mean - np.eye(3)[y]) ** 2).sum(axis=1), weights=weight)


def wrong(mean, y, weight):
    return np.average(mean.argmax(axis=1) != y, weights=weight)


def squared(mean, y, weight):
    return np.average((mean[:, 0] - y) ** 2, weights=weight)


def absolute(mean, y, weight):
    return np.average(np.abs(mean[:, 0] - y), weights=weight)


CASES = [
    (LogLossScorer, TASK, log_loss),
    (BrierScorer, TASK, brier),
    (AccuracyScorer, TASK, wrong),
    (SquaredErrorScorer, VALUES, squared),
    (AbsoluteErrorScorer, VALUES, absolute),
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("chunk", [1, 100, 131_072])
@pytest.mark.parametrize(("scorer", "task", "loss"), CASES)
def test_losses_are_those_of_the_whole_averages_however_rows_are_cut(
    scorer, task, loss, chunk, weighted, monkeypatch
):
    monkeypatch.setattr(module, "CHUNK_CELLS", chunk)
    predictions, y = classes() if task is TASK else values()
    weight = np.random.default_rng(2).uniform(0, 3, len(y)) if weighted else None
    found = scorer(predictions, y, task, weight)
    picked = []
    for candidate in (1, 1, 0, 2, 1):
        means = [np.mean([predictions[i] for i in [*picked, k]], axis=0) for k in range(3)]
        np.testing.assert_allclose(found.losses(), [loss(mean, y, weight) for mean in means], rtol=1e-9)
        found.add(candidate)
        picked.append(candidate)


@pytest.mark.parametrize(("scorer", "task", "loss"), CASES)
def test_an_emptied_average_is_as_new(scorer, task, loss):
    predictions, y = classes() if task is TASK else values()
    found = scorer(predictions, y, task, None)
    before = found.losses()
    for candidate in (0, 2):
        found.add(candidate)
    assert (found.losses() != before).any()
    found.reset()
    np.testing.assert_array_equal(found.losses(), before)


@pytest.mark.parametrize("n_rows", [1, 15, 16, 17, 70])
def test_a_class_said_to_be_impossible_costs_a_finite_logarithm(n_rows):
    y = np.zeros(n_rows, dtype=np.int64)
    never, surely = np.tile([0.0, 1.0, 0.0], (n_rows, 1)), np.tile([1.0, 0.0, 0.0], (n_rows, 1))
    scorer = LogLossScorer([never, surely], y, TASK, None)
    np.testing.assert_allclose(scorer.losses(), [-np.log(1e-15), 0.0], atol=1e-12)
    scorer.add(0)
    np.testing.assert_allclose(scorer.losses(), [-np.log(1e-15), np.log(2)])


def test_a_tie_goes_to_the_first_class_as_in_the_metric():
    scorer = AccuracyScorer([np.array([[0.5, 0.5, 0.0]] * 2)], np.array([0, 1]), TASK, None)
    np.testing.assert_array_equal(scorer.losses(), [0.5])


def test_rows_that_one_vote_cannot_turn_count_without_being_looked_at():
    lost, won = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    scorer = AccuracyScorer([lost, won], np.array([0, 2]), TASK, np.array([3.0, 1.0]))
    for _ in range(3):
        scorer.add(0)
    np.testing.assert_allclose(scorer.losses(), [0.75, 0.75])
    scorer.reset()
    scorer.add(0)
    # One vote each is a tie, which the first class wins.
    np.testing.assert_allclose(scorer.losses(), [0.75, 0.0])


def test_a_score_that_is_undefined_is_the_worst():
    def loss(y, mean, task, weight):
        return float("nan") if mean.mean() < 0 else float(mean.mean())

    scorer = RescoringScorer(
        [np.full((4, 1), v) for v in (-1.0, 3.0, 2.0)], np.zeros(4), VALUES, None, loss=loss
    )
    np.testing.assert_array_equal(scorer.losses(), [np.inf, 3.0, 2.0])
    scorer.add(0)
    np.testing.assert_array_equal(scorer.losses(), [np.inf, 1.0, 0.5])


def test_any_metric_is_scored_on_the_scale_of_the_target():
    task = Task("regression", transform="log1p")
    seen = []

    def loss(y, mean, task, weight):
        seen.append((y.copy(), mean.copy(), weight))
        return 0.0

    weight = np.ones(3)
    scorer = RescoringScorer(
        [np.log1p(np.full((3, 1), 7.0))], np.log1p([1.0, 2.0, 3.0]), task, weight, loss=loss
    )
    scorer.losses()
    ((y, mean, given),) = seen
    np.testing.assert_allclose(y, [1, 2, 3])
    np.testing.assert_allclose(mean.ravel(), [7, 7, 7])
    assert given is weight


def test_products_of_errors_give_the_squared_error_of_every_average():
    random = np.random.default_rng(0)
    errors, shares = random.normal(size=(2, 30, 4)), row_shares(30, random.uniform(0, 1, 30))
    assert shares.sum() == pytest.approx(1)
    products = error_products([*errors], shares)
    for weights in random.dirichlet(np.ones(4), 3):
        expected = ((errors @ weights) ** 2 @ shares).sum()
        assert weights @ products @ weights == pytest.approx(expected)
