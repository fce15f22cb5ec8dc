"""How LightGBM should read categories of few rows, and who says how many rounds: native, one by one, or one-hot.

    python -m benchmarks.categories FILE [--data DIR] [--sets titanic,adult@800] [--repeats 3] [--member gbm_small]
    python -m benchmarks.categories FILE --show

In:  training parts alone, of sets with columns of categories.
Out: a line of JSON a set and repeat in FILE (what stands there is not computed again); with --show a table: the loss
     of each way out of fold (log-loss; squared error in units of the variance, the mean over targets), and how far it
     is behind native categories with rounds that are searched, with the standard error over rows, or groups, of the
     mean over repeats.
"""

from __future__ import annotations

import argparse
import json
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.boosting_rounds import SETS, load
from stackfeat.data.options import FoldOptions
from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import make_folds
from stackfeat.data.splits.holdout import InnerSplits
from stackfeat.members.estimator import EstimatorMember
from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.members.protocol import FitContext
from stackfeat.members.settings import EstimatorSettings
from stackfeat.meta.columns import Rows

SMALL = {"learning_rate": 0.03, "num_leaves": 7, "min_child_samples": 10}
SAMPLED = {"subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.4}
PORTFOLIO = tomllib.loads((Path(__file__).parent.parent / "stackfeat/config/portfolio.toml").read_text())
MEMBERS: dict[str, dict[str, Any]] = {
    "student_grades": {**SMALL, **SAMPLED},
    **{name: PORTFOLIO["members"][name]["params"] for name in ("gbm_small", "gbm", "gbm_slow")},
}
"""Params: of `gbm` in configs/student_grades.yaml, and of members of the presets for few rows."""

READINGS: dict[str, dict[str, Any]] = {
    "native": {},
    "one by one": {"params": {"max_cat_to_onehot": 64}},
    "one-hot": {"prepare": "scaled"},
}
ROUNDS: dict[str, dict[str, Any]] = {
    "searched": {},
    "100": {"n_estimators": 100},
    "200": {"n_estimators": 200},
}
WAYS = {f"{reading}, {rounds}": (reading, rounds) for rounds in ROUNDS for reading in READINGS}
FIRST = next(iter(WAYS))
SEARCHED = tuple(way for way, (_, rounds) in WAYS.items() if rounds == "searched")


def ways_of(member: str) -> tuple[str, ...]:
    """Return what is measured of a member: fixed rounds of the first alone."""
    return tuple(WAYS) if member == next(iter(MEMBERS)) else SEARCHED


GRADES = ("G1", "G2", "G3")
TABLES: dict[str, list[dict[str, Any]]] = {
    "student_grades": [
        {"target": target, "group": "student", "drop": [one for one in GRADES if one != target]}
        for target in GRADES
    ],
    "titanic": [SETS["titanic"]],
    **{
        f"{name}@{n}": [{"target": target}]
        for n in (800, 2000)
        for name, target in (("adult", "income"), ("taxi_fares", "fare"))
    },
    "clothing_reviews@2000": [SETS["clothing_reviews"]],
}
"""By set and number of rows what there is to learn: each target by itself."""


def row_losses(samples: Samples, member: str, way: str, seed: int) -> tuple[np.ndarray, list[int]]:
    """Return the loss of each row out of fold, in units of the variance where it is a value; rounds by fold."""
    reading, rounds = WAYS[way]
    given = READINGS[reading]
    params = {**MEMBERS[member], **given.get("params", {}), **ROUNDS[rounds]}
    options = EstimatorOptions(
        estimator=f"lightgbm.LGBM{samples.task.estimator_suffix}",
        params=params,
        prepare=given.get("prepare", "auto"),
    )
    folds = make_folds(FoldOptions(n=5, seed=seed), samples)
    losses, n_rounds = np.empty(samples.n_rows), []
    for number, (train, held_out) in enumerate(folds.splits[0]):
        part, rest = samples.take(train), samples.take(held_out)
        inner = InnerSplits(samples, train, folds.kind, number)
        settings = EstimatorSettings(threads=1, seeds=1)
        context = FitContext(samples.task, part.labels, None, None, inner, 10 * seed + number, settings)
        fitted = EstimatorMember(options).fit(Rows(len(train), part.inputs, (), part.ids, train), context)
        said = fitted.emit(Rows(len(held_out), rest.inputs, (), rest.ids, held_out))[samples.task.output]
        losses[held_out] = samples.task.row_loss(rest.labels, said)
        n_rounds.append(int(fitted.estimators[0].n_estimators))
    return losses if samples.task.classes else losses / samples.labels.var(), n_rounds


def judged(name: str, member: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return what each way loses by row, the mean over targets, in one assignment of folds."""
    parts = [load(name, folder, given) for given in TABLES[name]]
    found: dict[str, Any] = {"set": name, "member": member, "seed": seed, "losses": {}, "rounds": {}}
    group = parts[0].group
    found["units"] = (
        np.arange(parts[0].n_rows) if group is None else np.unique(group, return_inverse=True)[1]
    ).tolist()
    for way in ways_of(member):
        each = [row_losses(part, member, way, seed) for part in parts]
        found["losses"][way] = np.mean([losses for losses, _ in each], axis=0).round(6).tolist()
        found["rounds"][way] = [rounds for _, rounds in each]
    return found


def show(file: Path, member: str) -> None:
    """Print what each way loses, and how far it is behind the first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for values in lines_of(file, member):
        found.setdefault(values["set"], []).append(values)
    ways = ways_of(member)
    print(f"| set, rows, repeats | {' | '.join(ways)} | rounds searched: native, one-hot |")
    print("|---" * (len(ways) + 2) + "|")
    for name, repeats in found.items():
        losses = {way: np.mean([one["losses"][way] for one in repeats], axis=0) for way in ways}
        units = np.asarray(repeats[0]["units"])
        cells = [f"{losses[FIRST].mean():.4f}"]
        for way in ways[1:]:
            gap = losses[way] - losses[FIRST]
            sums = np.bincount(units, weights=gap - gap.mean())
            cells.append(f"{gap.mean():+.4f} ({np.sqrt(sums @ sums) / len(gap):.4f})")
        medians = [
            int(np.median([one["rounds"][way] for one in repeats])) for way in (FIRST, "one-hot, searched")
        ]
        title = f"{name.partition('@')[0]}, {len(units):,}, {len(repeats)}"
        print(f"| {title} | {' | '.join(cells)} | {medians[0]}, {medians[1]} |")


def lines_of(file: Path, member: str) -> list[dict[str, Any]]:
    """Return what FILE has of a member."""
    lines = map(json.loads, file.read_text().splitlines() if file.exists() else [])
    return [one for one in lines if one["member"] == member]


def main() -> None:
    """Compute what is missing in FILE, or show it."""
    parser = argparse.ArgumentParser(description="Native categories of few rows beside one-hot columns.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", default=",".join(TABLES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--member", choices=MEMBERS, default="student_grades")
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.show:
        show(given.file, given.member)
        return
    there = {(one["set"], one["seed"]) for one in lines_of(given.file, given.member)}
    for seed in range(given.repeats):
        for name in given.sets.split(","):
            if (name, seed) not in there:
                with given.file.open("a") as file:
                    print(json.dumps(judged(name, given.member, seed, given.data)), file=file)
                print(name, given.member, seed, flush=True)


if __name__ == "__main__":
    main()
