"""data.weight: what rows weigh beside each other counts, a factor of all of them changes no score."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stackfeat
from tests.projects import Project

CLASSIFIERS = {
    "logit": {"estimator": "sklearn.linear_model.LogisticRegression", "params": {"C": 0.1}},
    "svc": {"estimator": "sklearn.svm.LinearSVC"},
    "boost": {"estimator": "xgboost.XGBClassifier", "params": {"n_estimators": 20, "min_child_weight": 3}},
    "light": {
        "estimator": "lightgbm.LGBMClassifier",
        "params": {"n_estimators": 20, "min_child_samples": 2, "min_sum_hessian_in_leaf": 2.0},
    },
    "open": {"estimator": "lightgbm.LGBMClassifier", "params": {"min_sum_hessian_in_leaf": 2.0}},
    "stopped": {
        "estimator": "lightgbm.LGBMClassifier",
        "params": {"n_estimators": 40, "min_sum_hessian_in_leaf": 2.0, "early_stopping_rounds": 5},
    },
    "gated": {"estimator": "gated_linear"},
}
REGRESSORS = {
    "ridge": {"estimator": "sklearn.linear_model.Ridge", "params": {"alpha": 5.0}},
    "svr": {"estimator": "sklearn.svm.SVR"},
    "boost": {"estimator": "xgboost.XGBRegressor", "params": {"n_estimators": 20, "min_child_weight": 5}},
    "cat": {"estimator": "catboost.CatBoostRegressor", "params": {"iterations": 20, "l2_leaf_reg": 5}},
}
NET = {"mlp": {"net": "mlp", "params": {"hidden": [8]}, "train": {"epochs": 4}, "emit": ["proba"]}}


def scores(folder: Path, weights: np.ndarray | float, members: dict[str, Any], task: str) -> dict[str, float]:
    """Run the members on 160 rows of these weights; return their scores."""
    rng = np.random.default_rng(4)
    a, b, noise = rng.normal(size=(3, 160))
    value = a + 0.4 * b + 0.3 * noise
    y = value if task == "regression" else (value > 0).astype(int)
    frame = pd.DataFrame({"id": np.arange(160), "a": a, "b": b, "w": weights, "y": y})
    folder.mkdir()
    frame.to_csv(folder / "t.csv", index=False)
    config = {
        "name": "w",
        "task": task,
        "metric": "rmse" if task == "regression" else "log_loss",
        "data": {"train": "t.csv", "id": "id", "target": "y", "weight": "w"},
        "folds": {"n": 3},
        "levels": {"base": members, "last": {"best": {"vote": "weighted", "inputs": ["base/*/*"]}}},
        "executor": {"kind": "inline"},
        "outputs": {"dir": "out"},
    }
    (folder / "c.yaml").write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        board = stackfeat.run(folder / "c.yaml").leaderboard
    return dict(zip(board["member"], board["score"], strict=True))


@pytest.mark.parametrize(
    ("members", "task"), [(CLASSIFIERS, "binary"), (REGRESSORS, "regression"), (NET, "binary")]
)
def test_a_factor_of_all_weights_changes_no_score(members: dict[str, Any], task: str, tmp_path: Path) -> None:
    weights = np.random.default_rng(5).integers(1, 5, 160).astype(float)
    plain = scores(tmp_path / "plain", weights, members, task)
    small = scores(tmp_path / "small", weights / 4096, members, task)
    assert small == pytest.approx(plain, rel=1e-9)
    odd = scores(tmp_path / "odd", weights * 300.7, members, task)
    assert odd == pytest.approx(plain, rel=1e-3)


def test_equal_weights_are_no_weights(tmp_path: Path) -> None:
    one = scores(tmp_path / "one", 1.0, CLASSIFIERS, "binary")
    small = scores(tmp_path / "small", 1 / 5000, CLASSIFIERS, "binary")
    assert small == pytest.approx(one, rel=1e-9)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        ({"weight": "w"}, "because data.weight is set"),
        ({"extra": {"train": "more.csv", "factor": 0.5}}, "because data.extra.factor is set"),
        ({"extra": {"train": "more.csv", "factor": 1}}, None),
        ({"extra": {"train": "more.csv"}}, None),
        ({}, None),
    ],
)
def test_a_member_that_takes_no_weights_is_refused_before_the_run(
    data: dict[str, Any], cause: str | None, tmp_path: Path
) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "y"])
    frame = frame.assign(id=np.arange(60), w=1.0 + np.arange(60) % 3)
    for name, first in (("t.csv", 0), ("more.csv", 60)):
        frame.assign(id=frame["id"] + first, a=frame["a"] + first).to_csv(tmp_path / name, index=False)
    knn = {"estimator": "sklearn.neighbors.KNeighborsRegressor"}
    config = {
        "task": "regression",
        "metric": "rmse",
        "data": {
            "train": "t.csv",
            "id": "id",
            "target": "y",
            **({} if "weight" in data else {"drop": ["w"]}),
            **data,
        },
        "levels": {"base": {"knn": knn, "ridge": {"estimator": "sklearn.linear_model.Ridge"}}},
    }
    said = Project(tmp_path).write(config).cli("check", tmp_path / "c.yaml")
    assert said.code == (0 if cause is None else 2), said.err
    assert cause is None or ("base.knn.estimator: must take sample_weight" in said.err and cause in said.err)
    assert "base.ridge" not in said.err
