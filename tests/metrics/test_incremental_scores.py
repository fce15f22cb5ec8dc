"""Averages that grow by one prediction are scored without working out the averages: with the plain way's picks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackfeat.metrics import incremental_scores as module
from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.incremental_scores import (
    SAME_LOSS,
    BoundedScorer,
    IncrementalScorer,
    LogLossScorer,
    class_error_products,
    row_shares,
    value_error_products,
)
from stackfeat.metrics.registry import metric_names
from stackfeat.tasks.task import Task

TASKS = {
    "binary": Task("binary", ("no", "yes"), positive=0),
    "multiclass": Task("multiclass", ("a", "b", "c", "d", "e")),
    "regression": Task("regression"),
    "log": Task("regression", transform="log1p"),
}
FROM_SCRATCH = {"gini", "gini_normalized", "spearman", "smape", "medae"}
"""Metrics of values that score every average from scratch, of at most 10,000 rows."""
EVERY = [
    pytest.param(METRICS[name], TASKS[kind], id=f"{kind}-{name}")
    for kind in ("binary", "multiclass", "regression")
    for name in metric_names(kind)
    if name != "rmsle" and not (kind == "regression" and name in FROM_SCRATCH)
] + [pytest.param(METRICS["rmsle"], TASKS["log"], id="log-rmsle")]
VALUES = TASKS["regression"]


def drawn(task, seed, n_rows, n_candidates, grid):
    """True values, and predictions: on a grid (ties), or close together (grid 0), with a copy and a constant."""
    random = np.random.default_rng(seed)
    if not task.classes:
        y = random.integers(1, 5, n_rows).astype(float)
        found = [np.abs(y + random.normal(size=n_rows))[:, None] for _ in range(n_candidates)]
        spread, n_columns = 4.0, 1
    else:
        y = random.integers(0, task.n_outputs, n_rows)
        found = [random.dirichlet(0.5 * np.ones(task.n_outputs), n_rows) for _ in range(n_candidates)]
        spread, n_columns = 1.0, task.n_outputs
    if grid:
        found = [np.rint(one * grid) / grid for one in found]
    else:
        # Differences that single precision cannot see.
        found = [0.4 * spread + 1e-9 * one for one in found]
    found[-1] = found[0].copy()
    if n_candidates > 2:
        found[1] = np.full((n_rows, n_columns), spread / 2)
    return y, found


def row_weights(kind, n_rows):
    random = np.random.default_rng(n_rows)
    if kind == "none":
        return None
    if kind == "some are zero":
        return np.r_[1.0, random.integers(0, 3, n_rows - 1)]
    return random.uniform(0.1, 3.0, n_rows)


grids = st.sampled_from([0, 2, 10, 16, 1000])
kinds = st.sampled_from(["none", "some are zero", "any"])


@given(
    seed=st.integers(0, 10**6),
    n_rows=st.integers(1, 50),
    n_candidates=st.integers(2, 7),
    grid=grids,
    kind=kinds,
)
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize(("metric", "task"), EVERY)
def test_every_pick_is_that_of_scoring_all_averages_from_scratch(
    metric, task, seed, n_rows, n_candidates, grid, kind
):
    y, predictions = drawn(task, seed, n_rows, n_candidates, grid)
    weight = row_weights(kind, n_rows)
    fast = metric.incremental_scorer(predictions, y, task, weight, seed=0)
    # Of the squared error, not its root, whose ties are others.
    loss = (lambda *given: metric.loss(*given) ** 2) if metric.root else metric.loss
    plain = IncrementalScorer(predictions, y, task, weight, loss)
    assert type(fast) is not IncrementalScorer
    bag = np.flatnonzero(np.random.default_rng(seed).random(n_candidates) < 0.8)
    for _ in range(5 if len(bag) else 0):
        expected = plain.losses(bag)
        if isinstance(fast, BoundedScorer):
            assert (fast.floors(bag) <= fast.losses(bag)).all()
        np.testing.assert_allclose(fast.losses(bag), expected, rtol=1e-9, atol=1e-12)
        picked, lowest = fast.best(bag)
        assert lowest == pytest.approx(expected.min(), rel=1e-9, abs=1e-12)
        # Plain losses of one value differ by what is lost in rounding.
        assert picked == bag[fast.first_best(expected)]
        fast.add(picked)
        plain.add(picked)


@given(seed=st.integers(0, 10**6), grid=grids, kind=kinds)
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize(("metric", "task"), EVERY)
def test_an_average_can_begin_with_any_weights(metric, task, seed, grid, kind):
    y, predictions = drawn(task, seed, 30, 4, grid)
    weight = row_weights(kind, 30)
    fast = metric.incremental_scorer(predictions, y, task, weight, seed=0)
    weights = np.random.default_rng(seed).dirichlet(np.ones(4)) * 3.0
    target = task.to_target_scale(y)
    with_second = sum(w * p for w, p in zip(weights + np.eye(4)[1], predictions, strict=True)) / 4.0
    expected = metric.loss(target, task.to_target_scale(with_second), task, weight)
    fast.add(2)
    fast.set(weights)
    # Sums of other parts round to other ties.
    if grid or metric.needs == "proba":
        tolerance = {"rel": 1e-9, "abs": 0.2 if metric.ranking or metric.needs == "label" else 1e-12}
        found = fast.losses(np.array([1]))[0]
        assert found == pytest.approx(expected**2 if metric.root else expected, nan_ok=True, **tolerance) or (
            np.isnan(expected) and found == np.inf
        )
    before = fast.loss_of(fast.total, fast.size)
    fast.reset()
    fast.set(weights)
    assert fast.loss_of(fast.total, fast.size) == before


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("chunk", [16, 100])
@pytest.mark.parametrize(("metric", "task"), EVERY)
def test_losses_and_floors_do_not_depend_on_how_rows_are_cut(metric, task, chunk, weighted, monkeypatch):
    y, predictions = drawn(task, 3, 205, 5, 1000)
    weight = row_weights("any", 205) if weighted else None

    def seen():
        scorer = metric.incremental_scorer(predictions, y, task, weight, seed=0)
        scorer.add(3)
        rough = scorer.floors(np.arange(5)) if isinstance(scorer, BoundedScorer) else np.zeros(5)
        return scorer.losses(np.arange(5)), rough

    losses, floors = seen()
    monkeypatch.setattr(module, "CHUNK_CELLS", chunk)
    monkeypatch.setattr("stackfeat.metrics.incremental_labels.CHUNK_CELLS", chunk)
    again, floors_again = seen()
    np.testing.assert_allclose(again, losses, rtol=1e-12)
    np.testing.assert_allclose(floors_again, floors, rtol=1e-5)


def test_floors_rule_out_all_but_the_best_of_many_rows():
    """What makes it fast: rounding and bins leave few candidates in doubt."""
    random = np.random.default_rng(0)
    for name in ("log_loss", "brier", "roc_auc", "average_precision", "rmse", "mae", "pearson", "r2"):
        metric = METRICS[name]
        task = TASKS[metric.tasks[0]]
        y = random.integers(0, 2, 20_000) if task.classes else random.normal(size=20_000)
        noise = [random.normal(size=20_000) for _ in range(8)]
        if task.classes:
            columns = [1 / (1 + np.exp(2 * y - 1 + (1 + k / 10) * one)) for k, one in enumerate(noise)]
            predictions = [np.stack([one, 1 - one], axis=1) for one in columns]
        else:
            predictions = [(y + (1 + k / 10) * one)[:, None] for k, one in enumerate(noise)]
        scorer = metric.incremental_scorer(predictions, y, task, None, seed=0)
        assert isinstance(scorer, BoundedScorer)
        scorer.add(1)
        losses, floors = scorer.losses(np.arange(8)), scorer.floors(np.arange(8))
        assert (floors <= losses).all()
        assert (floors <= losses.min()).sum() == 1, name


def test_areas_of_several_classes_are_of_a_draw_and_all_else_of_every_row():
    random = np.random.default_rng(0)
    for kind, name, expected in [
        ("binary", "roc_auc", 30_000),
        ("multiclass", "roc_auc", 10_000),
        ("multiclass", "f1_macro", 30_000),
    ]:
        task = TASKS[kind]
        p = [random.dirichlet(np.ones(task.n_outputs), 30_000) for _ in range(2)]
        y = random.integers(0, task.n_outputs, 30_000)
        weight = random.random(30_000)
        scorer = METRICS[name].incremental_scorer(p, y, task, weight, seed=0)
        assert len(scorer.y) == len(scorer.weight) == expected


@pytest.mark.parametrize(
    ("losses", "first", "first_of_unit"),
    [
        ([3.0, 1.0 + 1e-14, 1.0, 2.0], 1, 1),
        ([3.0, 1.0 + 10 * SAME_LOSS, 1.0], 2, 2),
        ([-0.5, -0.5 - 1e-15], 0, 0),
        ([0.0, 0.0], 0, 0),
        ([1e-16, -1e-16], 1, 0),
        ([1e-20, 0.9e-20], 1, 0),
        ([np.inf, np.inf], 0, 0),
        ([np.inf, 5.0], 1, 1),
    ],
)
def test_the_first_of_equal_losses_is_the_best(losses, first, first_of_unit):
    y, predictions = drawn(VALUES, 0, 9, 3, 10)
    made = (METRICS[name].incremental_scorer(predictions, y, VALUES, None, 0) for name in ("rmse", "r2"))
    assert [scorer.first_best(losses) for scorer in made] == [first, first_of_unit]


@pytest.mark.parametrize("n_rows", [1, 15, 16, 17, 70])
def test_a_class_said_to_be_impossible_costs_a_finite_logarithm(n_rows):
    task = Task("multiclass", ("a", "b", "c"))
    y = np.zeros(n_rows, dtype=np.int64)
    never, surely = np.tile([0.0, 1.0, 0.0], (n_rows, 1)), np.tile([1.0, 0.0, 0.0], (n_rows, 1))
    scorer = LogLossScorer([never, surely], y, task, None, METRICS["log_loss"].loss)
    both = np.arange(2)
    np.testing.assert_allclose(scorer.losses(both), [-np.log(1e-15), 0.0], atol=1e-12)
    np.testing.assert_allclose(scorer.floors(both), [-np.log(1e-15), 0.0], rtol=1e-5, atol=1e-5)
    assert scorer.best(both) == (1, 0.0)
    scorer.add(0)
    np.testing.assert_allclose(scorer.losses(both), [-np.log(1e-15), np.log(2)])


def test_a_score_that_is_undefined_is_the_worst():
    def loss(y, mean, task, weight):
        return float("nan") if mean.mean() < 0 else float(mean.mean())

    predictions = [np.full((4, 1), v) for v in (-1.0, 3.0, 2.0)]
    scorer = IncrementalScorer(predictions, np.zeros(4), VALUES, None, loss)
    np.testing.assert_array_equal(scorer.losses(np.arange(3)), [np.inf, 3.0, 2.0])
    assert scorer.best(np.arange(3)) == (2, 2.0)
    assert scorer.best(np.array([0])) == (0, np.inf)
    scorer.add(0)
    np.testing.assert_array_equal(scorer.losses(np.arange(3)), [np.inf, 1.0, 0.5])


def test_any_metric_is_scored_on_the_scale_of_the_target():
    seen = []

    def loss(y, mean, task, weight):
        seen.append((y.copy(), mean.copy(), weight))
        return 0.0

    weight = np.ones(3)
    prediction = np.log1p(np.full((3, 1), 7.0))
    scorer = IncrementalScorer([prediction], np.log1p([1.0, 2.0, 3.0]), TASKS["log"], weight, loss)
    scorer.losses(np.array([0]))
    ((y, mean, given),) = seen
    np.testing.assert_allclose(y, [1, 2, 3])
    np.testing.assert_allclose(mean.ravel(), [7, 7, 7])
    assert given is weight


def test_products_of_errors_give_the_squared_error_of_every_average():
    random = np.random.default_rng(0)
    shares = row_shares(30, random.uniform(0, 1, 30))
    assert shares.sum() == pytest.approx(1)
    y, p = random.integers(0, 3, 30), random.dirichlet(np.ones(3), (4, 30))
    products = class_error_products(list(p), y, range(3), shares)
    of_values = value_error_products([one[:, :1] for one in p], y.astype(float), shares)
    for weights in random.dirichlet(np.ones(4), 3):
        errors = np.tensordot(weights, p, axes=1) - np.eye(3)[y]
        assert weights @ products @ weights == pytest.approx(shares @ (errors**2).sum(axis=1))
        errors = weights @ p[:, :, 0] - y
        assert weights @ of_values @ weights == pytest.approx(shares @ errors**2)


@given(
    seed=st.integers(0, 10**6), n_candidates=st.integers(2, 9), n=st.integers(1, 9), grid=grids, kind=kinds
)
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize(("metric", "task"), EVERY)
def test_those_that_are_best_alone_come_in_their_order(metric, task, seed, n_candidates, n, grid, kind):
    y, predictions = drawn(task, seed, 25, n_candidates, grid)
    scorer = metric.incremental_scorer(predictions, y, task, row_weights(kind, 25), seed=0)
    everyone = np.arange(n_candidates)
    order = scorer.losses(everyone).argsort(kind="stable")
    scorer.add(1)
    assert scorer.best_alone(everyone, n) == order[:n].tolist()
    assert scorer.best_alone(everyone[1:], n) == order[order > 0][:n].tolist()
    assert scorer.size == 0
