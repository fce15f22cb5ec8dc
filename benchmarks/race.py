"""Race stackfeat against AutoGluon, LightGBM and scikit-learn's stack at equal CPU time, on splits of training parts.

In:  data sets as folders NAME/data.parquet (id, split, features, target); of them only rows marked train are read.
Out: WORK/results.jsonl, a line for each result; only failures are run again; a folder WORK/NAME-SEED-ENTRANT with
     what the entrant got, predicted and noted; markdown tables.

    python benchmarks/race.py --cpu 300 --cores 1 [--sets adult,titanic] [--entrants lightgbm,autogluon-best]
    python benchmarks/race.py --show
    python benchmarks/race.py --final ...    once, at the very end: whole training parts, the test rows' labels

The budget is CPU seconds: 300 on 2 cores are a limit of 150 s of wall time. Processes are pinned to the cores, and
the CPU really used is that of an entrant's whole tree of processes, imports and predictions included. AutoGluon gets
an environment of its own, which is made on first use, or `--autogluon-python` names one; without it the rest races.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import pandas as pd  # noqa: E402

from benchmarks.racing.measured_process import run_measured  # noqa: E402
from benchmarks.racing.sets import SETS, RaceSet, Split, final, read_training_part, split  # noqa: E402
from benchmarks.racing.tables import Result, tables  # noqa: E402

AUTOGLUON = "autogluon.tabular[lightgbm,catboost,xgboost,fastai]==1.6.*"
"""All that `best` and `best_v150` fit; without ray, so that folds are fitted one after another in one process."""

FINAL = "final"

RUNNING = "running"
"""The file in an entrant's folder that names the process of the race it runs in."""


@dataclass(frozen=True)
class Entrant:
    """Who races: a script, a preset of it, and whether it is told the time that the CPU budget gives."""

    script: str
    preset: str = ""
    limited: bool = True

    @property
    def needs_autogluon(self) -> bool:
        return self.script == "run_autogluon"


ENTRANTS = {
    "autogluon-best": Entrant("run_autogluon", "best"),
    "autogluon-best_v150": Entrant("run_autogluon", "best_v150"),
    "stackfeat-best": Entrant("run_stackfeat", "best"),
    "stackfeat-good": Entrant("run_stackfeat", "good", limited=False),
    "lightgbm": Entrant("run_lightgbm", "defaults", limited=False),
    "lightgbm-stopped": Entrant("run_lightgbm", "stopped", limited=False),
    "sklearn-stack": Entrant("run_sklearn_stack", limited=False),
}


def main() -> None:
    """Race what is not there yet; print the tables."""
    given = arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    results = given.work / "results.jsonl"
    if sys.platform != "linux":
        sys.exit("a race pins processes and adopts their orphans, which needs Linux; got " + sys.platform)
    stopped = False
    try:
        if not given.show:
            race(given, results)
    except KeyboardInterrupt:
        stopped = True
        print("interrupted: the same command goes on with what is not there yet")
    print(tables(read_results(results), given.work, given.against))
    sys.exit(130 if stopped else 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpu", type=int, default=300, help="CPU seconds of those who take a limit (300)")
    parser.add_argument("--cores", type=int, default=2, help="the last N cores that this process may use (2)")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: limits count CPU, on a busy machine"
    )
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--entrants", default=",".join(ENTRANTS))
    parser.add_argument("--seeds", default="0", help="splits, such as 0,1,2,3,4 (default 0)")
    parser.add_argument("--rows", type=int, help="race on that many rows of each set")
    parser.add_argument("--data", type=Path, default=REPOSITORY / "../shared/data")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "work/race")
    parser.add_argument("--autogluon-python", type=Path, help="a Python that can import autogluon.tabular")
    parser.add_argument("--stackfeat-python", type=Path, default=Path(sys.executable))
    parser.add_argument(
        "--tag", default="", help="added to the names of stackfeat's entrants, as for a version"
    )
    parser.add_argument("--against", default="stackfeat-best", help="whom paired differences are taken from")
    parser.add_argument("--keep", action="store_true", help="keep models and stores (gigabytes)")
    parser.add_argument("--show", action="store_true", help="print the tables of what is there")
    parser.add_argument("--final", action="store_true", help="whole training parts, scored on the test rows")
    given = parser.parse_args()
    given.sets, given.entrants = given.sets.split(","), given.entrants.split(",")
    given.seeds = [FINAL] if given.final else given.seeds.split(",")
    check_names("sets", given.sets, SETS)
    check_names("entrants", given.entrants, ENTRANTS)
    given.data, given.work = given.data.resolve(), given.work.resolve()
    return given


def check_names(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    """End with what there is, where a name is unknown."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        sys.exit(f"{what} must be of {', '.join(known)}; got {', '.join(unknown)}")


def race(given: argparse.Namespace, results: Path) -> None:
    """Run every entrant on every set and split that has no result yet."""
    cores = sorted(os.sched_getaffinity(0))[-given.cores :]
    if len(cores) < given.cores:
        sys.exit(f"--cores {given.cores} needs as many cores; this process may use {len(cores)}")
    autogluon = autogluon_python(given) if any(ENTRANTS[n].needs_autogluon for n in given.entrants) else None
    for seed in given.seeds:
        for set_name in given.sets:
            race_set, rows = SETS[set_name], None
            for name in given.entrants:
                entrant = ENTRANTS[name]
                python = autogluon if entrant.needs_autogluon else given.stackfeat_python
                label = name + given.tag * (entrant.script == "run_stackfeat")
                key = (set_name, seed, label, given.cpu, given.cores, given.rows)
                done = {result.key for result in read_results(results) if result.score is not None}
                if python is None or key in done or is_running(given.work / Result.folder_of(key)):
                    continue
                if rows is None:
                    rows = rows_of(race_set, seed, given)
                result = run_one(key, entrant, rows, cores, python, given)
                with results.open("a") as file:
                    print(json.dumps(asdict(result)), file=file)
                print(result.line(), flush=True)


def is_running(folder: Path) -> bool:
    """Whether another race is at it."""
    file = folder / RUNNING
    return file.exists() and Path(f"/proc/{file.read_text()}").exists()


def rows_of(race_set: RaceSet, seed: str, given: argparse.Namespace) -> Split:
    """Return the split of a seed, or for the last score all training rows and the test rows."""
    if seed == FINAL:
        return final(given.data, race_set)
    return split(read_training_part(given.data, race_set), race_set, int(seed), given.rows)


def run_one(
    key: tuple[str, str, str, int, int, int | None],
    entrant: Entrant,
    rows: Split,
    cores: Sequence[int],
    python: Path,
    given: argparse.Namespace,
) -> Result:
    """Run an entrant in a fresh folder and score what it predicts; a failure is a result without a score."""
    race_set, seed = SETS[key[0]], key[1]
    folder = given.work / Result.folder_of(key)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "scratch").mkdir(parents=True)
    (folder / RUNNING).write_text(str(os.getpid()))
    rows.train.to_csv(folder / "train.csv", index=False)
    rows.held_out.to_csv(folder / "test.csv", index=False)
    seconds = given.cpu // given.cores if entrant.limited else 0
    job: dict[str, Any] = {
        "target": race_set.target,
        "task": race_set.task,
        "metric": race_set.metric,
        "time": race_set.time,
    }
    job |= {"seconds": seconds, "cores": len(cores), "preset": entrant.preset, "clock": given.clock}
    job |= {"seed": 0 if seed == FINAL else int(seed)}
    (folder / "job.json").write_text(json.dumps(job))
    script = REPOSITORY / "benchmarks/racing/entrants" / f"{entrant.script}.py"
    spent = run_measured(
        [str(python), str(script), str(folder)],
        folder / "scratch",
        cores=cores,
        most_seconds=20 * given.cpu + 600,
        log=folder / "log.txt",
    )
    score = None
    predictions = folder / "predictions.csv"
    if spent.code == 0 and predictions.exists():
        predicted = pd.read_csv(predictions).set_index("id").loc[rows.held_out["id"]]
        score = race_set.score(rows.labels.reset_index(drop=True), predicted.reset_index(drop=True))
    rows.labels.rename("label").to_frame().assign(id=rows.held_out["id"].to_numpy()).to_csv(
        folder / "labels.csv", index=False
    )
    for name in [RUNNING] if given.keep else [RUNNING, "scratch", "train.csv", "test.csv"]:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Result(
        *key,
        metric=race_set.metric,
        score=score,
        n_train=len(rows.train),
        n_held_out=len(rows.held_out),
        cpu=round(spent.cpu, 1),
        wall=round(spent.wall, 1),
        megabytes=round(spent.megabytes),
        load=round(spent.load, 1),
        code=spent.code,
        clock=given.clock if entrant.limited else "",
        version=version_of(entrant, python),
        ended=time.strftime("%Y-%m-%d %H:%M:%S"),
    )


def version_of(entrant: Entrant, python: Path) -> str:
    """Return the version of the entrant's package, for stackfeat the commit too."""
    package = {
        "run_autogluon": "autogluon.tabular",
        "run_lightgbm": "lightgbm",
        "run_sklearn_stack": "scikit-learn",
    }
    if entrant.script in package:
        code = f"from importlib.metadata import version; print(version({package[entrant.script]!r}))"
        return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def autogluon_python(given: argparse.Namespace) -> Path | None:
    """Return a Python with AutoGluon, installing it into WORK/autogluon on first use; None where that fails."""
    python = given.autogluon_python or given.work / "autogluon/bin/python"
    if not python.exists() and given.autogluon_python is None:
        print(f"installing {AUTOGLUON} into {python.parent.parent}", flush=True)
        made = subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)])
        if made.returncode == 0:
            subprocess.run([python, "-m", "pip", "install", "--quiet", AUTOGLUON])
    reason = why_not_importable(python)
    if reason is None:
        return python
    print(f"AutoGluon is NOT in this race: {python} cannot import it ({reason}); the others race without it")
    return None


def why_not_importable(python: Path) -> str | None:
    """Return why a Python cannot import AutoGluon, or None where it can."""
    try:
        found = subprocess.run([python, "-c", "import autogluon.tabular"], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return None if found.returncode == 0 else (found.stderr.strip().splitlines() or ["no reason given"])[-1]


def read_results(file: Path) -> list[Result]:
    """Return what there is; a failure only until the same was run again."""
    if not file.exists():
        return []
    results = [Result(**json.loads(line)) for line in file.read_text().splitlines()]
    return list({result.key: result for result in results}.values())


if __name__ == "__main__":
    main()
