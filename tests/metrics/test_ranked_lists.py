"""Metrics of ranked lists, against scikit-learn and against all orders of rows that share a score."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import sklearn.metrics as sk

from stackfeat.metrics.registry import get_metric
from stackfeat.tasks.task import Task

TASK = Task("ranking")


def rows(seed=0, n=240, n_lists=30):
    """Rows in lists whose rows are not neighbours; some lists have no relevant row, one has a single row."""
    rng = np.random.default_rng(seed)
    lists = np.append(rng.integers(0, n_lists, n - 1), n_lists + 5)
    relevance = rng.integers(0, 5, n) * (rng.random(n) < 0.5) * (lists % 5 > 0)
    # Rounded scores have ties.
    scores = np.round(relevance + rng.normal(size=n) * 2.0)
    return TASK.in_lists(relevance.astype(float), lists), scores


def lists_of(y, scores):
    for number in np.unique(y[:, 1]):
        inside = y[:, 1] == number
        yield y[inside, 0], scores[inside], inside


def ndcg(relevance, scores, most):
    """scikit-learn's, of exponential gains; it refuses a single row, which is always in the best place."""
    return sk.ndcg_score([2.0**relevance - 1], [scores], k=most) if len(scores) > 1 else 1.0


def over_all_orders(of_order):
    """A value of one order, as the mean over all that the scores allow."""

    def value(relevance, scores, most):
        n, falling = len(scores), np.argsort(-scores, kind="stable")
        orders = [o for o in permutations(falling) if all(np.diff(scores[list(o)]) <= 0)] if n < 8 else []
        return np.mean([of_order(relevance[list(o)] > 0, most or n) for o in orders])

    return value


def precision(hits, most):
    found = [hits[: i + 1].mean() for i in range(min(most, len(hits))) if hits[i]]
    return sum(found) / min(hits.sum(), most)


def first(hits, most):
    return 1 / (np.flatnonzero(hits)[0] + 1)


@pytest.mark.parametrize(
    ("name", "most", "oracle", "n_lists"),
    [
        ("ndcg", None, ndcg, 30),
        ("ndcg@5", 5, ndcg, 30),
        ("ndcg@10", 10, ndcg, 30),
        ("ndcg@1", 1, ndcg, 30),
        ("map@10", 10, over_all_orders(precision), 80),
        ("map@2", 2, over_all_orders(precision), 80),
        ("mrr", None, over_all_orders(first), 80),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_score_is_the_mean_over_the_lists_with_a_relevant_row(name, most, oracle, n_lists, weighted):
    y, scores = rows(n_lists=n_lists)
    weight = np.random.default_rng(3).uniform(0.5, 2.0, len(y)) if weighted else None
    values, weights = [], []
    for relevance, said, inside in lists_of(y, scores):
        if relevance.any() and (oracle is ndcg or len(said) < 8):
            values.append(oracle(relevance, said, most))
            weights.append(1.0 if weight is None else weight[inside].mean())
    kept = np.concatenate(
        [np.flatnonzero(i) for r, s, i in lists_of(y, scores) if oracle is ndcg or len(s) < 8]
    )
    found = get_metric(name, "ranking").score(
        y[kept], scores[kept], TASK, None if weight is None else weight[kept]
    )
    assert found == pytest.approx(np.average(values, weights=weights), abs=1e-12)


@pytest.mark.parametrize("name", ["ndcg", "ndcg@5", "map@10", "mrr"])
def test_only_the_order_within_lists_counts(name):
    y, scores = rows()
    metric, rng = get_metric(name, "ranking"), np.random.default_rng(1)
    _, place = np.unique(y[:, 1], return_inverse=True)
    shift, unit = rng.normal(size=(2, place.max() + 1)) * 100
    moved = scores * np.exp(unit / 100)[place] + shift[place]
    order = rng.permutation(len(y))
    for other in (metric.score(y, np.round(moved, 6), TASK), metric.score(y[order], scores[order], TASK)):
        assert other == pytest.approx(metric.score(y, scores, TASK), abs=1e-12)


@pytest.mark.parametrize("name", ["ndcg", "ndcg@5", "map@10", "mrr"])
def test_scores_that_order_nothing_are_worth_what_random_ones_are(name):
    y, _ = rows(n=120)
    metric, rng = get_metric(name, "ranking"), np.random.default_rng(2)
    drawn = [metric.score(y, rng.normal(size=len(y)), TASK) for _ in range(400)]
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert metric.score(y, np.zeros(len(y)), TASK) == pytest.approx(np.mean(drawn), abs=4 * error)


@pytest.mark.parametrize("name", ["ndcg", "map@10", "mrr"])
def test_its_bootstrap_draws_whole_lists(name):
    y, scores = rows()
    metric = get_metric(name, "ranking")
    found = metric.bootstrap(y, [scores, -scores], TASK, n_resamples=5, seed=4)
    _, place, sizes = np.unique(y[:, 1], return_inverse=True, return_counts=True)
    draws = np.random.default_rng(4)
    for of_draw in found:
        drawn = draws.integers(0, len(sizes), len(sizes))
        # A list that is drawn twice is two lists.
        parts = [np.flatnonzero(place == number) for number in drawn]
        again = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        rows_drawn = np.concatenate(parts)
        target = TASK.in_lists(y[rows_drawn, 0], again)
        expected = [metric.score(target, one[rows_drawn], TASK) for one in (scores, -scores)]
        np.testing.assert_allclose(of_draw, expected, atol=1e-12)


def test_a_metric_of_lists_without_relevant_rows_is_not_defined():
    y = TASK.in_lists(np.zeros(6), np.arange(6) // 2)
    assert np.isnan(get_metric("ndcg@10", "ranking").score(y, np.arange(6.0), TASK))


def test_growing_averages_are_scored_on_whole_lists():
    y, scores = rows(n=12_000, n_lists=600)
    metric = get_metric("mrr", "ranking")
    members = [scores[:, None], np.roll(scores, 1)[:, None]]
    scorer = metric.incremental_scorer(members, y, TASK, None, seed=0)
    assert 9_000 < len(scorer.y) <= 10_000
    counts = dict(zip(*np.unique(y[:, 1], return_counts=True), strict=True))
    assert all(
        counts[number] == n for number, n in zip(*np.unique(scorer.y[:, 1], return_counts=True), strict=True)
    )
    assert scorer.best(np.arange(2))[0] == 0
