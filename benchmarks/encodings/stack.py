"""Every stack that a config can say, computed by one call of `stackfeat.pipeline.run`.

In:  a `Draw`, a seed, an empty folder.
Out: the run in that folder: test predictions by member, seconds, what the gates did.

Nets and boosting are trained once for all stacks of a data set and seed. One setting serves all data
sets; nets stop early, because no number of epochs suits both 26 letters and the noisy `adult`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.encodings.rows import TARGET, Draw
from stackfeat.config import load_config
from stackfeat.pipeline.run import run

FOLDS = 5
HIDDEN = (256, 128)
EPOCHS, PATIENCE, BATCH, RATE = 60, 8, 256, 0.005
GEOMETRY, ALIGNED, RAW = (f"base/mlp/penultimate@{kind}" for kind in ("geometry", "aligned", "raw"))
BOOSTING = {"learning_rate": 0.1, "num_leaves": 15, "min_child_samples": 10, "colsample_bytree": 0.7}
SMALL_TREES = {
    "num_leaves": 7,
    "min_child_samples": 20,
    "max_bin": 31,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.5,
    "reg_lambda": 5.0,
}
# A round is a tree for every class: fewer and longer steps where there are many.
META_ROUNDS = {"binary": (60, 0.08), "regression": (100, 0.08), "multiclass": (24, 0.2)}


def output_of(kind: str) -> str:
    return "prediction" if kind == "regression" else "proba"


def boosting_params(kind: str) -> dict[str, Any]:
    """LightGBM on raw columns."""
    return {**BOOSTING, "n_estimators": 60 if kind == "multiclass" else 120}


def meta_params(kind: str) -> dict[str, Any]:
    """LightGBM above predictions."""
    rounds, rate = META_ROUNDS[kind]
    return {**SMALL_TREES, "n_estimators": rounds, "learning_rate": rate}


def lightgbm(kind: str) -> str:
    return f"lightgbm.LGBM{'Regressor' if kind == 'regression' else 'Classifier'}"


def base_level(kind: str) -> dict[str, Any]:
    """A net with its last hidden layer in three encodings, and boosting."""
    return {
        "mlp": {
            "net": "mlp",
            "params": {"hidden": list(HIDDEN), "dropout": 0.1},
            "train": {"epochs": EPOCHS, "patience": PATIENCE, "batch_size": BATCH, "lr": RATE},
            "emit": [
                output_of(kind),
                {"tap": "penultimate", "encode": ["geometry", "aligned", "raw"]},
            ],
        },
        "gbm": {"estimator": lightgbm(kind), "params": boosting_params(kind)},
    }


def meta_level(kind: str) -> dict[str, Any]:
    """Linear and boosted meta-learners, with and without hidden features."""
    predictions = [f"base/*/{output_of(kind)}"]
    blocks = [GEOMETRY, ALIGNED]
    penalised = "Ridge" if kind == "regression" else "LogisticRegression"

    def linear(*features: str) -> dict[str, Any]:
        return {"estimator": "gated_linear", "inputs": [*predictions, *features]}

    def trees(*features: str, **options: Any) -> dict[str, Any]:
        inputs = [*predictions, *features]
        return {"estimator": lightgbm(kind), "params": meta_params(kind), "inputs": inputs, **options}

    return {
        "linear": linear(),
        "penalised": {"estimator": f"sklearn.linear_model.{penalised}", "inputs": predictions},
        "gated": linear(*blocks),
        "gated_geometry": linear(GEOMETRY),
        "gated_aligned": linear(ALIGNED),
        "gated_raw": linear(RAW),
        "trees": trees(),
        "trees_gated": trees(*blocks),
        "trees_open": trees(*blocks, gate=False, nested=False),
        # Nested fits would train every base member ten times more; they mend OOF scores, which are not used.
        "trees_gated_columns": trees(*blocks, "table", nested=False),
    }


def final_level(kind: str) -> dict[str, Any]:
    """Votes over the bases, and over bases and meta-learners."""
    bases = [f"base/*/{output_of(kind)}"]
    metas = [f"meta/{name}/{output_of(kind)}" for name in ("linear", "gated")]
    return {
        "soft": {"vote": "soft", "inputs": bases},
        "greedy": {"vote": "greedy", "inputs": bases},
        "greedy_all": {"vote": "greedy", "inputs": [*bases, *metas]},
    }


def config_of(drawn: Draw, seed: int, jobs: int) -> dict[str, Any]:
    """The config of one data set and seed."""
    data = {"train": "train.csv", "test": "test.csv", "id": "id", "target": TARGET}
    kind = drawn.kind
    return {
        "name": drawn.name,
        "task": kind,
        "metric": "rmse" if kind == "regression" else "log_loss",
        "seed": seed,
        "data": data if drawn.group is None else {**data, "group": drawn.group},
        "folds": {"n": FOLDS, "seed": seed},
        "levels": {"base": base_level(kind), "meta": meta_level(kind), "final": final_level(kind)},
        "outputs": {"dir": "run"},
        "executor": {"kind": "inline"} if jobs == 1 else {"kind": "loky", "jobs": jobs},
    }


@dataclass(frozen=True)
class Stacked:
    """A finished run.

    Attributes
    ----------
    config : Path
    predictions : dict of str to ndarray of shape (n_test, n_outputs)
        By member, without its level.
    seconds : dict of str to float
        Of fitting a member in all folds, by its full name.
    gates : list of dict
        What each fit of a gated member tried and took.
    meta_fit : str
        Which fits of a meta-learner the test rows went through: ``fold`` or ``all``.
    """

    config: Path
    predictions: dict[str, np.ndarray]
    seconds: dict[str, float]
    gates: list[dict[str, Any]]
    meta_fit: str


def run_stack(drawn: Draw, seed: int, folder: Path, jobs: int) -> Stacked:
    """Write the files, run the config, read the test predictions."""
    drawn.train.to_csv(folder / "train.csv", index=False)
    drawn.test.to_csv(folder / "test.csv", index=False)
    config = folder / "config.yaml"
    config.write_text(json.dumps(config_of(drawn, seed, jobs), indent=1))  # JSON is YAML too
    result = run(config)
    if result.failed:
        raise SystemExit(f"{drawn.name}, seed {seed}: members failed: {result.failed}")
    board = result.leaderboard
    members = [f"{level}/{name}" for level, name in zip(board["level"], board["member"], strict=True)]
    scores = json.loads((result.folder / "scores.json").read_text())["members"]
    predictions = {}
    for member in members:
        frame = pd.read_csv(result.folder / "test" / scores[member]["file"]).set_index("id")
        values = frame.loc[drawn.test["id"]].to_numpy(dtype=np.float64)
        predictions[member.split("/")[1]] = values
    seconds = dict(zip(members, board["seconds"].astype(float), strict=True))
    return Stacked(
        config, predictions, seconds, list(gate_steps(scores)), load_config(config).config.stack.meta_fit
    )


def gate_steps(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """Every block tried by every fit of a gated member, from scores.json."""
    steps = []
    for member, found in scores.items():
        for fit, report in found["reports"].items():
            gate = report.get("gate", {}).get("trials", report)
            for step in gate.get("steps", ()) if isinstance(gate, dict) else ():
                penalty = report.get("penalty")
                steps.append({"member": member, "fit": fit, "penalty": penalty, **step})
    return steps
