"""CPU time of reading a wide table, for each kind of file: in all, and for one column.

In:  the number of rows and columns; the tables are made up.
Out: a table on stdout.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from stackfeat.data.options import DataOptions
from stackfeat.data.schema.load import load, load_rows

KINDS = ("number", "whole", "missing", "truth", "word", "day")


def mixed_table(n_rows: int, n_columns: int, seed: int = 0) -> pd.DataFrame:
    """Return columns of all kinds in turn, and a target of two classes."""
    rng = np.random.default_rng(seed)
    days = pd.date_range("2020-01-01", periods=n_rows).strftime("%Y-%m-%d").to_numpy(dtype=object)
    columns: dict[str, np.ndarray] = {}
    for j in range(n_columns):
        kind = KINDS[j % len(KINDS)]
        numbers = rng.normal(size=n_rows).round(4)
        columns[f"{kind}_{j}"] = {
            "number": lambda numbers=numbers: numbers,
            "whole": lambda: rng.integers(0, 50, n_rows),
            "missing": lambda numbers=numbers: np.where(rng.random(n_rows) < 0.1, np.nan, numbers),
            "truth": lambda: rng.random(n_rows) < 0.5,
            "word": lambda: rng.choice(["red", "green", "blue"], n_rows).astype(object),
            "day": lambda: rng.permutation(days),
        }[kind]()
    return pd.DataFrame({**columns, "target": rng.choice(["no", "yes"], n_rows)})


def files(folder: Path, n_rows: int, n_columns: int) -> Iterator[Path]:
    """Write the table in each format and yield the paths."""
    mixed = mixed_table(n_rows, n_columns)
    mixed.to_csv(folder / "mixed.csv", index=False)
    mixed.to_parquet(folder / "mixed.parquet")
    mixed.to_feather(folder / "mixed.feather")
    numbers = np.random.default_rng(0).normal(size=(n_rows, n_columns)).round(4)
    frame = pd.DataFrame(numbers, columns=[f"x{j}" for j in range(n_columns)])
    frame.assign(target=mixed["target"]).to_csv(folder / "numbers.csv", index=False)
    np.savez(folder / "numbers.npz", X=numbers, y=mixed["target"].to_numpy(dtype="U3"))
    yield from sorted(folder.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--columns", type=int, default=10_000)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    load(DataOptions(train="sklearn:iris"), Path(), "multiclass", "log_loss")
    with tempfile.TemporaryDirectory() as folder:
        print("| file | training file, s | later file, s | one column, ms |\n|---|---|---|---|")
        for path in files(Path(folder), given.rows, given.columns):
            options = DataOptions(train=path.name)
            times = [time.process_time()]
            loaded = load(options, path.parent, "binary", "log_loss")
            times.append(time.process_time())
            load_rows(path, loaded.schema, options)
            times.append(time.process_time())
            first, later = np.diff(times)
            print(f"| {path.name} | {first:.2f} | {later:.2f} | {1000 * first / given.columns:.2f} |")


if __name__ == "__main__":
    main()
