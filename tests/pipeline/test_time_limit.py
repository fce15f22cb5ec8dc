"""limits.time and executor.timeout: a run ends near its limit with what is finished, and can be completed later."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.projects import Build, plain_config

Project = Any
HANGS = """
import os, time
from pathlib import Path
from sklearn.linear_model import LogisticRegression

HERE = Path(__file__).parent

class Hangs(LogisticRegression):
    def fit(self, X, y):
        (HERE / f"began.{os.getpid()}").touch()
        while not (HERE / "awake").exists():
            time.sleep(0.05)
        return super().fit(X, y)
"""
INLINE = ("--set", "executor={kind: inline}")
LOKY = ("--set", "executor={kind: loky, jobs: 2}")


@pytest.fixture
def hanging(build: Any) -> Project:
    """A project whose first member never ends, unless there is a file `awake`."""
    config = plain_config()
    config["levels"]["base"] = {"hangs": {"estimator": "hanging:Hangs"}, **config["levels"]["base"]}
    project = build(config=config, n_rows=80)
    (project.folder / "hanging.py").write_text(HANGS)
    return project


def n_begun(project: Project) -> int:
    return len(list(project.folder.glob("began.*")))


def others_are_done(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Return a function that says whether the hanging fold is all that is left of the base level."""
    from stackfeat.pipeline.telling import RunTeller

    done: set[str] = set()
    show = RunTeller.done

    def note(self: RunTeller, job: Any, seconds: float, error: BaseException | None) -> None:
        done.add(job.label)
        show(self, job, seconds, error)

    monkeypatch.setattr(RunTeller, "done", note)
    return lambda: n_begun(project) > 0 and len(done) >= 6


@pytest.mark.parametrize(
    "executor",
    [pytest.param(INLINE, id="inline"), pytest.param(LOKY, id="loky", marks=pytest.mark.slow)],
)
def test_a_member_that_hangs_is_ended_the_rest_is_submitted_and_completed_later(
    executor: tuple[str, str], hanging: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The time for base members is over, by the clock of this process, once all others are done."""
    (hanging.folder / "awake").touch()
    whole = hanging.copy(tmp_path / "whole")
    assert whole.run("--trust-code").code == 0
    (hanging.folder / "awake").unlink()
    is_over, real = others_are_done(hanging, monkeypatch), time.monotonic
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: real() + 18_000 * is_over())
        said = hanging.run("--trust-code", "-v", "--set", "limits.time=20000s", *executor)
    assert said.code == 5, said.err
    assert "left out for lack of time: base/hangs" in said.out
    assert "base/hangs fold 0: ended after" in said.err and "base/hangs fold 1: not begun" in said.err
    assert n_begun(hanging) == 1, "one fold tells that it takes too long"
    scores = hanging.scores()
    assert scores["left_out"] == ["base/hangs"]
    assert {"base/linear", "base/tree", "final/soft"} <= set(scores["members"])
    assert len(hanging.submission()) == 41
    (hanging.folder / "awake").touch()
    said = hanging.run("--trust-code", *executor)
    assert said.code == 0, said.err
    assert hanging.outputs() == whole.outputs()


@pytest.mark.slow
@pytest.mark.parametrize("executor", [INLINE, LOKY], ids=["inline", "loky"])
def test_a_member_that_hangs_costs_no_more_than_the_limit(
    executor: tuple[str, str], hanging: Project
) -> None:
    process = hanging.start("run", "c.yaml", "--trust-code", "--set", "limits.time=60s", *executor)
    started = time.monotonic()
    process.communicate(timeout=300)
    assert process.returncode == 5
    assert time.monotonic() - started < 90
    assert hanging.scores()["left_out"] == ["base/hangs"] and len(hanging.submission()) == 41


def test_a_job_beyond_executor_timeout_fails_its_member_and_only_that(
    hanging: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() + 18_000 * n_begun(hanging))
    said = hanging.run("--trust-code", "--set", "executor={kind: inline, timeout: 5h}")
    assert said.code == 4, said.err
    assert "failed: base/hangs: fold 0: a job must end within executor.timeout=18000 s" in said.out
    assert "give more time, or the member less to do" in said.out.replace("\n", " ")
    assert n_begun(hanging) == 1, "its other folds would hang too"
    assert {"base/linear", "base/tree", "final/soft"} <= set(hanging.scores()["members"])


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(["executor.timeout=1000m", "limits.time=200h"], id="both"),
        pytest.param(["executor.timeout=1000m"], id="a timeout", marks=pytest.mark.slow),
        pytest.param(["limits.time=200h"], id="a limit", marks=pytest.mark.slow),
    ],
)
def test_limits_that_are_never_met_change_nothing(limits: list[str], quick: Project, fits: list[str]) -> None:
    before = quick.outputs()
    said = quick.run("--set", "store=new", *[part for limit in limits for part in ("--set", limit)])
    assert said.code == 0 and "cached: 0" in said.out
    assert fits == [] or "executor.timeout=1000m" not in limits, "jobs with a timeout run in a worker process"
    assert quick.outputs() == before


def test_where_nothing_is_stored_one_job_is_computed_whatever_the_limit(build: Build) -> None:
    config = plain_config()
    del config["levels"]["base"]["tree"]
    project = build(config=config | {"folds": {"n": 2}}, n_rows=80)
    options = ("--set", "limits.time=0.001s", "--set", "name=none")
    said = project.run(*options)
    assert said.code == 5
    assert "run the same command to go on, or give more time" in said.err and "Traceback" not in said.err
    assert "the first job runs to its end all the same" in said.err
    assert not (project.folder / "runs" / "none" / "submission.csv").exists()
    n_tries = 1
    while said.code == 5 and "left out" not in said.out:
        said, n_tries = project.run(*options), n_tries + 1
        assert n_tries < 10, "every rerun must make progress"


def test_finished_work_counts_although_no_time_is_left(quick: Project, fits: list[str]) -> None:
    before = quick.outputs()
    assert quick.run("--set", "limits.time=0.001s").code == 0
    assert quick.outputs() == before and fits == []
