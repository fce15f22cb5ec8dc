"""A run that is killed or interrupted goes on where it stopped, and ends with the same bytes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

Project = Any
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
PARALLEL = ("--set", "executor={kind: loky, jobs: 2}")


def fresh(project: Project, to: Path) -> Project:
    copy = project.copy(to)
    shutil.rmtree(copy.folder / ".stackfeat")
    shutil.rmtree(copy.folder / "runs")
    return copy


def children(parent: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_units(process: subprocess.Popen[str], n_units: int) -> None:
    """Return when this many units are done: one line of standard error for each."""
    assert process.stderr is not None
    seen = 0
    for line in process.stderr:
        seen += " fold" in line
        if seen >= n_units:
            return


def worker_pids(process: subprocess.Popen[str]) -> list[int]:
    """Return the workers: direct children that run joblib's loky."""
    found = []
    for pid in children(process.pid):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"loky" in line and b"resource_tracker" not in line:
                found.append(pid)
    return found


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def check_rerun(project: Project, reference: Project) -> None:
    said = project.run()
    assert said.code == 0, said.err
    assert project.outputs() == reference.outputs()


def kill_group(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def kill_parent(process: subprocess.Popen[str]) -> None:
    process.kill()


@pytest.mark.parametrize(
    ("seed", "kill"),
    [
        (1, kill_parent),
        *[
            pytest.param(seed, kill, marks=pytest.mark.slow)
            for seed, kill in [(2, kill_group), (3, kill_parent), (4, kill_group), (5, kill_parent)]
        ],
    ],
)
def test_a_killed_run_resumes_to_the_same_bytes(
    seed: int, kill: Any, quick_run: Project, tmp_path: Path
) -> None:
    draw = random.Random(seed)
    project = fresh(quick_run, tmp_path / "killed")
    process = project.start("run", "c.yaml", *PARALLEL)
    wait_for_units(process, draw.randint(1, 16))
    time.sleep(draw.random() * 0.3)
    workers = worker_pids(process)
    kill(process)
    finish(process)
    limit = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not any(map(alive, workers)), "workers outlive a killed run"
    check_rerun(project, quick_run)


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_job(quick_run: Project, tmp_path: Path) -> None:
    project = fresh(quick_run, tmp_path / "worker")
    process = project.start("run", "c.yaml", *PARALLEL)
    wait_for_units(process, 2)
    workers = worker_pids(process)
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    _, err = finish(process)
    assert process.returncode == 0, err
    assert project.outputs() == quick_run.outputs()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=["int", "term"]
)
def test_an_interrupted_run_says_so_and_resumes(number: int, quick_run: Project, tmp_path: Path) -> None:
    project = fresh(quick_run, tmp_path / "interrupted")
    process = project.start("run", "c.yaml", *PARALLEL)
    wait_for_units(process, 2)
    workers = worker_pids(process)
    process.send_signal(number)
    _, err = finish(process)
    assert process.returncode == 130
    assert "interrupted; finished units are stored: run the same command to go on" in err
    assert "Traceback" not in err
    assert not any(map(alive, workers)), "workers outlive an interrupted run"
    assert not (project.run_folder / "submission.csv").exists()
    check_rerun(project, quick_run)


def test_an_interrupt_in_one_process_keeps_what_is_finished(
    quick: Project, fits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackfeat.ensemble.members.gated import GatedMember

    before = quick.outputs()
    shutil.rmtree(quick.folder / ".stackfeat")
    with monkeypatch.context() as patch:

        def interrupted(self: object, rows: object, context: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(GatedMember, "fit", interrupted)
        said = quick.run()
    assert said.code == 130 and "run the same command to go on" in said.err
    fits.clear()
    assert quick.run().code == 0
    assert "lightgbm.LGBMClassifier" not in fits and fits.count("gated_linear") == 4
    assert quick.outputs() == before
