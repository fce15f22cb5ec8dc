"""Stacks worked out by hand with scikit-learn alone, compared with what a run writes.

Estimators that give the same fit for the same rows; columns go to them as they are (`prepare: none`),
so the hand-written stack is a few lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier

from stackfeat.errors import ConfigError
from stackfeat.seeds import derive_seed

COLUMNS = [f"x{j}" for j in range(5)]


def member(path: str, *inputs: str, **params: Any) -> dict[str, Any]:
    options = {"estimator": f"sklearn.{path}", "params": params, "prepare": "none"}
    return {**options, "inputs": list(inputs)} if inputs else options


KNN = member("neighbors.KNeighborsClassifier")
TREE = member("tree.DecisionTreeClassifier", max_depth=4, random_state=0)
BASE = {"knn": KNN, "tree": TREE}
BASE_BY_HAND = (KNeighborsClassifier(), DecisionTreeClassifier(max_depth=4, random_state=0))
META = {
    **member("linear_model.LogisticRegression", "base/*/proba", "table", C=0.5, max_iter=1000),
    "nested": False,
}
META_BY_HAND = LogisticRegression(C=0.5, max_iter=1000)


def predict(model: Any, X: np.ndarray) -> np.ndarray:
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)[:, None]


def cross_fit(
    models: tuple[Any, ...], X: np.ndarray, y: np.ndarray, X_test: np.ndarray, fold_of: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """OOF rows of models side by side, and test rows of each pipeline."""
    parts: list[np.ndarray | None] = [None] * len(y)
    views = []
    for k in np.unique(fold_of):
        inside = fold_of == k
        fitted = [clone(model).fit(X[~inside], y[~inside]) for model in models]
        rows = np.hstack([predict(model, X[inside]) for model in fitted])
        for place, row in zip(np.flatnonzero(inside), rows, strict=True):
            parts[place] = row
        views.append(np.hstack([predict(model, X_test) for model in fitted]))
    return np.array(parts), views


def stack_by_hand(
    X: np.ndarray, y: np.ndarray, X_test: np.ndarray, fold_of: np.ndarray, meta_fit: str = "all"
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The two-level stack above: OOF rows, and test rows of each pipeline. Raw columns come first."""
    base, views = cross_fit(BASE_BY_HAND, X, y, X_test, fold_of)
    design = np.hstack([X, base])
    oof = np.zeros((len(y), len(np.unique(y))))
    tests = []
    for k, view in enumerate(views):
        inside = fold_of == k
        fitted = clone(META_BY_HAND).fit(design[~inside], y[~inside])
        oof[inside] = fitted.predict_proba(design[inside])
        if meta_fit == "all":
            fitted = clone(META_BY_HAND).fit(design, y)
        tests.append(fitted.predict_proba(np.hstack([X_test, view])))
    return oof, tests


def arrays(train: pd.DataFrame, test: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return train[COLUMNS].to_numpy(), train["y"].to_numpy(), test[COLUMNS].to_numpy()


@pytest.fixture
def rows(make_rows: Callable[..., pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    return make_rows(90, 1, n_classes=3), make_rows(40, 2, prefix="t").drop(columns="y")


@pytest.fixture
def binary(make_rows: Callable[..., pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    return make_rows(100, 3), make_rows(40, 4, prefix="t").drop(columns="y")


@pytest.mark.parametrize("meta_fit", ["fold", "all"])
def test_pipelines_are_averaged_last(arena: Any, rows: Any, meta_fit: str) -> None:
    train, test = rows
    levels = {"base": BASE, "meta": {"log": META}}
    ran = arena.run(levels, train, test, task="multiclass", stack={"meta_fit": meta_fit})
    X, y, X_test = arrays(train, test)
    fold_of = ran.fold_of.loc[train["id"]].to_numpy()
    base, views = cross_fit(BASE_BY_HAND, X, y, X_test, fold_of)
    np.testing.assert_allclose(ran.oof("base.knn").loc[train["id"]], base[:, :3], atol=1e-9)
    np.testing.assert_allclose(
        ran.test("base.tree").loc[test["id"]], np.mean(views, axis=0)[:, 3:], atol=1e-9
    )
    oof, tests = stack_by_hand(X, y, X_test, fold_of, meta_fit)
    np.testing.assert_allclose(ran.oof("meta.log").loc[train["id"]], oof, atol=1e-9)
    np.testing.assert_allclose(ran.test("meta.log").loc[test["id"]], np.mean(tests, axis=0), atol=1e-9)
    found = ran.scores["members"]["meta/log"]
    assert found["score"] == pytest.approx(log_loss(y, oof))
    by_fold = [log_loss(y[fold_of == k], oof[fold_of == k], labels=[0, 1, 2]) for k in range(3)]
    assert found["folds"] == pytest.approx(by_fold)
    assert found["fold_mean"] == pytest.approx(np.mean(by_fold))


def test_votes_combine_what_their_own_pipeline_gives(arena: Any, rows: Any) -> None:
    train, test = rows
    inputs = ["base/*/proba", "meta/*"]
    votes = {
        "soft": {"vote": "soft", "inputs": inputs, "weights": [1, 2, 3]},
        "hard": {"vote": "hard", "inputs": inputs},
    }
    ran = arena.run({"base": BASE, "meta": {"log": META}, "final": votes}, train, test, task="multiclass")
    X, y, X_test = arrays(train, test)
    fold_of = ran.fold_of.loc[train["id"]].to_numpy()
    base, views = cross_fit(BASE_BY_HAND, X, y, X_test, fold_of)
    oof, tests = stack_by_hand(X, y, X_test, fold_of)
    soft = (base[:, :3] + 2 * base[:, 3:] + 3 * oof) / 6
    np.testing.assert_allclose(ran.oof("final.soft").loc[train["id"]], soft, atol=1e-9)
    soft_views = [
        (view[:, :3] + 2 * view[:, 3:] + 3 * top) / 6 for view, top in zip(views, tests, strict=True)
    ]
    np.testing.assert_allclose(ran.test("final.soft").loc[test["id"]], np.mean(soft_views, axis=0), atol=1e-9)
    choices = np.stack([p.argmax(axis=1) for p in (base[:, :3], base[:, 3:], oof)], axis=1)
    counts = np.stack([(choices == code).sum(axis=1) for code in range(3)], axis=1)
    clear = counts.max(axis=1) >= 2
    written = ran.oof("final.hard").loc[train["id"]].to_numpy()
    np.testing.assert_array_equal(written.argmax(axis=1)[clear], counts.argmax(axis=1)[clear])
    mean = (base[:, :3] + base[:, 3:] + oof) / 3
    np.testing.assert_array_equal(written.argmax(axis=1)[~clear], mean.argmax(axis=1)[~clear])


def test_repeats_are_whole_stacks_averaged_at_the_end(arena: Any, rows: Any) -> None:
    train, test = rows
    ran = arena.run(
        {"base": BASE, "meta": {"log": META}}, train, test, task="multiclass", folds={"n": 3, "repeats": 2}
    )
    X, y, X_test = arrays(train, test)
    written = pd.read_csv(ran.result.folder / "folds.csv").pivot(index="id", columns="repeat", values="fold")
    fold_of = written.loc[train["id"]].to_numpy()
    assert (fold_of[:, 0] != fold_of[:, 1]).any()
    stacks = [stack_by_hand(X, y, X_test, fold_of[:, repeat]) for repeat in range(2)]
    oof = np.mean([oof for oof, _ in stacks], axis=0)
    tests = np.mean([view for _, views in stacks for view in views], axis=0)
    np.testing.assert_allclose(ran.oof("meta.log").loc[train["id"]], oof, atol=1e-9)
    np.testing.assert_allclose(ran.test("meta.log").loc[test["id"]], tests, atol=1e-9)
    assert ran.scores["members"]["meta/log"]["score"] == pytest.approx(log_loss(y, oof))


def forests(X: np.ndarray, y: np.ndarray, seeds: list[int], X_new: np.ndarray) -> np.ndarray:
    made = [RandomForestClassifier(n_estimators=3, random_state=seed).fit(X, y) for seed in seeds]
    return np.mean([forest.predict_proba(X_new) for forest in made], axis=0)


@pytest.mark.parametrize(
    ("options", "folds"), [({"seeds": 3}, {}), ({}, {"repeats": 3, "repeats_as": "blocks"})]
)
def test_seeds_and_repeats_as_blocks_average_inside_a_fold(
    arena: Any, binary: Any, options: dict[str, Any], folds: dict[str, Any]
) -> None:
    train, test = binary
    forest = {**member("ensemble.RandomForestClassifier", n_estimators=3), **options}
    meta = member("neighbors.KNeighborsClassifier", "base/*/proba")
    ran = arena.run({"base": {"forest": forest}, "meta": {"knn": meta}}, train, test, folds={"n": 3, **folds})
    X, y, X_test = arrays(train, test)
    fold_of = ran.fold_of.loc[train["id"]].to_numpy()
    assert len(pd.read_csv(ran.result.folder / "folds.csv")) == len(train)
    oof, views = np.zeros((len(y), 2)), []
    for k in range(3):
        first = derive_seed(42, "base/forest", 0, k)
        seeds = [first, derive_seed(first, "seed", 1), derive_seed(first, "seed", 2)]
        inside = fold_of == k
        oof[inside] = forests(X[~inside], y[~inside], seeds, X[inside])
        views.append(forests(X[~inside], y[~inside], seeds, X_test))
    np.testing.assert_allclose(ran.oof("base.forest").loc[train["id"]], oof, atol=1e-9)
    fitted = KNeighborsClassifier().fit(oof, y)
    tests = [fitted.predict_proba(view) for view in views]
    np.testing.assert_allclose(ran.test("meta.knn").loc[test["id"]], np.mean(tests, axis=0), atol=1e-9)


def test_logits_are_averaged_where_asked(arena: Any, rows: Any) -> None:
    train, test = rows
    bayes = member("naive_bayes.GaussianNB")
    ran = arena.run({"base": {"nb": bayes}}, train, test, task="multiclass", stack={"average": "logit"})
    X, y, X_test = arrays(train, test)
    _, views = cross_fit((GaussianNB(),), X, y, X_test, ran.fold_of.loc[train["id"]].to_numpy())
    logs = np.mean(np.log(np.clip(views, 1e-12, 1)), axis=0)
    np.testing.assert_allclose(ran.test("base.nb").loc[test["id"]], softmax(logs, axis=1), atol=1e-9)


def test_ranks_are_averaged_where_asked(arena: Any, binary: Any) -> None:
    train, test = binary
    bayes = member("naive_bayes.GaussianNB")
    ran = arena.run({"base": {"nb": bayes}}, train, test, metric="roc_auc", stack={"average": "rank"})
    X, y, X_test = arrays(train, test)
    fold_of = ran.fold_of.loc[train["id"]].to_numpy()
    oof, views = cross_fit((GaussianNB(),), X, y, X_test, fold_of)
    shares = np.mean([(rankdata(view[:, 1]) - 0.5) / len(X_test) for view in views], axis=0)
    np.testing.assert_allclose(ran.test("base.nb").loc[test["id"], "1"], shares, atol=1e-9)
    np.testing.assert_allclose(ran.submission.loc[test["id"], "y"], shares, atol=1e-9)
    for k in range(3):
        inside = fold_of == k
        ranks = (rankdata(oof[inside, 1]) - 0.5) / inside.sum()
        np.testing.assert_allclose(ran.oof("base.nb").loc[train["id"], "1"][inside], ranks, atol=1e-9)


def test_ranks_of_values_are_averaged_where_asked(arena: Any, make_rows: Callable[..., pd.DataFrame]) -> None:
    # Few digits, which every pandas reads alike: the means of neighbours have ties, which a last bit would break.
    train, test = make_rows(90, 1, 0).round(6), make_rows(40, 2, 0, prefix="t").drop(columns="y").round(6)
    levels = {"base": {"knn": member("neighbors.KNeighborsRegressor")}}
    stack = {"average": "rank"}
    ran = arena.run(levels, train, test, task="regression", metric="pearson", stack=stack)
    X, y, X_test = arrays(train, test)
    fold_of = ran.fold_of.loc[train["id"]].to_numpy()
    oof, views = cross_fit((KNeighborsRegressor(),), X, y, X_test, fold_of)
    places = np.mean([rankdata(view) - 1 for view in views], axis=0).ravel()
    quantiles = np.mean([np.sort(view[:, 0]) for view in views], axis=0)
    expected = np.interp(places, np.arange(40), quantiles)
    np.testing.assert_allclose(ran.test("base.knn").loc[test["id"], "prediction"], expected, atol=1e-9)
    for k in range(3):
        inside = fold_of == k
        shares = (rankdata(oof[inside, 0]) - 0.5) / inside.sum()
        values = np.interp(shares * 90 - 0.5, np.arange(90), np.sort(oof[:, 0]))
        np.testing.assert_allclose(ran.oof("base.knn").loc[train["id"], "prediction"][inside], values)


def test_ranks_are_refused_before_anything_is_computed_where_there_are_many_classes(
    arena: Any, rows: Any
) -> None:
    with pytest.raises(ConfigError, match="binary or regression task; got task=multiclass"):
        arena.run({"base": BASE}, *rows, task="multiclass", stack={"average": "rank"})


def test_a_class_that_one_fold_never_trained_on_gets_probability_zero_there(arena: Any, rows: Any) -> None:
    train, test = rows
    train["given"] = np.arange(len(train)) % 3
    train.loc[train["y"] == 1, "given"] = 0
    ran = arena.run(
        {
            "base": {"nb": member("naive_bayes.GaussianNB")},
            "meta": {"log": META | {"inputs": ["base/nb/proba"]}},
        },
        train,
        test,
        task="multiclass",
        data={"fold": "given"},
    )
    X, y, X_test = arrays(train, test)
    views = []
    for k in range(3):
        fitted = GaussianNB().fit(X[train["given"] != k], y[train["given"] != k])
        proba = np.zeros((len(X_test), 3))
        proba[:, fitted.classes_] = fitted.predict_proba(X_test)
        views.append(proba)
    assert (views[0][:, 1] == 0).all() and (views[1][:, 1] > 0).any()
    np.testing.assert_allclose(ran.test("base.nb").loc[test["id"]], np.mean(views, axis=0), atol=1e-9)
    oof = ran.oof("base.nb").loc[train["id"]]
    assert (oof["1"][(train["given"] == 0).to_numpy()] == 0).all()
    assert list(ran.oof("meta.log").columns) == ["0", "1", "2"]
