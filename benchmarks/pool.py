"""What a pool costs and gives: synthetic files of a binary task, a greedy vote over them, then the same run again.

    python benchmarks/pool.py --files 100 --rows 50000 --folder /tmp/pool

Of 100 files 8 are real models of five fold assignments, 12 stopped on the fold that they predict, and 80 are
near-copies of the 8. Prints CPU seconds of the first and of the second run, the highest resident memory of this
process, and the vote's score beside its score on the test rows, whose labels the run has not. Files are made once for
a folder, and their making is not counted. --real-only leaves all but the real models out.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold, StratifiedKFold

from stackfeat.config import config_from_dict
from stackfeat.output.run_result import RunResult
from stackfeat.pipeline.run import run

N_STATES = 30
"""Of a model while it is trained; one that stops on its held-out fold takes the best of them by its labels."""
SPLITTERS = (
    StratifiedKFold(5, shuffle=True, random_state=42),
    KFold(5, shuffle=True, random_state=42),
    StratifiedKFold(10, shuffle=True, random_state=0),
    KFold(5, shuffle=True, random_state=2024),
    StratifiedKFold(5, shuffle=True, random_state=1),
)


def make_files(folder: Path, n_files: int, n_rows: int) -> None:
    """Write the data, the labels of the test rows, and the files of the pool: as many test rows as training rows."""
    rng = np.random.default_rng(0)
    truth = (1.2 * rng.normal(size=2 * n_rows)).astype(np.float32)
    y = (rng.random(2 * n_rows) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    ids = np.array([f"r{number}" for number in range(2 * n_rows)])
    for name in ("oof", "test"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    x = rng.normal(size=2 * n_rows).round(3)
    table = pd.DataFrame({"id": ids, "x": x, "y": y})
    table[:n_rows].to_csv(folder / "train.csv", index=False)
    table[n_rows:].drop(columns="y").to_csv(folder / "test.csv", index=False)
    table[n_rows:].to_csv(folder / "test_labels.csv", index=False)
    parts = {"oof": _ids(ids[:n_rows]), "test": _ids(ids[n_rows:])}
    for name, values in made_members(rng, truth, y, n_files):
        for part, rows in (("oof", values[:n_rows]), ("test", values[n_rows:])):
            _write(folder / part / f"{name}.csv", parts[part], 1 / (1 + np.exp(-rows)))


def made_members(
    rng: np.random.Generator, truth: np.ndarray, y: np.ndarray, n_files: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and log-odds of training rows, then of as many test rows."""
    n_real, n_stopped = max(n_files * 8 // 100, 1), n_files * 12 // 100
    n = len(truth) // 2
    family = rng.normal(size=(5, len(truth))).astype(np.float32)
    fold_of = [
        np.concatenate([np.full(len(held), fold) for fold, (_, held) in enumerate(parts)])[
            np.argsort(np.concatenate([held for _, held in parts]))
        ]
        for parts in (list(splitter.split(y[:n], y[:n])) for splitter in SPLITTERS)
    ]

    def noise(size: float) -> np.ndarray:
        return size * rng.standard_normal(len(truth), dtype=np.float32)

    def model(number: int) -> np.ndarray:
        """Return the rows of fold models, each a little off and a little too sure, or not sure enough."""
        clean = 0.8 * truth + 0.4 * family[number % 5] + noise(0.4)
        folds = fold_of[number % len(fold_of)]
        n_folds = int(folds.max()) + 1
        off, factor = 0.03 * rng.normal(size=n_folds), 1 + 0.03 * rng.normal(size=n_folds)
        values = np.concatenate(
            [clean[:n] * factor[folds] + off[folds], clean[n:] * factor.mean() + off.mean()]
        )
        return np.asarray(values, dtype=np.float32)

    def stopped(number: int) -> np.ndarray:
        folds, values = fold_of[number % len(fold_of)], model(number)
        best = np.full(int(folds.max()) + 1, np.inf)
        chosen, test = np.empty(n, np.float32), np.zeros((len(best), n), np.float32)
        for _ in range(N_STATES):
            state = values + noise(0.5)
            losses = np.log1p(np.exp(-(2 * y[:n] - 1) * state[:n]))
            means = np.bincount(folds, losses) / np.bincount(folds)
            for fold in np.flatnonzero(means < best):
                chosen[folds == fold], test[fold] = state[:n][folds == fold], state[n:]
            best = np.minimum(best, means)
        return np.concatenate([chosen, test.mean(axis=0)])

    real = []
    for number in range(n_real):
        real.append(model(number))
        yield f"real{number:02}", real[-1]
    for number in range(n_stopped):
        yield f"stopped{number:02}", stopped(number)
    for number in range(n_files - n_real - n_stopped):
        yield f"twin{number // n_real:02}of{number % n_real:02}", real[number % n_real] + noise(0.01)


def _ids(ids: np.ndarray) -> np.ndarray:
    """Return the characters of ids with a comma behind them, (n_rows, width); too short ones are spaces in front."""
    width = max(map(len, ids.tolist())) + 1
    return np.frombuffer("".join(f"{one},".rjust(width) for one in ids.tolist()).encode(), np.uint8).reshape(
        -1, width
    )


def _write(path: Path, ids: np.ndarray, proba: np.ndarray) -> None:
    """Write a csv file by its characters, which takes a tenth of the time of other ways."""
    digits = np.rint(np.clip(proba, 1e-5, 1 - 1e-5) * 1e5).astype(np.int64)
    cells = np.empty((len(ids), 8), np.uint8)
    cells[:, :2] = np.frombuffer(b"0.", np.uint8)
    for place in range(5):
        cells[:, 6 - place] = 48 + digits // 10**place % 10
    cells[:, 7] = ord("\n")
    rows = np.hstack([ids, cells]).ravel()
    path.write_bytes(b"id,prediction\n" + rows[rows != ord(" ")].tobytes())


def cpu_seconds() -> float:
    """Return user and system time of this process, which runs all jobs."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def on_fresh_rows(result: RunResult, folder: Path) -> tuple[float, float]:
    """Return the vote's mean log-loss on test rows, and its standard error."""
    y = pd.read_csv(folder / "test_labels.csv", index_col="id")["y"]
    yes = pd.read_csv(result.folder / "test/final.greedy.csv", index_col="id")["1"].loc[y.index]
    losses = -np.log(np.where(y == 1, yes, 1 - yes))
    return float(losses.mean()), float(losses.std() / np.sqrt(len(losses)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--metric", default="log_loss")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--real-only", action="store_true")
    parser.add_argument("--make-only", action="store_true")
    given = parser.parse_args()
    if not (given.folder / "train.csv").exists():
        make_files(given.folder, given.files, given.rows)
    if given.make_only:
        return
    files = "real*" if given.real_only else "*"
    values = {
        "task": "binary",
        "metric": given.metric,
        "data": {"train": "train.csv", "test": "test.csv", "id": "id", "target": "y"},
        "executor": {"kind": "inline"},
        "levels": {
            "base": {"mates": {"predictions": {"files": f"oof/{files}.csv", "test": f"test/{files}.csv"}}},
            "final": {"greedy": {"vote": "greedy", "inputs": ["base/mates:*"]}},
        },
        "submit": "greedy",
    }
    for name in ("first", "second"):
        before, started = cpu_seconds(), time.perf_counter()
        result = run(config_from_dict(values, given.folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{name} run: {cpu_seconds() - before:.1f} s of CPU, {time.perf_counter() - started:.0f} s; "
            f"{result.n_computed} jobs computed; peak {peak:.2f} GiB"
        )
    row = result.leaderboard.set_index("member").loc["greedy"]
    fresh, error = on_fresh_rows(result, given.folder)
    print(
        f"greedy: {row['score']:.5f} ± {row['se']:.5f} out of fold, {fresh:.5f} ± {error:.5f} on fresh rows"
    )


if __name__ == "__main__":
    main()
