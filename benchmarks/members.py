"""What derived columns and residual members add to a vote, beside what a second seed of the plain member adds.

    python -m benchmarks.members FILE [--data DIR] [--sets adult,taxi_fares] [--rows 4000]
    python -m benchmarks.members FILE --show

Training parts alone: the rows of `data.parquet` that are marked so, five folds by class, by group or by time. The
control is the vote of two seeds of a LightGBM member that finds its rounds on an inner fold, the trial the vote of
one of them and of the kind, which finds its own; each is the mean over three such seeds. A vote's weights are picked
greedily on out-of-fold rows of the other folds. `placebo` is a fourth seed of the plain member. A set's results are a
line of JSON in FILE; what stands there is not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from scipy.special import expit, softmax  # noqa: E402
from scipy.stats import norm  # noqa: E402
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402

from benchmarks.derived_columns import (  # noqa: E402
    DERIVED,
    N_FOLDS,
    Data,
    booster,
    cross_fitted,
    numeric_matrix,
    predicted,
    rounds_of,
    row_loss,
    with_columns,
)

SETS: dict[str, dict[str, Any]] = {
    "titanic": {"target": "Survived", "drop": ["PassengerId", "Name"]},
    "student_grades": {"target": "G3", "group": "student", "drop": ["G1", "G2"]},
    "taxi_fares": {"target": "fare"},
    "adult": {"target": "income"},
    "higgs_small": {"target": "target"},
    "california_housing": {"target": "median_house_value"},
    "bike_sharing": {"target": "cnt", "time": ["dteday", "hr"], "group": "dteday", "log": True},
    "lightgbm_rank": {"target": None, "group": "query"},
    "yeast": {"target": None},
    "clothing_reviews": {"target": "rating", "drop": ["title", "review_text"]},
    "kdd99": {"target": None},
    "letter": {"target": "class"},
}
VALUES = ("student_grades", "taxi_fares", "california_housing", "bike_sharing", "lightgbm_rank")
TARGETS = {"lightgbm_rank": "relevance", "yeast": "Class1", "kdd99": "category"}


def load(name: str, folder: Path, n_rows: int) -> Data:
    """Return rows of the training part of a set."""
    given = SETS[name]
    frame = pd.read_parquet(folder / name / "data.parquet")
    frame = frame[frame["split"] == "train"].drop(columns=["id", "split", *given.get("drop", [])])
    if len(frame) > n_rows:
        frame = frame.sample(n_rows, random_state=0).sort_index()
    if "time" in given:
        frame = frame.sort_values(given["time"])
    frame = frame.reset_index(drop=True)
    target = frame.pop(given["target"] or TARGETS[name])
    frame = frame.drop(columns=[column for column in frame if str(column).startswith("Class")])
    if name in VALUES:
        n_classes, y = 0, target.to_numpy(dtype=float)
        y = np.log1p(y) if given.get("log") else y
        y = (y - y.mean()) / y.std()
    else:
        kept = (target.map(target.value_counts()) >= 2 * N_FOLDS).to_numpy()
        frame, target = frame[kept].reset_index(drop=True), target[kept]
        y, classes = pd.factorize(target, sort=True)
        n_classes = len(classes)
    group = None
    dates = pd.to_datetime(frame["dteday"]) if "time" in given else None
    if "group" in given:
        group = pd.factorize(frame.pop(given["group"]))[0]
    for column in frame.select_dtypes(exclude="number"):
        frame[column] = frame[column].astype("category")
    numbers = frame.select_dtypes("number").columns
    frame[numbers] = frame[numbers].astype(float)
    frame = frame.loc[:, frame.nunique(dropna=False) > 1]
    return Data(frame, y, n_classes, group, "time" in given, dates)


def held_back(data: Data) -> tuple[Data, Data]:
    """Return three fifths of the rows, and the others, which share no group with them."""
    splits = list(replace(data, in_time=False).splits(99))
    back = np.sort(np.concatenate([splits[0][1], splits[1][1]]))
    return data.take(np.setdiff1d(np.arange(len(data.y)), back)), data.take(back)


def linear(data: Data) -> Any:
    return LogisticRegression(C=0.3, max_iter=300) if data.n_classes else Ridge(10.0)


def mlp(data: Data) -> Any:
    way = MLPClassifier if data.n_classes else MLPRegressor
    # It stops on a tenth of its training rows: without, it is so sure of itself that nothing above it mends it.
    return way(
        hidden_layer_sizes=(64,),
        alpha=0.1,
        batch_size=128,
        learning_rate_init=2e-3,
        max_iter=20,
        early_stopping=True,
        n_iter_no_change=3,
        random_state=0,
    )


BASES = {"linear": linear, "mlp": mlp}
KINDS = [*DERIVED, *(f"over_{base}" for base in BASES)]


def over(make: Callable[[Data], Any], train: Data, held: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of the base for held-out rows, and of the booster above it."""

    def fit(part: Data) -> Callable[[Data], np.ndarray]:
        def transform(rows: Data) -> np.ndarray:
            inside, outside = numeric_matrix(part, rows)
            return predicted(make(train).fit(inside, part.y), outside, train)

        return transform

    inside, base = cross_fitted(train, held, seed, fit)
    known = np.flatnonzero(~np.isnan(inside[:, 0]))
    inside, train = inside[known], train.take(known)
    if not train.n_classes:
        rounds = rounds_of(train, train.X, inside[:, 0])
        model = booster(train, seed, rounds).fit(train.X, train.y, init_score=inside[:, 0])
        return base, base + model.predict(held.X)[:, None]
    # Of a class that a base rules out LightGBM makes leaves without bound: letter lost 20 times the control's loss.
    logs = [np.log(np.clip(each, 1e-3, 1.0)) for each in (inside, base)]
    if train.n_classes == 2:
        logs = [each[:, 1] - each[:, 0] for each in logs]
    rounds = rounds_of(train, train.X, logs[0])
    model = booster(train, seed, rounds).fit(train.X, train.y, init_score=logs[0])
    raw = logs[1] + model.predict(held.X, raw_score=True)
    if train.n_classes == 2:
        proba = expit(raw)
        return base, np.column_stack([1 - proba, proba])
    return base, softmax(raw, axis=1)


# Votes and their comparison.

PLAIN = ("plain0", "plain1", "plain2")
"""Seeds of the plain member."""


def greedy(members: list[np.ndarray], data: Data, n_picks: int = 40) -> np.ndarray:
    """Return the shares of members after picks with replacement."""
    picked, total = np.zeros(len(members)), np.zeros_like(members[0])
    for number in range(n_picks):
        losses = [row_loss(data, (total + member) / (number + 1)).mean() for member in members]
        best = int(np.argmin(losses))
        picked[best] += 1
        total += members[best]
    return picked / n_picks


def vote_loss(members: list[np.ndarray], data: Data, fold: np.ndarray) -> dict[str, np.ndarray]:
    """Losses of rows under equal shares, and under shares picked on rows of the other folds."""
    done = fold >= 0
    found = {"soft": row_loss(data, np.mean(members, axis=0)), "greedy": np.zeros(len(data.y))}
    for k in np.unique(fold[done]):
        outside, rows = np.flatnonzero(done & (fold != k)), np.flatnonzero(fold == k)
        shares = greedy([member[outside] for member in members], data.take(outside))
        mixed = sum(share * member[rows] for share, member in zip(shares, members, strict=True))
        found["greedy"][rows] = row_loss(data.take(rows), np.asarray(mixed))
    return found


def gain(control: np.ndarray, trial: np.ndarray, cluster: np.ndarray) -> list[float]:
    """Mean gain of a trial and its standard error, over clusters of rows."""
    difference = control - trial
    sums = np.bincount(pd.factorize(cluster)[0], difference - difference.mean())
    error = np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1)) / len(difference)
    return [float(difference.mean()), float(error)]


def judge(name: str, folder: Path, n_rows: int, kinds: Collection[str]) -> dict[str, Any]:
    """Return gains and standard errors of each kind: in a greedy vote, in an equal one, alone."""
    data = load(name, folder, n_rows)
    fold = np.full(len(data.y), -1)
    shape = (len(data.y), max(data.n_classes, 1))
    oof: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    rounds: dict[str, list[int]] = {}

    def store(member: str, rows: np.ndarray, prediction: np.ndarray) -> None:
        oof.setdefault(member, np.full(shape, 1.0 / shape[1]))[rows] = prediction

    for k, (inside, outside) in enumerate(data.splits(0)):
        train, held = data.take(inside), data.take(outside)
        fold[outside] = k
        derived = {kind: derive for kind, derive in DERIVED.items() if kind in kinds}
        for kind, derive in {**dict.fromkeys([*PLAIN, "placebo"]), **derived}.items():
            started = time.process_time()
            columns = derive(train, held, k) if derive else (None, None)
            if columns is None:
                continue
            seed = len(PLAIN) if derive or kind == "placebo" else PLAIN.index(kind)
            X = with_columns(train.X, columns[0])
            own = kind if derive else PLAIN[0]
            if len(rounds.setdefault(own, [])) == k:
                rounds[own].append(rounds_of(train, X))
            model = booster(train, seed, rounds[own][k]).fit(X, train.y)
            store(kind, outside, predicted(model, with_columns(held.X, columns[1]), data))
            seconds[kind] = seconds.get(kind, 0.0) + time.process_time() - started
        for kind, make in BASES.items():
            if f"over_{kind}" not in kinds:
                continue
            started = time.process_time()
            base, above = over(make, train, held, len(PLAIN))
            store(kind, outside, base)
            store(f"over_{kind}", outside, above)
            seconds[f"over_{kind}"] = seconds.get(f"over_{kind}", 0.0) + time.process_time() - started
    return {**compared(name, data, fold, oof), "seconds": seconds, "rounds": rounds}


def compared(name: str, data: Data, fold: np.ndarray, oof: dict[str, np.ndarray]) -> dict[str, Any]:
    done = np.flatnonzero(fold >= 0)
    data, fold = data.take(done), fold[done]
    oof = {member: prediction[done] for member, prediction in oof.items()}
    kinds: dict[str, Any] = {}
    for kind in [each for each in oof if each in {"placebo", *KINDS}]:
        base = [oof[kind.removeprefix("over_")]] if kind.startswith("over_") else []
        # Over all seeds of the plain member, for one that is lucky would decide.
        pairs = [vote_loss([*base, oof[a], oof[b]], data, fold) for a, b in combinations(PLAIN, 2)]
        trials = [vote_loss([*base, oof[a], oof[kind]], data, fold) for a in PLAIN]
        found = {}
        for way in ("greedy", "soft"):
            control, trial = (np.mean([each[way] for each in side], axis=0) for side in (pairs, trials))
            found[way] = gain(control, trial, data.cluster)
        plain = np.mean([row_loss(data, oof[a]) for a in PLAIN], axis=0)
        found["alone"] = gain(plain, row_loss(data, oof[kind]), data.cluster)
        kinds[kind] = found
    losses = {member: float(row_loss(data, prediction).mean()) for member, prediction in oof.items()}
    losses["control"] = float(vote_loss([oof[a] for a in PLAIN[:2]], data, fold)["greedy"].mean())
    return {
        "set": name,
        "rows": len(data.y),
        "kinds": kinds,
        "losses": losses,
    }


Judge = Callable[[str, Path, int, Collection[str]], dict[str, Any]]


def holm(p_values: dict[Any, float], level: float) -> set[Any]:
    """Return the hypotheses that Holm's procedure rejects."""
    rejected = set()
    for number, (key, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if value > level / (len(p_values) - number):
            break
        rejected.add(key)
    return rejected


def show(file: Path, way: str, kinds: Sequence[str]) -> None:
    """Print gains in thousandths of the control's loss, and which of them pass."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    tests = {
        (line["set"], kind): float(norm.sf(line["kinds"][kind][way][0] / line["kinds"][kind][way][1]))
        for line in lines
        for kind in kinds
        if kind in line["kinds"] and line["kinds"][kind][way][1] > 0
    }
    passed = holm(tests, float(norm.sf(2.0)))
    print(f"| set, rows, loss of the control | {' | '.join(['placebo', *kinds])} |")
    for line in lines:
        cells = []
        for kind in ["placebo", *kinds]:
            mean, error = line["kinds"].get(kind, {}).get(way, (0.0, 0.0))
            unit = line["losses"]["control"] / 1000
            mark = " *" if (line["set"], kind) in passed else ""
            cells.append(f"{mean / unit:+.1f} ± {error / unit:.1f}{mark}" if error else "")
        print(f"| {line['set']}, {line['rows']:,}, {line['losses']['control']:.4f} | {' | '.join(cells)} |")
    print({kind: sum(key[1] == kind for key in passed) for kind in kinds}, "of", len(lines), "sets")
    print({kind: round(sum(line["seconds"].get(kind, 0) for line in lines)) for kind in ["plain1", *kinds]})


def main(judge: Judge, kinds: Sequence[str], ways: Sequence[str], description: str | None) -> None:
    """Judge the kinds on sets that have no line in the file yet, or show what stands there."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--kinds", default=",".join(kinds))
    parser.add_argument("--show", nargs="?", const=ways[0], choices=ways)
    given = parser.parse_args()
    if given.show:
        show(given.file, given.show, given.kinds.split(","))
        return
    warnings.simplefilter("ignore")
    done = given.file.read_text().splitlines() if given.file.exists() else []
    done = [json.loads(line)["set"] for line in done]
    for name in given.sets.split(","):
        if name not in done:
            with given.file.open("a") as file:
                line = json.dumps(judge(name, given.data, given.rows, given.kinds.split(",")))
                print(line, file=file)
                print(line, flush=True)


if __name__ == "__main__":
    main(judge, KINDS, ("greedy", "soft", "alone"), __doc__)
