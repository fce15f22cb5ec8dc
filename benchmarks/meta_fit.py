"""Compare `stack.meta_fit: fold` and `all` on rows held back from a run.

In:  a folder of data sets, each with data.parquet (a column `split`, a target on its train rows).
Out: a markdown table: test loss of view k through fit k, and of view k through the fit on all out-of-fold
     rows, with their paired difference over seeds. Both are stored by one run, so they share every fit.

    python benchmarks/meta_fit.py --data ../shared/data --work work/meta_fit [--seeds 5] [--only adult]
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stackfeat import load_config, run
from stackfeat.tasks.task import Task

N_TEST = 4000
MODES = ("fold", "all")
MEMBERS = ("meta.linear", "meta.trees", "meta.gated", "final.greedy")


@dataclass(frozen=True)
class DataSet:
    """A table, its target, and how many of its rows are trained on."""

    name: str
    task: str
    target: str
    n_train: int


SETS = (
    DataSet("adult", "binary", "income", 2000),
    DataSet("higgs_small", "binary", "target", 2000),
    DataSet("letter", "multiclass", "class", 2000),
    DataSet("california_housing", "regression", "median_house_value", 2000),
)


def main() -> None:
    """Run every data set and seed, and print a table as each set is done."""
    parser = argparse.ArgumentParser(description="Compare the two values of stack.meta_fit.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("work/meta_fit"), help="where runs are written")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", action="append", help="a data set; repeatable")
    arguments = parser.parse_args()
    print("| data set | member | fold | all | all - fold (se) | all better |\n|---|---|---|---|---|---|")
    for data_set in SETS:
        if arguments.only and data_set.name not in arguments.only:
            continue
        started = time.process_time()
        losses = [one_seed(data_set, seed, arguments) for seed in range(arguments.seeds)]
        print("\n".join(table(data_set.name, losses)), flush=True)
        print(f"<!-- {data_set.name}: {time.process_time() - started:.0f} s of CPU -->", flush=True)


def one_seed(data_set: DataSet, seed: int, arguments: argparse.Namespace) -> dict[tuple[str, str], float]:
    """Draw rows, run the stack once, and score the test rows both ways."""
    folder = arguments.work / f"{data_set.name}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    truth = write_rows(data_set, seed, arguments.data, folder)
    (folder / "config.yaml").write_text(json.dumps(config(data_set, seed)))
    losses = {}
    for mode in MODES:
        result = run(load_config(folder / "config.yaml", overrides=[f"stack.meta_fit={mode}"]))
        if result.failed:
            raise RuntimeError(f"every member must finish; failed: {result.failed}")
        for member in MEMBERS:
            written = pd.read_csv(result.folder / "test" / f"{member}.csv", index_col="id")
            losses[member, mode] = loss(truth, written, data_set.task)
    shutil.rmtree(folder)
    return losses


def write_rows(data_set: DataSet, seed: int, data: Path, folder: Path) -> pd.Series:
    """Write train.csv and test.csv, drawn from the labelled rows; return the labels of the latter."""
    rows = pd.read_parquet(data / data_set.name / "data.parquet")
    rows = rows[rows["split"] == "train"].drop(columns=["split", "id"]).reset_index(drop=True)
    rows = rows.sample(frac=1.0, random_state=seed)[: data_set.n_train + N_TEST]
    rows.index.name = "row"
    if data_set.task != "regression" and rows[data_set.target].dtype.kind == "f":
        rows[data_set.target] = rows[data_set.target].astype(int)
    train, test = rows[: data_set.n_train], rows[data_set.n_train :]
    train.to_csv(folder / "train.csv")
    test.drop(columns=data_set.target).to_csv(folder / "test.csv")
    return test[data_set.target]


def config(data_set: DataSet, seed: int) -> dict[str, Any]:
    """Return the stack: a small net and LightGBM, three meta-learners, a greedy vote over all."""
    is_regression = data_set.task == "regression"
    kind, output = ("Regressor", "prediction") if is_regression else ("Classifier", "proba")
    linear = "Ridge" if is_regression else "LogisticRegression"
    trees = {"n_estimators": 60, "learning_rate": 0.1, "num_leaves": 15, "min_child_samples": 20}
    boosting = {"estimator": f"lightgbm.LGBM{kind}", "params": {**trees, "verbose": -1}}
    net = {"net": "mlp", "params": {"hidden": [128, 64]}, "train": {"epochs": 20}}
    emitted = {"tap": "penultimate", "encode": ["geometry", "aligned"], "reduce": 16}
    predictions = f"base/*/{output}"
    return {
        "task": data_set.task,
        "metric": "rmse" if is_regression else "log_loss",
        "seed": seed,
        "data": {"train": "train.csv", "test": "test.csv", "id": "row", "target": data_set.target},
        "folds": {"n": 5, "seed": seed},
        "levels": {
            "base": {"mlp": {**net, "emit": [output, emitted]}, "gbm": boosting},
            "meta": {
                "linear": {"estimator": f"sklearn.linear_model.{linear}", "inputs": [predictions]},
                "trees": {**boosting, "inputs": [predictions]},
                "gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]},
            },
            "final": {"greedy": {"vote": "greedy", "inputs": [predictions, "meta/*"]}},
        },
        "executor": {"kind": "inline"},
    }


def loss(truth: pd.Series, written: pd.DataFrame, task: str) -> float:
    """Log-loss, or the root mean squared error in standard deviations of the target."""
    values = written.loc[truth.index]
    if task == "regression":
        residuals = values["prediction"].to_numpy() - truth.to_numpy()
        return float(np.sqrt(np.mean(residuals**2)) / truth.std())
    columns = {name: position for position, name in enumerate(values.columns)}
    places = np.array([columns[str(label)] for label in truth])
    return float(Task("multiclass", tuple(columns)).row_loss(places, values.to_numpy()).mean())


def table(name: str, losses: list[dict[tuple[str, str], float]]) -> list[str]:
    """Return a row for each member: mean losses, and the mean paired difference with its standard error."""
    lines = []
    for member in MEMBERS:
        fold, every = (np.array([found[member, mode] for found in losses]) for mode in MODES)
        gap = every - fold
        se = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else float("nan")
        cells = [
            name,
            member.replace(".", "/"),
            f"{fold.mean():.4f}",
            f"{every.mean():.4f}",
            f"{gap.mean():+.5f} ({se:.5f})",
            f"{int((gap < 0).sum())} of {len(gap)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
