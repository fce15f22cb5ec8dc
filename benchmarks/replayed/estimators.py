"""The scikit-learn classes on six small data sets.

In:  data made here, of two classes, several and values; numbers, and frames with categories and holes.
Out: entries of predictions, probabilities, features and what the classes learnt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine, make_classification
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import stackfeat as sf
from benchmarks.replayed.entries import Entries, flattened, of_array, of_json


@dataclass(frozen=True)
class Data:
    """Rows to fit and rows to predict."""

    X: Any
    y: np.ndarray
    new: Any

    @property
    def is_value(self) -> bool:
        return self.y.dtype.kind == "f"

    @property
    def n_classes(self) -> int:
        return len(np.unique(self.y))


def cut(X: Any, y: np.ndarray) -> Data:
    """Return 90 rows to fit and 30 others, of shuffled rows."""
    order = np.random.default_rng(3).permutation(len(y))
    train, new = order[:90], order[90:120]
    rows = (X.iloc[train], X.iloc[new]) if isinstance(X, pd.DataFrame) else (X[train], X[new])
    return Data(rows[0], y[train], rows[1])


def frame() -> tuple[pd.DataFrame, np.ndarray]:
    """Return categories, text, holes and whole numbers, and a signal."""
    rng = np.random.default_rng(11)
    colour, size = rng.choice(["red", "green", "blue"], 120), rng.normal(size=120)
    kind, count = rng.choice(["a", "b"], 120), rng.integers(0, 9, 120)
    signal = size + 0.9 * (colour == "red") - 0.1 * count + 0.4 * rng.normal(size=120)
    columns = {
        "size": pd.Series(size).mask(rng.random(120) < 0.1),
        "colour": pd.Categorical(pd.Series(colour).mask(rng.random(120) < 0.1)),
        "kind": pd.Categorical(kind),
        "count": count,
    }
    return pd.DataFrame(columns), signal


def imbalanced() -> Data:
    X, y = make_classification(
        120, 7, n_informative=4, n_classes=3, weights=[0.7, 0.2], random_state=5, n_clusters_per_class=1
    )
    return cut(X, np.array(["often", "rare", "seldom"])[y])


DATA: dict[str, Callable[[], Data]] = {
    "binary": lambda: cut(*load_breast_cancer(return_X_y=True)),
    "binary-frame": lambda: cut(frame()[0], np.where(frame()[1] > 0, "yes", "no")),
    "multiclass": lambda: cut(*load_wine(return_X_y=True)),
    "imbalanced": imbalanced,
    "values": lambda: cut(*load_diabetes(return_X_y=True)),
    "values-frame": lambda: cut(frame()[0], np.exp(frame()[1])),
}


def net(data: Data, **options: Any) -> Any:
    made = sf.NetRegressor if data.is_value else sf.NetClassifier
    given = {"epochs": 3, "batch_size": 32, "random_state": 0, **options}
    return made("mlp", net_params={"hidden": [8, 6]}, **given)


def scaled(estimator: Any) -> Any:
    """Return a pipeline that also reads frames."""
    text = (
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
        make_column_selector(dtype_exclude="number"),
    )
    numbers = (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number"))
    return make_pipeline(make_column_transformer(text, numbers), estimator)


def plain(data: Data, estimator: Any) -> Any:
    return (
        scaled(estimator) if isinstance(data.X, pd.DataFrame) else make_pipeline(StandardScaler(), estimator)
    )


def foreign(data: Data) -> list[tuple[str, Any]]:
    """Return trees, a linear model and neighbours."""
    trees = LGBMRegressor if data.is_value else LGBMClassifier
    near = KNeighborsRegressor if data.is_value else KNeighborsClassifier
    line = Ridge() if data.is_value else LogisticRegression(max_iter=2000)
    return [
        (
            "trees",
            trees(n_estimators=6, num_leaves=5, min_child_samples=5, n_jobs=1, verbose=-1, random_state=0),
        ),
        ("line", plain(data, line)),
        ("near", plain(data, near(7))),
    ]


def predictions(model: Any, new: Any) -> Entries:
    for name in ("predict", "predict_proba", "decision_function"):
        if hasattr(model, name):
            yield name, of_array(getattr(model, name)(new))


def under(prefix: str, entries: Entries) -> Entries:
    for name, entry in entries:
        yield f"{prefix}/{name}", entry


def nets(data: Data) -> Entries:
    """Nets, plain and with every option that changes the loop of training."""
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "early": {"patience": 1, "epochs": 5},
        "inner": {"patience": 1, "epochs": 4, "early_stopping": "inner"},
        "ema": {"ema": 0.9, "schedule": "onecycle", "warmup": 0.2},
        "seeds": {"seeds": 2, "scaling": "standard"},
    }
    if not data.is_value and not isinstance(data.X, pd.DataFrame):
        ways["mixup"] = {"mixup": 0.4}
    if not data.is_value:
        ways["smooth"] = {"label_smoothing": 0.1, "class_weight": "balanced"}
    for name, options in ways.items():
        model = net(data, **options).fit(data.X, data.y)
        yield from under(name, predictions(model, data.new))
    yield from under("embed", flattened("penultimate", model.embed(data.new)))
    weights = np.random.default_rng(0).uniform(0.2, 2, len(data.y))
    yield from under("weights", predictions(net(data).fit(data.X, data.y, sample_weight=weights), data.new))


def oof_features(data: Data) -> Entries:
    trees, line, near = (estimator for _, estimator in foreign(data))
    ways: dict[str, Any] = {
        "net": sf.OutOfFoldFeatures(net(data), cv=3),
        "first": sf.OutOfFoldFeatures(
            net(data), ["penultimate"], ["geometry", "aligned"], cv=3, views="first"
        ),
        "relative": sf.OutOfFoldFeatures(net(data), ["penultimate"], ["relative"], cv=3),
        "trees": sf.OutOfFoldFeatures(trees, cv=3),
        "line": sf.OutOfFoldFeatures(line, cv=4),
        "near": sf.OutOfFoldFeatures(near, "prediction", cv=3)
        if data.is_value
        else sf.OutOfFoldFeatures(near),
    }
    if not data.is_value:
        ways["decision"] = sf.OutOfFoldFeatures(plain(data, RidgeClassifier()), "decision", cv=3)
    for name, features in ways.items():
        yield f"{name}/fit_transform", of_array(features.fit_transform(data.X, data.y))
        yield f"{name}/transform", of_array(features.transform(data.new))
        yield from flattened(f"{name}/names", list(features.get_feature_names_out()))
        yield f"{name}/folds", of_array(features.folds_)
    yield "diagnostics", of_json(ways["net"].fit(data.X, data.y).diagnostics_)


def stacks(data: Data) -> Entries:
    """Stacks with and without nets, in every way to average."""
    made = sf.StackingRegressor if data.is_value else sf.StackingClassifier
    others = foreign(data)
    members = [*others[:2], ("net", net(data))]
    final = Ridge() if data.is_value else LogisticRegression(max_iter=2000)
    trees = others[0][1]
    word = "prediction" if data.is_value else "proba"
    taps = {"net": [word, "penultimate"]}
    passed = ["size", "count"] if isinstance(data.X, pd.DataFrame) else [0, 2]
    ways: dict[str, Any] = {
        "foreign": made(others, cv=3),
        "default": made(members, cv=3),
        "emit": made(members, final, cv=3, emit=taps, encode=["geometry", "aligned"]),
        "ungated": made(members, final, cv=3, emit=taps, encode="geometry", gate=False),
        "early": made(members, cv=3, averaging="early"),
        "refit": made(others, final, cv=3, averaging="refit"),
        "early-trees": made(members, trees, cv=3, averaging="early", emit=taps, encode={"net": "aligned"}),
        "late-trees": made(members, trees, cv=3, gate=False),
        "columns": made(others, trees, cv=3, passthrough=passed),
    }
    if not isinstance(data.X, pd.DataFrame):
        ways["passthrough"] = made(others, final, cv=3, passthrough=True)
        ways["passthrough-net"] = made(members, trees, cv=3, passthrough=True)
    if not data.is_value:
        ways["labels"] = made(others, final, cv=3, stack_method="predict")
        ways["decision"] = made([("ridge", plain(data, RidgeClassifier())), *others[:1]], cv=3)
        ways["ridge"] = made(members, RidgeClassifier(), cv=3)
    for name, model in ways.items():
        model.fit(data.X, data.y)
        yield from under(name, predictions(model, data.new))
        yield f"{name}/transform", of_array(model.transform(data.new))
        yield f"{name}/oof", of_array(model.oof_)
        if name in ("default", "emit", "foreign", "ridge"):
            for part in model.diagnostics_:
                yield f"{name}/diagnostics/{part}", of_json(model.diagnostics_[part])


class Constant(ClassifierMixin, BaseEstimator):
    """Gives the same probabilities for every row, so that votes are tied."""

    def __init__(self, favourite: int = 0) -> None:
        self.favourite = favourite

    def fit(self, X: Any, y: np.ndarray, sample_weight: Any = None) -> Constant:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        n_classes = len(self.classes_)
        shares = np.full(n_classes, 0.5 / n_classes)
        shares[self.favourite % n_classes] += 0.5
        return np.tile(shares, (len(X), 1))

    def predict(self, X: Any) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def votes(data: Data) -> Entries:
    """Votes of every kind, with weights, and ties in every way."""
    made = sf.VotingRegressor if data.is_value else sf.VotingClassifier
    others = foreign(data)
    # A net is among them, so that what reads frames and what trains is voted on too.
    members = [*others[:2], ("net", net(data, epochs=2))]
    folds: Any = KFold(3) if data.is_value else StratifiedKFold(3)
    ways: dict[str, Any] = {
        "soft": made(members, voting="soft"),
        "soft-weights": made(others, voting="soft", weights=[1, 3, 0.5]),
        "soft-fit": made(members, voting="soft", weights="fit", cv=folds),
    }
    if data.n_classes == 2 or data.is_value:
        ways["rank"] = made(others, voting="rank", cv=folds)
        ways["rank-fit"] = made(others, voting="rank", weights="fit", cv=folds)
    if not data.is_value:
        tied = [*others[:2], ("first", Constant(0)), ("last", Constant(1))]
        for tie in ("lowest", "soft", "prior"):
            ways[f"hard-{tie}"] = made(tied, tie=tie)
            ways[f"hard-{tie}-weights"] = made(tied, tie=tie, weights=[1, 1, 2, 2])
    row_weights = np.random.default_rng(1).uniform(0.1, 5, len(data.y))
    for name, model in ways.items():
        model.fit(data.X, data.y)
        yield from under(name, predictions(model, data.new))
        yield f"{name}/transform", of_array(model.transform(data.new))
        if hasattr(model, "fitted_weights_"):
            yield from flattened(f"{name}/fitted_weights", model.fitted_weights_)
    if not data.is_value and not isinstance(data.X, pd.DataFrame):
        tied = [("first", Constant(0)), ("last", Constant(1))]
        weighted = made(tied, tie="prior").fit(data.X, data.y, sample_weight=row_weights)
        yield from under("hard-prior-rows", predictions(weighted, data.new))


SECTIONS: dict[str, Callable[[Data], Entries]] = {
    "nets": nets,
    "features": oof_features,
    "stacks": stacks,
    "votes": votes,
}


def unit(section: str, name: str, _folder: Path) -> Entries:
    yield from SECTIONS[section](DATA[name]())


UNITS: dict[str, Callable[[Path], Entries]] = {
    f"sklearn-{section}/{name}": partial(unit, section, name) for section in SECTIONS for name in DATA
}
