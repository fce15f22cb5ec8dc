"""A run with nets of the zoo: trained in folds, read, encoded, saved, and predicting again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

Project = Any
Config = dict[str, Any]

SMALL = {
    "realmlp": {"hidden": [8]},
    "tabm": {"hidden": 8, "k": 2, "n_blocks": 1, "n_bins": 4},
    "resnet_tabular": {"hidden": 8, "n_blocks": 1, "num_embeddings": "periodic"},
    "ft_transformer": {"hidden": 8, "heads": 2, "n_blocks": 1},
}


@pytest.mark.parametrize(
    ("task", "nets"),
    [
        ("multiclass", ["realmlp", "tabm"]),
        pytest.param("regression", [*SMALL], marks=pytest.mark.slow),
    ],
)
def test_a_run_trains_encodes_saves_and_predicts(
    task: str, nets: list[str], build: Callable[..., Project], make_config: Callable[..., Config]
) -> None:
    config = make_config(task, "rmse" if task == "regression" else "log_loss")
    output = "prediction" if task == "regression" else "proba"
    tap = {"tap": "penultimate", "encode": ["geometry", "reference"]}
    config["folds"] = {"n": 2}
    config["levels"]["base"] = {
        net: {
            "net": net,
            "params": SMALL[net],
            "train": {"epochs": 2, "batch_size": 64},
            "emit": [output, tap],
        }
        for net in nets
    }
    config["levels"]["meta"] = {"trees": tree(task)}
    config["levels"]["final"] = {"soft": {"vote": "soft", "inputs": ["meta/*", f"base/*/{output}"]}}
    config["submit"] = "final/soft"
    project = build(task, config, 120)
    said = project.run()
    assert said.code == 0, said.err
    resolved = (project.run_folder / "config.yaml").read_text()
    assert resolved.count("schedule: coslog4") == 1
    assert resolved.count(f"lr: {0.1 if task == 'regression' else 0.04}\n") == 1
    before = project.outputs()
    shutil.rmtree(project.folder / ".stackfeat")
    later = project.folder / "later.csv"
    said = project.cli("predict", project.run_folder, project.folder / "test.csv", "-o", later)
    assert said.code == 0, said.err
    assert later.read_bytes() == before["submission.csv"]


def tree(task: str) -> Config:
    kind = "Regressor" if task == "regression" else "Classifier"
    return {
        "estimator": f"sklearn.tree.DecisionTree{kind}",
        "params": {"max_depth": 3},
        "inputs": ["base/*/*"],
    }


def test_layers_of_a_net_that_learns_of_its_rows_are_listed(
    build: Callable[..., Project], make_config: Callable[..., Config]
) -> None:
    config = make_config("multiclass", "log_loss")
    config["levels"]["base"]["tabm"] = {"net": "tabm", "params": SMALL["tabm"]}
    project = build("multiclass", config)
    said = project.cli("layers", project.folder / "c.yaml", "base/tabm")
    assert said.code == 0, said.err
    assert "numbers.embed" in said.out and "head" in said.out
