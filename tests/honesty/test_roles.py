"""Weights, the positive class and logs of the target, against stacks worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

COLUMNS = [f"x{j}" for j in range(5)]


def member(path: str, *inputs: str, **params: Any) -> dict[str, Any]:
    options = {"estimator": f"sklearn.{path}", "params": params, "prepare": "none"}
    return {**options, "inputs": list(inputs)} if inputs else options


KNN = member("neighbors.KNeighborsClassifier")


def arrays(train: pd.DataFrame, test: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return train[COLUMNS].to_numpy(), train["y"].to_numpy(), test[COLUMNS].to_numpy()


@pytest.fixture
def binary(make_rows: Callable[..., pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    return make_rows(100, 3), make_rows(40, 4, prefix="t").drop(columns="y")


def test_weights_reach_every_fit_and_the_metric(arena: Any, binary: Any) -> None:
    train, test = binary
    train["w"] = np.random.default_rng(0).exponential(size=len(train)).round(3)
    base = member("linear_model.LogisticRegression", C=0.5, max_iter=1000)
    meta = member("tree.DecisionTreeClassifier", "base/*/proba", max_depth=3, random_state=0)
    ran = arena.run({"base": {"log": base}, "meta": {"tree": meta}}, train, test, data={"weight": "w"})
    X, y, _ = arrays(train, test)
    fold_of, w = ran.fold_of.loc[train["id"]].to_numpy(), train["w"].to_numpy()
    oof, top = np.zeros((len(y), 2)), np.zeros((len(y), 2))
    for k in range(3):
        inside = fold_of == k
        relative = w[~inside] / w[~inside].mean()
        fitted = LogisticRegression(C=0.5, max_iter=1000).fit(X[~inside], y[~inside], sample_weight=relative)
        oof[inside] = fitted.predict_proba(X[inside])
    for k in range(3):
        inside = fold_of == k
        relative = w[~inside] / w[~inside].mean()
        tree = DecisionTreeClassifier(max_depth=3, random_state=0)
        top[inside] = tree.fit(oof[~inside], y[~inside], sample_weight=relative).predict_proba(oof[inside])
    np.testing.assert_allclose(ran.oof("base.log").loc[train["id"]], oof, atol=1e-9)
    np.testing.assert_allclose(ran.oof("meta.tree").loc[train["id"]], top, atol=1e-9)
    found = ran.scores["members"]["base/log"]["score"]
    assert found == pytest.approx(log_loss(y, oof, sample_weight=w))
    assert abs(found - log_loss(y, oof)) > 1e-4


def test_the_prior_that_breaks_ties_of_a_hard_vote_counts_weights(
    arena: Any, make_rows: Callable[..., pd.DataFrame]
) -> None:
    train, test = make_rows(60, 3), make_rows(10, 4, prefix="t").drop(columns="y")
    train["y"] = np.arange(60) % 10 >= 6  # of ten rows six and four
    train["y"] = train["y"].astype(int)
    train["w"] = np.where(train["y"] == 1, 10.0, 1.0)
    always = {
        f"always{code}": member("dummy.DummyClassifier", strategy="constant", constant=code)
        for code in (0, 1)
    }
    vote = {"vote": "hard", "tie": "prior", "inputs": ["base/*/proba"]}
    levels = {"base": always, "final": {"hard": vote}}
    weighted = arena.run(levels, train, test, data={"weight": "w"})
    plain = arena.run(levels, train.drop(columns="w"), test)
    for ran, winner in ((weighted, 1), (plain, 0)):
        for written in (ran.oof("final.hard"), ran.test("final.hard")):
            assert (written.to_numpy().argmax(axis=1) == winner).all()


def test_the_positive_class_is_the_one_that_data_names(arena: Any, binary: Any) -> None:
    train, test = binary
    train["y"] = np.where(train["y"] == 1, "good", "bad")
    levels = {"base": {"knn": KNN}}
    bad = arena.run(levels, train, test, metric="f1", data={"positive": "bad"})
    good = arena.run(levels, train, test, metric="f1")
    np.testing.assert_allclose(bad.test("base.knn"), good.test("base.knn"))
    assert list(bad.oof("base.knn").columns) == ["bad", "good"]
    assert bad.result.score != good.result.score
    proba = arena.run(levels, train, test, metric="average_precision", data={"positive": "bad"})
    np.testing.assert_allclose(proba.submission["y"], bad.test("base.knn")["bad"], atol=1e-12)


def test_rmsle_learns_logs_and_comes_back_clipped_at_zero(
    arena: Any, make_rows: Callable[..., pd.DataFrame]
) -> None:
    train, test = make_rows(90, 5, n_classes=0), make_rows(40, 6, prefix="t").drop(columns="y")
    train["y"] = np.maximum(np.exp(1.5 * train["y"]) - 1, 0).round(6)
    ridge = member("linear_model.Ridge", alpha=0.01)
    tree = member("tree.DecisionTreeRegressor", max_depth=3, random_state=0)
    meta = member("neighbors.KNeighborsRegressor", "base/*/prediction")
    ran = arena.run(
        {"base": {"ridge": ridge, "tree": tree}, "meta": {"knn": meta}},
        train,
        test,
        task="regression",
        metric="rmsle",
    )
    X, y, X_test = arrays(train, test)
    fold_of = ran.fold_of.loc[train["id"]].to_numpy()
    logs = np.log1p(y)
    oof, views = np.zeros((len(y), 2)), []
    for k in range(3):
        inside = fold_of == k
        models = (Ridge(alpha=0.01), DecisionTreeRegressor(max_depth=3, random_state=0))
        fitted = [model.fit(X[~inside], logs[~inside]) for model in models]
        oof[inside] = np.column_stack([model.predict(X[inside]) for model in fitted])
        views.append(np.column_stack([model.predict(X_test) for model in fitted]))
    assert oof[:, 0].min() < 0, "there is something to clip"
    back = np.maximum(np.expm1(oof[:, :1]), 0)
    np.testing.assert_allclose(ran.oof("base.ridge").loc[train["id"]], back, atol=1e-9)
    means = np.maximum(np.expm1(np.mean(views, axis=0)[:, :1]), 0)
    np.testing.assert_allclose(ran.test("base.ridge").loc[test["id"]], means, atol=1e-9)
    expected = np.sqrt(np.mean((np.log1p(back[:, 0]) - logs) ** 2))
    assert ran.scores["members"]["base/ridge"]["score"] == pytest.approx(expected)
    tests = [KNeighborsRegressor().fit(oof, logs).predict(view) for view in views]
    expected = np.maximum(np.expm1(np.mean(tests, axis=0)), 0)
    np.testing.assert_allclose(ran.test("meta.knn").loc[test["id"], "prediction"], expected, atol=1e-9)
