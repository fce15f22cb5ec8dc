"""What a pool costs: synthetic files of a binary task, a greedy vote over them, then the same run again.

    python benchmarks/pool.py --files 100 --rows 50000 --folder /tmp/pool

Prints CPU seconds of the first and of the second run, and the highest resident memory of this process. Files are made
once for a folder, and their making is not counted. A tenth of the members are real; the others are near-copies.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd

from stackfeat.config import config_from_dict
from stackfeat.pipeline.run import run


def make_files(folder: Path, n_files: int, n_rows: int) -> None:
    """Write the data and the files of the pool: as many test rows as training rows."""
    rng = np.random.default_rng(0)
    truth = 1.2 * rng.normal(size=2 * n_rows)
    y = (rng.random(2 * n_rows) < 1 / (1 + np.exp(-truth))).astype(int)
    family = rng.normal(size=(5, 2 * n_rows))
    ids = np.array([f"r{number}" for number in range(2 * n_rows)])
    for name in ("oof", "test"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    x = rng.normal(size=2 * n_rows).round(3)
    pd.DataFrame({"id": ids[:n_rows], "x": x[:n_rows], "y": y[:n_rows]}).to_csv(
        folder / "train.csv", index=False
    )
    pd.DataFrame({"id": ids[n_rows:], "x": x[n_rows:]}).to_csv(folder / "test.csv", index=False)
    n_real = max(n_files // 10, 1)
    for number in range(n_files):
        if number < n_real:
            real = 0.8 * truth + 0.4 * family[number % 5] + 0.4 * rng.normal(size=2 * n_rows)
            (folder / "real").mkdir(exist_ok=True)
            np.save(folder / f"real/{number}.npy", real)
        else:
            real = np.load(folder / f"real/{number % n_real}.npy") + 0.01 * rng.normal(size=2 * n_rows)
        rows = pd.DataFrame({"id": ids, "prediction": (1 / (1 + np.exp(-real))).round(6)})
        rows[:n_rows].to_csv(folder / f"oof/m{number:03}.csv", index=False)
        rows[n_rows:].to_csv(folder / f"test/m{number:03}.csv", index=False)


def cpu_seconds() -> float:
    """Return user and system time of this process, which runs all jobs."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--metric", default="log_loss")
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    if not (given.folder / "train.csv").exists():
        make_files(given.folder, given.files, given.rows)
    values = {
        "task": "binary",
        "metric": given.metric,
        "data": {"train": "train.csv", "test": "test.csv", "id": "id", "target": "y"},
        "executor": {"kind": "inline"},
        "levels": {
            "base": {"mates": {"predictions": {"files": "oof/*.csv", "test": "test/*.csv"}}},
            "final": {"greedy": {"vote": "greedy", "inputs": ["base/mates:*"]}},
        },
    }
    for name in ("first", "second"):
        before, started = cpu_seconds(), time.perf_counter()
        result = run(config_from_dict(values, given.folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{name} run: {cpu_seconds() - before:.1f} s of CPU, {time.perf_counter() - started:.0f} s; "
            f"{result.n_computed} jobs computed; peak {peak:.2f} GiB; {result.submitted} {result.score:.5f}"
        )


if __name__ == "__main__":
    main()
