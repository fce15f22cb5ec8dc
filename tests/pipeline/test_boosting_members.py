"""XGBoost and CatBoost as members at any level: categories, missing values, stopping, the gate, later data."""

from __future__ import annotations

from typing import Any

import pytest

LIBRARIES = {
    "xgboost": ("xgboost.XGB", "n_estimators", {"max_depth": 2, "learning_rate": 0.3}),
    "catboost": ("catboost.CatBoost", "iterations", {"depth": 2, "learning_rate": 0.3}),
}


@pytest.mark.parametrize(
    ("library", "task"),
    [
        ("xgboost", "multiclass"),
        ("catboost", "regression"),
        pytest.param("xgboost", "regression", marks=pytest.mark.slow),
        pytest.param("catboost", "binary", marks=pytest.mark.slow),
        pytest.param("xgboost", "binary", marks=pytest.mark.slow),
        pytest.param("catboost", "multiclass", marks=pytest.mark.slow),
    ],
)
def test_boosting_libraries_are_members_of_every_level(
    library: str, task: str, build: Any, make_config: Any, add_net: Any
) -> None:
    pytest.importorskip(library)
    prefix, rounds, params = LIBRARIES[library]
    name = prefix + ("Regressor" if task == "regression" else "Classifier")
    metric = {"multiclass": "log_loss", "binary": "roc_auc", "regression": "rmse"}[task]
    config = add_net(make_config(task, metric))
    config["folds"]["n"] = 2
    levels = config["levels"]
    levels["base"] |= {
        "boosted": {"estimator": name, "params": {rounds: 8, **params}, "seeds": 2},
        "stopped": {"estimator": name, "params": {rounds: 60, **params, "early_stopping_rounds": 3}},
    }
    levels["meta"]["trees"] = {
        "estimator": name,
        "params": {rounds: 5, **params},
        "inputs": ["base/*/*", "table"],
        "nested": False,
    }
    config["submit"] = "trees"
    project = build(task, config)
    lines = (project.folder / "test.csv").read_text().splitlines()
    lines[1] = lines[1].rpartition(",")[0] + ","  # a missing category
    lines[2] = lines[2].rpartition(",")[0] + ",never_seen"
    (project.folder / "test.csv").write_text("\n".join(lines) + "\n")
    said = project.run()
    assert said.code == 0, said.err
    assert "cannot score later data" not in said.out + said.err
    out = project.folder / "out.csv"
    said = project.cli("predict", project.run_folder, project.folder / "test.csv", "-o", out)
    assert said.code == 0, said.err
    assert out.read_bytes() == (project.run_folder / "submission.csv").read_bytes()
