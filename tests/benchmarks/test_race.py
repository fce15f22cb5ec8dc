"""The race: splits, CPU of whole trees of processes, paired differences, what is said without AutoGluon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.race import RUNNING, is_running, read_results, why_not_importable
from benchmarks.racing.entrants.cpu_clock import CpuClock
from benchmarks.racing.measured_process import TIMED_OUT, run_measured
from benchmarks.racing.sets import SETS, read_training_part, split
from benchmarks.racing.tables import Result, bootstrap_error, paired_difference, score_cell, tables

ROOT = Path(__file__).resolve().parents[2]
SPIN = "import time\nwhile time.process_time() < 0.4: pass"
A_CORE = sorted(os.sched_getaffinity(0))[-1:] if hasattr(os, "sched_getaffinity") else [0]
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

RESULT = Result(
    "adult", "0", "us", 300, 1, None, "roc_auc", 0.9, 80, 20, 100.0, 100.0, 500, 1.0, 0, "wall", "1", ""
)


def higgs(folder: Path, n_train: int = 300, n_test: int = 40) -> Path:
    """A data set of two classes in the layout of the shared ones; its test rows are marked by their values."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n_train + n_test, 4))
    frame = pd.DataFrame(values, columns=list("abcd"))
    is_test = np.arange(len(frame)) >= n_train
    frame.loc[is_test, "d"] = 99.0
    target = (values[:, 0] + values[:, 1] + 0.5 * rng.normal(size=len(frame)) > 0).astype(int)
    frame.insert(0, "id", np.arange(len(frame)))
    frame["split"] = np.where(is_test, "test", "train")
    frame["target"] = pd.Series(target, dtype="Int64").mask(is_test)
    (folder / "higgs_small").mkdir(parents=True)
    frame.to_parquet(folder / "higgs_small/data.parquet")
    return folder


def test_splits_take_nothing_from_test_rows_and_are_the_same_for_a_seed(tmp_path):
    rows = read_training_part(higgs(tmp_path), SETS["higgs_small"])
    assert len(rows) == 300 and (rows["d"] < 99).all() and "split" not in rows
    first, again, other = (split(rows, SETS["higgs_small"], seed) for seed in (0, 0, 1))
    assert list(first.held_out["id"]) == list(again.held_out["id"]) != list(other.held_out["id"])
    assert sorted([*first.train["id"], *first.held_out["id"]]) == list(rows["id"])
    assert len(first.held_out) == 60 and "target" not in first.held_out
    assert abs(first.labels.mean() - first.train["target"].mean()) < 0.01


def test_a_split_in_time_holds_out_the_last_moments_whole():
    days = pd.Series(pd.date_range("2011-01-01", periods=50)).astype(str).repeat(24)
    frame = pd.DataFrame({"id": range(1200), "dteday": days.to_numpy(), "cnt": np.arange(1200.0)})
    shuffled = frame.sample(frac=1, random_state=0)
    for seed, n_days in ((0, 50), (2, 42)):
        rows = split(shuffled, SETS["bike_sharing"], seed)
        assert rows.train["dteday"].max() < rows.held_out["dteday"].min()
        assert rows.train["dteday"].nunique() + rows.held_out["dteday"].nunique() == n_days
        assert 0.15 < len(rows.held_out) / (24 * n_days) < 0.25


@linux
def test_cpu_of_a_process_that_left_its_parent_counts_and_it_is_ended(tmp_path):
    orphan = f"{SPIN}\nimport os\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"
    leave = (
        f"import subprocess as s, sys\ns.Popen([sys.executable, '-c', {orphan!r}], start_new_session=True)"
    )
    parent = (
        f"import subprocess, sys, os, time\nsubprocess.run([sys.executable, '-c', {leave!r}])\n"
        "while not (os.path.exists('pid') and open('pid').read()): time.sleep(.01)"
    )
    spent = run_measured(
        [sys.executable, "-c", parent], tmp_path, cores=A_CORE, most_seconds=60, log=tmp_path / "log"
    )
    assert spent.code == 0, (tmp_path / "log").read_text()
    assert 0.4 <= spent.cpu < 2
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


@linux
def test_a_command_that_takes_too_long_is_ended(tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    spent = run_measured(command, tmp_path, cores=A_CORE, most_seconds=0.5, log=tmp_path / "log")
    assert spent.code == TIMED_OUT and spent.wall < 30


@linux
def test_the_cpu_clock_counts_children_and_stands_still_while_nothing_runs():
    clock = CpuClock(1)
    subprocess.run([sys.executable, "-c", SPIN], check=True)
    spent = clock()
    assert 0.4 <= spent < 2
    time.sleep(0.2)
    assert clock() - spent < 0.1
    assert CpuClock(2)._spent() > 0 and CpuClock(2)() < 0.1


def test_differences_are_paired_by_split_and_a_smaller_loss_is_better(tmp_path):
    ours, theirs = [0.30, 0.25, 0.40, 0.35], [0.33, 0.26, 0.45, 0.36]
    pairs = [
        (
            replace(RESULT, set="letter", seed=str(seed), score=a),
            replace(RESULT, set="letter", entrant="they", seed=str(seed), score=b),
        )
        for seed, (a, b) in enumerate(zip(ours, theirs, strict=True))
    ]
    mean, error = paired_difference(pairs, tmp_path)
    # By hand: gains .03 .01 .05 .01, mean .025, variance (.005² + .015² + .025² + .015²) / 3.
    assert mean == pytest.approx(0.025)
    assert error == pytest.approx((0.0011 / 3 / 4) ** 0.5)
    higher = [(replace(a, set="adult"), replace(b, set="adult")) for a, b in pairs]
    assert paired_difference(higher, tmp_path)[0] == pytest.approx(-0.025)


def test_the_error_of_one_split_is_that_of_the_mean_row_difference(tmp_path):
    rng = np.random.default_rng(0)
    classes, n_rows = np.array(list("ABC")), 2000
    y = rng.integers(0, 3, n_rows)
    losses = []
    for name in ("us", "they"):
        proba = rng.dirichlet([1, 1, 1], n_rows) + 0.5 * np.eye(3)[y]
        proba /= proba.sum(axis=1, keepdims=True)
        losses.append(-np.log(proba[np.arange(n_rows), y]))
        folder = tmp_path / Result.folder_of(replace(RESULT, set="letter", entrant=name).key)
        folder.mkdir()
        pd.DataFrame(proba, columns=classes).rename_axis("id").to_csv(folder / "predictions.csv")
        pd.DataFrame({"id": range(n_rows), "label": classes[y]}).to_csv(folder / "labels.csv", index=False)
    found = bootstrap_error(
        replace(RESULT, set="letter"), replace(RESULT, set="letter", entrant="they"), tmp_path
    )
    assert found == pytest.approx((losses[0] - losses[1]).std() / n_rows**0.5, rel=0.15)


def test_failures_and_starved_runs_are_said():
    starved = replace(RESULT, wall=150.0)
    assert score_cell([RESULT]) == "0.9 (100 s)"
    assert score_cell([starved, replace(RESULT, score=None)]) == "0.9 (100 s*, 1 failed)"
    assert score_cell([replace(RESULT, score=None)]) == "none (100 s, 1 failed)"
    # With a limit in CPU seconds others' work costs nothing but time.
    assert score_cell([replace(starved, clock="cpu")]) == "0.9 (100 s)"


def test_only_splits_that_both_finished_are_compared(tmp_path):
    theirs = [replace(RESULT, entrant="they", seed=str(seed), score=0.8) for seed in range(3)]
    ours = [replace(RESULT, seed=str(seed)) for seed in range(4)]
    shown = tables([*theirs, *ours], tmp_path, "us")
    assert "| adult | +0.1000 (0.0000) |" in shown
    assert "No results of nobody" in tables(ours, tmp_path, "nobody")


def test_without_autogluon_the_reason_is_told(tmp_path):
    assert "No such file" in why_not_importable(tmp_path / "python")
    assert "autogluon" in why_not_importable(Path(sys.executable))


def test_a_failure_counts_until_the_same_was_run_again(tmp_path):
    failed, other = replace(RESULT, score=None), replace(RESULT, entrant="they")
    file = tmp_path / "results.jsonl"
    file.write_text("".join(f"{json.dumps(asdict(result))}\n" for result in (failed, other, RESULT)))
    assert sorted(read_results(file), key=lambda result: result.entrant) == [other, RESULT]
    assert read_results(tmp_path / "none") == []


@linux
def test_what_another_race_is_at_is_left_to_it(tmp_path):
    assert not is_running(tmp_path)
    (tmp_path / RUNNING).write_text(str(os.getpid()))
    assert is_running(tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / RUNNING).write_text(str(ended.pid))
    assert not is_running(tmp_path)


@linux
@pytest.mark.slow
def test_a_small_race_is_run_once_and_paired(tmp_path):
    command = [sys.executable, "benchmarks/race.py", "--rows", "300", "--cores", "1", "--sets", "higgs_small"]
    command += ["--data", str(higgs(tmp_path / "data")), "--work", str(tmp_path / "work")]
    command += ["--entrants", "lightgbm,sklearn-stack,autogluon-best", "--against", "sklearn-stack"]
    command += ["--autogluon-python", str(tmp_path / "none")]
    first, again = (subprocess.run(command, cwd=ROOT, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == again.returncode == 0, first.stderr
    assert "AutoGluon is NOT in this race" in first.stdout
    assert "split 0 lightgbm:" in first.stdout and "split 0 lightgbm:" not in again.stdout
    results = [
        Result(**json.loads(line)) for line in (tmp_path / "work/results.jsonl").read_text().splitlines()
    ]
    assert [result.entrant for result in results] == ["lightgbm", "sklearn-stack"]
    assert all(result.score > 0.8 and result.cpu > 0.1 and result.code == 0 for result in results)
    assert {result.n_held_out for result in results} == {60}
    assert "| higgs_small | " in again.stdout and asdict(results[0])["clock"] == ""
    predicted = [pd.read_csv(path) for path in sorted((tmp_path / "work").glob("*/predictions.csv"))]
    assert list(predicted[0]["id"]) == list(predicted[1]["id"])
