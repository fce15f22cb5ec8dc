"""Whether out-of-fold scores say what new groups and later times will bring: pseudo-tests cut from training parts.

    python -m benchmarks.pseudo_tests FILE [--data DIR] [--sets student_grades,bike_sharing] [--tests 20]
    python -m benchmarks.pseudo_tests FILE --show

A pseudo-test is a fifth of the groups, whole, or the block that follows a stretch of time. Five members and their
mean are cross-fitted on the other rows, and fold models averaged predict it. Stated is the score out of fold with the
standard error of a run (a bootstrap of groups, or blocks of time), and from it a band for the score of so many new
groups, in which the pseudo-test should lie four times of five. Beside it stands the band of a t-interval over folds.
A result is a line of JSON in FILE; what stands there is not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from scipy import stats  # noqa: E402

from stackfeat.data.options import FoldOptions  # noqa: E402
from stackfeat.data.prepare.estimator import ScaledPrepare  # noqa: E402
from stackfeat.data.samples import Samples, Table  # noqa: E402
from stackfeat.data.splits.folds import Folds, make_folds  # noqa: E402
from stackfeat.engine.judged import N_RESAMPLES, Judged  # noqa: E402
from stackfeat.members.construct import construct  # noqa: E402
from stackfeat.tasks.task import Task  # noqa: E402

SHARE, N_FOLDS, BAND = 0.2, 5, 0.8
STRETCH, BLOCK = 1_500, 400
MEMBERS: dict[str, tuple[str, dict[str, Any]]] = {
    "boosting": ("lightgbm.LGBM{}", {"n_estimators": 40, "learning_rate": 0.1, "num_leaves": 15}),
    "deeper": ("lightgbm.LGBM{}", {"n_estimators": 25, "learning_rate": 0.2, "num_leaves": 31}),
    "forest": ("sklearn.ensemble.ExtraTrees{}", {"n_estimators": 40, "min_samples_leaf": 2}),
    "neighbours": ("sklearn.neighbors.KNeighbors{}", {"n_neighbors": 15}),
    "tree": ("sklearn.tree.DecisionTree{}", {"min_samples_leaf": 15}),
}


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description="Scores out of fold against pseudo-tests.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--tests", type=int, default=20)
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    lines = arguments.file.read_text("utf-8").splitlines() if arguments.file.exists() else []
    done = [json.loads(line) for line in lines]
    if arguments.show:
        show(done)
        return
    known = {(line["set"], line["test"]) for line in done}
    for number in range(arguments.tests):
        for name in arguments.sets.split(","):
            if (name, number) not in known:
                line = {"set": name, "test": number, **measure(name, arguments.data, number)}
                with arguments.file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


def measure(name: str, source: Path, number: int) -> dict[str, Any]:
    """Return what is stated of each member out of fold, and its score on one pseudo-test."""
    samples, metric = SETS[name](source)
    train, test = cut(samples, number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folds = make_folds(FoldOptions(n=N_FOLDS), train)
        oof, later = cross_fitted(train, test, folds, number)
    fold_of = folds.fold_of(0)
    rows = np.flatnonzero(fold_of >= 0)
    judged = Judged.of(train, metric, False, fold_of, folds.is_time).take(rows)
    outside = Judged.of(test, metric, False, np.zeros(test.n_rows, dtype=np.int64), folds.is_time)
    members = {
        who: stated(judged, values[rows], fold_of[rows], number) | tested(outside, later[who], number)
        for who, values in oof.items()
    }
    sizes = {
        "n_clusters": n_clusters(judged),
        "n_test_clusters": n_clusters(outside),
        "is_time": folds.is_time,
    }
    return {**sizes, "n_test": test.n_rows, "n_rows": len(rows), "members": members}


def n_clusters(judged: Judged) -> int:
    return len(judged.y) if judged.clusters is None else len(np.unique(judged.clusters))


def stated(judged: Judged, values: np.ndarray, fold_of: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the score, its standard error, and the scores of folds and of clusters."""
    bootstrap = judged.bootstrap(values, seed)
    parts = [judged.take(fold_of == fold).score(values[fold_of == fold]) for fold in np.unique(fold_of)]
    return {
        "score": judged.score(values),
        "se": float(np.nanstd(bootstrap, ddof=1)),
        "bootstrap": bootstrap.tolist(),
        "folds": parts,
        "losses": cluster_losses(judged, values),
    }


def cluster_losses(judged: Judged, values: np.ndarray) -> list[float]:
    """Return the mean loss of each cluster."""
    loss = judged.task.row_loss(judged.y, values)
    return [float(part) for part in pd.Series(loss).groupby(judged.clusters).mean()]


def tested(judged: Judged, values: np.ndarray, seed: int) -> dict[str, Any]:
    return {"test": judged.score(values), "test_bootstrap": judged.bootstrap(values, seed).tolist()}


def cut(samples: Samples, number: int) -> tuple[Samples, Samples]:
    """Return the rows to train on, and those of a pseudo-test: whole groups, or what follows a stretch of time."""
    random = np.random.default_rng(number)
    if samples.group is None:
        start = int(random.integers(0, samples.n_rows - STRETCH - BLOCK))
        rows = np.arange(start, start + STRETCH + BLOCK)
        return samples.take(rows[:STRETCH]), samples.take(rows[STRETCH:])
    groups = np.unique(samples.group)
    held = random.permutation(groups)[: max(2, round(SHARE * len(groups)))]
    inside = np.isin(samples.group, held)
    return samples.take(np.flatnonzero(~inside)), samples.take(np.flatnonzero(inside))


def cross_fitted(
    train: Samples, test: Samples, folds: Folds, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return what members, and their mean, say of training rows out of fold and of the pseudo-test."""
    task = train.task
    oof = {who: np.full((train.n_rows, task.n_outputs), np.nan) for who in MEMBERS}
    later: dict[str, list[np.ndarray]] = {who: [] for who in MEMBERS}
    for fitted_on, held_out in folds.splits[0]:
        table, others, new = (table_of(part) for part in (train.take(fitted_on), train.take(held_out), test))
        reader = ScaledPrepare().fit(table)
        columns = reader.transform(table)
        for who, (path, params) in MEMBERS.items():
            estimator = construct(path.format(task.estimator_suffix), params, seed=seed, threads=1)
            estimator.fit(columns, train.labels[fitted_on])
            oof[who][held_out] = task.ask(estimator, reader.transform(others))
            later[who].append(task.ask(estimator, reader.transform(new)))
    said = {who: parts[-1] if folds.is_time else np.mean(parts, axis=0) for who, parts in later.items()}
    return oof | {"mean": np.mean(list(oof.values()), axis=0)}, said | {
        "mean": np.mean(list(said.values()), axis=0)
    }


def table_of(samples: Samples) -> Table:
    table = samples.inputs["table"]
    assert isinstance(table, Table)
    return table


def samples_of(frame: pd.DataFrame, target: str, task: Task, group: Any = None, time: Any = None) -> Samples:
    """Return typed rows of a frame; texts become categories."""
    columns = frame.drop(columns=[target])
    numeric = columns.select_dtypes("number")
    texts = columns.drop(columns=numeric.columns)
    coded = [pd.factorize(texts[name], sort=True) for name in texts]
    table = Table(
        numeric.to_numpy(dtype=np.float64),
        tuple(numeric.columns),
        np.column_stack([np.zeros((len(frame), 0)), *(codes for codes, _ in coded)]).astype(np.int32),
        tuple(texts.columns),
        tuple(tuple(map(str, levels)) for _, levels in coded),
    )
    y = task.as_y(frame[target].to_numpy())
    ids = np.arange(len(frame)).astype(str)
    return Samples(ids, {"table": table}, y, task, group=group, time=time)


def _training(source: Path, name: str) -> pd.DataFrame:
    frame = pd.read_parquet(source / name / "data.parquet")
    return frame[frame["split"] == "train"].drop(columns=["split", "id"]).reset_index(drop=True)


def student_grades(source: Path) -> tuple[Samples, str]:
    frame = _training(source, "student_grades")
    group = pd.factorize(frame["student"])[0].astype(np.int64)
    return samples_of(frame.drop(columns=["student", "G1", "G2"]), "G3", Task("regression"), group), "rmse"


def lightgbm_rank(source: Path) -> tuple[Samples, str]:
    frame = _training(source, "lightgbm_rank")
    group = pd.factorize(frame["query"])[0].astype(np.int64)
    target = frame.columns[-1] if "label" not in frame else "label"
    names = [one for one in frame.columns if one not in ("query", target)][:80]
    return samples_of(frame[[*names, target]], target, Task("regression"), group), "rmse"


def bike_sharing(source: Path) -> tuple[Samples, str]:
    frame = _training(source, "bike_sharing").sort_values(["dteday", "hr"]).reset_index(drop=True)
    frame["cnt"] = np.log1p(frame["cnt"])
    frame = frame.drop(columns=["dteday", "casual", "registered"], errors="ignore")
    return samples_of(frame, "cnt", Task("regression"), time=np.arange(len(frame), dtype=np.float64)), "rmse"


def uci_har(source: Path) -> tuple[Samples, str]:
    with np.load(source / "uci_har" / "data.npz") as arrays:
        kept = np.flatnonzero(~arrays["is_test"])[::4]
        X = arrays["X"][kept].astype(np.float32)
        y, subject = arrays["y"][kept].astype(np.int64), arrays["subject"][kept]
    values = np.hstack([X.mean(axis=1), X.std(axis=1)])
    frame = pd.DataFrame(values, columns=[f"c{place}" for place in range(values.shape[1])]).assign(y=y)
    task = Task("multiclass", tuple(range(int(y.max()) + 1)))
    return samples_of(frame, "y", task, pd.factorize(subject)[0].astype(np.int64)), "log_loss"


SETS = {one.__name__: one for one in (student_grades, lightgbm_rank, bike_sharing, uci_har)}


def bands(line: dict[str, Any], member: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return centre and half width of the 80 % bands for the score of a pseudo-test.

    Of the score out of fold and of that of new clusters both vary; clusters are taken to be alike.
    """
    fold_scores = np.asarray(member["folds"])
    n_folds = len(fold_scores)
    # Folds that follow time are the clusters of a score.
    n = n_folds if line["is_time"] else line["n_clusters"]
    ratio = line["n_rows"] / line["n_test"] if line["is_time"] else n / line["n_test_clusters"]
    grown = np.sqrt(1 + ratio)
    of_folds = fold_scores.std(ddof=1) * np.sqrt(1 / n_folds + (line["n_rows"] / n_folds) / line["n_test"])
    quantile = (1 + BAND) / 2
    return {
        "stated": (member["score"], float(stats.t.ppf(quantile, n - 1) * member["se"] * grown)),
        "folds": (float(fold_scores.mean()), float(stats.t.ppf(quantile, n_folds - 1) * of_folds)),
    }


def pairs(line: dict[str, Any]) -> Iterator[bool]:
    """Yield for pairs more than two paired standard errors apart on the pseudo-test whether out of fold agrees."""
    for one, other in combinations(line["members"].values(), 2):
        gap = one["test"] - other["test"]
        error = np.nanstd(np.subtract(one["test_bootstrap"], other["test_bootstrap"]), ddof=1)
        if abs(gap) > 2 * error:
            yield (one["score"] - other["score"]) * gap > 0


def show(lines: list[dict[str, Any]]) -> None:
    """Print coverage and widths of bands, and how many pairs are ordered alike."""
    print(
        "| set | pseudo-tests | stated band covers | that over folds covers | width, stated / folds | pairs alike |"
    )
    print("|---" * 6 + "|")
    for name in SETS:
        own = [line for line in lines if line["set"] == name]
        if not own:
            continue
        found = [(member, bands(line, member)) for line in own for member in line["members"].values()]
        covered = {
            kind: np.mean([abs(member["test"] - band[kind][0]) <= band[kind][1] for member, band in found])
            for kind in ("stated", "folds")
        }
        width = np.mean([band["stated"][1] for _, band in found]) / np.mean(
            [band["folds"][1] for _, band in found]
        )
        alike = [agree for line in own for agree in pairs(line)]
        print(
            f"| {name} | {len(own)} | {covered['stated']:.0%} | {covered['folds']:.0%} | {width:.2f} | "
            f"{sum(alike)} of {len(alike)} |"
        )


if __name__ == "__main__":
    assert N_RESAMPLES >= 100
    main()
