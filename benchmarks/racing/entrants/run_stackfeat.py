"""stackfeat as a newcomer uses it: `init` with a preset, then `run` with the test file in the run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

DONE = (0, 4, 5)
"""Exit codes that leave a submission: done, in part, at the time limit."""


def main() -> None:
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    for name in ("train.csv", "test.csv"):
        shutil.copy(folder / name, scratch / name)
    stackfeat = [sys.executable, "-m", "stackfeat"]
    subprocess.run([*stackfeat, *first_config(job)], cwd=scratch, check=True)
    if job["clock"] == "cpu" and job["seconds"]:
        stackfeat = [sys.executable, str(Path(__file__).with_name("stackfeat_by_cpu.py")), str(job["cores"])]
    code = subprocess.run([*stackfeat, "run", "config.yaml"], cwd=scratch).returncode
    runs = list(scratch.glob("runs/*"))
    if code not in DONE or len(runs) != 1 or not (runs[0] / "submission.csv").exists():
        sys.exit(code or 1)
    submission = pd.read_csv(runs[0] / "submission.csv")
    if job["task"] != "multiclass":
        submission.columns = ["id", "prediction"]
    submission.to_csv(folder / "predictions.csv", index=False)
    board = pd.read_csv(runs[0] / "leaderboard.csv")
    kept = board[["level", "member", "score", "se", "seconds"]].to_dict("records")
    scores = json.loads((runs[0] / "scores.json").read_text())
    notes = {
        "code": code,
        "leaderboard": kept,
        "scores": scores,
        "config": (scratch / "config.yaml").read_text(),
    }
    (folder / "notes.json").write_text(json.dumps(notes))


def first_config(job: dict[str, Any]) -> list[str]:
    """Return the arguments of `init`."""
    given = ["init", "train.csv", "--target", job["target"], "--test", "test.csv", "--id", "id"]
    given += ["--metric", job["metric"], "--preset", job["preset"]]
    given += ["--time", job["time"]] if job["time"] else []
    return given + (["--limit", f"{job['seconds']}s"] if job["seconds"] else [])


if __name__ == "__main__":
    main()
