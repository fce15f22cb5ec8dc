"""Whether boosting should be given a number of rounds or find one: log-loss or RMSE, and CPU seconds.

    python benchmarks/boosting_rounds.py FILE [--data DIR] [--sets titanic,adult@8000] [--ways 400,search]
    python benchmarks/boosting_rounds.py FILE --show

LightGBM members are cross-validated inside training parts alone: the rows of `data.parquet` that are marked so, by
group or by time where the set asks for it. A result is a line of JSON in FILE; what stands there is not computed
again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from stackfeat.data.options import FoldOptions  # noqa: E402
from stackfeat.data.samples import Samples, Table  # noqa: E402
from stackfeat.data.splits.folds import make_folds  # noqa: E402
from stackfeat.data.splits.holdout import InnerSplits  # noqa: E402
from stackfeat.members.estimator import EstimatorMember  # noqa: E402
from stackfeat.members.estimator_options import EstimatorOptions  # noqa: E402
from stackfeat.members.protocol import FitContext  # noqa: E402
from stackfeat.members.settings import EstimatorSettings  # noqa: E402
from stackfeat.meta.columns import Rows  # noqa: E402
from stackfeat.tasks.task import Task  # noqa: E402

SETS: dict[str, dict[str, Any]] = {
    "titanic": {"target": "Survived", "drop": ["PassengerId", "Name", "Ticket"]},
    "student_grades": {"target": "G3", "group": "student", "drop": ["G1", "G2"]},
    "taxi_fares": {"target": "fare"},
    "letter@4000": {"target": "class"},
    "higgs_small": {"target": "target"},
    "adult@8000": {"target": "income"},
    "california_housing@8000": {"target": "median_house_value"},
    "clothing_reviews": {"target": "rating", "drop": ["title", "review_text"]},
    "bike_sharing": {"target": "cnt", "time": ["dteday", "hr"], "log": True},
    "adult@600": {"target": "income"},
    "higgs_small@600": {"target": "target"},
    "california_housing@600": {"target": "median_house_value"},
}
"""``name@n``: that many of the rows, drawn once."""

VALUES = ("student_grades", "taxi_fares", "california_housing", "bike_sharing")
SAMPLED = {"subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.7}
WAYS: dict[str, dict[str, Any]] = {
    "100": {"n_estimators": 100},
    "400": {"n_estimators": 400, "learning_rate": 0.05},
    "search": {},
    "search 0.1": {"learning_rate": 0.1},
    "sampled": SAMPLED,
    "sampled, 7 leaves": {**SAMPLED, "num_leaves": 7},
}


def load(name: str, folder: Path, given: dict[str, Any] | None = None) -> Samples:
    """Return the training part of a set; `given` stands for what `SETS` says of it."""
    base, _, size = name.partition("@")
    given = given or SETS[name]
    frame = pd.read_parquet(folder / base / "data.parquet")
    frame = frame[frame["split"] == "train"].drop(columns=["id", "split", *given.get("drop", [])])
    frame = frame.sample(int(size), random_state=0) if size else frame
    frame = frame.reset_index(drop=True)
    roles: dict[str, Any] = {}
    if "group" in given:
        roles["group"] = frame.pop(given["group"]).to_numpy()
    if "time" in given:
        roles["time"] = frame.groupby(given["time"]).ngroup().to_numpy()
        frame = frame.drop(columns=given["time"][0])
    target = frame.pop(given["target"])
    if base in VALUES:
        task, y = Task("regression"), target.to_numpy(dtype=float)
        y = np.log1p(y) if given.get("log") else y
    else:
        y, classes = pd.factorize(target, sort=True)
        task = Task("binary" if len(classes) == 2 else "multiclass", tuple(map(str, classes)))
    coded = {
        column: pd.factorize(frame[column], sort=True) for column in frame.select_dtypes(exclude="number")
    }
    numbers = frame.drop(columns=list(coded))
    table = Table(
        numbers.to_numpy(dtype=float),
        tuple(numbers.columns),
        np.stack([codes for codes, _ in coded.values()], axis=1).astype(np.int32)
        if coded
        else np.empty((len(frame), 0), dtype=np.int32),
        tuple(coded),
        tuple(tuple(map(str, levels)) for _, levels in coded.values()),
    )
    return Samples(ids=np.arange(len(y)).astype(str), inputs={"table": table}, y=y, task=task, **roles)


def judge(name: str, way: str, folder: Path, n_folds: int) -> dict[str, Any]:
    """Return the mean score over folds, CPU seconds of all fits, and their rounds."""
    samples = load(name, folder)
    task, folds = samples.task, make_folds(FoldOptions(n=n_folds), samples)
    options = EstimatorOptions(estimator=f"lightgbm.LGBM{task.estimator_suffix}", params=WAYS[way])
    settings = EstimatorSettings(threads=1, seeds=1)
    scores, seconds, rounds = [], 0.0, []
    for number, (train, held_out) in enumerate(folds.splits[0]):
        part, rest = samples.take(train), samples.take(held_out)
        inner = InnerSplits(samples, train, folds.kind, number)
        context = FitContext(task, part.labels, None, None, inner, number, settings)
        started = time.process_time()
        fitted = EstimatorMember(options).fit(Rows(len(train), part.inputs, (), part.ids, train), context)
        seconds += time.process_time() - started
        predicted = fitted.emit(Rows(len(held_out), rest.inputs, (), rest.ids, held_out))[task.output]
        loss = float(task.row_loss(rest.labels, predicted).mean())
        scores.append(loss if task.classes else loss**0.5)
        rounds.append(fitted.estimators[0].n_estimators)
    found = {"score": float(np.mean(scores)), "seconds": seconds, "rounds": rounds}
    return {"set": name, "rows": samples.n_rows, "folds": n_folds, way: found}


def show(file: Path) -> None:
    """Print a table of all results."""
    sets: dict[str, dict[str, Any]] = {}
    for line in file.read_text().splitlines():
        values = json.loads(line)
        sets.setdefault(values["set"], {}).update(values)
    print(f"| set, rows | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}")
    for name, values in sets.items():
        cells = [
            f"{values[way]['score']:.4g} ({values[way]['seconds']:.1f} s)" if way in values else ""
            for way in WAYS
        ]
        rounds = values.get("search", {}).get("rounds", [])
        print(f"| {name.partition('@')[0]}, {values['rows']:,} | {' | '.join(cells)} | {rounds}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--ways", default=",".join(way for way in WAYS if "," not in way))
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    if given.show:
        show(given.file)
        return
    warnings.simplefilter("ignore")
    done = given.file.read_text().splitlines() if given.file.exists() else []
    for name in given.sets.split(","):
        there = {way for line in map(json.loads, done) if line["set"] == name for way in line}
        for way in given.ways.split(","):
            if way not in there:
                with given.file.open("a") as file:
                    line = json.dumps(judge(name, way, given.data, given.folds))
                    print(line, file=file)
                    print(line, flush=True)


if __name__ == "__main__":
    main()
