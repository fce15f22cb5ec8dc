"""The data sets of a race: target, metric, and seeded splits of the training part.

In:  a folder of data sets, NAME/data.parquet with the columns id, split (train or test), features and target.
Out: training rows, held-out rows without their target, and the labels of those, the same for every entrant.

Rows marked test are dropped as soon as a file is read; `final` alone brings them back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

HELD_OUT_SHARE = 0.2

LATER_SHARE = 0.08
"""Of a set in time order, split k leaves out the last k of these shares, and holds out the last fifth of the rest."""


@dataclass(frozen=True)
class RaceSet:
    """One data set.

    Attributes
    ----------
    metric : str
        The one metric by which the set is judged.
    time : str or None
        The column by which held-out rows come last.
    """

    name: str
    target: str
    task: Literal["binary", "multiclass", "regression"]
    metric: Literal["roc_auc", "log_loss", "rmse"]
    time: str | None = None

    @property
    def greater_is_better(self) -> bool:
        return self.metric == "roc_auc"

    def score(self, y: pd.Series, predicted: pd.DataFrame) -> float:
        """Score predictions in the order of ``y``: a column for each class, or `prediction`."""
        if self.task == "regression":
            return float(root_mean_squared_error(y.to_numpy(float), predicted["prediction"].to_numpy(float)))
        if self.task == "binary":
            return float(roc_auc_score(y == max(y.unique()), predicted["prediction"].to_numpy(float)))
        classes = sorted(predicted.columns)
        proba = predicted[classes].to_numpy(float)
        return float(log_loss(y.astype(str), proba / proba.sum(axis=1, keepdims=True), labels=classes))


SETS = {
    race_set.name: race_set
    for race_set in (
        RaceSet("adult", "income", "binary", "roc_auc"),
        RaceSet("letter", "class", "multiclass", "log_loss"),
        RaceSet("california_housing", "median_house_value", "regression", "rmse"),
        RaceSet("higgs_small", "target", "binary", "roc_auc"),
        RaceSet("bike_sharing", "cnt", "regression", "rmse", time="dteday"),
        RaceSet("titanic", "Survived", "binary", "roc_auc"),
    )
}


@dataclass(frozen=True)
class Split:
    """Training rows, and held-out rows with their labels kept apart."""

    train: pd.DataFrame
    held_out: pd.DataFrame
    labels: pd.Series


def split(frame: pd.DataFrame, race_set: RaceSet, seed: int, n_rows: int | None = None) -> Split:
    """Split labelled rows 80/20: stratified by class, at random for values, by time where there is one.

    ``n_rows`` first draws that many rows.
    """
    if n_rows is not None and n_rows < len(frame):
        frame = frame.sample(n_rows, random_state=seed).sort_index()
    if race_set.time is not None:
        frame = frame.sort_values(race_set.time, kind="stable")
        frame = frame.iloc[: round(len(frame) * (1 - LATER_SHARE * seed))]
        moments = frame[race_set.time]
        first_held_out = moments.iloc[round(len(frame) * (1 - HELD_OUT_SHARE))]
        train, held_out = frame[moments < first_held_out], frame[moments >= first_held_out]
    else:
        classes = None if race_set.task == "regression" else frame[race_set.target]
        train, held_out = train_test_split(
            frame, test_size=HELD_OUT_SHARE, random_state=seed, stratify=classes
        )
    return Split(train, held_out.drop(columns=race_set.target), held_out[race_set.target])


def read_training_part(folder: Path, race_set: RaceSet) -> pd.DataFrame:
    """Return the labelled rows of a set; its test rows are read by `final` alone."""
    filters = [("split", "==", "train")]
    frame = pd.read_parquet(folder / race_set.name / "data.parquet", filters=filters)
    frame = frame.drop(columns="split").reset_index(drop=True)
    if pd.api.types.is_integer_dtype(frame[race_set.target]):
        frame[race_set.target] = frame[race_set.target].astype(np.int64)
    return frame


def final(folder: Path, race_set: RaceSet) -> Split:
    """Return the whole training part, the test rows, and their labels: for the one last score."""
    frame = pd.read_parquet(folder / race_set.name / "data.parquet", filters=[("split", "==", "test")])
    labels = pd.read_parquet(folder / race_set.name / "test_labels.parquet").set_index("id")
    held_out = frame.drop(columns=["split", race_set.target])
    found = labels.loc[held_out["id"], race_set.target]
    return Split(read_training_part(folder, race_set), held_out, found)
