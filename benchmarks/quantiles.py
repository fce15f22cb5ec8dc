"""Quantiles of a stack beside those of its members, on rows that no run saw.

In:  a folder of data sets, each with data.parquet (a column `split`) and test_labels.parquet.
Out: a markdown table: pinball loss of what was submitted, of the best member of the first level on these rows and of
     the best of all; paired differences; the share of targets between the outer quantiles. Rivals on the same folds:
     benchmarks/tasks.py --runs.

    python benchmarks/quantiles.py --data ../shared/data --work work/quantiles [--only taxi_fares] [--rows 6000]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stackfeat import load_config, run

LEVELS = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Table:
    """A data set, its target, the column that orders its rows in time, and the one whose rows stay together."""

    target: str
    time: str | None = None
    drop: tuple[str, ...] = ()
    group: str | None = None
    source: str | None = None
    transform: str = "none"

    @property
    def kind(self) -> str:
        """Of folds."""
        return "time" if self.time else "group" if self.group else "kfold"


GRADES = ("G1", "G2", "G3")
TABLES = {
    "taxi_fares": Table("fare"),
    "california_housing": Table("median_house_value"),
    "bike_sharing": Table("cnt", "dteday"),
    # Of hours as many as there are more rentals: so far off are they, too.
    "bike_sharing_log1p": Table("cnt", "dteday", source="bike_sharing", transform="log1p"),
    # As `init` writes these two: their targets have a long tail.
    "taxi_fares_log1p": Table("fare", source="taxi_fares", transform="log1p"),
    "titanic_fare_log1p": Table(
        "Fare",
        drop=("Survived", "PassengerId", "Name", "Ticket", "Cabin"),
        source="titanic",
        transform="log1p",
    ),
    **{
        f"student_{name}": Table(
            name, drop=tuple(set(GRADES) - {name}), group="student", source="student_grades"
        )
        for name in GRADES
    },
    # Features as targets.
    "adult_age": Table("age", drop=("income",), source="adult"),
    "titanic_fare": Table(
        "Fare", drop=("Survived", "PassengerId", "Name", "Ticket", "Cabin"), source="titanic"
    ),
}


def main() -> None:
    """Run every set, and print what came of it."""
    parser = argparse.ArgumentParser(description="Quantiles of a stack beside those of its members.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("work/quantiles"))
    parser.add_argument("--only", choices=TABLES, action="append")
    parser.add_argument("--calibrate", default="auto", help="of all members above the first level")
    parser.add_argument("--rows", type=int, default=6_000, help="training rows at most")
    arguments = parser.parse_args()
    print(
        "| set | rows train / test | submitted | pinball | best single | ahead by (se) | best member | ahead by (se) "
        "| coverage OOF % | coverage test % (se) |"
    )
    print("|---" * 10 + "|")
    for name in arguments.only or TABLES:
        source = arguments.data / (TABLES[name].source or name)
        train, test, y = prepared(TABLES[name], source, arguments.rows)
        folder = finished(TABLES[name], train, test, arguments.work / name, arguments.calibrate)
        print(line(name, folder, train, test, y), flush=True)


def prepared(table: Table, source: Path, most: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Return training rows, test rows without their targets, and these."""
    frame, target = pd.read_parquet(source / "data.parquet").drop(columns=list(table.drop)), table.target
    labels = pd.read_parquet(source / "test_labels.parquet").set_index("id")
    train, test = (frame[frame["split"] == part].drop(columns="split") for part in ("train", "test"))
    train = train[train[target].notna()]
    # In time the newest rows; else any.
    train = (
        train.tail(most) if table.time else train.sample(min(most, len(train)), random_state=0).sort_index()
    )
    y = labels[target] if target in labels else test.set_index("id")[target].dropna()
    test = test[test["id"].isin(y.index)].drop(columns=target)
    return train, test, y.loc[test["id"]].astype(float)


def finished(
    table: Table, train: pd.DataFrame, test: pd.DataFrame, folder: Path, calibrate: str = "auto"
) -> Path:
    """Run a stack, unless it was run before, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    train.to_parquet(folder / "train.parquet")
    test.to_parquet(folder / "test.parquet")
    path = folder / f"{calibrate}.yaml"
    path.write_text(json.dumps(config(table, calibrate)))
    return run(load_config(path)).folder


def line(name: str, folder: Path, train: pd.DataFrame, test: pd.DataFrame, y: pd.Series) -> str:
    """Return what the test rows say of a finished run."""
    table, scores = TABLES[name], json.loads((folder / "scores.json").read_text())
    said = {
        member: pd.read_csv(folder / "test" / one["file"]).to_numpy()[:, 1:].astype(float)
        for member, one in scores["members"].items()
    }
    units = test[table.group].to_numpy() if table.group else np.arange(len(test))
    losses = {member: pinball(y.to_numpy(), one) for member, one in said.items()}
    submitted = scores["submitted"]
    own = losses[submitted]
    single, best = (
        min(names, key=lambda member: losses[member].mean())
        for names in ([one for one in losses if one.startswith("base/")], losses)
    )
    held = inside(y.to_numpy(), said[submitted])
    oof = pd.read_csv(folder / "oof" / scores["members"][submitted]["file"]).set_index("id").dropna()
    known = train.set_index("id")[table.target].loc[oof.index].to_numpy(dtype=float)
    ahead = [
        f"{one} {losses[one].mean():.4g} | {(losses[one] - own).mean():+.3g} ({se(losses[one] - own, units):.2g})"
        for one in (single, best)
    ]
    return (
        f"| {name} | {len(train):,} / {len(test):,} | {submitted} | {own.mean():.4g} ({se(own, units):.2g}) | "
        f"{' | '.join(ahead)} | {100 * inside(known, oof.to_numpy()).mean():.1f} | "
        f"{100 * held.mean():.1f} ({100 * se(held, units):.1f}) |"
    )


def config(table: Table, calibrate: str) -> dict[str, Any]:
    """Return the config of a stack of two nets, two kinds of boosting and a linear model."""
    boosting = {"subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.7}
    reads, everything = ["base/*/prediction"], ["base/*/prediction", "meta/*/prediction"]
    trees = {
        "vote": "soft",
        "inputs": ["base/gbm/prediction", "base/hist/prediction"],
        "calibrate": calibrate,
    }
    hist = {"learning_rate": 0.06, "max_leaf_nodes": 15}
    linear = {"estimator": "sklearn.linear_model.QuantileRegressor", "params": {"alpha": 0.001}}
    return {
        "name": calibrate,
        "task": "quantile",
        "metric": "pinball",
        "quantiles": LEVELS,
        "interval": 0.8,
        "data": {
            "train": "train.parquet",
            "test": "test.parquet",
            "id": "id",
            "target": table.target,
            "target_transform": table.transform,
            **({"time": table.time} if table.time else {}),
            **({"group": table.group} if table.group else {}),
        },
        "folds": {"kind": table.kind, "n": 5},
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
            "meta": {"gated": {"estimator": "gated_linear", "inputs": ["base/*/*"], "calibrate": calibrate}},
            "final": {
                "soft": {"vote": "soft", "inputs": reads, "calibrate": calibrate},
                "weighted": {"vote": "weighted", "inputs": everything, "calibrate": calibrate},
                "greedy": {"vote": "greedy", "inputs": everything, "calibrate": calibrate},
                # In time a level above others has few stretches to learn from.
                **({"trees": trees} if table.time else {}),
            },
        },
        "executor": {"kind": "loky", "jobs": 2},
    }


def pinball(y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    left, levels = y[:, None] - prediction, np.array(LEVELS)
    return np.asarray(np.maximum(levels * left, (levels - 1) * left).mean(axis=1))


def inside(y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return which targets lie between the outer quantiles, as float64 (n_rows,)."""
    return ((prediction[:, 0] <= y) & (y <= prediction[:, -1])).astype(float)


def se(values: np.ndarray, units: np.ndarray) -> float:
    """Return the standard error of a mean over rows, of which those of one unit belong together."""
    sums = np.bincount(np.unique(units, return_inverse=True)[1], weights=values - values.mean())
    return float(np.sqrt(len(sums) / (len(sums) - 1) * (sums @ sums)) / len(values))


if __name__ == "__main__":
    main()
