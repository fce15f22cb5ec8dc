"""Quantiles of a stack beside those of its members, on rows that no run saw.

In:  a folder of data sets, each with data.parquet (a column `split`) and test_labels.parquet.
Out: a markdown table: pinball loss of what was submitted, of the best member of the first level on these rows, and of
     LightGBM with 200 trees a quantile; the paired difference; the share of targets between the outer quantiles.

    python benchmarks/quantiles.py --data ../shared/data --work work/quantiles [--only taxi_fares] [--rows 6000]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd

from stackfeat import load_config, run

LEVELS = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Table:
    """A data set, its target, and the column that orders its rows in time."""

    target: str
    time: str | None = None
    drop: tuple[str, ...] = ()


TABLES = {
    "taxi_fares": Table("fare"),
    "california_housing": Table("median_house_value"),
    "bike_sharing": Table("cnt", "dteday"),
}


def main() -> None:
    """Run every set, and print what came of it."""
    parser = argparse.ArgumentParser(description="Quantiles of a stack beside those of its members.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("work/quantiles"))
    parser.add_argument("--only", choices=TABLES)
    parser.add_argument("--rows", type=int, default=6_000, help="training rows at most")
    arguments = parser.parse_args()
    print(
        "| set | rows train / test | submitted | pinball | best single | ahead by (se) | 200 trees | coverage % |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in [arguments.only] if arguments.only else TABLES:
        print(measured(name, arguments.data / name, arguments.work / name, arguments.rows), flush=True)


def measured(name: str, source: Path, folder: Path, most: int) -> str:
    """Run a stack on one set and return its line."""
    table = TABLES[name]
    frame = pd.read_parquet(source / "data.parquet")
    train, test = (frame[frame["split"] == part].drop(columns="split") for part in ("train", "test"))
    # In time the newest rows; else any.
    train = (
        train.tail(most) if table.time else train.sample(min(most, len(train)), random_state=0).sort_index()
    )
    folder.mkdir(parents=True, exist_ok=True)
    train.to_parquet(folder / "train.parquet")
    test.drop(columns=table.target).to_parquet(folder / "test.parquet")
    path = folder / "config.yaml"
    path.write_text(json.dumps(config(table)))
    result = run(load_config(path))
    y = (
        pd.read_parquet(source / "test_labels.parquet")
        .set_index("id")[table.target]
        .loc[test["id"]]
        .to_numpy()
    )
    said = {
        file.stem: pd.read_csv(file).to_numpy()[:, 1:].astype(float)
        for file in [*(result.folder / "test").glob("base.*.csv"), result.folder / "submission.csv"]
    }
    losses = {member: pinball(y, one) for member, one in said.items()}
    own = losses.pop("submission")
    best = min(losses, key=lambda member: losses[member].mean())
    ahead = losses[best] - own
    covered = float(np.mean((said["submission"][:, 0] <= y) & (y <= said["submission"][:, -1])))
    trees = pinball(y, boosted(train, test, table)).mean()
    submitted = json.loads((result.folder / "scores.json").read_text())["submitted"]
    return (
        f"| {name} | {len(train):,} / {len(test):,} | {submitted} | {own.mean():.4g} ({se(own):.2g}) | "
        f"{best.removeprefix('base.')} {losses[best].mean():.4g} | {ahead.mean():+.3g} ({se(ahead):.2g}) | "
        f"{trees:.4g} | {100 * covered:.1f} |"
    )


def config(table: Table) -> dict[str, Any]:
    """Return the config of a stack of two nets, two kinds of boosting and a linear model."""
    boosting = {"subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.7}
    reads, everything = ["base/*/prediction"], ["base/*/prediction", "meta/*/prediction"]
    hist = {"learning_rate": 0.06, "max_leaf_nodes": 15}
    linear = {"estimator": "sklearn.linear_model.QuantileRegressor", "params": {"alpha": 0.001}}
    return {
        "task": "quantile",
        "metric": "pinball",
        "quantiles": LEVELS,
        "interval": 0.8,
        "data": {
            "train": "train.parquet",
            "test": "test.parquet",
            "id": "id",
            "target": table.target,
            "drop": list(table.drop),
            **({"time": table.time} if table.time else {}),
        },
        "folds": {"kind": "time" if table.time else "kfold", "n": 5},
        # As first configs have it for rows in time.
        **({"stack": {"averaging": "refit"}} if table.time else {}),
        "levels": {
            "base": {
                "mlp": {
                    "net": "mlp",
                    "params": {"hidden": [128, 64], "dropout": 0.1},
                    "train": {"epochs": 40, "batch_size": 128, "lr": 0.004},
                    "emit": ["prediction", *([] if table.time else ["penultimate"])],
                },
                "gbm": {
                    "estimator": "lightgbm.LGBMRegressor",
                    "params": {"learning_rate": 0.04, "num_leaves": 15, **boosting},
                },
                "hist": {"estimator": "sklearn.ensemble.HistGradientBoostingRegressor", "params": hist},
                "linear": linear,
            },
            "meta": {"gated": {"estimator": "gated_linear", "inputs": ["base/*/*"], "calibrate": "auto"}},
            "final": {
                "soft": {"vote": "soft", "inputs": reads, "calibrate": "auto"},
                "weighted": {"vote": "weighted", "inputs": everything, "calibrate": "auto"},
                "greedy": {"vote": "greedy", "inputs": everything, "calibrate": "auto"},
            },
        },
        "executor": {"kind": "loky", "jobs": 1},
    }


def boosted(train: pd.DataFrame, test: pd.DataFrame, table: Table) -> np.ndarray:
    """Return what LightGBM with 200 trees a quantile says, nothing tuned."""
    columns = [name for name in train if name not in ("id", table.target, table.time)]
    both = pd.concat([train[columns], test[columns]])
    both = both.astype(
        {name: "category" for name in columns if not pd.api.types.is_numeric_dtype(both[name])}
    )
    X, later, y = both.iloc[: len(train)], both.iloc[len(train) :], train[table.target]
    made = [
        lightgbm.LGBMRegressor(objective="quantile", alpha=one, n_estimators=200, n_jobs=1, verbosity=-1)
        for one in LEVELS
    ]
    return np.column_stack([one.fit(X, y).predict(later) for one in made])


def pinball(y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    left, levels = y[:, None] - prediction, np.array(LEVELS)
    return np.asarray(np.maximum(levels * left, (levels - 1) * left).mean(axis=1))


def se(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


if __name__ == "__main__":
    main()
