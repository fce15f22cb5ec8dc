"""What every kind of task keeps; a new kind needs its row in `TASKS` and one here."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from stackfeat.errors import StructureError, UsageError
from stackfeat.metrics.registry import get_metric
from stackfeat.tasks.task import OUTPUTS, TASKS, Kind, Task, task_class

EXAMPLES: dict[str, Task] = {
    "binary": Task("binary", ("no", "yes"), positive=0),
    "multiclass": Task("multiclass", ("a", "b", "c")),
    "regression": Task("regression", transform="log1p"),
    "quantile": Task("quantile", transform="log1p", quantiles=(0.05, 0.5, 0.8)),
    "ranking": Task("ranking"),
    "multilabel": Task("multilabel", n_targets=3, targets=("a", "b", "c d")),
}
OF_SEVERAL = {
    "regression of three": Task(
        "regression", n_targets=3, targets=("a", "b", "c d"), transform=("none", "log1p", "none")
    ),
}
OF_SEVERAL["multilabel"] = EXAMPLES["multilabel"]
EVERY = {**EXAMPLES, **OF_SEVERAL}
every_kind = pytest.mark.parametrize("task", EVERY.values(), ids=EVERY)
of_several = pytest.mark.parametrize("task", OF_SEVERAL.values(), ids=OF_SEVERAL)


def drawn(task: Task, n_rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A target, and predictions that know something of it."""
    rng = np.random.default_rng(0)
    if task.has_label_sets:
        y = rng.integers(0, 2, (n_rows, task.n_targets))
        y[~y.any(axis=1), 0] = 1
        return y, 0.2 + 0.6 * y + 0.1 * rng.random(y.shape)
    if not task.classes:
        y = rng.exponential(size=n_rows if task.n_targets == 1 else (n_rows, task.n_targets))
        if task.has_lists:
            y = task.in_lists(np.minimum(np.floor(2 * y), 4), np.arange(n_rows) // 8)
            return y, task.learnt(y)[:, None] + 0.1 * rng.normal(size=(n_rows, 1))
        said = y.reshape(n_rows, -1) + 0.1 * rng.normal(size=(n_rows, task.n_outputs))
        return y, task.checked(said, "drawn")
    y = rng.integers(0, len(task.classes), n_rows)
    return y, (np.eye(task.n_outputs)[y] + 0.2) / (1.0 + 0.2 * task.n_outputs)


def test_tables_name_the_same_kinds() -> None:
    assert list(TASKS) == list(get_args(Kind)) == list(EXAMPLES)
    with pytest.raises(UsageError, match=r"task must be one of binary, .*; got task='ranked'"):
        task_class("ranked")


@every_kind
def test_every_fact_of_a_kind_is_given(task: Task) -> None:
    facts = [name for name, hint in get_type_hints(Task).items() if "ClassVar" in str(hint)]
    assert facts and not [name for name in facts if not hasattr(type(task), name)]
    assert task.output in OUTPUTS and "mean" in task.averages
    assert set(task.transforms_by_target) <= set(task.transforms)
    for metric in (task.default_metric, task.row_metric):
        assert get_metric(metric, task.kind).needs in (*task.needs, "label")


@every_kind
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda task: pickle.loads(pickle.dumps(task))])
def test_a_task_is_a_value_of_its_kinds_class(task: Task, copied: Callable[[Any], Any]) -> None:
    assert type(task) is task_class(task.kind)
    for other in (copied(task), Task.from_json(task.to_json())):
        assert other == task and type(other) is type(task)


@every_kind
def test_predictions_keep_their_shape_through_every_change(task: Task) -> None:
    y, prediction = drawn(task)
    assert (
        prediction.shape == (len(y), task.n_outputs) and len(task.columns) == task.widths[0] == task.n_outputs
    )
    assert task.as_y(y).dtype == task.dtype
    for how in task.averages:
        mean = task.average([prediction, prediction], how)
        assert mean.shape == prediction.shape and np.isfinite(task.checked(mean, "mean")).all()
    for changed in (
        task.whole(task.counted(prediction)),
        task.to_member_scale(task.to_target_scale(prediction)),
        task.unbounded(prediction, 1e-7),
        task.checked(prediction, "one"),
    ):
        assert changed.shape == prediction.shape
    np.testing.assert_allclose(task.whole(task.counted(prediction)), prediction)


@every_kind
def test_a_prediction_that_knows_the_target_beats_chance_by_every_measure(task: Task) -> None:
    y, prediction = drawn(task, 200)
    shuffled = np.random.default_rng(1).permutation(prediction)
    assert not task.is_near_chance(y, prediction, None) and task.is_near_chance(y, shuffled, None)
    assert task.row_loss(y, prediction).mean() < task.row_loss(y, shuffled).mean()
    assert task.ordering(prediction)(y) > task.ordering(shuffled)(y)
    assert not list(task.faults(prediction)) and not task.far_off(y, prediction)


@every_kind
def test_a_guess_can_be_scored(task: Task) -> None:
    y, _ = drawn(task)
    for needs in task.needs:
        guess = task.guess(y, needs == "label", np.random.default_rng(0))
        assert len(guess) == len(y) and np.isfinite(guess).all()
    assert task.counted_classes and isinstance(task.sureness(drawn(task)[1]), np.ndarray)


@every_kind
def test_evidence_and_moves_are_those_of_single_rows(task: Task) -> None:
    _, prediction = drawn(task)
    evidence, explained = task.evidence(prediction), task.explained(prediction)
    assert evidence.shape == (40, task.n_outputs) and np.isfinite(evidence).all()
    assert len(explained) == 40 and ((explained >= 0) & (explained < task.n_outputs)).all()
    np.testing.assert_array_equal(task.evidence(prediction[3:5]), evidence[3:5])
    # More of an output is more evidence for it.
    assert (np.argsort(evidence[:, 0]) == np.argsort(prediction[:, 0])).all()
    moved = task.moved(prediction, prediction[::-1])
    assert moved.shape == (40,) and (moved >= 0).all() and not task.moved(prediction, prediction).any()


every_kind_with_regions = pytest.mark.parametrize(
    "task", [task for task in EVERY.values() if task.has_regions], ids=lambda task: task.kind
)


@every_kind
def test_shuffled_targets_are_targets_and_drawn_rows_stand_for_all(task: Task) -> None:
    y, _ = drawn(task, 200)
    mixed = task.shuffled(y, np.random.default_rng(0))
    assert mixed.shape == y.shape and mixed.dtype == y.dtype and not np.array_equal(mixed, y)
    np.testing.assert_array_equal(*(np.sort(task.learnt(one), axis=0) for one in (mixed, y)))
    rows = task.spread(y, 50, seed=0)
    assert 40 <= len(rows) <= 50 and (np.diff(rows) > 0).all()
    assert len(task.learnt(y)) == len(task.in_unit(y)) == len(y)


@every_kind
def test_predictions_are_within_their_lists_once_and_for_all(task: Task) -> None:
    y, prediction = drawn(task)
    lists = task.lists(y)
    within = task.within(prediction, lists)
    np.testing.assert_allclose(task.within(within, lists), within, atol=1e-12)
    assert task.ranked_within(prediction, lists).shape == prediction.shape
    assert (lists is not None) == task.has_lists


@every_kind_with_regions
def test_a_region_of_what_a_target_is_off_by_holds_it_and_one_of_less_does_not(task: Task) -> None:
    y, prediction = drawn(task)
    off = task.nonconformity(y, prediction)
    assert off.shape[0] == len(y) and (~np.isnan(off)).any(axis=1).all()
    # Of classes a row says something of its own alone.
    reach = np.nan_to_num(off, nan=0.0)
    exact, more, less = (task.region(prediction, np.maximum(reach + by, 0.0)) for by in (1e-9, 0.5, -1e-3))
    assert task.holds(exact, y).tolist() == [1.0] * len(y)
    assert task.holds(less, y).mean() < 0.5 and (task.region_size(more) >= task.region_size(exact)).all()
    columns = task.region_columns(exact)
    assert all(len(values) == len(y) for values in columns.values()) and len(set(columns)) == len(columns)
    assert task.region_words[0] and len(task.region_words) == 2


@of_several
def test_parts_of_several_targets_are_tasks_of_one(task: Task) -> None:
    y, prediction = drawn(task)
    assert len(task.parts) == task.n_targets == len(task.names)
    said = []
    for place, part in enumerate(task.parts):
        own, of_own = task.part_of_y(y, place), task.part_of_prediction(prediction, place)
        assert part.parts == (part,) and of_own.shape == (len(y), part.n_outputs) and own.shape == (len(y),)
        assert task.part_of_scores(task.unbounded(prediction, 1e-7), place).shape == of_own.shape
        np.testing.assert_allclose(
            task.part_of_prediction(task.to_target_scale(prediction), place), part.to_target_scale(of_own)
        )
        said.append(of_own)
    np.testing.assert_allclose(task.joined(said), prediction)
    rebuilt = type(task).of_parts(task.parts, task.targets)
    assert rebuilt == task and task.columns_of("m") == tuple(f"m:{name}" for name in task.names)
    with pytest.raises(StructureError, match="targets must be a name for each target"):
        Task(task.kind, n_targets=task.n_targets, targets=("a", "a", "b")).check("task")


@pytest.mark.parametrize("task", [OF_SEVERAL["regression of three"]], ids=["regression of three"])
def test_far_predictions_of_one_target_are_told_by_its_own_range(task: Task) -> None:
    y, prediction = drawn(task)
    moved = task.to_target_scale(prediction) + np.eye(task.n_targets)[1] * 1e6
    assert f"{len(y)} rows lie far outside the targets" in task.far_off(y, moved)
