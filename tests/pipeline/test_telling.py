"""What a run tells as it goes: every job once, scores of members, how it ended; the same in `events.jsonl`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import stackfeat as sf
from stackfeat.errors import RunFailed
from stackfeat.executors import watching
from stackfeat.output.events import (
    Event,
    EventsFile,
    EventsReader,
    JobDone,
    JobEpoch,
    JobFailed,
    JobStarted,
    LevelDone,
    MemberDone,
    MemberScored,
    Planned,
    RunDone,
    RunStarted,
    Warned,
)
from stackfeat.pipeline import telling
from stackfeat.pipeline.run import run
from stackfeat.pipeline.telling import RunTeller
from tests.projects import FAILING, Build, plain_config, small_net

Project = Any


def told(project: Project, **options: Any) -> list[Event]:
    events: list[Event] = []
    run(project.folder / "c.yaml", progress=events.append, **options)
    return events


def kinds(events: list[Event], *classes: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, classes)]


@pytest.mark.parametrize("kind", ["inline", "loky"])
def test_every_job_is_told_once_and_so_is_the_file(build: Build, kind: str) -> None:
    project = build(config={**plain_config(), "executor": {"kind": kind, "jobs": 2}}, n_rows=80)
    events = told(project)
    file = project.run_folder / "events.jsonl"
    assert [event.kind for event in EventsReader(file).read()] == [event.kind for event in events]
    assert isinstance(events[0], RunStarted) and isinstance(events[-1], RunDone)
    assert events[0].jobs == (2 if kind == "loky" else 1) and events[0].metric == "log_loss"
    (plan,) = kinds(events, Planned)
    jobs = {member.member: member.jobs for member in plan.members}
    for name, n_jobs in jobs.items():
        begun = [event.job for event in kinds(events, JobStarted) if event.member == name]
        done = [event.job for event in kinds(events, JobDone) if event.member == name]
        assert sorted(begun) == sorted(done) and len(set(done)) == n_jobs
    assert {event.member for event in kinds(events, MemberDone)} == set(jobs)
    assert [event.level for event in kinds(events, LevelDone)] == ["base", "final"]
    end = events[-1]
    assert (end.exit_code, end.error, end.submitted) == (0, None, project.scores()["submitted"])
    assert all((project.run_folder / name).exists() for name in end.files.values())
    listed = json.loads((project.run_folder / "run.json").read_text())
    assert "events.jsonl" in listed["logs"] and "events.jsonl" not in listed["files"]


def test_scores_on_the_way_are_those_of_the_leaderboard(
    quick: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "FREE_SECONDS", 1e9)
    events = told(quick, overrides=["seed=5", "folds.seed=5"])
    found = {event.member: event.score for event in kinds(events, MemberScored)}
    assert all(event.exact for event in kinds(events, MemberScored))
    assert found == {
        name: pytest.approx(member["score"]) for name, member in quick.scores()["members"].items()
    }


def test_scores_before_thresholds_say_so(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "FREE_SECONDS", 1e9)
    scored = kinds(told(build(config=plain_config(metric="f1_macro"), n_rows=80)), MemberScored)
    assert len(scored) == 3 and not any(event.exact for event in scored)
    scored = kinds(told(build(config=plain_config(metric="accuracy"), n_rows=80)), MemberScored)
    assert len(scored) == 3 and all(event.exact for event in scored)


def test_scores_wait_where_they_would_cost_too_much(plain: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "FREE_SECONDS", -1e9)
    assert kinds(told(plain, overrides=["folds.seed=5"]), MemberScored) == []


def test_a_run_with_nothing_to_compute_adds_a_start_a_plan_and_an_end(plain: Project) -> None:
    before = len((plain.run_folder / "events.jsonl").read_bytes().splitlines())
    events = told(plain)
    assert [event.kind for event in events if not isinstance(event, LevelDone | Warned)] == [
        "run_started",
        "plan",
        "run_done",
    ]
    assert all(member.stored == member.jobs for member in kinds(events, Planned)[0].members)
    assert len((plain.run_folder / "events.jsonl").read_bytes().splitlines()) == before + len(events)


def test_a_member_that_fails_leaves_the_plan_and_warnings_are_told(build: Build) -> None:
    config = plain_config()
    config["levels"]["base"]["bad"] = FAILING
    events = told(build(config=config, n_rows=80))
    assert {event.member for event in kinds(events, JobFailed)} == {"base/bad"}
    first, second = kinds(events, Planned)
    assert {one.member for one in first.members} - {one.member for one in second.members} == {"base/bad"}
    assert {one.member: one.stored for one in second.members}["base/linear"] == 0, "it was computed just now"
    assert events[-1].exit_code == 4  # type: ignore[attr-defined]


def test_a_run_that_fails_says_why_it_ended(build: Build) -> None:
    config = plain_config()
    config["levels"]["base"] = {"linear": FAILING, "tree": FAILING}
    project = build(config=config, n_rows=80)
    with pytest.raises(RunFailed, match="all failed"):
        told(project)
    *_, end = EventsReader(project.run_folder / "events.jsonl").read()
    assert isinstance(end, RunDone)
    assert end.exit_code == 1 and end.error is not None and "all failed" in end.error


def test_a_score_without_an_error_is_told_without_one(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    result = SimpleNamespace(
        folder=tmp_path, files={}, exit_code=0, submitted="base/a", score=0.5, se=float("nan")
    )
    with EventsFile(path) as file:
        RunTeller("r" * 32, None, (file,), time.monotonic()).finished(result)  # type: ignore[arg-type]
    (end,) = EventsReader(path).read()
    assert isinstance(end, RunDone) and (end.score, end.se) == (0.5, None)


def test_epochs_of_nets_are_told(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "EVERY_SECONDS", 0.0)
    config = plain_config()
    config["levels"]["base"]["mlp"] = {**small_net(), "emit": ["proba"]}
    epochs = kinds(told(build(config=config, n_rows=80)), JobEpoch)
    by_job = {
        f"base/mlp fold {fold}": [one.epoch for one in epochs if one.job == f"base/mlp fold {fold}"]
        for fold in range(3)
    }
    assert by_job == {job: [1, 2, 3] for job in by_job}
    assert {one.epochs for one in epochs} == {3}


def test_python_shows_progress_on_request_alone(
    tmp_path: Path, plain: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sf.run(plain.folder / "c.yaml", overrides=["folds.seed=5"])
    assert capsys.readouterr().err == ""
    sf.run(plain.folder / "c.yaml", overrides=["folds.seed=6"], progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[0].startswith("base/linear: 3 folds, ")
    monkeypatch.chdir(tmp_path)
    frame = pd.read_csv(plain.folder / "train.csv")
    sf.fit(frame, "label", preset="quick", verbose=False, progress=True)
    said = capsys.readouterr()
    assert said.out == "" and any(" folds, " in line for line in said.err.splitlines())


def test_a_log_has_a_line_for_each_member_or_job(plain: Project) -> None:
    said = plain.run("--set", "folds.seed=5")
    assert said.err.count("\n") == 3 and "base/tree: 3 folds" in said.err
    said = plain.run("--set", "folds.seed=6", "-v")
    assert "base/tree fold 0: " in said.err and "base/tree: 3" not in said.err
    assert plain.run("--set", "folds.seed=7", "-q").err == ""
