"""A small project of every task: what contract tests that hold for all of them run on.

In:  the name of a task, and a folder.
Out: a project whose stack has a net with a tap, boosting, a linear model, a gated meta-learner and votes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.projects import Config, Project

N_ROWS, N_TEST = 96, 24
LIST_SIZE = 4
NAMES = ("a", "b", "c")
WORDS = ("plain", "bright", "heavy", "small", "round", "late")
OPTIONS: dict[str, Config] = {
    "binary": {"task": "binary", "metric": "log_loss"},
    "multiclass": {"task": "multiclass", "metric": "log_loss"},
    "regression": {"task": "regression", "metric": "rmse"},
    "several targets": {"task": "regression", "metric": "arrmse"},
    "multilabel": {"task": "multilabel", "metric": "log_loss"},
    "quantile": {"task": "quantile", "metric": "pinball", "quantiles": [0.1, 0.5, 0.9]},
    "ranking": {"task": "ranking", "metric": "ndcg@10"},
    "texts": {"task": "binary", "metric": "log_loss"},
}
EVERY_TASK = tuple(OPTIONS)
BY_DEFAULT = ("several targets", "ranking", "texts")
"""Tasks that default tests run; all others have the mark `slow`."""
MARKED = [name if name in BY_DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in EVERY_TASK]
TARGETS = {"several targets": list(NAMES), "multilabel": list(NAMES)}
CALIBRATED = {"quantile": "shift", "multilabel": "by_label", "ranking": "none"}
LINEAR = {
    "quantile": "QuantileRegressor",
    "regression": "Ridge",
    "several targets": "Ridge",
    "ranking": "Ridge",
}


def targets_of(name: str, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Return columns of the target from normal scores of shape (n_rows, 3)."""
    first = scores[:, 0]
    if name == "several targets":
        return dict(zip(NAMES, scores.T, strict=True))
    if name == "multilabel":
        return dict(zip(NAMES, (scores > [0.0, 0.4, -0.4]).astype(int).T, strict=True))
    if name in ("regression", "quantile"):
        return {"y": first}
    if name == "ranking":
        return {"y": np.digitize(first, [-0.7, 0.3, 1.2])}
    return {
        "y": np.array(["low", "mid", "high"])[
            np.digitize(first, [-0.5, 0.6] if name == "multiclass" else [0.0])
        ]
    }


def rows(name: str, n_rows: int, seed: int, prefix: str = "r", *, is_noise: bool = False) -> pd.DataFrame:
    """Return rows with an id, three numbers (some missing), a category, the target, and what else the task has."""
    rng = np.random.default_rng([seed, EVERY_TASK.index(name)])
    X, kind = rng.normal(size=(n_rows, 3)), rng.integers(0, 3, n_rows)
    scores = rng.normal(size=(n_rows, 3))
    if not is_noise:
        scores = 0.6 * scores + X + 0.5 * (kind == 1)[:, None]
    frame = pd.DataFrame(np.where(rng.random(X.shape) < 0.03, np.nan, X), columns=["p", "q", "r"]).round(4)
    frame.insert(0, "id", [f"{prefix}{i:03}" for i in range(n_rows)])
    frame["kind"] = np.array(list("uvw"))[kind]
    if name == "ranking":
        frame["list"] = [f"{prefix}{i // LIST_SIZE}" for i in range(n_rows)]
    if name == "texts":
        own = np.where(scores[:, 0] > 0, "lovely", "awful")
        frame["review"] = [
            " ".join([one, *rng.choice(WORDS, 4), f"{prefix}word{i}"]) for i, one in enumerate(own)
        ]
    return frame.assign(**targets_of(name, scores))


def config(name: str) -> Config:
    """Return the config of a task's project."""
    options = OPTIONS[name]
    is_class = options["task"] in ("binary", "multiclass", "multilabel")
    suffix, output = ("Classifier", "proba") if is_class else ("Regressor", "prediction")
    boosted = "lightgbm.LGBMRanker" if name == "ranking" else f"lightgbm.LGBM{suffix}"
    net = {"net": "mlp", "params": {"hidden": [6]}, "train": {"epochs": 3, "batch_size": 32, "patience": 2}}
    linear: Config = {"estimator": f"sklearn.linear_model.{LINEAR.get(name, 'LogisticRegression')}"}
    base: Config = {
        "net": {**net, "emit": [output, "penultimate"]},
        # Finds its rounds on inner splits.
        "gbm": {
            "estimator": boosted,
            "params": {"learning_rate": 0.3, "min_child_samples": 5, "num_leaves": 4},
        },
        "linear": linear,
    }
    roles: Config = {"query": "list"} if name == "ranking" else {}
    if name == "texts":
        linear["prepare"] = "sparse"
        small = {"width": 4, "filters": 4, "hidden": 4, "dropout": 0.0}
        base["cnn"] = {"net": "text_cnn", "params": small, "train": {"epochs": 2}, "emit": [output]}
        roles["types"] = {"review": "text"}
    every = [f"*/*/{output}"]
    final: Config = {vote: {"vote": vote, "inputs": every} for vote in ("soft", "greedy")}
    final["greedy"]["picks"] = 5
    final["weighted"] = {"vote": "weighted", "inputs": every, "calibrate": CALIBRATED.get(name, "auto")}
    return {
        **options,
        "name": "run",
        "data": {
            "train": "train.csv",
            "test": "test.csv",
            "id": "id",
            "target": TARGETS.get(name, "y"),
            **roles,
        },
        "folds": {"n": 3},
        "levels": {
            "base": base,
            "meta": {"gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]}},
            "final": final,
        },
        "executor": {"kind": "inline"},
        "submit": "auto",
    }


def project_of(name: str, folder: Path, **changed: Any) -> Project:
    """Write rows and a config of a task."""
    folder.mkdir(parents=True, exist_ok=True)
    rows(name, N_ROWS, 0).to_csv(folder / "train.csv", index=False)
    test = rows(name, N_TEST, 1, "t")
    test.drop(columns=TARGETS.get(name, "y")).to_csv(folder / "test.csv", index=False)
    return Project(folder).write({**config(name), **changed})
