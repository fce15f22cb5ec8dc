"""Plain LightGBM: its own defaults, or rounds chosen on an inner fifth (the last rows in time) and then all rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

LEARNING_RATE, MOST_ROUNDS, PATIENCE = 0.05, 3000, 50


def main() -> None:
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    train, test = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "test.csv")
    y = train.pop(job["target"])
    X, held_out = coded(train, test, job["time"])
    learner = getattr(lightgbm, "LGBMRegressor" if job["task"] == "regression" else "LGBMClassifier")
    given: dict[str, Any] = {"n_jobs": job["cores"], "random_state": job["seed"], "verbosity": -1}
    if job["preset"] == "stopped":
        given |= {"learning_rate": LEARNING_RATE}
        given["n_estimators"] = best_rounds(learner, given, X, y, job)
    model = learner(**given).fit(X, y)
    if job["task"] == "regression":
        predicted = pd.DataFrame({"prediction": model.predict(held_out)})
    else:
        proba = model.predict_proba(held_out)
        predicted = pd.DataFrame(proba, columns=model.classes_)
        if job["task"] == "binary":
            predicted = pd.DataFrame({"prediction": proba[:, 1]})
    predicted.insert(0, "id", test["id"])
    predicted.to_csv(folder / "predictions.csv", index=False)
    (folder / "notes.json").write_text(json.dumps({"rounds": model.n_estimators_}))


def coded(train: pd.DataFrame, test: pd.DataFrame, time: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return features with texts as categories of the training rows, and the time as days."""
    both = [rows.drop(columns="id") for rows in (train, test)]
    if time is not None:
        both = [rows.assign(**{time: pd.to_datetime(rows[time]).astype("int64") / 8.64e13}) for rows in both]
    for name in both[0].select_dtypes(exclude="number"):
        levels = pd.CategoricalDtype(sorted(both[0][name].dropna().unique()))
        both = [rows.assign(**{name: rows[name].astype(levels)}) for rows in both]
    return both[0], both[1]


def best_rounds(
    learner: Any, given: dict[str, Any], X: pd.DataFrame, y: pd.Series, job: dict[str, Any]
) -> int:
    """Return the rounds at which the inner fifth's loss is lowest."""
    if job["time"] is not None:
        order = np.argsort(X[job["time"]].to_numpy(), kind="stable")
        inner, outer = np.split(order, [round(0.8 * len(order))])
    else:
        classes = None if job["task"] == "regression" else y
        inner, outer = train_test_split(
            np.arange(len(y)), test_size=0.2, random_state=job["seed"], stratify=classes
        )
    model = learner(**given, n_estimators=MOST_ROUNDS)
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    model.fit(X.iloc[inner], y.iloc[inner], eval_set=[(X.iloc[outer], y.iloc[outer])], callbacks=[stop])
    return int(model.best_iteration_)


if __name__ == "__main__":
    main()
