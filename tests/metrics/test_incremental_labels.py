"""Labels that one more vote cannot turn are not looked at, and ties go to the first class as in the metric."""

from __future__ import annotations

import numpy as np
import pytest

from stackfeat.metrics import incremental_labels as module
from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.incremental_labels import LabelScorer, extremes, first_largest
from stackfeat.tasks.task import Task

TASK = Task("multiclass", ("a", "b", "c"))


class Watched(np.ndarray):
    """An array that remembers the cells taken from it."""

    taken: list[int]

    def take(self, indices, *given, **named):  # type: ignore[no-untyped-def]
        self.taken.extend(np.ravel(indices).tolist())
        return np.asarray(self).take(indices, *given, **named)


def watched(values):
    found = np.asarray(values, dtype=float).view(Watched)
    found.taken = []
    return found


def scorer_of(predictions, y, weight=None, name="accuracy"):
    metric = METRICS[name]
    return metric.incremental_scorer(predictions, np.asarray(y), TASK, weight, seed=0)


def test_only_rows_and_classes_that_may_win_are_read():
    sure, split = [0.8, 0.2, 0.0], [0.5, 0.4, 0.1]
    first, second = watched([sure, split]), watched([[0.9, 0.1, 0.0], [0.4, 0.5, 0.1]])
    scorer = scorer_of([first, second], [0, 1])
    np.testing.assert_array_equal(scorer.losses(np.arange(2)), [-0.5, -1.0])
    assert not first.taken
    scorer.add(1)
    np.testing.assert_array_equal(scorer.losses(np.arange(2)), [-0.5, -1.0])
    # Of the second row the first two classes; the first row is known without looking.
    assert set(first.taken) == set(second.taken) == {3, 4}


def test_a_tie_goes_to_the_first_class_as_in_the_metric():
    scorer = scorer_of([np.array([[0.5, 0.5, 0.0]] * 2), np.array([[0.4, 0.6, 0.0]] * 2)], [0, 1])
    np.testing.assert_array_equal(scorer.losses(np.arange(2)), [-0.5, -0.5])


def test_sums_that_only_rounding_keeps_apart_are_the_tie_that_their_means_are():
    # 0.1 + 0.2 is above 0.3, and so are their thirds; of the sums over 3 both orders occur.
    parts = [np.array([[0.1, 0.3, 0.6]]), np.array([[0.2, 0.0, 0.8]]), np.array([[0.3, 0.3, 0.4]])]
    scorer = scorer_of(parts, [1])
    scorer.add(0)
    for candidate in (1, 2):
        mean = (parts[0] + parts[candidate]) / 2
        assert scorer.losses(np.array([candidate]))[0] == -float(mean.argmax() == 1)


def test_weights_of_rows_count():
    lost, won = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    scorer = scorer_of([lost, won], [0, 2], np.array([3.0, 1.0]))
    for _ in range(3):
        scorer.add(0)
    np.testing.assert_allclose(scorer.losses(np.arange(2)), [-0.25, -0.25])
    scorer.reset()
    scorer.add(0)
    # One vote each is a tie, which the first class wins.
    np.testing.assert_allclose(scorer.losses(np.arange(2)), [-0.25, -1.0])


@pytest.mark.parametrize("n_classes", [2, 3, 9, 17])
def test_counts_of_any_number_of_classes_are_those_of_the_labels(n_classes):
    random = np.random.default_rng(n_classes)
    task = Task("multiclass", tuple(range(n_classes)))
    p = [random.dirichlet(np.ones(n_classes), 400) for _ in range(4)]
    y = random.integers(0, n_classes, 400)
    scorer = METRICS["f1_macro"].incremental_scorer(p, y, task, None, seed=0)
    assert isinstance(scorer, LabelScorer)
    for picked in range(4):
        total = sum(p[: picked + 1])
        scorer.add(picked)
        expected = [METRICS["f1_macro"].loss(y, (total + one) / (picked + 2), task) for one in p]
        np.testing.assert_allclose(scorer.losses(np.arange(4)), expected, rtol=1e-12)


def test_extremes_and_first_largest_values_are_those_of_numpy():
    random = np.random.default_rng(0)
    p = list(random.integers(0, 4, (5, 30, 3)) / 4)
    lowest, highest = extremes(p)
    np.testing.assert_array_equal(lowest, np.min(p, axis=0))
    np.testing.assert_array_equal(highest, np.max(p, axis=0))
    np.testing.assert_array_equal(first_largest(p[0].T), p[0].argmax(axis=1))


@pytest.mark.parametrize("most_kept", [1 << 25, 200])
@pytest.mark.parametrize("grid", [0, 1, 7])
def test_rows_that_are_safe_for_some_votes_are_looked_at_again_in_time(grid, most_kept, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", most_kept)
    random = np.random.default_rng(grid)
    task, y = Task("multiclass", tuple(range(5))), random.integers(0, 5, 500)
    strength = random.uniform(0.0, 4.0, (500, 1))
    p = [strength * np.eye(5)[y] + random.normal(size=(500, 5)) for _ in range(6)]
    p = [np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in p]
    # On a grid of 1 these are votes for one class, of which many rows are tied.
    p = [np.rint(one * grid) / grid if grid else one for one in p]
    scorer, looked = METRICS["accuracy"].incremental_scorer(p, y, task, None, seed=0), []
    look = scorer._looked_at
    monkeypatch.setattr(scorer, "_looked_at", lambda rows: looked.append(len(rows)) or look(rows))
    total = np.zeros((500, 5))
    for picked, member in enumerate(random.integers(0, 6, 40), 1):
        scorer.add(member)
        total += p[member]
        expected = [-np.mean(((total + one) / (picked + 1)).argmax(axis=1) == y) for one in p]
        np.testing.assert_allclose(scorer.losses(np.arange(6)), expected, rtol=1e-12)
    assert looked[0] == 500
    assert np.mean(looked) < 250


def test_cells_are_read_once_and_forgotten_only_for_want_of_room(monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 8)
    first, second = watched(np.arange(9.0).reshape(3, 3)), watched(np.arange(9.0).reshape(3, 3) + 10)
    kept = module.KeptCells([first, second])
    for cells in ([1, 2], [2, 1, 5], [5, 8]):
        kept.keep(np.array(cells))
        np.testing.assert_array_equal(kept.of(np.array(cells)), np.add.outer(cells, [0, 10]))
    assert first.taken == second.taken == [1, 2, 5, 8]
    kept.keep(np.array([0, 8]))
    np.testing.assert_array_equal(kept.of(np.array([8, 0])), [[8, 18], [0, 10]])
    assert first.taken == [1, 2, 5, 8, 0, 8]
