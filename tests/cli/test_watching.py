"""`watch`: how a run stands, from its events alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stackfeat.output.events import (
    Event,
    EventsFile,
    JobDone,
    JobEpoch,
    JobStarted,
    MemberDone,
    Planned,
    PlannedMember,
    RunDone,
    RunStarted,
)
from stackfeat.output.run_file import find_run_file

Project = Any


def started(pid: int) -> RunStarted:
    return RunStarted("r" * 32, "pets", "0.1", pid, socket.gethostname(), 1, "log_loss", False, None, 0.0)


PLAN = Planned((PlannedMember("base/a", "base", 1, 0, 1, 2),))


def write(folder: Path, *events: Event) -> None:
    with EventsFile(folder / "events.jsonl") as file:
        for event in events:
            file(event)


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_finished_run_is_told_at_once(plain: Project) -> None:
    said = plain.cli("watch", plain.run_folder)
    assert said.code == 0 and "base/tree: 3 folds" in said.err
    submitted = plain.scores()["submitted"]
    assert f"s: {submitted} is submitted, log_loss " in said.out and "submission:  submission.csv" in said.out
    found = json.loads(plain.cli("watch", plain.run_folder, "--json").out)
    assert (found["state"], found["percent"], found["end"]["submitted"]) == ("done", 100.0, submitted)
    assert {member["state"] for member in found["members"]} == {"done"}


def test_a_running_run_is_followed_until_it_ends(tmp_path: Path, plain: Project) -> None:
    write(tmp_path, started(1), RunDone(130, 1.0, error="of an earlier run"), started(os.getpid()), PLAN)
    now = json.loads(plain.cli("watch", tmp_path, "--json").out)
    assert (now["state"], now["members"][0]["state"], now["end"]) == ("running", "waiting", None)

    def go_on() -> None:
        write(tmp_path, JobDone("base/a", "base/a fold 0", 1.0), MemberDone("base/a", 1.0))
        write(tmp_path, RunDone(4, 2.0, "base/a", 0.4, 0.01))

    threading.Timer(0.3, go_on).start()
    said = plain.cli("watch", tmp_path)
    assert said.code == 4 and said.err == "base/a: 1 folds, 1.0 s\n"
    assert said.out == "done in 2 s: base/a is submitted, log_loss 0.400 ± 0.010\n"


@pytest.mark.skipif(os.name != "posix", reason="elsewhere it cannot be told whether a process lives")
@pytest.mark.parametrize("pid", [dead_process, lambda: 2**40], ids=["dead", "none a machine gives"])
def test_a_killed_run_is_not_waited_for(pid: Callable[[], int], tmp_path: Path, plain: Project) -> None:
    write(tmp_path, started(pid()), PLAN)
    said = plain.cli("watch", tmp_path)
    assert said.code == 1 and said.out.startswith("killed; finished jobs are stored: run the same command")
    assert json.loads(plain.cli("watch", tmp_path, "--json").out)["state"] == "killed"


def test_an_interrupted_run_is_told_from_a_killed_one(tmp_path: Path, plain: Project) -> None:
    write(tmp_path, started(dead_process()), PLAN, RunDone(130, 1.0, error="interrupted by SIGINT"))
    said = plain.cli("watch", tmp_path)
    assert said.code == 130
    assert said.out.startswith("interrupted by SIGINT; finished jobs are stored: run the same command")
    assert json.loads(plain.cli("watch", tmp_path, "--json").out)["state"] == "interrupted"


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ([RunDone(130, 9.0, error="interrupted by SIGINT")], "interrupted"),
        ([RunDone(1, 9.0, error="boom")], "failed"),
        pytest.param([], "killed", marks=pytest.mark.skipif(os.name != "posix", reason="needs process ids")),
    ],
    ids=["interrupted", "failed", "killed"],
)
def test_after_its_end_nothing_runs_and_what_was_done_counts(
    end: list[Event], how: str, tmp_path: Path, plain: Project
) -> None:
    a, b = PlannedMember("base/a", "base", 3, 0, 3, 2), PlannedMember("base/b", "base", 1, 0, 1, 2)
    done = [JobDone("base/a", f"base/a fold {fold}", 2.0) for fold in range(3)]
    late = JobEpoch("base/b", "base/b fold 0", 3, 4)
    write(
        tmp_path, started(dead_process()), Planned((a, b)), *done, JobStarted("base/b", late.job), *end, late
    )
    found = json.loads(plain.cli("watch", tmp_path, "--json").out)
    assert found["state"] == how
    assert [one["state"] for one in found["members"]] == ["done", "waiting"]
    assert [one["running"] for one in found["members"]] == [{}, {}]
    assert found["percent"] == 75.0, "three of four jobs that take the same time"


def test_the_list_of_runs_says_what_cut_one_short(plain: Project) -> None:
    mark = plain.run_folder / "run.json"
    found = find_run_file(plain.run_folder)
    assert found is not None
    mark.write_bytes(replace(found, state="writing").sealed())
    assert "a run works on it, or was killed" in plain.cli("runs", plain.run_folder).out
    write(plain.run_folder, started(dead_process()), PLAN, RunDone(130, 1.0, error="interrupted by SIGINT"))
    said = plain.cli("runs", plain.run_folder).out
    assert "interrupted by SIGINT; finished jobs are stored: run the same command to go on" in said
    assert "a run works on it" not in said
    write(plain.run_folder, started(os.getpid()), PLAN, RunDone(3, 1.0, error="a column is missing"))
    assert "failed with exit code 3: a column is missing" in plain.cli("runs", plain.run_folder).out
    write(plain.run_folder, started(os.getpid()), PLAN)
    assert "a run works on it, or was killed" in plain.cli("runs", plain.run_folder).out


def test_a_run_that_failed_gives_its_reason_and_exit_code(tmp_path: Path, plain: Project) -> None:
    write(tmp_path, started(os.getpid()), RunDone(3, 1.0, error="a column\nis missing \x1b[31m"))
    said = plain.cli("watch", tmp_path)
    assert said.code == 3
    assert said.out == "failed with exit code 3: a column\n    is missing \\x1b[31m\n"


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["", "json"])
@pytest.mark.parametrize("content", ["", "{}\n", '{"event": "planned"', "rows\n"])
def test_events_of_no_run_are_not_waited_for(
    content: str, options: tuple[str, ...], tmp_path: Path, plain: Project
) -> None:
    (tmp_path / "events.jsonl").write_text(content)
    said = plain.cli("watch", tmp_path, *options)
    assert said.code == 2 and "in which nothing has: has the run begun yet?" in said.err


def test_what_is_no_run_folder_is_refused(tmp_path: Path, plain: Project) -> None:
    said = plain.cli("watch", tmp_path)
    assert said.code == 2 and "RUN must be a run folder whose events.jsonl tells of a run; got" in said.err
    (tmp_path / "events.jsonl").symlink_to(plain.run_folder / "events.jsonl")
    assert plain.cli("watch", tmp_path).code == 2
