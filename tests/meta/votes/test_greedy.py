"""Greedy selection equals a naive one, pick by pick."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackfeat.errors import UsageError
from stackfeat.meta.votes.greedy import draw_bags, greedy_selection
from stackfeat.metrics.metric import Metric
from stackfeat.metrics.registry import get_metric, metric_names
from stackfeat.tasks.rows import spread_rows
from stackfeat.tasks.task import Task

BINARY = Task("binary", ("n", "y"), positive=0)
MULTI = Task("multiclass", (1, 2, 3, 4))
VALUE = Task("regression")
LOG_VALUE = Task("regression", transform="log1p")

CASES = [(task, name) for task in (BINARY, MULTI, VALUE, LOG_VALUE) for name in metric_names(task.kind)]


def members(task, n=150, n_inputs=9, seed=0):
    random = np.random.default_rng(seed)
    noise = random.uniform(0.8, 3, n_inputs)
    if not task.classes:
        y = random.gamma(3.0, size=n)
        return y, [np.maximum(y + s * random.normal(size=n), 0)[:, None] for s in noise]
    y = random.integers(0, task.n_outputs, n)
    proba = [np.exp(np.eye(task.n_outputs)[y] + s * random.normal(size=(n, task.n_outputs))) for s in noise]
    return y, [p / p.sum(axis=1, keepdims=True) for p in proba]


def same(first, second):
    return abs(first - second) <= 1e-12 * max(abs(first), 1e-3)


def lowest(losses):
    """The place of the first loss that none is below."""
    return next(place for place, loss in enumerate(losses) if loss <= min(losses) or same(loss, min(losses)))


def naive_caruana(predictions, y, metric, task, picks, start, weight):
    """One bag, straight from the paper: score everything, every time; stop after 10 picks in vain."""

    def loss(chosen):
        mean = np.mean([predictions[index] for index in chosen], axis=0)
        return metric.loss(task.to_target_scale(y), task.to_target_scale(mean), task, weight)

    order = sorted(range(len(predictions)), key=lambda index: loss([index]))[:start]
    sizes = [loss(order[: size + 1]) for size in range(len(order))]
    chosen = order[: lowest(sizes) + 1]
    losses = sizes[: len(chosen)]
    while len(chosen) < picks and len(chosen) < lowest(losses) + 1 + 10:
        trials = [loss([*chosen, index]) for index in range(len(predictions))]
        chosen.append(lowest(trials))
        losses.append(trials[chosen[-1]])
    return chosen[: lowest(losses) + 1]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("task", "name"), CASES)
def test_weights_are_the_naive_picks_counted(task, name, weighted):
    y, predictions = members(task, seed=len(name))
    if task.transform == "log1p":
        y, predictions = np.log1p(y), [np.log1p(p) for p in predictions]
    weight = np.random.default_rng(1).uniform(0.2, 2, len(y)) if weighted else None
    metric = get_metric(name, task.kind)
    found = greedy_selection(predictions, y, metric, task, picks=15, bags=1, start=3, weight=weight)
    chosen = naive_caruana(predictions, y, metric, task, 15, 3, weight)
    np.testing.assert_allclose(found, np.bincount(chosen, minlength=9) / len(chosen))


def test_copies_and_constant_members_are_picked_as_the_naive_way_picks_them():
    y, (first, second, *_) = members(MULTI, n=40, seed=3)
    coarse = [np.rint(one * 4) / 4 for one in (first, second)]
    inputs = [coarse[1], coarse[0], coarse[0], coarse[1], np.full(first.shape, 0.25)]
    for name in metric_names("multiclass"):
        metric = get_metric(name, "multiclass")
        found = greedy_selection(inputs, y, metric, MULTI, picks=20, bags=1)
        chosen = naive_caruana(inputs, y, metric, MULTI, 20, 3, None)
        np.testing.assert_allclose(found, np.bincount(chosen, minlength=5) / len(chosen), err_msg=name)


def test_a_bag_stops_growing_after_ten_picks_in_vain():
    y, tried = np.arange(50) % 2, []
    good = 0.1 + 0.8 * np.eye(2)[y]

    def loss_of(y, prediction, task, weight):
        tried.append(1)
        return float(np.mean((prediction - np.eye(2)[y]) ** 2))

    metric = Metric(name="mine", needs="proba", greater_is_better=False, tasks=("binary",), function=loss_of)
    worse = [0.5 * good + 0.5 * good[:, ::-1], good[:, ::-1]]
    weights = greedy_selection([good, *worse], y, metric, BINARY, picks=50, bags=1, start=1)
    np.testing.assert_array_equal(weights, [1, 0, 0])
    # Three alone, the best again, and ten times all three.
    assert len(tried) == 3 + 1 + 10 * 3


def test_bags_share_what_is_known_of_their_inputs(monkeypatch):
    y, predictions = members(MULTI, n=60, n_inputs=14)
    metric, made = get_metric("f1_macro", "multiclass"), []
    plain = Metric.incremental_scorer

    def counting(self, predictions, *given):
        made.append(len(predictions))
        return plain(self, predictions, *given)

    monkeypatch.setattr(Metric, "incremental_scorer", counting)
    together = greedy_selection(predictions, y, metric, MULTI, picks=6, bags=3, seed=1)
    assert made == [14]
    alone = [
        np.bincount(
            bag[naive_caruana([predictions[i] for i in bag], y, metric, MULTI, 6, 3, None)], minlength=14
        )
        for bag in draw_bags(14, 3, 1)
    ]
    np.testing.assert_allclose(together, np.mean([counts / counts.sum() for counts in alone], axis=0))


def test_zero_probabilities_and_odd_rows_do_not_disturb_the_products():
    y, predictions = members(MULTI, n=101)
    hard = [np.eye(4)[p.argmax(axis=1)] for p in predictions]
    metric = get_metric("log_loss", "multiclass")
    found = greedy_selection(hard, y, metric, MULTI, picks=12, bags=1)
    chosen = naive_caruana(hard, y, metric, MULTI, 12, 3, None)
    np.testing.assert_allclose(found, np.bincount(chosen, minlength=9) / len(chosen))


@given(seed=st.integers(0, 1000), n_inputs=st.integers(1, 14), bags=st.integers(1, 6))
@settings(max_examples=20)
def test_weights_are_on_the_simplex_and_no_worse_than_the_best_of_every_bag(seed, n_inputs, bags):
    y, predictions = members(MULTI, n=60, n_inputs=n_inputs, seed=seed)
    metric = get_metric("log_loss", "multiclass")
    found = greedy_selection(predictions, y, metric, MULTI, picks=10, bags=bags, seed=seed)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1.0)
    mean = sum(w * p for w, p in zip(found, predictions, strict=True))
    best_of_bags = [
        min(metric.score(y, predictions[index], MULTI) for index in bag)
        for bag in draw_bags(n_inputs, bags, seed)
    ]
    assert metric.score(y, mean, MULTI) <= np.mean(best_of_bags) + 1e-12


def test_bags_are_seeded_halves_or_one_of_all():
    assert [bag.tolist() for bag in draw_bags(4, 5, 0)] == [[0, 1, 2, 3]]
    assert [len(bag) for bag in draw_bags(20, 3, 0)] == [10, 10, 10]
    first, again, other = draw_bags(20, 3, 0), draw_bags(20, 3, 0), draw_bags(20, 3, 1)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_nothing_to_pick_from_is_refused():
    with pytest.raises(UsageError, match="at least one prediction"):
        greedy_selection([], np.zeros(3), get_metric("rmse", "regression"), VALUE)


def test_spread_rows_keeps_the_share_of_rare_classes():
    y = np.repeat([0, 1, 2], [9000, 900, 100])
    rows = spread_rows(y, 1000, seed=0)
    assert len(np.unique(rows)) == 1000
    np.testing.assert_allclose(np.bincount(y[rows]), [900, 90, 10], atol=1)
    np.testing.assert_array_equal(spread_rows(y, 10_000, 0), np.arange(10_000))


@pytest.mark.slow
def test_two_hundred_models_of_a_hundred_thousand_rows_take_seconds():
    random = np.random.default_rng(0)
    y = random.integers(0, 10, 100_000)
    predictions = []
    for _ in range(200):
        p = random.random((100_000, 10)) + np.eye(10)[y]
        predictions.append(p / p.sum(axis=1, keepdims=True))
    started = time.process_time()
    greedy_selection(
        predictions,
        y,
        get_metric("log_loss", "multiclass"),
        Task("multiclass", tuple(range(10))),
        picks=25,
        bags=1,
    )
    assert time.process_time() - started < 60
