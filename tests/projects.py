"""Small projects (data files and a config) and the ways to run them; `conftest.py` has fixtures of them.

`Project.cli` calls the command line in this process, which is fast; `Project.start` starts
it as a process of its own, where killing and interrupting are the point.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Config = dict[str, Any]
ROOT = Path(__file__).parents[1]
FAILING = {"estimator": "sklearn.neighbors.KNeighborsClassifier", "params": {"n_neighbors": 100_000}}
"""A member that nothing can be said against before it meets its rows: it asks for more of them than there are."""
LABELS = {"multiclass": ("low", "mid", "high"), "binary": ("no", "yes")}


@dataclass(frozen=True)
class Said:
    """What a command returned and printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Project:
    """A folder with train.csv, test.csv and c.yaml."""

    folder: Path

    @property
    def run_folder(self) -> Path:
        return self.folder / "runs" / "run"

    def write(self, config: Config) -> Project:
        """Write the config; JSON is YAML too."""
        (self.folder / "c.yaml").write_text(json.dumps(config, indent=1))
        return self

    def config(self) -> Config:
        config: Config = json.loads((self.folder / "c.yaml").read_text())
        return config

    def cli(self, *arguments: object) -> Said:
        """Call the command line in this process."""
        from stackfeat.cli import main

        out, err, before = io.StringIO(), io.StringIO(), sys.argv
        terminate = signal.getsignal(signal.SIGTERM)
        sys.argv = ["stackfeat", *map(str, arguments)]
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as end,
            ):
                main()
        finally:
            sys.argv = before
            signal.signal(signal.SIGTERM, terminate)
        return Said(int(end.value.code or 0), out.getvalue(), err.getvalue())

    def run(self, *arguments: object) -> Said:
        return self.cli("run", self.folder / "c.yaml", *arguments)

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """Start the command line as a process of its own, leader of a process group."""
        return subprocess.Popen(
            [sys.executable, "-m", "stackfeat", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

    def rewritten(self, change: Callable[[dict[str, str]], dict[str, str]], name: str = "new.csv") -> Path:
        """Write the rows of test.csv, changed, to another file."""
        with (self.folder / "test.csv").open(newline="") as file:
            rows = [change(row) for row in csv.DictReader(file)]
        with (self.folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return self.folder / name

    def copy(self, to: Path) -> Project:
        """Return a copy in another folder, its store and results included."""
        shutil.copytree(self.folder, to)
        return Project(to)

    def outputs(self) -> dict[str, bytes]:
        """Return the files that must be the same bytes for the same seed."""
        folder = self.run_folder
        names = ["submission.csv", "folds.csv", "scores.json", "predictor/predictor.json"]
        paths = (
            [folder / name for name in names] + sorted(folder.glob("oof/*")) + sorted(folder.glob("test/*"))
        )
        found = {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.exists()}
        with (folder / "leaderboard.csv").open(newline="") as file:
            rows = [
                {name: cell for name, cell in row.items() if name not in ("seconds", "cached")}
                for row in csv.DictReader(file)
            ]
        return {**found, "leaderboard.csv": json.dumps(rows).encode()}

    def scores(self) -> dict[str, Any]:
        scores: dict[str, Any] = json.loads((self.run_folder / "scores.json").read_text())
        return scores

    def submission(self) -> list[list[str]]:
        with (self.run_folder / "submission.csv").open(newline="") as file:
            return list(csv.reader(file))


VALUES = ("regression", "quantile")
"""Tasks of numbers."""
TREES = {
    "quantile": {
        "estimator": "sklearn.ensemble.GradientBoostingRegressor",
        "params": {"n_estimators": 5, "max_depth": 3},
    }
}
"""In the place of one tree, where that cannot learn the task."""
LINEAR = {"regression": "Ridge", "quantile": "QuantileRegressor"}


def table(task: str, n_rows: int, first_id: int, with_target: bool, seed: int) -> list[list[str]]:
    """Return a header and rows: an id, four numbers (some missing), a category, the target."""
    rng = np.random.default_rng(seed)
    X, colour = rng.normal(size=(n_rows, 4)), rng.integers(0, 3, n_rows)
    signal_ = X[:, 0] + 0.8 * X[:, 1] * (colour == 1) + rng.normal(0, 0.6, n_rows)
    if task in VALUES:
        target = [f"{value:.4f}" for value in np.expm1(np.abs(signal_) + 0.2)]
    else:
        cuts = [-0.6, 0.6] if task == "multiclass" else [0.5]
        target = [LABELS[task][code] for code in np.digitize(signal_, cuts)]
    rows = [["row_id", "a", "b", "c", "d", "colour", *(["label"] if with_target else [])]]
    for i in range(n_rows):
        cells = ["" if rng.random() < 0.03 else f"{value:.4f}" for value in X[i]]
        row = [f"{first_id + i:03d}", *cells, "abc"[colour[i]]]
        rows.append([*row, *([target[i]] if with_target else [])])
    return rows


def write_table(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def base_config(task: str = "multiclass", metric: str = "log_loss") -> Config:
    """Trees and a linear model, one meta-learner, two votes; no nets, so nothing imports torch."""
    kind, output = ("Regressor", "prediction") if task in VALUES else ("Classifier", "proba")
    linear = LINEAR.get(task, "LogisticRegression")
    return {
        "task": task,
        "metric": metric,
        "data": {"train": "train.csv", "test": "test.csv", "id": "row_id", "target": "label"},
        "folds": {"n": 3},
        "levels": {
            "base": {
                "gbm": {
                    "estimator": f"lightgbm.LGBM{kind}",
                    "params": {"n_estimators": 10, "min_child_samples": 5, "num_leaves": 5},
                },
                "linear": {"estimator": f"sklearn.linear_model.{linear}", "params": {}},
            },
            "meta": {
                "gated": {
                    "estimator": "gated_linear",
                    "params": {"penalties": [10.0, 1.0]},
                    "inputs": [f"base/*/{output}"],
                }
            },
            "final": {
                "soft": {"vote": "soft", "inputs": ["meta/*", f"base/*/{output}"]},
                "greedy": {"vote": "greedy", "inputs": [f"*/*/{output}"], "picks": 10},
            },
        },
        "executor": {"kind": "inline"},
    }


def plain_config(task: str = "multiclass", metric: str = "log_loss") -> Config:
    """Two small members and a vote: every kind of file, and as little to compute as there can be."""
    kind, output = ("Regressor", "prediction") if task in VALUES else ("Classifier", "proba")
    linear = LINEAR.get(task, "LogisticRegression")
    return {
        **base_config(task, metric),
        "levels": {
            "base": {
                "linear": {"estimator": f"sklearn.linear_model.{linear}"},
                "tree": TREES.get(task)
                or {"estimator": f"sklearn.tree.DecisionTree{kind}", "params": {"max_depth": 3}},
            },
            "final": {"soft": {"vote": "soft", "inputs": [f"base/*/{output}"]}},
        },
    }


def small_net(task: str = "multiclass") -> Config:
    output = "prediction" if task in VALUES else "proba"
    return {
        "net": "mlp",
        "params": {"hidden": [8]},
        "train": {"epochs": 3, "batch_size": 64},
        "emit": [output, "penultimate"],
    }


def with_net(config: Config) -> Config:
    """Add a small net whose features the meta-learner, and trees, read."""
    config["levels"]["base"]["mlp"] = small_net(config["task"])
    config["levels"]["meta"]["gated"]["inputs"] = ["base/*/*"]
    return config


Build = Callable[..., Project]


def build_project(
    folder: Path, task: str = "multiclass", config: Config | None = None, n_rows: int = 160
) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "train.csv", table(task, n_rows, 0, True, 0))
    write_table(folder / "test.csv", table(task, 40, 600, False, 1))
    metric = {"multiclass": "log_loss", "binary": "roc_auc", "regression": "rmse", "quantile": "pinball"}[
        task
    ]
    return Project(folder).write(config or base_config(task, metric))
