"""Scores of members: pooled and by fold, by a rule that no fold's own labels made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as sk

from stackfeat.engine.jobs import Averaging
from stackfeat.engine.recipes import HoldoutScoreRecipe, ScoreRecipe, read_recipe
from stackfeat.engine.scoring import oof_prediction, score_holdout, score_jobs, score_member, view_places
from stackfeat.meta.widening import Widening
from stackfeat.store import MemoryStore
from tests.engine.by_hand import (
    BAYES,
    BINARY,
    engine,
    folds_of_rows,
    keep_arrays,
    keep_folds,
    keep_rows,
    rows,
)


def proba_of(n_rows: int, seed: int) -> np.ndarray:
    positive = np.random.default_rng(seed).uniform(0.05, 0.95, n_rows)
    return np.stack([1 - positive, positive], axis=1)


def stored(metric="log_loss", decision="auto", labels=None, weight=None, kind="stratified", n_repeats=1):
    """Rows, folds and predictions of every fold in a store, and the recipe of their score."""
    store, samples, folds = MemoryStore(), rows(24, weight=weight), folds_of_rows(24, 3, n_repeats, kind)
    samples = samples if labels is None else replace(samples, y=labels)
    said = [proba_of(24, seed) for seed in range(n_repeats)]
    places = tuple(
        tuple((keep_arrays(store, oof=said[r][predicted]), "oof") for _, predicted in folds.splits[r])
        for r in range(n_repeats)
    )
    recipe = ScoreRecipe(
        block="base/a/proba", samples=keep_rows(store, samples), folds=keep_folds(store, folds), average="mean",
        metric=metric, metric_code=None, seed=1, places=places, decision=decision, first_fold=0,
    )  # fmt: skip
    return store, samples, folds, np.mean(said, axis=0), recipe


def test_a_score_is_pooled_over_the_rows_of_all_folds_and_weighted() -> None:
    weight = np.arange(1.0, 25.0)
    store, samples, folds, said, recipe = stored(weight=weight, n_repeats=2)
    arrays, values = score_member(store, recipe, False)
    score = values["score"]
    assert score["score"] == pytest.approx(sk.log_loss(samples.labels, said, sample_weight=weight))
    by_fold = [
        sk.log_loss(samples.labels[part], said[part], sample_weight=weight[part])
        for _, part in folds.splits[0]
    ]
    assert score["folds"] == pytest.approx(by_fold) and score["fold_mean"] == pytest.approx(np.mean(by_fold))
    assert score["n_rows"] == 24 and score["decision"] is None and score["fold_decisions"] == {}
    assert score["se"] == pytest.approx(arrays["bootstrap"].std(ddof=1))


def test_rows_that_a_repeat_does_not_cover_are_not_scored() -> None:
    store, _, folds, said, recipe = stored(n_repeats=2)
    second = (None, *recipe.places[1][1:])
    found, covered = oof_prediction(store, [recipe.places[0], second], folds, BINARY, "mean")
    np.testing.assert_array_equal(covered, folds.fold_of(1) != 0)
    np.testing.assert_allclose(found[covered], said[covered])


def test_only_rows_from_the_first_common_fold_on_are_scored() -> None:
    store, samples, folds, said, recipe = stored(kind="time")
    later = folds.fold_of(0) >= 1
    score = score_member(store, replace(recipe, first_fold=1), False)[1]["score"]
    assert score["n_rows"] == later.sum() == 12 and score["folds"][0] is None
    assert score["score"] == pytest.approx(sk.log_loss(samples.labels[later], said[later]))


def test_a_fold_of_one_class_has_no_score_of_ranking_and_the_others_do() -> None:
    labels = np.arange(24) % 2
    labels[folds_of_rows(24).splits[0][1][1]] = 1
    store, _, folds, said, recipe = stored("roc_auc", labels=labels)
    score = score_member(store, recipe, False)[1]["score"]
    assert [value is None for value in score["folds"]] == [False, True, False]
    known = [
        sk.roc_auc_score(labels[part], said[part, 1]) for _, part in (folds.splits[0][0], folds.splits[0][2])
    ]
    assert score["fold_mean"] == pytest.approx(np.mean(known))


def test_labels_of_a_fold_do_not_move_the_rule_that_decides_it() -> None:
    _, samples, folds, _, _ = stored()
    rules = []
    for turned in (False, True):
        labels = samples.labels.copy()
        held_out = folds.splits[0][2][1]
        labels[held_out] = 1 - labels[held_out] if turned else labels[held_out]
        store, _, _, _, recipe = stored("f1", "threshold", labels=labels)
        rules.append(score_member(store, recipe, False)[1]["score"]["fold_decisions"])
    assert rules[0]["2"] == rules[1]["2"]
    assert rules[0]["0"] != rules[1]["0"], "the others are fitted on these labels"


def test_held_out_rows_are_decided_by_the_rule_of_the_rows_out_of_fold() -> None:
    store, _, _, _, recipe = stored("f1", "threshold")
    decision = {**score_member(store, recipe, False)[1]["score"]["decision"]}
    with store.write("score", "score", {"stage": "score"}) as writer:
        writer.json("score", {"decision": decision})
    held, views = rows(10, seed=5), [proba_of(10, 7), proba_of(10, 8)]
    holdout = HoldoutScoreRecipe(
        block="b", samples=keep_rows(store, held), average="mean", metric="f1", metric_code=None, seed=1,
        views=tuple((keep_arrays(store, view=view), "view") for view in views), score="score",
    )  # fmt: skip
    arrays, values = score_holdout(store, holdout, False)
    (threshold,) = decision["numbers"]
    decided = (np.mean(views, axis=0)[:, 1] >= threshold).astype(int)
    assert values["score"]["score"] == pytest.approx(sk.f1_score(held.labels, decided))
    assert decided.tolist() != (np.mean(views, axis=0)[:, 1] >= 0.5).astype(int).tolist()
    assert values["score"]["n_rows"] == 10 and len(arrays["bootstrap"]) == 200


def test_held_out_rows_of_a_calibrated_member_are_judged_widened() -> None:
    store, _, _, _, _ = stored()
    with store.write("score", "score", {"stage": "score"}) as writer:
        writer.json("score", {"decision": None})
    held, views = rows(12), [proba_of(12, seed) for seed in (3, 4)]
    recipe = HoldoutScoreRecipe(
        block="b", samples=keep_rows(store, held), average="mean", metric="log_loss", metric_code=None, seed=1,
        views=tuple((keep_arrays(store, view=view), "view") for view in views), score="score",
        widening=Widening((2.0, 2.0), (0.0, 0.0)),
    )  # fmt: skip
    squares = np.mean(views, axis=0) ** 2
    expected = sk.log_loss(held.labels, squares / squares.sum(axis=1, keepdims=True))
    assert score_holdout(store, recipe, False)[1]["score"]["score"] == pytest.approx(expected)
    assert recipe.key != replace(recipe, widening=None).key
    assert read_recipe(recipe.to_json()) == recipe


def test_an_undefined_score_of_held_out_rows_is_none() -> None:
    store, _, _, _, _ = stored()
    with store.write("score", "score", {"stage": "score"}) as writer:
        writer.json("score", {"decision": None})
    held = replace(rows(4), y=np.ones(4, dtype=np.int64))
    recipe = HoldoutScoreRecipe(
        block="b", samples=keep_rows(store, held), average="mean", metric="roc_auc", metric_code=None, seed=1,
        views=((keep_arrays(store, view=proba_of(4, 0)), "view"),), score="score",
    )  # fmt: skip
    assert score_holdout(store, recipe, False)[1]["score"] == {"score": None, "se": None, "n_rows": 4}


def test_ranking_is_judged_within_folds_where_the_last_pipeline_predicts() -> None:
    store, samples, folds, said, recipe = stored("roc_auc", kind="time")
    score = score_member(store, replace(recipe, within_folds=True), False)[1]["score"]
    by_fold = [sk.roc_auc_score(samples.labels[part], said[part, 1]) for _, part in folds.splits[0]]
    assert score["score"] == pytest.approx(np.mean(by_fold)) == score["fold_mean"]
    pooled = score_member(store, replace(recipe, metric="log_loss", within_folds=True), False)[1]["score"]
    covered = folds.fold_of(0) >= 0
    assert pooled["score"] == pytest.approx(sk.log_loss(samples.labels[covered], said[covered]))
    plan = engine({"base": {"a": BAYES}}, folds=folds_of_rows(24, kind="time")).plan
    (job,) = score_jobs(plan, "roc_auc", "auto", Averaging("mean", "all", True)).values()
    assert job.steps[0].within_folds


def test_all_members_are_scored_on_the_same_rows_and_resamples() -> None:
    levels = {"base": {"a": BAYES}, "meta": {"m": {"vote": "greedy", "inputs": ["base/*"]}}}
    plan = engine(levels, folds=folds_of_rows(24, kind="time")).plan
    recipes = [
        job.steps[0] for job in score_jobs(plan, "log_loss", "auto", Averaging("mean", "all", False)).values()
    ]
    assert {recipe.first_fold for recipe in recipes} == {1}
    assert len({recipe.seed for recipe in recipes}) == 1 and len({recipe.key for recipe in recipes}) == 2


def test_the_last_view_alone_is_read_where_it_is_asked_for() -> None:
    plan = engine({"base": {"a": BAYES}}, folds=folds_of_rows(24, n_repeats=2)).plan
    every = view_places(plan, "base/a/proba", Averaging("mean", "all", False))
    last = view_places(plan, "base/a/proba", Averaging("mean", "all", True))
    assert [name for _, name in every] == ["view0/proba", "view1/proba", "view2/proba"] * 2
    assert last == [every[2], every[5]]
