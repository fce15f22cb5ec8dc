"""What extra rows, which only train, are worth to LightGBM: rows like the others, with wrong labels, or shifted.

    python -m benchmarks.extra_rows FILE [--data DIR] [--sets adult,taxi_fares] [--rows 5000]
    python -m benchmarks.extra_rows FILE --show

Training parts alone. Two fifths of the rows (of other groups) stand for a file of extra rows; the others are in five
folds by class, by group or by time. The control are two seeds of LightGBM without extra rows, the trial the same two
seeds with them: `auto_*` where inner folds do not speak against them, `full_*` always. A set's results are a line of
JSON in FILE.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.members import gain, held_back, load, main  # first: it sets the number of threads

# isort: split
import lightgbm as lgb
import numpy as np
import pandas as pd

from benchmarks.derived_columns import Data, booster, predicted, rounds_of, row_loss


def alike(back: Data, reference: Data) -> Data:
    return back


def noisy(back: Data, reference: Data) -> Data:
    """A fifth of the labels are those of other rows."""
    rng = np.random.default_rng(0)
    return replace(back, y=np.where(rng.random(len(back.y)) < 0.2, rng.permutation(back.y), back.y))


def shifted(back: Data, reference: Data) -> Data:
    """Numbers of another instrument: half a deviation more or less, by column."""
    numbers = reference.X.select_dtypes("number")
    signs = np.random.default_rng(0).choice([-0.5, 0.5], numbers.shape[1])
    X = back.X.copy()
    X[numbers.columns] = X[numbers.columns] + signs * numbers.std()
    return replace(back, X=X)


EXTRA: dict[str, Callable[[Data, Data], Data]] = {"alike": alike, "noisy": noisy, "shifted": shifted}
SEEDS = (0, 1)
KINDS = [f"{way}_{name}" for way in ("auto", "full") for name in EXTRA]


def allowed(extra: Data, held: Data) -> Data:
    """Extra rows that do not equal a held-out row in all features, share a group or come later in time."""
    own, others = (pd.util.hash_pandas_object(each.X, index=False).to_numpy() for each in (extra, held))
    kept = ~np.isin(own, others)
    if held.dates is not None and extra.dates is not None:
        kept &= (extra.dates < held.dates.min()).to_numpy()
    elif held.group is not None:
        kept &= ~np.isin(extra.group, held.group)
    return extra.take(np.flatnonzero(kept))


def joined(train: Data, extra: Data) -> Data:
    return replace(
        train,
        X=pd.concat([train.X, extra.X], ignore_index=True),
        y=np.concatenate([train.y, extra.y]),
        group=None,
        dates=None,
    )


def rounds_with(train: Data, extra: Data) -> int:
    """Return how many rounds suit the last inner fold with extra rows."""
    inside, outside = list(train.splits(1))[-1]
    inner, judged = train.take(inside), train.take(outside)
    whole = joined(inner, allowed(extra, judged))
    found = booster(train, 0, 1000).fit(
        whole.X,
        whole.y,
        eval_set=[(judged.X, judged.y)],
        callbacks=[lgb.early_stopping(30, verbose=False)],
    )
    return max(int(found.best_iteration_), 5)


def worth(train: Data, extra: Data, n_rounds: tuple[int, int]) -> bool:
    """Whether extra rows do not raise the mean loss of inner folds."""
    gains = []
    for inside, outside in train.splits(1):
        inner, judged = train.take(inside), train.take(outside)
        parts = (inner, joined(inner, allowed(extra, judged)))
        fits = [booster(train, 0, n).fit(part.X, part.y) for part, n in zip(parts, n_rounds, strict=True)]
        without, beside = (row_loss(judged, predicted(fit, judged.X, train)) for fit in fits)
        gains.append((without - beside).mean())
    return float(np.mean(gains)) >= 0


def judge(name: str, folder: Path, n_rows: int, kinds: Collection[str]) -> dict[str, Any]:
    """Return gains and standard errors of extra rows, and in how many folds they were let in."""
    data, back = held_back(load(name, folder, n_rows))
    losses = {kind: np.full(len(data.y), np.nan) for kind in ("control", "placebo", *KINDS)}
    seconds, n_in = dict.fromkeys(KINDS, 0.0), dict.fromkeys(EXTRA, 0)

    def loss_of(rows: Data, held: Data, n_rounds: int, seeds: tuple[int, ...] = SEEDS) -> np.ndarray:
        fits = [booster(rows, seed, n_rounds).fit(rows.X, rows.y) for seed in seeds]
        return np.mean([row_loss(held, predicted(fit, held.X, data)) for fit in fits], axis=0)

    for inside, outside in data.splits(0):
        train, held = data.take(inside), data.take(outside)
        plain = rounds_of(train, train.X)
        losses["control"][outside] = loss_of(train, held, plain)
        losses["placebo"][outside] = loss_of(train, held, plain, (2, 3))
        for kind, change in EXTRA.items():
            started = time.process_time()
            extra = allowed(change(back, data), held)
            rounds = rounds_with(train, extra)
            full = loss_of(joined(train, extra), held, rounds)
            seconds[f"full_{kind}"] += time.process_time() - started
            is_in = worth(train, extra, (plain, rounds))
            n_in[kind] += is_in
            losses[f"full_{kind}"][outside] = full
            losses[f"auto_{kind}"][outside] = full if is_in else losses["control"][outside]
            seconds[f"auto_{kind}"] += time.process_time() - started
    done = ~np.isnan(losses["control"])
    control = losses.pop("control")[done]
    found = {kind: gain(control, each[done], data.cluster[done]) for kind, each in losses.items()}
    return {
        "set": name,
        "rows": int(done.sum()),
        "kinds": {kind: {"alone": each} for kind, each in found.items()},
        "losses": {"control": float(control.mean())},
        "seconds": seconds,
        "let_in": n_in,
    }


if __name__ == "__main__":
    main(judge, KINDS, ("alone",), __doc__)
