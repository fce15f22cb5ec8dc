"""XGBoost and CatBoost as members at any level: categories, missing values, stopping, the gate, later data."""

from __future__ import annotations

import json
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
        "open": {"estimator": name, "params": params},
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
    logged = (project.run_folder / "run.log").read_text()
    found = json.loads((project.run_folder / "scores.json").read_text())["members"]["base/open"]["reports"]
    assert len(found) >= 2
    for report in found.values():
        splits = report["rounds"]["splits"]
        median = report["rounds"]["params"][rounds]
        assert median == sorted(splits)[1]
        assert f"rounds {median} (of at most 5,000; median of {', '.join(map(str, splits))})" in logged
    assert "cannot score later data" not in said.out + said.err
    out = project.folder / "out.csv"
    said = project.cli("predict", project.run_folder, project.folder / "test.csv", "-o", out)
    assert said.code == 0, said.err
    assert out.read_bytes() == (project.run_folder / "submission.csv").read_bytes()


@pytest.mark.slow
def test_rounds_are_the_same_in_any_number_of_processes(build: Any, make_config: Any) -> None:
    config = make_config("binary", "log_loss")
    prefixes = ("lightgbm.LGBM", "xgboost.XGB", "catboost.CatBoost", "sklearn.ensemble.HistGradientBoosting")
    config["levels"] = {
        "base": {f"m{i}": {"estimator": f"{prefix}Classifier"} for i, prefix in enumerate(prefixes)}
    }
    config.pop("submit", None)
    outputs = []
    for executor in ("{kind: inline}", "{kind: loky, jobs: 2, threads_per_job: 1}"):
        project = build("binary", config)
        said = project.run("--set", f"executor={executor}")
        assert said.code == 0, said.err
        outputs.append({name: data for name, data in project.outputs().items() if "config" not in name})
    assert outputs[0] == outputs[1]
