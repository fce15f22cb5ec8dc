"""Learn in which order members are worth their CPU, for the presets of `init`.

In:  training parts of data sets, and the members of `stackfeat/config/portfolio.toml`.
Out: `measure` trains each member in three folds of each set and keeps out-of-fold predictions and CPU seconds in a
     folder; what is there is not trained again. `learn` orders members by what they lower the loss of a growing
     mixture per CPU, for each band of the table, and says what that order gives on each set when it is learnt
     without it. No test row is read.

    OMP_NUM_THREADS=1 python benchmarks/portfolio.py measure ../shared/data --keep /tmp/portfolio [--only letter]
    python benchmarks/portfolio.py learn --keep /tmp/portfolio
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import stackfeat
from stackfeat.config import portfolio as portfolio_module
from stackfeat.config.portfolio import MOST, PRESETS, Portfolio, Table
from stackfeat.output.events import Event, JobDone, JobFailed, JobStarted
from stackfeat.tasks.task import task_class

SETS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    # target, rows, further arguments of init
    "titanic": ("Survived", 891, ()),
    "higgs_small": ("target", 6000, ()),
    "adult": ("income", 6000, ()),
    "california_housing": ("median_house_value", 6000, ()),
    "bike_sharing": ("cnt", 5000, ("--time", "dteday")),
    "letter": ("class", 5000, ()),
    "taxi_fares": ("fare", 4825, ()),
    "student_grades": ("G3", 783, ("--group", "student")),
    "kdd99": ("category", 8000, ()),
    "yeast": ("Class1", 1500, ()),
    "clothing_reviews": ("rating", 4000, ()),
    "sklearn:digits": ("target", 1797, ()),
    "sklearn:breast_cancer": ("target", 569, ()),
    "sklearn:diabetes": ("target", 442, ()),
    "made:7": ("y", 5000, ()),
    "made:noisy": ("y", 3000, ()),
}
DROPPED = {"student_grades": ("G1", "G2"), "yeast": tuple(f"Class{i}" for i in range(2, 15))}
N_FOLDS = 3
SEED = 0
MIXED = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Shares that a further member may have in the mixture."""
EXPONENT = 0.5
"""Members are ordered by gain / CPU ** EXPONENT: 1 would prefer whatever costs nothing."""


def main() -> None:
    """Measure, or learn from what was measured."""
    parser = argparse.ArgumentParser(description="Order members by what they are worth per CPU second.")
    parser.add_argument("what", choices=("measure", "learn"))
    parser.add_argument("data", type=Path, nargs="?", help="folder of the data sets")
    parser.add_argument("--keep", type=Path, required=True, help="folder of predictions and times")
    parser.add_argument("--only", nargs="*", default=list(SETS))
    parser.add_argument("--members", nargs="*")
    parser.add_argument("--write", action="store_true", help="learn: put it into the package's table")
    arguments = parser.parse_args()
    if arguments.what == "learn":
        learn(arguments.keep, arguments.write)
        return
    for name in arguments.only:
        started = time.process_time()
        measure(name, arguments.data, arguments.keep, arguments.members)
        print(f"{name}: {time.process_time() - started:.0f} s of CPU", flush=True)


# Measuring.


def rows_of(name: str, data: Path | None) -> pd.DataFrame:
    """Return a seeded sample of the training rows of a set."""
    target, n_rows, _ = SETS[name]
    if name.startswith("sklearn:"):
        import sklearn.datasets

        frame = getattr(sklearn.datasets, f"load_{name.partition(':')[2]}")(as_frame=True).frame
    elif name.startswith("made:"):
        frame = made(name)
    else:
        assert data is not None
        frame = pd.read_parquet(data / name / "data.parquet")
        frame = frame[frame["split"] == "train"].drop(columns=["split", *DROPPED.get(name, ())])
    frame = frame[frame[target].notna()]
    if "--time" in SETS[name][2]:
        return frame.iloc[-n_rows:].reset_index(drop=True)
    frame = frame.sample(min(n_rows, len(frame)), random_state=SEED)
    counts = frame[target].value_counts()
    is_class = frame[target].nunique() <= 30
    return frame[~(is_class & frame[target].map(counts).lt(5))].reset_index(drop=True)


def made(name: str) -> pd.DataFrame:
    """Return made-up rows: of seven classes, or of two, noisy, in many columns."""
    from sklearn.datasets import make_classification

    if name == "made:7":
        X, y = make_classification(11000, 16, n_informative=12, n_classes=7, random_state=0)
    else:
        X, y = make_classification(3000, 60, n_informative=10, flip_y=0.2, class_sep=0.5, random_state=1)
    return pd.DataFrame(X, columns=[f"f{j}" for j in range(X.shape[1])]).assign(y=y)


def measure(name: str, data: Path | None, keep: Path, only: Sequence[str] | None) -> None:
    """Train members on a set, by its first config with other base members."""
    from ruamel.yaml import YAML

    target, _, extra = SETS[name]
    folder = keep / name.replace(":", "_")
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_of(name, data).rename(columns={"id": "row_id"})
    if "row_id" not in rows:
        rows.insert(0, "row_id", np.arange(len(rows)))
    rows.to_csv(folder / "train.csv", index=False)
    command = [sys.executable, "-m", "stackfeat", "init", "train.csv", "--target", target, "--id", "row_id"]
    subprocess.run(
        [*command, "--preset", "quick", "--force", *extra], cwd=folder, check=True, capture_output=True
    )
    yaml = YAML(typ="safe")
    config = yaml.load(folder / "config.yaml")
    config["folds"]["n"] = N_FOLDS + (1 if "--time" in extra else 0)
    task = task_class(config["task"])
    n_classes = rows[target].nunique() if task.most_classes else 0
    table = Table(len(rows), rows.shape[1] - 2, n_classes, config["task"], config["folds"]["n"])
    portfolio = Portfolio.load()
    members = {
        one: portfolio.options(one, table)
        for one in portfolio.members
        if portfolio.is_there(one) and one != "stacked"
    }
    wanted = {one: values for one, values in members.items() if not only or one in only}
    for one in wanted.values():
        one.pop("emit", None)
        if "net" in one:
            one["emit"] = [task.output]
    config["levels"] = {"base": wanted}
    config["submit"] = next(iter(wanted))
    with (folder / "all.yaml").open("w") as stream:
        yaml.dump(config, stream)
    facts = {
        "task": config["task"],
        "target": target,
        "n_rows": len(rows),
        "n_columns": rows.shape[1] - 2,
        "n_classes": table.n_classes,
        "transform": config["data"].get("target_transform"),
        "n_folds": config["folds"]["n"],
        "group": config["data"].get("group"),
    }
    (folder / "facts.json").write_text(json.dumps(facts))
    overrides = ["executor.kind=inline", "executor.threads_per_job=1"]
    result = stackfeat.run(folder / "all.yaml", overrides=overrides, progress=Spent(folder / "spent.jsonl"))
    (folder / "oof").mkdir(exist_ok=True)
    for path in Path(result.folder, "oof").glob("base.*.csv"):
        (folder / "oof" / path.name.removeprefix("base.")).write_bytes(path.read_bytes())


class Spent:
    """Writes down the CPU of every fold of every member, of a run whose jobs are done one after the other here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.began = time.process_time()

    def __call__(self, event: Event) -> None:
        """Take note of an event of the run."""
        if isinstance(event, JobStarted):
            self.began = time.process_time()
        elif isinstance(event, JobDone) and re.search(r" (fold \d+|all folds)$", event.job):
            seconds = time.process_time() - self.began
            line = {"member": event.member.partition("/")[2], "job": event.job, "seconds": seconds}
            with self.path.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
        elif isinstance(event, JobFailed):
            print(f"{event.job}: {event.error}", flush=True)


# Learning.


@dataclass(frozen=True)
class Measured:
    """What was measured on one set.

    Attributes
    ----------
    table : Table
    y : array of shape (n,)
        Class codes, or values, as members learn them.
    predictions : dict of str to array of shape (n, n_outputs)
        Out of fold, by member.
    seconds : dict of str to float
        CPU of a fit: the median over folds.
    """

    name: str
    table: Table
    y: np.ndarray
    predictions: dict[str, np.ndarray]
    seconds: dict[str, float]

    @classmethod
    def read(cls, folder: Path) -> Measured | None:
        """Read the folder of a set; None where it is not whole."""
        if not (folder / "oof").is_dir():
            return None
        facts = json.loads((folder / "facts.json").read_text())
        facts["n_classes"] *= facts["task"] != "regression"
        rows = pd.read_csv(folder / "train.csv").set_index("row_id")
        frames = {path.stem: pd.read_csv(path).set_index("id") for path in (folder / "oof").glob("*.csv")}
        known = sorted(set.intersection(*(set(frame.index) for frame in frames.values())))
        target = rows.loc[known, facts["target"]]
        if facts["n_classes"]:
            codes = target.astype(str).map(
                {name: j for j, name in enumerate(sorted(set(target.astype(str))))}
            )
            y = codes.to_numpy()
            predictions = {name: _shares(frame.loc[known], target) for name, frame in frames.items()}
        else:
            change = np.log1p if facts["transform"] == "log1p" else np.asarray
            y = change(target.to_numpy(float))
            predictions = {
                name: change(np.maximum(frame.loc[known].to_numpy(float), 0))
                if change is np.log1p
                else frame.loc[known].to_numpy(float)
                for name, frame in frames.items()
            }
        lines = [json.loads(line) for line in (folder / "spent.jsonl").read_text().splitlines()]
        spent = pd.DataFrame(lines).groupby("member")["seconds"].median().to_dict()
        table = Table(
            facts["n_rows"],
            facts["n_columns"],
            facts["n_classes"],
            facts["task"],
            facts.get("n_folds", N_FOLDS),
        )
        name = folder.name.replace("sklearn_", "").replace("made_", "made ")
        return cls(name, table, y, predictions, {one: spent.get(one, 0.02) for one in predictions})

    def start(self) -> np.ndarray:
        """Return what is predicted without any member."""
        if not self.table.n_classes:
            return np.full((len(self.y), 1), self.y.mean())
        shares = np.bincount(self.y, minlength=next(iter(self.predictions.values())).shape[1]) / len(self.y)
        return np.tile(shares, (len(self.y), 1))

    def loss(self, mixture: np.ndarray) -> float:
        """Return the logarithm of the mixture's log-loss, or of its root mean squared error."""
        if not self.table.n_classes:
            return float(0.5 * np.log(np.mean((self.y - mixture[:, 0]) ** 2)))
        chosen = mixture[np.arange(len(self.y)), self.y]
        return float(np.log(-np.mean(np.log(np.clip(chosen, 1e-7, 1)))))

    def add(self, mixture: np.ndarray | None, member: str) -> np.ndarray:
        """Return the mixture with the best share of a further member; the member alone where it is the first."""
        other = self.predictions[member]
        if mixture is None:
            return other
        tried = [mixture] + [(1 - share) * mixture + share * other for share in MIXED]
        return min(tried, key=self.loss)

    def mixture(self, members: Sequence[str]) -> np.ndarray:
        """Return the mixture that grows by members in order; then once more, for their shares."""
        found: np.ndarray | None = None
        for member in [*members, *members]:
            if member in self.predictions:
                found = self.add(found, member)
        assert found is not None
        return found


def _shares(frame: pd.DataFrame, target: pd.Series) -> np.ndarray:
    """Return a column of probabilities for each class, in the order of their names."""
    if frame.shape[1] > 1:
        frame = frame[sorted(frame.columns, key=lambda name: str(name).removeprefix("proba_"))]
        return frame.to_numpy(float)
    column = frame.to_numpy(float)
    is_last = frame.columns[0] != sorted(set(target.astype(str)))[0]
    return np.hstack([1 - column, column] if is_last else [column, 1 - column])


BANDS: tuple[dict[str, Any], ...] = (
    {"says": "few rows", "most_rows": 2000},
    {"says": "many classes", "least_classes": 6},
    {"says": "values", "family": "regression"},
    {"says": "classes"},
)
OTHERS = 0.25
"""Weight of sets of other bands."""


def band_of(table: Table) -> int:
    """Return the number of the first band that a table is in."""
    return next(number for number, band in enumerate(BANDS) if table.suits(band))


def order(sets: Sequence[Measured], number: int) -> list[str]:
    """Order members for a band: each adds most to the mixture of those before, for its CPU."""
    weights = np.array([1.0 if band_of(one.table) == number else OTHERS for one in sets])
    names = sorted(set.intersection(*(set(one.predictions) for one in sets)))
    costs = {
        name: float(np.exp(np.average([np.log(one.seconds[name] + 0.2) for one in sets], weights=weights)))
        for name in names
    }
    mixtures: list[np.ndarray | None] = [None] * len(sets)
    losses = np.array([one.loss(one.start()) for one in sets])
    taken: list[str] = []
    while len(taken) < len(names):
        best = None
        for name in names:
            if name in taken:
                continue
            grown = [one.add(old, name) for one, old in zip(sets, mixtures, strict=True)]
            after = np.array([one.loss(values) for one, values in zip(sets, grown, strict=True)])
            gain = float(np.average(np.clip(losses - after, 0, 1.0), weights=weights))
            value = gain / costs[name] ** EXPONENT
            if best is None or value > best[0]:
                best = (value, name, grown, after, gain)
        assert best is not None
        if best[4] < LEAST_GAIN:
            break
        taken.append(best[1])
        mixtures, losses = best[2], best[3]
    return taken


LEAST_GAIN = 2e-4
"""A member that lowers the loss by a smaller share, on average, is not in the list."""


def learn(keep: Path, write: bool) -> None:
    """Print orders and costs, and what orders give on each set when they are learnt with and without it."""
    found = [Measured.read(folder) for folder in sorted(keep.iterdir()) if (folder / "oof").is_dir()]
    sets = [one for one in found if one is not None]
    lists = [order(sets, number) for number in range(len(BANDS))]
    portfolio = Portfolio.load()
    print("| set | rows | gbm | learnt with it | without it | all |\n|---|---|---|---|---|---|")
    for one in sets:
        number = band_of(one.table)
        others = order([other for other in sets if other is not one], number)
        cells = [["gbm"], within(one, lists[number]), within(one, others), list(one.predictions)]
        numbers = [np.exp(one.loss(one.mixture(names))) for names in cells]
        print(
            f"| {one.name} | {one.table.n_rows:,} | " + " | ".join(f"{value:.4g}" for value in numbers) + " |"
        )
    lines = []
    for band, names in zip(BANDS, lists, strict=True):
        lines += ["[[bands]]", *(f"{key} = {json.dumps(value)}" for key, value in band.items())]
        lines += [f"members = {json.dumps(names)}", ""]
    costs = {name: cost(sets, name, "each_class" in portfolio.members[name]) for name in portfolio.members}
    print("\n".join(lines))
    print("\n".join(f"{name}: {values}" for name, values in costs.items()))
    if write:
        _write(lines, costs)


def within(one: Measured, names: Sequence[str]) -> list[str]:
    """Return the members in order that fit the budget of the preset `good`."""
    left = PRESETS["good"]
    taken: list[str] = []
    for name in names:
        seconds = 5 * one.seconds.get(name, np.inf)
        if seconds <= left and len(taken) < MOST["good"]:
            taken.append(name)
            left -= seconds
    return taken


def cost(sets: Sequence[Measured], name: str, each_class: bool) -> list[float] | None:
    """Fit CPU of a fit: fixed, for a thousand rows, for a thousand cells; by relative errors, none negative."""
    from scipy.optimize import nnls

    known = [one for one in sets if name in one.seconds]
    if not known:
        return None
    rows = np.array([one.table.n_rows * (1 - 1 / one.table.n_folds) / 1000 for one in known])
    trees = np.array([one.table.n_trees if each_class else 1 for one in known])
    columns = np.array([one.table.n_columns for one in known])
    seconds = np.array([one.seconds[name] for one in known]) + 0.02
    design = np.stack([np.ones(len(known)), rows * trees, rows * trees * columns], axis=1)
    found = nnls(design / seconds[:, None] ** 0.7, seconds**0.3)[0]
    return [float(f"{value:.2g}") for value in found]


def _write(lines: Sequence[str], costs: Mapping[str, list[float] | None]) -> None:
    """Put orders and costs into the table that comes with the package."""
    path = Path(portfolio_module.__file__).with_name("portfolio.toml")
    text = path.read_text("utf-8")
    text = text[: text.index("[[bands]]")] + "\n".join(lines).rstrip() + "\n"
    parts = re.split(r"(?m)^(?=\[members\.)", text)
    for place, part in enumerate(parts):
        name = part[len("[members.") :].partition("]")[0]
        if costs.get(name):
            parts[place] = re.sub(r"(?m)^seconds = .*$", f"seconds = {costs[name]}", part)
    path.write_text("".join(parts), "utf-8")


if __name__ == "__main__":
    main()
