"""limits.time: a run ends near its limit with what is finished, and can be completed later."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

Project = Any
SLOW = """
import time
from sklearn.linear_model import LogisticRegression

class Slow(LogisticRegression):
    def fit(self, X, y):
        time.sleep(5)
        return super().fit(X, y)
"""


@pytest.fixture
def slow_project(build: Any, make_config: Any) -> Project:
    config = make_config()
    config["levels"]["base"]["slow"] = {"estimator": "slowly:Slow"}
    project = build(config=config)
    (project.folder / "slowly.py").write_text(SLOW)
    return project


@pytest.mark.slow
def test_a_run_ends_near_its_limit_and_is_completed_later(slow_project: Project, tmp_path: Any) -> None:
    whole = slow_project.copy(tmp_path / "whole")
    assert whole.run("--trust-code").code == 0
    started = time.monotonic()
    said = slow_project.run("--trust-code", "--set", "limits.time=20s")
    assert time.monotonic() - started < 40
    assert said.code == 5, said.err
    assert "left out for lack of time: base/slow" in said.out
    scores = slow_project.scores()
    assert scores["left_out"] == ["base/slow"]
    assert {"base/gbm", "base/linear", "final/soft"} <= set(scores["members"])
    assert len(slow_project.submission()) == 41
    said = slow_project.run("--trust-code")
    assert said.code == 0, said.err
    assert slow_project.outputs() == whole.outputs()


def test_members_are_admitted_from_the_cheapest_up(build: Any, make_config: Any, monkeypatch: Any) -> None:
    """Time is faked: a fit of `dear` takes 100 s, any other 1 s."""
    from stackfeat.ensemble import work

    config = make_config()
    dear = {"estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 2}}
    config["levels"]["base"] = {"dear": dear, **config["levels"]["base"]}
    project = build(config=config)
    clock = FakeClock(work.make_member)
    monkeypatch.setattr(work, "make_member", clock.make_member)
    monkeypatch.setattr(time, "monotonic", clock.now)
    monkeypatch.setattr(time, "perf_counter", clock.now)
    said = project.run("--set", "limits.time=200s")
    assert said.code == 5, said.err
    assert project.scores()["left_out"] == ["base/dear"]
    assert clock.fitted.count(dear["estimator"]) == 1, "one fold tells what it costs"
    clock.fitted.clear()
    assert project.run().code == 0
    assert clock.fitted.count(dear["estimator"]) == 2, "the first fold was kept"
    assert "lightgbm.LGBMClassifier" not in clock.fitted


class FakeClock:
    """A clock that only fits of members move on, and members that move it."""

    def __init__(self, make_member: Any) -> None:
        self.made = make_member
        self.seconds = 1000.0
        self.fitted: list[str] = []

    def now(self) -> float:
        return self.seconds

    def make_member(self, values: Any, trust_code: bool = False) -> Any:
        member = self.made(values, trust_code)
        return SimpleNamespace(
            fit=lambda rows, context: self.fit(member, values, rows, context), load=member.load
        )

    def fit(self, member: Any, values: Any, rows: Any, context: Any) -> Any:
        name = values.get("estimator", "")
        self.fitted.append(name)
        self.seconds += 100.0 if name.endswith("DecisionTreeClassifier") else 1.0
        return member.fit(rows, context)


def test_a_generous_limit_changes_nothing(quick: Project, fits: list[str]) -> None:
    before = quick.outputs()
    assert quick.run("--set", "limits.time=2h").code == 0
    assert quick.outputs() == before and fits == []


def test_a_limit_that_allows_nothing_fails_and_says_so(quick: Project) -> None:
    said = quick.run("--set", "limits.time=0.001s", "--set", "store=new", "--set", "name=none")
    assert said.code == 5
    assert "run the same command to go on, or give more time" in said.err and "Traceback" not in said.err
    assert not (quick.folder / "runs" / "none" / "submission.csv").exists()


def test_finished_work_counts_although_no_time_is_left(quick: Project, fits: list[str]) -> None:
    before = quick.outputs()
    assert quick.run("--set", "limits.time=0.001s").code == 0
    assert quick.outputs() == before and fits == []
