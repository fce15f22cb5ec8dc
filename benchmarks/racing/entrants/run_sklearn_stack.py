"""scikit-learn's stack of a net, boosting, extra trees and a linear model in five folds, under a linear model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    StackingClassifier,
    StackingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

RAREST = 10
"""Levels of fewer rows share one column."""


def main() -> None:
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    train, test = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "test.csv")
    y = train.pop(job["target"])
    ids = test["id"]
    X, held_out = (rows.drop(columns="id") for rows in (train, test))
    if job["time"] is not None:
        X, held_out = (in_days(rows, job["time"]) for rows in (X, held_out))
    model = (regressor if job["task"] == "regression" else classifier)(X, job)
    model.fit(X, y)
    if job["task"] == "regression":
        predicted = pd.DataFrame({"prediction": model.predict(held_out)})
    else:
        proba = model.predict_proba(held_out)
        predicted = pd.DataFrame(proba, columns=model.classes_)
        if job["task"] == "binary":
            predicted = pd.DataFrame({"prediction": proba[:, 1]})
    predicted.insert(0, "id", ids)
    predicted.to_csv(folder / "predictions.csv", index=False)


def in_days(rows: pd.DataFrame, time: str) -> pd.DataFrame:
    return rows.assign(**{time: pd.to_datetime(rows[time]).astype("int64") / 8.64e13})


def prepared(X: pd.DataFrame, learner: Any) -> Any:
    """Numbers imputed and standardised, texts as columns of 0 and 1, then the learner."""
    numbers = list(X.select_dtypes("number"))
    texts = [name for name in X if name not in numbers]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (OneHotEncoder(min_frequency=RAREST, handle_unknown="infrequent_if_exist"), texts),
    )
    return make_pipeline(columns, learner)


def classifier(X: pd.DataFrame, job: dict[str, Any]) -> StackingClassifier:
    seed, cores = job["seed"], job["cores"]
    members = {
        "net": MLPClassifier((256, 256), early_stopping=True, random_state=seed),
        "boosting": LGBMClassifier(n_estimators=200, n_jobs=cores, random_state=seed, verbosity=-1),
        "trees": ExtraTreesClassifier(200, n_jobs=cores, random_state=seed),
        "linear": LogisticRegression(max_iter=500),
    }
    pairs = [(name, prepared(X, member)) for name, member in members.items()]
    return StackingClassifier(pairs, LogisticRegression(max_iter=1000), cv=5)


def regressor(X: pd.DataFrame, job: dict[str, Any]) -> StackingRegressor:
    seed, cores = job["seed"], job["cores"]
    members = {
        "net": MLPRegressor(hidden_layer_sizes=(256, 256), early_stopping=True, random_state=seed),
        "boosting": LGBMRegressor(n_estimators=200, n_jobs=cores, random_state=seed, verbosity=-1),
        "trees": ExtraTreesRegressor(200, n_jobs=cores, random_state=seed),
        "linear": RidgeCV(),
    }
    pairs = [(name, prepared(X, member)) for name, member in members.items()]
    return StackingRegressor(pairs, RidgeCV(), cv=5)


if __name__ == "__main__":
    main()
