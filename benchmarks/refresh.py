"""What a refresh costs beside the run it follows.

In:  data sets; for each, what `init` writes (or the quickstart) is run on some rows, and refreshed on as many, of
     which the run knew two thirds. Modules are compiled before, as those of an installed package are.
Out: CPU seconds of both, all of their processes included, and their ratio: medians over rounds, in which the two
     take turns. With --against another checkout's refresh takes its turn on the same run.

    OMP_NUM_THREADS=1 python benchmarks/refresh.py [--sets quickstart,adult] [--rounds 5] [--against ../main]
"""

from __future__ import annotations

import argparse
import compileall
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent.parent
SETS = {
    "adult": ("income", 5_000),
    "california_housing": ("median_house_value", 4_000),
    "quickstart": ("target", 1_200),
}


def main() -> None:
    """Print a row for each set."""
    parser = argparse.ArgumentParser(description="CPU of a refresh, as a share of that of its run.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, help="another checkout, whose refresh is measured too")
    arguments = parser.parse_args()
    places = {"this": HERE} | ({} if arguments.against is None else {"other": arguments.against.resolve()})
    columns = ["run, s", *(f"refresh ({who}), s" for who in places), *(f"ratio ({who})" for who in places)]
    for place in places.values():
        compileall.compile_dir(place / "stackfeat", quiet=1)
    print("| set | rows | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 2) + "|")
    for name in arguments.sets.split(","):
        spent: dict[str, list[float]] = defaultdict(list)
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as folder:
                for who, seconds in one_round(name, arguments.data, Path(folder), places).items():
                    spent[who].append(seconds)
        run = np.array(spent.pop("run"))
        cells = [f"{np.median(run):.1f}", *(f"{np.median(one):.1f}" for one in spent.values())]
        cells += [f"{np.median(np.array(one) / run):.2f}" for one in spent.values()]
        print(f"| {name} | {SETS[name][1]:,} | " + " | ".join(cells) + " |", flush=True)


def one_round(name: str, source: Path, folder: Path, places: dict[str, Path]) -> dict[str, float]:
    """Return the CPU seconds of a run and of each checkout's refresh of it."""
    target, n_rows = SETS[name]
    frame = rows_of(name, source)
    frame.head(n_rows).to_csv(folder / "train.csv", index=False)
    frame.iloc[n_rows // 3 : n_rows // 3 + n_rows].to_csv(folder / "new.csv", index=False)
    if name == "quickstart":
        shutil.copy(HERE / "configs" / "quickstart.yaml", folder / "config.yaml")
        changes = ["--set", "data.train=train.csv", "--set", "data.test=null", "--set", "outputs.dir=run"]
    else:
        cpu_of(HERE, folder, "init", "train.csv", "--target", target)
        changes = ["--set", "outputs.dir=run"]
    spent = {"run": cpu_of(HERE, folder, "run", "config.yaml", *changes)}
    for who, place in places.items():
        # A store of its own: neither finds fits of the other.
        own = shutil.copytree(folder, folder.parent / f"{folder.name}-{who}")
        spent[who] = cpu_of(place, own, "refresh", "run", "--train", "new.csv")
        shutil.rmtree(own)
    return spent


def rows_of(name: str, source: Path) -> pd.DataFrame:
    """Return the rows of a set in a seeded order."""
    if name == "quickstart":
        frame = load_digits(as_frame=True).frame
        # A refresh refuses columns that have no two values in its rows.
        frame = frame[[name for name in frame if (frame[name] != frame[name].mode()[0]).mean() > 0.01]]
    else:
        frame = pd.read_parquet(source / name / "data.parquet")
        frame = frame[frame["split"] == "train"].drop(columns="split")
    return frame.sample(frac=1.0, random_state=0).reset_index(drop=True)


def cpu_of(place: Path, folder: Path, *arguments: str) -> float:
    """Run a command of a checkout; return the CPU seconds of all of its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "stackfeat", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(place)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
