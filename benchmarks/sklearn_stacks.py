"""Stacks with hidden layers against scikit-learn's stack of the same estimators, on test loss.

Usage: python benchmarks/sklearn_stacks.py [--data ../shared/data] [--seeds 5] [--rows 8000] [--out FILE]

In:  a folder of data sets, each NAME/data.parquet: letter (26 classes) and california_housing (numeric
     columns); their labelled rows are split anew for every seed.
Out: a line for each data set, seed and stack (log-loss, or RMSE), then means with standard errors of the
     paired difference.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn import ensemble
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import stackfeat as sf

TEST_SHARE = 0.3
TARGETS = {"letter": "class", "california_housing": "median_house_value"}


def letter_stacks(seed: int) -> dict[str, Any]:
    """Return ours and scikit-learn's stack of one net, boosting and a linear model."""
    members = [
        ("net", sf.NetClassifier(net_params={"hidden": [256, 128]}, epochs=30, random_state=seed)),
        ("gbm", LGBMClassifier(n_estimators=150, random_state=seed, n_jobs=1, verbosity=-1)),
        ("line", make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))),
    ]
    cv = StratifiedKFold(5, shuffle=True, random_state=seed)
    final = LogisticRegression(max_iter=1000)
    return {
        "stackfeat": sf.StackingClassifier(members, cv=cv),
        "stackfeat, same final": sf.StackingClassifier(members, final, cv=cv),
        "stackfeat, same final, no layer": sf.StackingClassifier(members, final, cv=cv, emit="proba"),
        "scikit-learn": ensemble.StackingClassifier(members, final, cv=cv),
    }


def california_stacks(seed: int) -> dict[str, Any]:
    """Return the same for values."""
    members = [
        ("net", sf.NetRegressor(net_params={"hidden": [256, 128]}, epochs=40, random_state=seed)),
        ("gbm", LGBMRegressor(n_estimators=300, random_state=seed, n_jobs=1, verbosity=-1)),
        ("line", make_pipeline(SimpleImputer(), StandardScaler(), RidgeCV())),
    ]
    cv = KFold(5, shuffle=True, random_state=seed)
    return {
        "stackfeat": sf.StackingRegressor(members, cv=cv),
        "stackfeat, same final": sf.StackingRegressor(members, RidgeCV(), cv=cv),
        "stackfeat, same final, no layer": sf.StackingRegressor(members, RidgeCV(), cv=cv, emit="prediction"),
        "scikit-learn": ensemble.StackingRegressor(members, RidgeCV(), cv=cv),
    }


def load(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return X (numeric columns) and y of the labelled rows of a data set."""
    frame = pd.read_parquet(folder / name / "data.parquet")
    frame = frame[frame["split"] == "train"]
    target = TARGETS[name]
    numeric = frame.drop(columns=["id", "split", target]).select_dtypes("number")
    return numeric.to_numpy(dtype=np.float64), frame[target].to_numpy()


def results(name: str, X: np.ndarray, y: np.ndarray, n_seeds: int, n_rows: int) -> Iterator[dict[str, Any]]:
    """Fit every stack for every seed; the same split for all."""
    for seed in range(n_seeds):
        stratify = y if name == "letter" else None
        kept = np.random.default_rng(seed).permutation(len(X))[:n_rows]
        split = train_test_split(
            X[kept],
            y[kept],
            test_size=TEST_SHARE,
            random_state=seed,
            stratify=None if stratify is None else y[kept],
        )
        X_train, X_test, y_train, y_test = split
        for label, stack in (letter_stacks if name == "letter" else california_stacks)(seed).items():
            stack.fit(X_train, y_train)
            if name == "letter":
                loss = log_loss(y_test, stack.predict_proba(X_test), labels=stack.classes_)
            else:
                loss = root_mean_squared_error(y_test, stack.predict(X_test))
            yield {"data": name, "seed": seed, "stack": label, "loss": float(loss)}


def summary(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return mean losses and the paired difference to scikit-learn's, with its standard error over seeds."""
    table = pd.DataFrame(rows).pivot_table(index=["data", "seed"], columns="stack", values="loss")
    gains = table.rsub(table["scikit-learn"], axis=0)
    grouped = gains.groupby("data")
    n_seeds = grouped.size().iloc[0]
    return pd.concat(
        {
            "loss": table.groupby("data").mean(),
            "gain": grouped.mean(),
            "se": grouped.std() / np.sqrt(n_seeds),
        },
        axis=1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--only", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.only:
        X, y = load(name, arguments.data)
        for row in results(name, X, y, arguments.seeds, arguments.rows):
            print(json.dumps(row), flush=True)
            rows.append(row)
    print(summary(rows).round(5).to_string())
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1), "utf-8")


if __name__ == "__main__":
    main()
