"""Stacks of several targets beside LightGBM as scikit-learn fits it to several targets, on rows that no run saw.

In:  folders of finished runs of configs/yeast.yaml and configs/student_grades.yaml, and the data sets.
Out: a markdown table: out-of-fold and test scores, and how far the submission is ahead on test rows, with a paired
     standard error over rows, or over groups of them.

    python benchmarks/several_targets.py --data ../shared/data --runs configs/runs
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from ruamel.yaml import YAML
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain

Array = np.ndarray
N_DRAWS = 1000


def log_loss(y: Array, said: Array) -> float:
    right = np.where(y > 0, said, 1 - said)
    return float(-np.log(np.clip(right, 1e-15, None)).mean())


def arrmse(y: Array, said: Array) -> float:
    return float(np.sqrt(((y - said) ** 2).mean(axis=0) / y.var(axis=0)).mean())


def shares(model: Any, X: Any) -> Array:
    """Return the probability of each label, of a table or of a list with a table for each label."""
    said = model.predict_proba(X)
    return said if isinstance(said, np.ndarray) else np.column_stack([one[:, 1] for one in said])


def values(model: Any, X: Any) -> Array:
    return np.asarray(model.predict(X))


@dataclass(frozen=True)
class Table:
    """A data set: its metric, what scikit-learn has for it, and the number of trees of its bare baseline."""

    metric: Callable[[Array, Array], float]
    made: Any
    apart: Any
    chain: Any
    ask: Callable[[Any, Any], Array]
    bare_trees: int
    trees: tuple[int, ...]
    group: str | None = None


TABLES = {
    "yeast": Table(
        log_loss,
        lightgbm.LGBMClassifier,
        MultiOutputClassifier,
        ClassifierChain,
        shares,
        50,
        (50, 100),
    ),
    "student_grades": Table(
        arrmse,
        lightgbm.LGBMRegressor,
        MultiOutputRegressor,
        RegressorChain,
        values,
        200,
        (100, 200),
        "student",
    ),
}


def main() -> None:
    """Print the lines of every set."""
    parser = argparse.ArgumentParser(description="Stacks of several targets beside scikit-learn's.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("configs/runs"))
    parser.add_argument("--only", choices=TABLES)
    arguments = parser.parse_args()
    print("| set | model | OOF | test | submission ahead by (se) |")
    print("|---|---|---|---|---|")
    for name in [arguments.only] if arguments.only else TABLES:
        for line in measured(TABLES[name], arguments.data / name, arguments.runs / name):
            print(f"| {name} | {line} |", flush=True)


def measured(table: Table, source: Path, run: Path) -> list[str]:
    """Return the lines of one set: the submission first."""
    config = YAML(typ="safe", pure=True).load(run / "config.yaml")
    targets, params = config["data"]["target"], config["levels"]["base"]["gbm"]["params"]
    frame = pd.read_parquet(source / "data.parquet")
    train, test = (frame[frame["split"] == part].set_index("id") for part in ("train", "test"))
    columns = frame.drop(columns=["id", "split", *targets, *([table.group] if table.group else [])])
    wide = pd.get_dummies(columns, dtype=float).set_index(frame["id"])
    X, later, y = wide.loc[train.index].to_numpy(), wide.loc[test.index].to_numpy(), train[targets].to_numpy()
    folds = pd.read_csv(run / "folds.csv").query("repeat == 0").set_index("id")["fold"].loc[train.index]
    truth = (
        pd.read_parquet(source / "test_labels.parquet").set_index("id").loc[test.index, targets].to_numpy()
    )
    y, truth = y.astype(float), truth.astype(float)
    found = members(run, targets, train.index, test.index)
    small = {"n_jobs": 1, "verbosity": -1, "random_state": 0}
    bare = table.apart(table.made(n_estimators=table.bare_trees, **small))
    columns = columns.astype(dict.fromkeys(columns.select_dtypes("str"), "category"))
    columns = columns.set_index(frame["id"])
    said = table.ask(bare.fit(columns.loc[train.index], y), columns.loc[test.index])
    found[f"LightGBM, {table.bare_trees} trees, all rows"] = (None, said)
    for multi in (table.apart, table.chain):
        tried = {
            n: by_folds(
                multi(table.made(**{**params, "n_estimators": n}, **small)), table.ask, X, y, later, folds
            )
            for n in table.trees
        }
        best = min(tried, key=lambda n: table.metric(y, tried[n][0]))
        found[f"{multi.__name__}, {best} trees"] = tried[best]
    groups = test[table.group].to_numpy() if table.group else np.arange(len(test))
    ours = found["submission"][1]
    return [
        f"{name} | {'' if oof is None else f'{table.metric(y, oof):.4f}'} | {table.metric(truth, said):.4f} | "
        + ("" if name == "submission" else ahead(table.metric, truth, ours, said, groups))
        for name, (oof, said) in found.items()
    ]


def members(run: Path, targets: list[str], train: pd.Index, test: pd.Index) -> dict[str, tuple[Any, Array]]:
    """Return out-of-fold and test predictions of the submitted member and of the best single one, out of fold."""
    scores = json.loads((run / "scores.json").read_text())
    board = pd.read_csv(run / "leaderboard.csv")
    first = board[board["level"] == board["level"].iloc[-1]].iloc[0]
    best = f"{first['level']}/{first['member']}"

    def read(member: str, part: str, ids: pd.Index) -> Array:
        table = pd.read_csv(run / part / scores["members"][member]["file"]).set_index("id")
        return table.loc[ids, targets].to_numpy()

    names = {"submission": scores["submitted"], f"best single out of fold, {best}": best}
    return {name: (read(one, "oof", train), read(one, "test", test)) for name, one in names.items()}


def by_folds(
    model: Any, ask: Callable[[Any, Array], Array], X: Array, y: Array, later: Array, folds: pd.Series
) -> tuple[Array, Array]:
    """Return predictions out of fold, and the mean of the folds' models on test rows."""
    oof, views = np.empty(y.shape), []
    for fold in np.unique(folds):
        held = (folds == fold).to_numpy()
        model.fit(X[~held], y[~held])
        oof[held] = ask(model, X[held])
        views.append(ask(model, later))
    return oof, np.mean(views, axis=0)


def ahead(metric: Callable[[Array, Array], float], y: Array, ours: Array, other: Array, groups: Array) -> str:
    """Return how much less the first loses than the second, and its error over draws of whole groups."""
    rng = np.random.default_rng(0)
    places = [np.flatnonzero(groups == one) for one in np.unique(groups)]
    drawn = []
    for _ in range(N_DRAWS):
        rows = np.concatenate([places[i] for i in rng.integers(0, len(places), len(places))])
        drawn.append(metric(y[rows], other[rows]) - metric(y[rows], ours[rows]))
    return f"{metric(y, other) - metric(y, ours):+.4f} ({np.std(drawn, ddof=1):.4f})"


if __name__ == "__main__":
    main()
