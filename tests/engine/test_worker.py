"""What one job does: which rows a fit is given, what it knows besides them, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB

from stackfeat.engine.fitted import fit_recipe, load_fitted
from stackfeat.engine.jobs import read_fitted_rows, unpack_rows
from stackfeat.engine.recipes import FitRecipe
from stackfeat.engine.worker import (
    Worker,
    _save,
    block_rows,
    context_of,
    row_sets,
    run_steps,
)
from stackfeat.errors import DamagedEntryError, MemberError, StoreError, StructureError
from stackfeat.store import LayeredStore, MemoryStore, Store
from tests.engine.by_hand import BAYES, PRIOR, Engine, engine, folds_of_rows, rows

LEVELS = {
    "base": {"bayes": BAYES},
    "final": {"soft": {"vote": "soft", "inputs": ["base/*/proba"]}},
}


def fit_of(made: Engine, member: str, fold: object, repeat: int = 0) -> FitRecipe:
    key = made.plan.fits[member, repeat, fold]  # type: ignore[index]
    (found,) = [step for job in made.plan.jobs() for step in job.steps if step.key == key]
    assert isinstance(found, FitRecipe)
    return found


def test_rows_out_of_fold_are_those_of_scikit_learn_fitted_on_the_other_folds() -> None:
    made = engine(LEVELS, folds=folds_of_rows(24, n_repeats=2))
    made.carry_out()
    for repeat in range(2):
        for fold, (train, held_out) in enumerate(made.folds.splits[repeat]):
            entry = made.store.read(made.plan.fits["base/bayes", repeat, fold])
            model = GaussianNB().fit(made.X(train), made.samples.labels[train])
            np.testing.assert_allclose(entry.array("oof/proba"), model.predict_proba(made.X(held_out)))
            noted = read_fitted_rows(entry)
            assert noted is not None
            np.testing.assert_array_equal(np.flatnonzero(unpack_rows(noted, 24)), train)


def test_a_step_that_is_stored_is_not_made_again(fits: list[str]) -> None:
    made = engine(LEVELS)
    steps = fit_of(made, "base/bayes", 0), fit_of(made, "base/bayes", 1)
    run_steps(made.store, steps[:1])
    run_steps(made.store, steps)
    assert len(fits) == 2


def test_a_later_member_trains_on_rows_that_all_its_inputs_cover() -> None:
    made = engine(LEVELS)
    train, held_out = made.folds.splits[0][1]
    recipe = fit_of(made, "final/soft", 1)
    first, second = np.ones(24, bool), np.ones(24, bool)
    first[:5], second[20:] = False, False
    found, predicted = row_sets(recipe, made.folds, [first, second])
    np.testing.assert_array_equal(found, [row for row in train if 5 <= row < 20])
    np.testing.assert_array_equal(predicted, held_out)
    whole, nobody = row_sets(replace(recipe, fold="all"), made.folds, [first, second])
    np.testing.assert_array_equal(whole, np.arange(5, 20))
    assert nobody is None
    pair, nobody = row_sets(replace(recipe, fold="0-2"), made.folds, [])
    np.testing.assert_array_equal(pair, made.folds.splits[0][1][1])
    assert nobody is None


def test_a_fold_without_training_rows_is_refused_of_a_member_that_learns() -> None:
    made = engine({**LEVELS, "final": {"best": {"vote": "greedy", "inputs": ["base/*/proba"]}}})
    nothing = [np.zeros(24, bool)]
    with pytest.raises(
        MemberError, match=r"fold 1 must have training rows that all inputs predict; got none\. Use"
    ):
        row_sets(fit_of(made, "final/best", 1), made.folds, nothing)
    train, _ = row_sets(fit_of(engine(LEVELS), "final/soft", 1), made.folds, nothing)
    assert not len(train), "a vote that learns nothing needs no rows"


def test_a_fit_knows_labels_and_weights_of_its_own_rows_alone() -> None:
    weight = np.arange(24.0)
    made = engine(LEVELS, rows(24, weight=weight))
    train = made.folds.splits[0][2][0]
    context = context_of(fit_of(made, "final/soft", 2), made.samples, made.folds, train, {})
    np.testing.assert_array_equal(context.y, made.samples.labels[train])
    np.testing.assert_array_equal(context.weight, weight[train])
    np.testing.assert_array_equal(context.fold_of, made.folds.fold_of(0)[train])
    assert set(context.fold_of) == {0, 1} and context.anchors is None
    base = context_of(fit_of(made, "base/bayes", 2), made.samples, made.folds, train, {})
    assert base.fold_of is None, "below there is nothing to choose by folds"


def test_a_fit_knows_the_groups_of_its_own_rows() -> None:
    group = np.array(["b", "a"] * 12)
    made = engine(LEVELS, rows(24, group=group))
    train = made.folds.splits[0][2][0]
    context = context_of(fit_of(made, "final/soft", 2), made.samples, made.folds, train, {})
    assert context.clusters is not None
    np.testing.assert_array_equal(context.clusters, (group[train] == "b").astype(int))


def test_an_inner_split_is_in_positions_of_the_rows_and_takes_each_once() -> None:
    made = engine(LEVELS)
    train = made.folds.splits[0][0][0]
    context = context_of(fit_of(made, "base/bayes", 0), made.samples, made.folds, train, {})
    fitted, validation = context.inner(0.25)
    assert sorted([*fitted, *validation]) == list(range(len(train)))
    assert len(validation) == len(train) // 4
    assert np.bincount(context.y[validation]).tolist() == [2, 2]


def test_rows_of_a_member_keep_their_ids_inputs_and_blocks_together() -> None:
    made = engine(LEVELS)
    (block,) = fit_of(made, "final/soft", 0).blocks
    values = np.arange(48.0).reshape(24, 2)
    chosen = np.array([7, 3])
    found = block_rows(made.samples, ["table"], [(block, values, np.ones(24, bool))], chosen)
    np.testing.assert_array_equal(found.ids, made.samples.ids[chosen])
    np.testing.assert_array_equal(found.inputs["table"].numeric, made.X(chosen))
    np.testing.assert_array_equal(found.blocks[0].values, [[14, 15], [6, 7]])


def test_a_fit_is_read_back_to_the_same_predictions() -> None:
    made = engine(LEVELS)
    recipe = fit_of(made, "base/bayes", 0)
    run_steps(made.store, [recipe])
    assert fit_recipe(made.store, recipe.key) == recipe
    held_out = made.folds.splits[0][0][1]
    fitted = load_fitted(made.store, recipe.key, trust_code=False)
    said = fitted.emit(block_rows(made.samples, ["table"], [], held_out))["proba"]
    np.testing.assert_array_equal(said, made.store.read(recipe.key).array("oof/proba"))


def test_an_entry_that_is_no_fit_or_of_another_key_is_not_taken_for_one() -> None:
    made = engine(LEVELS)
    recipe = fit_of(made, "base/bayes", 0)
    for key, values in (("another", recipe.to_json()), (recipe.key, {"stage": "emit"})):
        store = LayeredStore([MemoryStore(), made.store])
        with store.write(key, "fit", values):
            pass
        with pytest.raises((DamagedEntryError, StructureError), match="its recipe must be"):
            fit_recipe(store, key)


def test_a_member_whose_state_was_not_saved_says_why_it_scores_no_other_rows() -> None:
    store = MemoryStore()
    with store.write("k", "fit", {"stage": "fit"}) as writer:
        writer.json("info", {"seconds": 1.0, "report": {}, "unsaved": "it holds a lambda", "warnings": []})
    with pytest.raises(
        MemberError, match="cannot score other rows, because its state was not saved: it holds a lambda"
    ):
        load_fitted(store, "k", trust_code=False)


def test_a_worker_does_the_job_that_is_written_and_nothing_where_somebody_has_its_result(
    tmp_path, fits: list[str]
) -> None:
    made = engine({"base": {"prior": PRIOR}})
    recipe = fit_of(made, "base/prior", 0)
    store = Store(tmp_path / "store")
    for key in (recipe.samples, recipe.folds):
        entry = made.store.read(key)
        with store.write(key, entry.kind, entry.recipe) as writer:
            for name in entry.files:
                writer.bytes(name, entry.bytes(name))
    store.write_job(recipe.key, {"steps": [recipe.to_json()]})
    work = Worker.of(store, trust_code=False)
    work(recipe.key)
    assert store.has(recipe.key) and len(fits) == 1
    store.remove_job(recipe.key)
    assert work(recipe.key) == [] and len(fits) == 1
    with pytest.raises(StoreError, match="job"):
        work("0" * 64)


class Unsaveable:
    """A fitted member whose library raises something of its own when it is saved."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def save(self, writer: object) -> None:
        raise self.error


def test_whatever_a_failing_save_raises_is_why_that_member_scores_no_later_data() -> None:
    for error, text in (
        (TypeError("cannot pickle '_io'"), "TypeError: cannot pickle '_io'"),
        (MemberError("no"), "no"),
    ):
        assert _save(cast(Any, Unsaveable(error)), cast(Any, None)) == text
    for error in (OSError(28, "No space left on device"), StoreError("full")):
        with pytest.raises(OSError):
            _save(cast(Any, Unsaveable(error)), cast(Any, None))
