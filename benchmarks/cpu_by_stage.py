"""Tell where the CPU of a default run goes: fits of each kind of member, alignment across folds, and all the rest.

In:  training files with their targets, each cut to some rows; for each, what `init` writes is run in one process.
Out: a markdown table of CPU seconds. Fits of nets hold their training, the reading of their layers and the encodings
     within a fold. The rest is what passes between jobs: reading data, planning, scores with their bootstraps,
     diagnoses of blocks, and writing.

    OMP_NUM_THREADS=1 python benchmarks/cpu_by_stage.py ../shared/data/letter/data.parquet:class [--rows 2000]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import pandas as pd

import stackfeat
from stackfeat.config.portfolio import Portfolio
from stackfeat.output.events import Event, JobDone, JobFailed, JobStarted

COLUMNS = ("nets", "trees", "other base", "align", "meta", "votes", "rest", "all")

SEED = 0


def main() -> None:
    """Print a row for each file."""
    parser = argparse.ArgumentParser(description="CPU seconds of a default run by stage.")
    parser.add_argument("files", nargs="+", metavar="FILE:TARGET", help="parquet or csv, and the target")
    parser.add_argument("--rows", type=int, default=2000, help="training rows at most (default 2000)")
    parser.add_argument("--preset", default="good")
    arguments = parser.parse_args()
    print("| data set | rows | " + " | ".join(COLUMNS) + " |\n" + "|---" * (len(COLUMNS) + 2) + "|")
    for text in arguments.files:
        file, _, target = text.rpartition(":")
        rows = read_rows(Path(file), target, arguments.rows)
        with tempfile.TemporaryDirectory() as folder:
            spent = spent_on(rows, target, Path(folder), arguments.preset)
        name = Path(file).parent.name if Path(file).stem == "data" else Path(file).stem
        cells = " | ".join(f"{spent[column]:.1f}" for column in COLUMNS)
        print(f"| {name} | {len(rows):,} | {cells} |", flush=True)


def read_rows(file: Path, target: str, n_rows: int) -> pd.DataFrame:
    """Return a seeded sample of the rows that have a target."""
    frame = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
    frame = frame[frame[target].notna()].drop(columns="split", errors="ignore")
    return frame.sample(min(n_rows, len(frame)), random_state=SEED).reset_index(drop=True)


def spent_on(rows: pd.DataFrame, target: str, folder: Path, preset: str) -> dict[str, float]:
    """Run what `init` writes; return CPU seconds by column of the table."""
    rows.to_csv(folder / "train.csv", index=False)
    command = [sys.executable, "-m", "stackfeat", "init", "train.csv", "--target", target, "--preset", preset]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    stages = Stages()
    overrides = ["executor.kind=inline", "executor.threads_per_job=1"]
    stackfeat.run(folder / "config.yaml", overrides=overrides, progress=stages)
    stages.spend("rest")
    stages.spent["all"] = sum(stages.spent.values())
    return stages.spent


class Stages:
    """Takes the CPU time when a job begins and when it ends; what passes between jobs is the rest."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.last = time.process_time()

    def __call__(self, event: Event) -> None:
        """Take note of an event of the run, whose jobs are done one after the other here."""
        if isinstance(event, JobStarted):
            self.spend("rest")
        elif isinstance(event, JobDone):
            self.spend(stage_of(event))
        elif isinstance(event, JobFailed):
            raise RuntimeError(f"{event.job} failed: {event.error}")

    def spend(self, stage: str) -> None:
        """Put down the time since the last call."""
        now = time.process_time()
        self.spent[stage] += now - self.last
        self.last = now


def stage_of(job: JobDone) -> str:
    """Return the column of the table that a job counts for, by the names that first configs use."""
    level, _, member = job.member.partition("/")
    if not re.search(r" (fold \d+|all folds)$", job.job):
        return "align"
    if level != "base":
        return "votes" if level == "final" else "meta"
    options = Portfolio.load().members.get(member, {})
    if "net" in options:
        return "nets"
    return "other base" if member in ("linear", "knn") else "trees"


if __name__ == "__main__":
    main()
