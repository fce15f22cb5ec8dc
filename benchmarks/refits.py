"""Whether models fitted once more on all rows predict better than those that folds have fitted anyway.

    python -m benchmarks.refits FILE [--data DIR] [--sets bike_sharing,letter] [--seeds 2]
    python -m benchmarks.refits FILE --show

In:  training parts of data sets. A pseudo-test is the block that follows a stretch in order, or a random fifth.
Out: a line of JSON in FILE for each pseudo-test and learner: the loss of the control and of the refit (RMSE in order,
     else log-loss or squared error), the gain, and its standard error over ten blocks in order, or rows.

In order the control is the model of the last pipeline, which has not seen the newest twentieth; else the mean of five
fold models. Both sides have the same seeds, and the vote is the mean of boosting and net. Of bike_sharing only rows
before those that races hold out are read. What stands in FILE is not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import lightgbm as lgb  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.model_selection import KFold, StratifiedKFold  # noqa: E402

import stackfeat as sf  # noqa: E402

N_FOLDS, N_ROWS, N_BLOCKS, N_RESAMPLES = 5, 3_000, 10, 2_000
NEWEST, FEWEST_NEWEST = 20, 100
"""The last pipeline misses one row in so many, and no fewer than this."""


@dataclass(frozen=True)
class Arena:
    """A set: target, rounds and epochs; cuts and the length of the block behind each, where rows have an order."""

    target: str
    rounds: int = 150
    epochs: int = 12
    order: tuple[str, ...] = ()
    cuts: tuple[int, ...] = ()
    block: int = 0
    drop: tuple[str, ...] = ()
    n_rows: int | None = None
    is_value: bool = False

    def rows(self, folder: Path) -> pd.DataFrame:
        frame = pd.read_parquet(folder / "data.parquet", filters=[("split", "==", "train")])
        frame = frame.drop(columns=["id", "split", *self.drop]).iloc[: self.n_rows]
        return frame.sort_values(list(self.order), kind="stable") if self.order else frame


BIKE = tuple(range(3_241, 9_242, 1_000))
SETS = {
    "bike_sharing": Arena("cnt", order=("dteday",), cuts=BIKE, block=1_000, n_rows=10_241, is_value=True),
    # Its rows have no date: later in the week is not later in time.
    "taxi_fares": Arena(
        "fare", order=("weekday", "hour"), cuts=tuple(range(2_325, 4_326, 500)), block=500, is_value=True
    ),
    "california_housing": Arena("median_house_value", rounds=200, epochs=40, is_value=True),
    "taxi_fares at random": Arena("fare", rounds=60, is_value=True),
    "adult": Arena("income", rounds=60),
    "higgs_small": Arena("target", rounds=60),
    "letter": Arena("class", rounds=90, epochs=40),
    "titanic": Arena("Survived", rounds=60, drop=("Name", "Ticket", "Cabin")),
}


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description="Refits against the models of folds.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    lines = given.file.read_text("utf-8").splitlines() if given.file.exists() else []
    done = [json.loads(line) for line in lines]
    if given.show:
        print(pd.DataFrame(done).assign(z=lambda t: t["gain"] / t["se"]).round(4).to_string())
        return
    known = {(line["set"], line["test"]) for line in done}
    for name in given.sets.split(","):
        arena = SETS[name]
        frame = arena.rows(given.data / name.split()[0])
        for test in arena.cuts or (0, 1):
            if (name, test) not in known:
                found = measure(arena, frame, test, given.seeds)
                with given.file.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps({"set": name, "test": test, **line}) + "\n" for line in found)


def measure(arena: Arena, frame: pd.DataFrame, test: int, n_seeds: int) -> Iterator[dict[str, Any]]:
    """Yield what control and refit lose on one pseudo-test, for boosting, the net and their vote."""
    if arena.cuts:
        train, new = frame.iloc[:test], frame.iloc[test : test + arena.block]
        last = test - max(FEWEST_NEWEST, test // NEWEST)
        fits = [np.arange(last)]
    else:
        drawn = np.random.default_rng(test).permutation(len(frame))[:N_ROWS]
        n_new = len(drawn) // N_FOLDS
        new, train = frame.iloc[drawn[:n_new]], frame.iloc[drawn[n_new:]]
        folds = (KFold if arena.is_value else StratifiedKFold)(N_FOLDS, shuffle=True, random_state=0)
        fits = [rows for rows, _ in folds.split(train, train[arena.target])]
    columns, later = columns_of(arena, train, new)
    y, truth = train[arena.target].to_numpy(), new[arena.target].to_numpy()
    grown = len(train) / len(fits[0])
    sides: dict[str, list[np.ndarray]] = {"boosting": [], "the same rounds": [], "net": []}
    for seed in range(n_seeds):
        for rows in fits:
            sides["boosting"].append(boosting(arena, seed, 1.0)(columns.iloc[rows], y[rows])(later))
            sides["net"].append(net(arena, seed)(columns.iloc[rows], y[rows])(later))
    whole = {
        "boosting": [boosting(arena, seed, grown)(columns, y)(later) for seed in range(n_seeds)],
        "the same rounds": [boosting(arena, seed, 1.0)(columns, y)(later) for seed in range(n_seeds)],
        "net": [net(arena, seed)(columns, y)(later) for seed in range(n_seeds)],
    }
    sides["the same rounds"] = sides["boosting"]
    pairs = {who: (np.mean(sides[who], axis=0), np.mean(whole[who], axis=0)) for who in sides}
    for name, who in (("vote", "boosting"), ("vote, the same rounds", "the same rounds")):
        pairs[name] = tuple((one + other) / 2 for one, other in zip(pairs[who], pairs["net"], strict=True))  # type: ignore[assignment]
    for who, (control, refit) in pairs.items():
        losses = [row_losses(arena, truth, prediction, np.unique(y)) for prediction in (control, refit)]
        yield {"learner": who, **compared(losses[0], losses[1], in_order=bool(arena.cuts))}


def columns_of(arena: Arena, train: pd.DataFrame, new: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return columns without the target and the date, which is no feature of a run either."""
    both = pd.concat([train, new]).drop(columns=[arena.target, "dteday"], errors="ignore")
    texts = [name for name in both if not pd.api.types.is_numeric_dtype(both[name])]
    both = both.astype(dict.fromkeys(texts, "category")).reset_index(drop=True)
    return both.iloc[: len(train)], both.iloc[len(train) :]


def boosting(arena: Arena, seed: int, grown: float) -> Callable[..., Callable[[pd.DataFrame], np.ndarray]]:
    """Return a function from columns and targets to one that predicts; `grown` scales the rounds."""
    kind = lgb.LGBMRegressor if arena.is_value else lgb.LGBMClassifier
    sampled = {"subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.7}
    own = {"n_estimators": round(arena.rounds * grown), "learning_rate": 0.1, "num_leaves": 20, **sampled}
    return lambda X, y: said_by(arena, kind(**own, random_state=seed, n_jobs=1, verbosity=-1).fit(X, y))


def net(arena: Arena, seed: int) -> Callable[..., Callable[[pd.DataFrame], np.ndarray]]:
    """Return the same of a small net."""
    kind = sf.NetRegressor if arena.is_value else sf.NetClassifier
    own = {"net_params": {"hidden": [128, 64], "dropout": 0.1}, "epochs": arena.epochs, "random_state": seed}
    return lambda X, y: said_by(arena, kind("mlp", **own).fit(X, y))


def said_by(arena: Arena, model: Any) -> Callable[[pd.DataFrame], np.ndarray]:
    return model.predict if arena.is_value else model.predict_proba  # type: ignore[no-any-return]


def row_losses(arena: Arena, y: np.ndarray, prediction: np.ndarray, classes: Sequence[Any]) -> np.ndarray:
    if arena.is_value:
        return np.asarray((y - prediction) ** 2)
    own = prediction[np.arange(len(y)), np.searchsorted(classes, y)]
    return np.asarray(-np.log(np.clip(own, 1e-15, 1)))


def compared(control: np.ndarray, refit: np.ndarray, *, in_order: bool) -> dict[str, float]:
    """Return both losses, by how much the refit is better, and the standard error of that."""
    if not in_order:
        gap = control - refit
        error = gap.std(ddof=1) / np.sqrt(len(gap))
        return {
            "control": float(control.mean()),
            "refit": float(refit.mean()),
            "gain": float(gap.mean()),
            "se": float(error),
        }
    parts = np.array_split(np.arange(len(control)), N_BLOCKS)
    sums = np.array([[side[part].sum() for part in parts] for side in (control, refit)])
    sizes = np.array([len(part) for part in parts])
    drawn = np.random.default_rng(0).integers(0, N_BLOCKS, (N_RESAMPLES, N_BLOCKS))
    before, after = np.sqrt(sums[:, drawn].sum(axis=2) / sizes[drawn].sum(axis=1))
    error = (before - after).std() * np.sqrt(N_BLOCKS / (N_BLOCKS - 1))
    one, other = np.sqrt(control.mean()), np.sqrt(refit.mean())
    return {"control": float(one), "refit": float(other), "gain": float(one - other), "se": float(error)}


if __name__ == "__main__":
    main()
