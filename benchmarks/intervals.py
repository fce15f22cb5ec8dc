"""Intervals and class sets on rows that a run never saw, beside split conformal intervals of the same models.

In:  a folder of data sets, each with data.parquet (a column `split`, a target on its train rows).
Out: a markdown table: the share of fresh rows whose interval holds the target, in all and in each fifth by width (or
     in each class), and the mean width beside that of split conformal intervals: for each fold's models plus and
     minus one quantile of the absolute errors of their held-out rows. Means over splits, each drawn anew.

Every split is a line of a file, so that a run that was stopped goes on.

    python benchmarks/intervals.py --data ../shared/data --work work/intervals [--splits 20] [--only california]
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stackfeat import load_config, run

LEVEL = 0.9
N_TRAIN, N_TEST = 5000, 3000
FEWEST_TEST = 1200
N_COLUMNS = 8
N_FIFTHS = 5


@dataclass(frozen=True)
class Table:
    """A table of the data folder, and its target."""

    folder: str
    task: str
    target: str


NOISES: dict[str, Callable[[pd.DataFrame, np.random.Generator], np.ndarray]] = {
    "equal": lambda X, rng: rng.normal(size=len(X)),
    "growing": lambda X, rng: rng.normal(size=len(X)) * np.exp(0.8 * X["x4"]),
    "skewed": lambda X, rng: rng.exponential(size=len(X)) - 1,
}
TABLES = {
    "california": Table("california_housing", "regression", "median_house_value"),
    "taxi_fares": Table("taxi_fares", "regression", "fare"),
    "adult": Table("adult", "binary", "income"),
    "higgs_small": Table("higgs_small", "binary", "target"),
    "letter": Table("letter", "multiclass", "class"),
}
SETS = ("california", "taxi_fares", *NOISES, "adult", "higgs_small", "letter")


@dataclass(frozen=True)
class Found:
    """What one split gave.

    Attributes
    ----------
    coverage : float
        Of fresh rows.
    parts : list of float
        In each fifth by width, or in each class; NaN for classes without a fresh row.
    size : float
        Mean width, or classes in a set.
    compared : float
        Mean width over that of split conformal; 0 for classes.
    out_of_fold : float
        The coverage that the run measured.
    cpu : float
        Seconds of the run.
    """

    name: str
    split: int
    coverage: float
    parts: list[float]
    size: float
    compared: float
    out_of_fold: float
    cpu: float


def main() -> None:
    """Run what is missing, and print the table of what is there."""
    parser = argparse.ArgumentParser(description="Measure intervals and class sets on fresh rows.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("work/intervals"), help="where runs are written")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--only", action="append", help="a set; repeatable")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    lines = arguments.work / "found.jsonl"
    done = [Found(**json.loads(line)) for line in lines.read_text().splitlines()] if lines.exists() else []
    names = [name for name in SETS if not arguments.only or name in arguments.only]
    for split in range(arguments.splits):
        for name in names:
            if not any((found.name, found.split) == (name, split) for found in done):
                done.append(one_split(name, split, arguments))
                with lines.open("a") as file:
                    file.write(f"{json.dumps(asdict(done[-1]))}\n")
    print("\n".join(table([found for found in done if found.split < arguments.splits], names)))


def one_split(name: str, split: int, arguments: argparse.Namespace) -> Found:
    """Draw rows, run a small stack once, and look where fresh targets lie."""
    folder = arguments.work / f"{name}-{split}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    task, train, test = drawn(name, split, arguments.data)
    train.to_csv(folder / "train.csv", index_label="row")
    (folder / "config.yaml").write_text(json.dumps(config(task, split)))
    started = time.process_time()
    result = run(load_config(folder / "config.yaml"))
    cpu = time.process_time() - started
    assert result.interval is not None
    region = result.predictor.interval(test.drop(columns="y"), LEVEL)
    if task == "regression":
        held, size, parts, compared = of_values(region, train, test, result)
    else:
        held, size, parts, compared = of_classes(region, test, result.predictor.classes_)
    shutil.rmtree(folder)
    return Found(name, split, float(held.mean()), parts, size, compared, result.interval.coverage, cpu)


def drawn(name: str, split: int, data: Path) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """Return the task, and rows to train on and fresh ones, with the target as column `y`."""
    rng = np.random.default_rng(split)
    if name in NOISES:
        X = pd.DataFrame(rng.normal(size=(N_TRAIN + N_TEST, N_COLUMNS))).add_prefix("x")
        signal = 2 * np.sin(2 * X["x0"]) + X["x1"] * X["x2"] + X["x3"].abs()
        rows, task = X.assign(y=signal + NOISES[name](X, rng)), "regression"
    else:
        table = TABLES[name]
        rows = pd.read_parquet(data / table.folder / "data.parquet")
        rows = (
            rows[rows["split"] == "train"].drop(columns=["split", "id"]).rename(columns={table.target: "y"})
        )
        rows, task = rows.iloc[rng.permutation(len(rows))].reset_index(drop=True), table.task
    n_train = min(N_TRAIN, len(rows) - FEWEST_TEST)
    return task, rows[:n_train], rows[n_train : n_train + N_TEST]


def config(task: str, seed: int) -> dict[str, Any]:
    """Return the stack: boosted trees of many and of few leaves, and a greedy vote over both."""
    kind, n_rounds = ("Regressor", 120) if task == "regression" else ("Classifier", 40)
    params = {"n_estimators": n_rounds, "learning_rate": 0.08, "verbose": -1}
    base = {
        f"leaves{n}": {"estimator": f"lightgbm.LGBM{kind}", "params": {**params, "num_leaves": n}}
        for n in (31, 6)
    }
    return {
        "task": task,
        "metric": "rmse" if task == "regression" else "log_loss",
        "seed": seed,
        "interval": LEVEL,
        "data": {"train": "train.csv", "id": "row", "target": "y"},
        "folds": {"n": 5, "seed": seed},
        "levels": {"base": base, "final": {"vote": {"vote": "greedy", "inputs": ["base/*/*"]}}},
        "submit": "vote",
        "executor": {"kind": "inline"},
    }


def of_values(
    region: np.ndarray, train: pd.DataFrame, test: pd.DataFrame, result: Any
) -> tuple[np.ndarray, float, list[float], float]:
    """Return which targets intervals hold, their mean width, the share in each fifth, and the ratio of widths."""
    y, width = test["y"].to_numpy(), region[:, 1] - region[:, 0]
    held = (region[:, 0] <= y) & (y <= region[:, 1])
    fifths = np.array_split(np.argsort(width, kind="stable"), N_FIFTHS)
    error = np.abs(result.oof[result.submitted].to_numpy() - train["y"].to_numpy())
    fold = pd.read_csv(result.folder / "folds.csv").set_index("id")["fold"].loc[train.index].to_numpy()
    quantiles = [
        np.sort(own)[int(np.ceil((len(own) + 1) * LEVEL)) - 1] for own in (error[fold == k] for k in range(5))
    ]
    compared = width.mean() / (2 * np.mean(quantiles))
    return held, float(width.mean()), [float(held[part].mean()) for part in fifths], float(compared)


def of_classes(
    region: np.ndarray, test: pd.DataFrame, classes: np.ndarray
) -> tuple[np.ndarray, float, list[float], float]:
    """Return which labels sets hold, the mean number of classes, and the share in each class."""
    code = pd.Index(classes).get_indexer(test["y"])
    held = region[np.arange(len(code)), code]
    parts = [
        float(held[code == one].mean()) if (code == one).any() else float("nan")
        for one in range(len(classes))
    ]
    return held, float(region.sum(axis=1).mean()), parts, 0.0


def table(found: list[Found], names: list[str]) -> list[str]:
    """Return a row for each set."""
    lines = [
        "| set | draws | coverage % (se) | out of fold % | parts % | mean size | against split |",
        "|---" * 7 + "|",
    ]
    for name in names:
        own = [one for one in found if one.name == name]
        if not own:
            continue
        coverage = 100 * np.array([one.coverage for one in own])
        parts = 100 * np.nanmean([one.parts for one in own], axis=0)
        se = coverage.std(ddof=1) / np.sqrt(len(own)) if len(own) > 1 else float("nan")
        compared = np.mean([one.compared for one in own])
        cells = [
            name,
            str(len(own)),
            f"{coverage.mean():.1f} ({se:.1f})",
            f"{100 * np.mean([one.out_of_fold for one in own]):.1f}",
            f"{parts.min():.1f}" if len(parts) > N_FIFTHS else " ".join(f"{part:.1f}" for part in parts),
            f"{np.mean([one.size for one in own]):.4g}",
            f"{compared:.3f}" if compared else "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, f"<!-- {sum(one.cpu for one in found):.0f} s of CPU in runs -->"]


if __name__ == "__main__":
    main()
