"""Which defaults of training suit which number of rows, and how nets of defaults compare with scikit-learn's.

    python benchmarks/net_defaults.py choose FILE [--data DIR] [--sets iris,adult@1000] [--ways NAME,...]
    python benchmarks/net_defaults.py compare FILE [--data DIR] [--sets ...] [--repeats 5]
    python benchmarks/net_defaults.py show FILE

`choose` scores ways of training by repeated cross-validation inside training parts alone: the rows of
`data.parquet` or `data.npz` that are marked so, and three quarters of scikit-learn's own sets. `compare` scores
estimators without a parameter on all rows of scikit-learn's sets and on those training parts. A result is a
line of JSON in FILE; what stands there is not computed again, so that either can be ended at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn import datasets  # noqa: E402
from sklearn.base import BaseEstimator  # noqa: E402
from sklearn.compose import make_column_selector, make_column_transformer  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.metrics import accuracy_score, log_loss, r2_score  # noqa: E402
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold, train_test_split  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402

from stackfeat import NetClassifier, NetRegressor  # noqa: E402

BUILT_IN = ("iris", "wine", "breast_cancer", "digits", "diabetes")
TARGETS = {
    "titanic": "Survived",
    "student_grades": "G3",
    "taxi_fares": "fare",
    "california_housing": "median_house_value",
    "bike_sharing": "cnt",
    "higgs_small": "target",
    "adult": "income",
    "letter": "class",
    "kdd99": "target",
}
LEFT_OUT = {
    "titanic": ["PassengerId", "Name", "Ticket", "Cabin"],
    "student_grades": ["student", "G1", "G2"],
    "bike_sharing": ["dteday"],
}
VALUES = ("diabetes", "student_grades", "taxi_fares", "california_housing", "bike_sharing")
SMALL = (
    *("italy_power", "iris@100", "iris", "wine", "japanese_vowels", "diabetes", "breast_cancer"),
    *("student_grades@100", "higgs_small@300", "titanic@300", "california_housing@300", "student_grades"),
    *("titanic", "digits", "adult@1000", "bike_sharing@1000", "letter@2000", "california_housing@2000"),
)
LARGE = ("taxi_fares", "mfeat_multiview", "higgs_small", "bike_sharing", "letter", "adult", "kdd99@50000")
TRAINING_SHARE = 0.75


@dataclass(frozen=True)
class Data:
    """Rows that may be trained and scored on."""

    X: Any
    y: np.ndarray
    of_values: bool


def load(name: str, folder: Path, *, whole: bool) -> Data:
    """Return the training part of a set, ``name@n`` that of n rows; `whole`: all rows of a built-in one."""
    base, _, size = name.partition("@")
    of_values = base in VALUES
    if base in BUILT_IN:
        X, y = getattr(datasets, f"load_{base}")(return_X_y=True)
        if not whole:
            X, _, y, _ = train_test_split(
                X, y, train_size=TRAINING_SHARE, stratify=None if of_values else y, random_state=0
            )
    elif (folder / base / "data.npz").exists():
        held = np.load(folder / base / "data.npz")
        names = [key for key in held if key == "X" or key.startswith("x_")]
        train = ~held["is_test"]
        X = np.hstack([held[key].reshape(len(train), -1).astype(np.float32) for key in names])[train]
        y = held["y"][train]
    else:
        table = pd.read_parquet(folder / base / "data.parquet")
        table = table[table["split"] == "train"].drop(columns=["id", "split", *LEFT_OUT.get(base, [])])
        y = table.pop(TARGETS[base]).to_numpy()
        X = table
    if size:
        n = int(size)
        chosen, _ = (
            train_test_split(np.arange(len(y)), train_size=n, random_state=0)
            if n < len(y)
            else (
                np.arange(len(y)),
                None,
            )
        )
        X, y = (X.iloc[chosen] if hasattr(X, "iloc") else X[chosen]), y[chosen]
    if not of_values:
        common = np.isin(
            y, [label for label, n in zip(*np.unique(y, return_counts=True), strict=True) if n >= 10]
        )
        X, y = X[common], np.unique(y[common], return_inverse=True)[1]
    return Data(
        X.reset_index(drop=True) if hasattr(X, "iloc") else X, y.astype(float) if of_values else y, of_values
    )


def splits(data: Data, repeats: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    kind = RepeatedKFold if data.of_values else RepeatedStratifiedKFold
    parts = kind(n_splits=5, n_repeats=repeats, random_state=1).split(np.zeros(len(data.y)), data.y)
    for number, (train, held_out) in enumerate(parts):
        yield number, train, held_out


def scikit_learn(data: Data) -> BaseEstimator:
    """Return its MLP, with inputs scaled as its documentation asks for."""
    net = MLPRegressor(random_state=0) if data.of_values else MLPClassifier(random_state=0)
    if not hasattr(data.X, "iloc"):
        return make_pipeline(SimpleImputer(), StandardScaler(), net)
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
        sparse_threshold=0,
    )
    return make_pipeline(columns, net)


def ours(data: Data, **params: Any) -> BaseEstimator:
    kind = NetRegressor if data.of_values else NetClassifier
    return kind(random_state=0, device="cpu", **params)


def tenth(n_rows: int, least: int = 16, most: int = 256) -> int:
    return min(max(n_rows // 10, least), most)


def way(
    lr: float | Callable[[int], float], *, epochs: int = 60, floor: int = 0, least: int = 16, **params: Any
) -> Callable[[int], dict[str, Any]]:
    """Return what gives the parameters for a number of rows."""

    def chosen(n_rows: int) -> dict[str, Any]:
        size = tenth(n_rows, least)
        steps = max(1, round(n_rows / size))
        return {
            "batch_size": size,
            "epochs": max(epochs, -(-floor // steps)),
            "lr": lr if isinstance(lr, float) else lr(size),
            **params,
        }

    return chosen


def by_root(lr: float) -> Callable[[int], float]:
    return lambda size: lr * (size / 256) ** 0.5


SMALL_NET = {"net_params": {"hidden": [128]}}
WAYS: dict[str, Callable[[int], dict[str, Any]]] = {
    "before": lambda n_rows: {"batch_size": 256, "lr": 5e-3, "epochs": 60},
    "5e-3": way(5e-3),
    "root": way(by_root(5e-3)),
    "1e-3": way(1e-3),
    "root-30": way(by_root(5e-3), epochs=30),
    "root-100": way(by_root(5e-3), epochs=100),
    "root-p10": way(by_root(5e-3), patience=10),
    "root-floor1000": way(by_root(5e-3), floor=1000),
    "root-32": way(by_root(5e-3), least=32),
    "root-ema": way(by_root(5e-3), ema=0.99),
    "root-drop3": way(by_root(5e-3), net_params={"dropout": 0.3}),
    "root-smooth": way(by_root(5e-3), scaling="standard"),
    **{name: lambda n_rows, name=name: {"scaling": name} for name in ("quantile", "standard", "clipped")},
}


def score(model: BaseEstimator, data: Data, train: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    take = (lambda rows: data.X.iloc[rows]) if hasattr(data.X, "iloc") else (lambda rows: data.X[rows])
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(take(train), data.y[train])
        if data.of_values:
            scores = {"r2": r2_score(data.y[held_out], model.predict(take(held_out)))}
        else:
            proba = model.predict_proba(take(held_out))
            labels = np.arange(proba.shape[1])
            scores = {
                "accuracy": accuracy_score(data.y[held_out], proba.argmax(axis=1)),
                "log_loss": log_loss(data.y[held_out], proba, labels=labels),
            }
    return {**scores, "seconds": round(time.process_time() - started, 3)}


def run(args: argparse.Namespace, models: dict[str, Callable[[Data, int], BaseEstimator]]) -> None:
    file = Path(args.file)
    lines = file.read_text().splitlines() if file.exists() else []
    done = {(row["set"], row["model"], row["split"]) for row in map(json.loads, lines)}
    for name in args.sets:
        data = load(name, args.data, whole=args.command == "compare")
        for number, train, held_out in splits(data, args.repeats):
            for model, make in models.items():
                if (name, model, number) in done:
                    continue
                row = {"set": name, "model": model, "split": number, "n": len(data.y)}
                row |= score(make(data, len(train)), data, train, held_out)
                with file.open("a") as out:
                    out.write(json.dumps(row) + "\n")


def show(file: Path) -> None:
    """Print the mean of each score with the standard error of the mean of paired differences to the first model."""
    table = pd.DataFrame(map(json.loads, file.read_text().splitlines()))
    for score_name in ("log_loss", "accuracy", "r2"):
        if score_name not in table or table[score_name].isna().all():
            continue
        means = table.pivot_table(index=["n", "set"], columns="model", values=score_name, sort=False)
        means = means[[name for name in dict.fromkeys(table["model"]) if name in means]].dropna(axis=0)
        ranks = means.rank(axis=1, ascending=score_name == "log_loss")
        print(f"\n{score_name}\n{means.round(3).to_string()}\nmean rank\n{ranks.mean().round(2).to_string()}")
    seconds = table.pivot_table(index=["n", "set"], columns="model", values="seconds", sort=False)
    print(f"\nseconds a fit\n{seconds.round(2).to_string()}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["choose", "compare", "show"])
    parser.add_argument("file")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", type=lambda text: text.split(","), default=[*SMALL, *LARGE])
    parser.add_argument("--ways", type=lambda text: text.split(","), default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    if args.command == "show":
        show(Path(args.file))
    elif args.command == "compare":
        run(
            args,
            {"scikit-learn": lambda data, n: scikit_learn(data), "stackfeat": lambda data, n: ours(data)},
        )
    else:
        chosen = {name: WAYS[name] for name in args.ways}
        models = {name: lambda data, n, make=make: ours(data, **make(n)) for name, make in chosen.items()}
        run(args, {"scikit-learn": lambda data, n: scikit_learn(data), **models})


if __name__ == "__main__":
    main()
