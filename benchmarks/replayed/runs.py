"""Runs: every config of configs/ at a tiny size, and small configs for what those do not ask for.

In:  an empty folder.
Out: entries of the files of the run folder, the scores, and the warnings.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

import stackfeat as sf
from benchmarks.replayed.entries import Entries, of_csv, of_json, of_numbers, of_text
from benchmarks.replayed.tables import write_data

Config = dict[str, Any]
ROOT = Path(__file__).parents[2]
FEW = {"n_estimators": 4, "max_iter": 4, "iterations": 4}
NARROW = {"width": 4, "filters": 4, "hidden": 8}


def tiny(config: Config) -> Config:
    """Return a config with three folds, two epochs, few trees, and the files of `write_data`."""
    data = config["data"]
    data.pop("sample_submission", None)
    for role in ("train", "test"):
        data[role] = data[role].replace("../work/data/", "work/")
    config["folds"] |= {"n": 4 if "time" in data else 3, "repeats": min(2, config["folds"].get("repeats", 1))}
    for members in config["levels"].values():
        for options in members.values():
            shrink(options)
    return {**config, "outputs": {"dir": "run"}, "executor": {"kind": "inline"}}


def shrink(options: Config) -> None:
    """Make a member small."""
    params = options.get("params", {})
    params |= {name: value for name, value in FEW.items() if name in params}
    if "net" in options:
        options["seeds"] = min(2, options.get("seeds", 1))
        options["train"] = {**options["train"], "epochs": 2}
        narrow = {name: value for name, value in NARROW.items() if isinstance(params.get(name), int)}
        options["params"] = {**params, **narrow}
    if "early_stopping_rounds" in params:
        params["early_stopping_rounds"] = 2
    if options.get("estimator") == "gated_linear":
        options["params"] = {**params, "max_blocks": 1, "penalties": [1.0, 100.0]}


def write_tiny(name: str, folder: Path) -> Path:
    """Write a config of configs/ at a tiny size, and its data."""
    config = tiny(YAML(typ="safe").load((ROOT / f"configs/{name}.yaml").read_text("utf-8")))
    if not config["data"]["train"].startswith("sklearn:"):
        data_set = Path(config["data"]["train"]).parent.name
        write_data(data_set, folder / "work" / data_set)
    return write(config, folder)


def write(config: Config, folder: Path) -> Path:
    path = folder / "c.yaml"
    path.write_text(json.dumps(config, indent=1))
    return path


def run_entries(path: Path) -> Entries:
    """Run a config, and yield what must be the same bytes for the same seed."""
    result = sf.run(path)
    if result.failed:
        raise RuntimeError(f"every member must be fitted; got {result.failed}; choose others")
    folder = result.folder
    for name in ("submission.csv", "folds.csv"):
        if (folder / name).exists():
            yield name, of_csv(folder / name)
    for part in ("oof", "test"):
        for file in sorted((folder / part).glob("*")):
            yield f"{part}/{file.name}", of_csv(file)
    yield "scores.json", of_json(json.loads((folder / "scores.json").read_text()))
    yield "leaderboard.csv", of_csv(folder / "leaderboard.csv", drop=("seconds", "cached"))
    board = pd.read_csv(folder / "leaderboard.csv")
    for row in board.to_dict("records"):
        yield f"score/{row['level']}/{row['member']}", of_numbers(row["score"], row["se"])
    yield "submitted", of_text(result.submitted)
    yield "warnings", of_text("\n".join(result.warnings).replace(str(path.parent), "FOLDER"))


def run_of_configs(name: str, folder: Path) -> Entries:
    yield from run_entries(write_tiny(name, folder))


def write_rows(task: str, folder: Path) -> None:
    """Write numbers with holes, categories, groups, times, weights and folds, and a target they tell of."""
    rng = np.random.default_rng(7)
    n_rows = 160
    X, colour = rng.normal(size=(n_rows, 4)), rng.integers(0, 3, n_rows)
    signal = X[:, 0] + 0.8 * X[:, 1] * (colour == 1) + rng.normal(0, 0.6, n_rows)
    target: Any = np.expm1(np.abs(signal) + 0.2).round(4)
    if task == "binary":
        target = np.where(signal > 0.5, "yes", "no")
    if task in ("multiclass", "ordinal"):
        codes = np.digitize(signal, [-0.6, 0.6])
        target = codes if task == "ordinal" else np.array(["low", "mid", "high"])[codes]
    frame = pd.DataFrame({"row_id": [f"r{i:03d}" for i in range(n_rows)]})
    for j, name in enumerate("abcd"):
        frame[name] = pd.Series(X[:, j].round(4)).mask(rng.random(n_rows) < 0.03)
    frame["colour"] = np.array(["red", "green", "blue"])[colour]
    frame["owner"], frame["day"] = rng.integers(0, 12, n_rows), np.arange(n_rows) // 4
    frame["weight"], frame["part"] = rng.gamma(2, 1, n_rows).round(3), np.arange(n_rows) % 3
    frame["label"] = target
    frame[:120].to_csv(folder / "train.csv", index=False)
    frame[120:].drop(columns="label").to_csv(folder / "test.csv", index=False)


ROLES = {"group": "owner", "time": "day", "weight": "weight", "fold": "part"}


def stack_config(task: str, metric: str, roles: tuple[str, ...] = (), **others: Any) -> Config:
    """Return trees and a linear model, a meta-learner, and every vote that the task knows."""
    is_value = task == "regression"
    kind, output = ("Regressor", "prediction") if is_value else ("Classifier", "proba")
    linear = "Ridge" if is_value else "LogisticRegression"
    votes: Config = {
        "soft": {"vote": "soft"},
        "weighted": {"vote": "weighted"},
        "greedy": {"vote": "greedy", "picks": 8},
    }
    if task != "multiclass":
        votes["rank"] = {"vote": "rank"}
    if not is_value:
        votes |= {f"hard_{tie}": {"vote": "hard", "tie": tie} for tie in ("soft", "prior", "lowest")}
    for options in votes.values():
        options["inputs"] = [f"*/*/{output}"]
    trees = {"n_estimators": 8, "min_child_samples": 5, "num_leaves": 5}
    return {
        "task": task,
        "metric": metric,
        "data": {
            "train": "train.csv",
            "test": "test.csv",
            "id": "row_id",
            "target": "label",
            **{role: ROLES[role] for role in roles},
            "drop": [column for role, column in ROLES.items() if role not in roles],
        },
        "folds": {"n": 3},
        "levels": {
            "base": {
                "gbm": {"estimator": f"lightgbm.LGBM{kind}", "params": trees},
                "linear": {"estimator": f"sklearn.linear_model.{linear}", "params": {}},
            },
            "meta": {"gated": {"estimator": "gated_linear", "inputs": [f"base/*/{output}"]}},
            "final": votes,
        },
        "outputs": {"dir": "run"},
        "executor": {"kind": "inline"},
        **others,
    }


def with_net(config: Config, **options: Any) -> Config:
    """Add a net whose hidden layer the meta-learner and trees read."""
    output = "prediction" if config["task"] == "regression" else "proba"
    net = {"net": "mlp", "params": {"hidden": [8, 6]}, "train": {"epochs": 2, "batch_size": 32}}
    config["levels"]["base"]["mlp"] = {**net, "emit": [output, "penultimate"], **options}
    config["levels"]["meta"]["gated"]["inputs"] = ["base/*/*"]
    config["levels"]["meta"]["trees"] = {**config["levels"]["base"]["gbm"], "inputs": ["base/*/*", "table"]}
    return config


def every_encoding(task: str, metric: str) -> Config:
    output = "prediction" if task == "regression" else "proba"
    taps = [
        {"tap": "penultimate", "encode": ["geometry", "aligned", "relative"], "reduce": 3},
        {"tap": "penultimate", "encode": ["reference", "raw"], "name": "other"},
    ]
    return with_net(stack_config(task, metric), emit=[output, *taps], seeds=2)


def other_nets(task: str, metric: str) -> Config:
    """Return a stack of the nets for tables that no config of configs/ asks for."""
    config = stack_config(task, metric)
    output = "prediction" if task == "regression" else "proba"
    nets: dict[str, Config] = {
        "tabm": {"hidden": 8, "k": 3},
        "resnet_tabular": {"hidden": 8, "n_blocks": 1},
        "ft_transformer": {"hidden": 8, "heads": 2, "n_blocks": 1},
    }
    for name, params in nets.items():
        train = {"epochs": 2, "batch_size": 32, "ema": 0.8}
        made = {"net": name, "params": params, "train": train, "emit": [output, "penultimate"]}
        config["levels"]["base"][name] = made
    config["levels"]["meta"]["gated"]["inputs"] = ["base/*/*"]
    return config


def other_estimators() -> Config:
    """Return estimators with and without probabilities, below and above others."""
    config = stack_config("multiclass", "log_loss")
    base, meta = config["levels"]["base"], config["levels"]["meta"]
    base["ridge"] = {"estimator": "sklearn.linear_model.RidgeClassifier", "params": {"alpha": 2.0}}
    base["svm"] = {"estimator": "sklearn.svm.LinearSVC", "params": {"C": 0.5}, "inputs": ["table"]}
    base["hist"] = {
        "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
        "params": {"max_iter": 4},
        "prepare": "trees",
    }
    base["forest"] = {
        "estimator": "sklearn.ensemble.RandomForestClassifier",
        "params": {"n_estimators": 5},
        "seeds": 2,
    }
    with_net(config)
    meta["ridge"] = {**base["ridge"], "inputs": ["base/*/proba", "base/*/*@aligned"]}
    meta["logit"] = {
        "estimator": "sklearn.linear_model.LogisticRegression",
        "inputs": ["base/*/*"],
        "as": "rank",
    }
    return config


def other_scores() -> Config:
    """Return a stack judged by labels, with a decision rule and weighted votes."""
    config = stack_config("binary", "f1", ("weight",), decision="threshold", submit="hard_prior")
    for name in ("soft", "hard_prior"):
        options = config["levels"]["final"][name]
        options |= {"inputs": ["base/*/proba", "meta/gated"], "weights": [1, 2, 10]}
    return config


def run_of_rows(task: str, make: Callable[[], Config], folder: Path) -> Entries:
    config = make()
    write_rows(task, folder)
    yield from run_entries(write(config, folder))


def run_of_ties(folder: Path) -> Entries:
    """Votes of two, often tied, where one class has the more rows and the other the more weight."""
    config = stack_config("binary", "accuracy", ("weight",))
    for options in config["levels"]["final"].values():
        options["inputs"] = ["base/*/proba"]
    write_rows("binary", folder)
    frame = pd.read_csv(folder / "train.csv")
    frame["weight"] = np.where(frame["label"] == "yes", 10.0, 1.0)
    frame.to_csv(folder / "train.csv", index=False)
    yield from run_entries(write(config, folder))


METRICS = {
    "binary": ("accuracy", "balanced_accuracy", "roc_auc", "average_precision", "f1", "mcc", "brier"),
    "multiclass": ("accuracy", "balanced_accuracy", "log_loss", "roc_auc", "f1_macro", "mcc", "brier"),
    "ordinal": ("quadratic_weighted_kappa",),
    "regression": ("rmse", "rmsle", "mae", "r2", "pearson"),
}
TASKS = {"ordinal": "multiclass"}


def rows_unit(task: str, make: Callable[[], Config]) -> Callable[[Path], Entries]:
    return partial(run_of_rows, task, make)


BINARY, CLASSES, VALUES = ("binary", "log_loss"), ("multiclass", "log_loss"), ("regression", "rmse")
UNITS: dict[str, Callable[[Path], Entries]] = {
    **{
        f"configs/{path.stem}": partial(run_of_configs, path.stem)
        for path in sorted((ROOT / "configs").glob("*.yaml"))
    },
    **{
        f"metrics/{task}-{metric}": rows_unit(task, partial(stack_config, TASKS.get(task, task), metric))
        for task, metrics in METRICS.items()
        for metric in metrics
    },
    "stacks/weights": rows_unit("binary", lambda: stack_config(*BINARY, ("weight",))),
    "stacks/weights-values": rows_unit("regression", lambda: with_net(stack_config(*VALUES, ("weight",)))),
    "stacks/groups": rows_unit("multiclass", lambda: stack_config(*CLASSES, ("group",))),
    "stacks/times": rows_unit("regression", lambda: with_net(stack_config(*VALUES, ("time",)))),
    "stacks/given-folds": rows_unit("multiclass", lambda: with_net(stack_config(*CLASSES, ("fold",)))),
    "stacks/holdout": rows_unit("binary", lambda: with_net(stack_config(*BINARY, stack={"holdout": 0.2}))),
    "stacks/repeats": rows_unit(
        "multiclass",
        lambda: stack_config(*CLASSES, stack={"average": "logit"}, folds={"n": 2, "repeats": 2}),
    ),
    "stacks/early": rows_unit(
        "binary", lambda: with_net(stack_config(*BINARY, stack={"averaging": "early"}))
    ),
    "stacks/refit": rows_unit(
        "multiclass", lambda: with_net(stack_config(*CLASSES, stack={"averaging": "refit"}))
    ),
    "stacks/fold-fits": rows_unit(
        "regression", lambda: with_net(stack_config(*VALUES, stack={"meta_fit": "fold", "average": "rank"}))
    ),
    "stacks/patience": rows_unit(
        "multiclass",
        lambda: with_net(stack_config(*CLASSES), train={"epochs": 4, "batch_size": 32, "patience": 1}),
    ),
    "stacks/nets": rows_unit("binary", lambda: other_nets(*BINARY)),
    "stacks/nets-values": rows_unit("regression", lambda: other_nets(*VALUES)),
    "stacks/estimators": rows_unit("multiclass", other_estimators),
    "stacks/ties": run_of_ties,
    "stacks/decision": rows_unit("binary", other_scores),
    "stacks/encodings": rows_unit("multiclass", lambda: every_encoding(*CLASSES)),
    "stacks/encodings-values": rows_unit("regression", lambda: every_encoding(*VALUES)),
}
