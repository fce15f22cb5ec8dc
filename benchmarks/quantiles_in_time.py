"""Whether quantiles keep their levels in later rows: shifts by all earlier stretches, by later ones most, or none.

    python -m benchmarks.quantiles_in_time [--data ../shared/data] [--rows 6000] [--stretch 3464 --n-stretches 3]

In:  bike_sharing, its newest rows to train on; LightGBM, one fit for each quantile.
Out: a markdown table: pinball loss and coverage out of fold, forward in time, each stretch by models and shifts of
     earlier ones; and on the test rows, which come last. What members learn is the target or its logarithm; they read
     the day or not. What is chosen is chosen by the columns out of fold.
"""

from __future__ import annotations

import argparse
import os
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import lightgbm
import numpy as np
import pandas as pd

from benchmarks.quantiles import LEVELS, TABLES, inside, pinball, prepared
from stackfeat.tasks.quantile import weighted_quantiles

PARAMS = {"n_estimators": 150, "learning_rate": 0.06, "num_leaves": 15, "subsample": 0.8, "subsample_freq": 1}
HALVED = 0.5
"""How much a row of a stretch counts beside one of the next."""

SHIFTS = {"none": None, "all stretches": 1.0, "last stretch": 0.0, "each counts half of the next": HALVED}


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description="Quantiles of later rows.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", type=int, default=6_000)
    parser.add_argument("--stretch", type=int, help="rows of a stretch; default: as folds in time have it")
    parser.add_argument("--n-stretches", type=int, default=5)
    given = parser.parse_args()
    train, test, y_test = prepared(TABLES["bike_sharing"], given.data / "bike_sharing", given.rows)
    size, n = given.stretch or len(train) // (given.n_stretches + 1), given.n_stretches
    starts = [len(train) - (n - number) * size for number in range(n)]
    print(
        "| learns | reads the day | shift | pinball OOF | coverage OOF % | by stretch | test | coverage % |"
    )
    print("|---" * 8 + "|")
    for logged, dated in product((False, True), (False, True)):
        X, later = columns(train, test, dated)
        y = train["cnt"].to_numpy(dtype=float)
        learnt, back = (np.log1p(y), np.expm1) if logged else (y, np.asarray)
        said = [fitted(X[:at], learnt[:at], X[at : at + size]) for at in starts]
        left = [learnt[at : at + size, None] - one for at, one in zip(starts, said, strict=True)]
        whole = fitted(X, learnt, later)
        for shift, share in SHIFTS.items():
            moved = [back(np.sort(said[k] + shift_of(left[:k], share))) for k in range(1, n)]
            truth = [y[at : at + size] for at in starts[1:]]
            rows = np.concatenate(truth), np.concatenate(moved)
            each = [f"{100 * inside(*pair).mean():.0f}" for pair in zip(truth, moved, strict=True)]
            last = back(np.sort(whole + shift_of(left, share)))
            of_test = y_test.to_numpy(), last
            cells = [
                "logarithm" if logged else "target",
                "yes" if dated else "no",
                shift,
                *scores(*rows),
                " ".join(each),
                *scores(*of_test),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


def columns(train: pd.DataFrame, test: pd.DataFrame, dated: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return what is read of both: numbers, and the day where it is asked for."""
    both = pd.concat([train, test])
    days = (pd.to_datetime(both["dteday"]) - pd.Timestamp("2011-01-01")).dt.days
    numbers = both.drop(columns=["id", "dteday", "cnt"]).assign(**({"day": days} if dated else {}))
    values = numbers.to_numpy(dtype=float)
    return values[: len(train)], values[len(train) :]


def fitted(X: np.ndarray, y: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Return the quantiles of later rows, sorted."""
    made = [
        lightgbm.LGBMRegressor(
            objective="quantile",
            alpha=level,
            colsample_bytree=0.7,
            n_jobs=1,
            verbosity=-1,
            random_state=0,
            **PARAMS,
        )
        for level in LEVELS
    ]
    return np.sort(np.column_stack([one.fit(X, y).predict(later) for one in made]))


def shift_of(left: list[np.ndarray], share: float | None) -> np.ndarray:
    """Return by how much each quantile is moved, given what earlier stretches were off by, (n_levels,)."""
    if share is None:
        return np.zeros(len(LEVELS))
    weight = np.concatenate([np.full(len(one), share ** (len(left) - 1 - k)) for k, one in enumerate(left)])
    pairs = zip(np.concatenate(left).T, LEVELS, strict=True)
    return np.array([weighted_quantiles(one, np.array([level]), weight)[0] for one, level in pairs])


def scores(y: np.ndarray, said: np.ndarray) -> tuple[str, str]:
    """Return pinball loss and coverage as they stand in the table."""
    return f"{pinball(y, said).mean():.2f}", f"{100 * inside(y, said).mean():.1f}"


if __name__ == "__main__":
    main()
