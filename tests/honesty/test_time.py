"""Stacks over time folds: what is covered, what is left empty, which pipeline predicts the test rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from stackfeat.audit.provenance import check_provenance
from stackfeat.engine.blocks import assemble, samples_of
from stackfeat.engine.jobs import read_fitted_rows, unpack_rows
from stackfeat.output.provenance import read_provenance

COLUMNS = [f"x{j}" for j in range(5)]
KNN = {"estimator": "sklearn.neighbors.KNeighborsClassifier", "prepare": "none"}
TREE = {
    "estimator": "sklearn.tree.DecisionTreeClassifier",
    "params": {"max_depth": 3, "random_state": 0},
    "prepare": "none",
}
LEVELS: dict[str, Any] = {
    "base": {"knn": KNN, "tree": TREE},
    "meta": {
        "knn": {**KNN, "inputs": ["base/*/proba"]},
        "soft": {"vote": "soft", "inputs": ["base/*/proba"]},
    },
    "top": {"tree": {**TREE, "inputs": ["meta/knn/proba", "base/*/proba"]}},
    "final": {"hard": {"vote": "hard", "inputs": ["meta/knn/proba", "top/*", "base/*/proba"]}},
}
FIRST_FOLD = {"base.knn": 0, "base.tree": 0, "meta.knn": 1, "meta.soft": 0, "top.tree": 2, "final.hard": 2}


@pytest.fixture
def timed(make_rows: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    train, test = make_rows(120, 1), make_rows(30, 2, prefix="t").drop(columns="y")
    train["when"] = np.random.default_rng(0).permutation(len(train))
    test["when"] = 1000
    return train, test


def test_every_fitted_level_covers_one_fold_fewer_and_empty_rows_stay_empty(arena: Any, timed: Any) -> None:
    train, test = timed
    ran = arena.run(LEVELS, train, test, data={"time": "when"}, folds={"n": 4})
    fold_of = ran.fold_of.loc[train["id"]].to_numpy()
    # 120 rows, 4 folds of 24, the first 24 rows in time are only trained on.
    np.testing.assert_array_equal(fold_of, train["when"] // 24 - 1)
    assert (fold_of == -1).sum() == 24
    for member, first in FIRST_FOLD.items():
        oof = ran.oof(member).loc[train["id"]].to_numpy()
        np.testing.assert_array_equal(np.isfinite(oof).all(axis=1), fold_of >= first)
        assert np.isnan(oof[fold_of < first]).all()
    text = (ran.result.folder / "oof" / "base.knn.csv").read_text().splitlines()
    assert sum(line.endswith(",,") for line in text) == 24


def test_members_are_scored_on_the_rows_that_all_of_them_cover(arena: Any, timed: Any) -> None:
    train, test = timed
    ran = arena.run(LEVELS, train, test, data={"time": "when"}, folds={"n": 4}, metric="accuracy")
    fold_of = ran.fold_of.loc[train["id"]].to_numpy()
    common = fold_of >= 2
    for member in FIRST_FOLD:
        found = ran.scores["members"][member.replace(".", "/")]
        decided = ran.oof(member).loc[train["id"]].to_numpy()[common].argmax(axis=1)
        assert found["n_rows"] == common.sum() == 48
        assert found["score"] == pytest.approx(np.mean(decided == train["y"].to_numpy()[common]))
        assert found["folds"][:2] == [None, None]


@pytest.mark.parametrize("meta_fit", ["fold", "all"])
@pytest.mark.parametrize(("views", "used"), [("auto", [3]), ("last", [3]), ("all", [1, 2, 3])])
def test_test_rows_go_through_the_last_pipeline_unless_all_are_asked_for(
    arena: Any, timed: Any, views: str, used: list[int], meta_fit: str
) -> None:
    train, test = timed
    levels = {"base": {"knn": KNN, "tree": TREE}, "meta": {"knn": {**KNN, "inputs": ["base/*/proba"]}}}
    stack = {"views": views, "meta_fit": meta_fit}
    ran = arena.run(levels, train, test, data={"time": "when"}, folds={"n": 4}, stack=stack)
    X, y, when = train[COLUMNS].to_numpy(), train["y"].to_numpy(), train["when"].to_numpy()
    fold_of = when // 24 - 1
    oof, tests = np.full((len(X), 4), np.nan), []
    for k in range(4):
        earlier = fold_of < k
        models = [
            KNeighborsClassifier().fit(X[earlier], y[earlier]),
            DecisionTreeClassifier(max_depth=3, random_state=0).fit(X[earlier], y[earlier]),
        ]
        oof[fold_of == k] = np.hstack([model.predict_proba(X[fold_of == k]) for model in models])
        tests.append(np.hstack([model.predict_proba(test[COLUMNS].to_numpy()) for model in models]))
    expected = []
    for k in used:
        rows = (fold_of >= 0) & ((fold_of < k) | (meta_fit == "all"))
        expected.append(KNeighborsClassifier().fit(oof[rows], y[rows]).predict_proba(tests[k]))
    np.testing.assert_allclose(ran.test("meta.knn").to_numpy(), np.mean(expected, axis=0), atol=1e-9)


def test_rows_of_a_later_fold_change_nothing_of_earlier_columns(arena: Any, timed: Any) -> None:
    train, test = timed
    net = {
        "net": "mlp",
        "params": {"hidden": [8]},
        "train": {"epochs": 2, "batch_size": 16},
        "emit": ["proba", {"tap": "penultimate", "encode": ["aligned", "reference", "relative", "geometry"]}],
    }
    changed = train.copy()
    last = train["when"] >= 96
    changed.loc[last, COLUMNS] = 5 * changed.loc[last, COLUMNS].to_numpy()[::-1]
    blocks = []
    for rows in (train, changed):
        ran = arena.run({"base": {"mlp": net}}, rows, test, data={"time": "when"}, folds={"n": 4})
        blocks.append({name: oof_of(ran, name) for name in ran.plan.graph.blocks()})
    earlier = (~last & (train["when"] >= 24)).to_numpy()
    for name, oof in blocks[0].items():
        assert np.isfinite(oof[earlier]).all()
        np.testing.assert_array_equal(blocks[1][name][earlier], oof[earlier])
        assert not np.array_equal(blocks[1][name][last], oof[last])


def oof_of(ran: Any, name: str) -> np.ndarray:
    return assemble(ran.planner.store, ran.plan.oof_places(name, 0), ran.folds, 0)[0]


def test_a_refit_of_the_latest_rows_moves_test_rows_alone(arena: Any, timed: Any) -> None:
    train, test = timed
    levels = {"base": {"knn": KNN, "tree": TREE}, "meta": {"knn": {**KNN, "inputs": ["base/*/proba"]}}}
    late, refit = (
        arena.run(levels, train, test, data={"time": "when"}, folds={"n": 4}, stack={"averaging": mode})
        for mode in ("late", "refit")
    )
    # The very same fits: not one of them, nor a score, knows that there is a refit.
    assert late.plan.fits.items() < refit.plan.fits.items()
    for path in sorted((late.result.folder / "oof").iterdir()):
        assert path.read_bytes() == (refit.result.folder / "oof" / path.name).read_bytes()
    X, y = train[COLUMNS].to_numpy(), train["y"].to_numpy()
    oof = np.hstack([late.oof(f"base.{name}").loc[train["id"]].to_numpy() for name in ("knn", "tree")])
    fitted = [
        KNeighborsClassifier().fit(X, y),
        DecisionTreeClassifier(max_depth=3, random_state=0).fit(X, y),
    ]
    new = np.hstack([one.predict_proba(test[COLUMNS].to_numpy()) for one in fitted])
    known = np.isfinite(oof).all(axis=1)
    expected = KNeighborsClassifier().fit(oof[known], y[known]).predict_proba(new)
    np.testing.assert_allclose(refit.test("meta.knn").to_numpy(), expected, atol=1e-9)
    assert not np.allclose(late.test("meta.knn").to_numpy(), expected)


def run_of_knn(arena: Any, timed: Any, averaging: str, **options: Any) -> Any:
    in_time = {"data": {"time": "when"}, "folds": {"n": 4}, "stack": {"averaging": averaging}}
    return arena.run({"base": {"knn": KNN}}, *timed, **in_time, **options)


def test_a_refit_sees_all_rows_and_says_nothing_of_them(arena: Any, timed: Any) -> None:
    train = timed[0]
    ran = run_of_knn(arena, timed, "refit")
    for (_, _, fold), key in ran.plan.fits.items():
        entry = ran.planner.store.read(key)
        packed = read_fitted_rows(entry)
        assert packed is not None
        seen = unpack_rows(packed, len(train))
        last = len(train) if fold == "all" else 24 * (int(fold) + 1)
        np.testing.assert_array_equal(seen, train["when"] < last)
        assert any(name.startswith("oof") for name in entry.files) == (fold != "all")
    samples = samples_of(ran.planner.store, ran.plan.sources.samples)
    index = read_provenance(ran.result.folder)
    found = check_provenance(ran.planner.store, index, samples, ran.folds, ran.result.folder)
    assert not found.faults and found.n_noted == found.n_fits == 5


@pytest.mark.parametrize("averaging", ["late", "refit"])
def test_rows_of_several_folds_are_never_ranked_together_where_one_model_predicts_later_ones(
    averaging: str, arena: Any, timed: Any
) -> None:
    ran = run_of_knn(arena, timed, averaging, metric="roc_auc")
    found = ran.scores["members"]["base/knn"]
    assert found["score"] == pytest.approx(found["fold_mean"])
