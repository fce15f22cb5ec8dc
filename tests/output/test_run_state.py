"""The state of a run from events that are written down: counts, time left, percent, best score."""

from __future__ import annotations

import pytest

from stackfeat.output.events import (
    Event,
    JobDone,
    JobEnded,
    JobEpoch,
    JobFailed,
    JobStarted,
    MemberScored,
    Planned,
    PlannedMember,
    RunDone,
    RunStarted,
    Warned,
)
from stackfeat.output.run_state import RunState


def begun(*members: PlannedMember, jobs: int = 1, greater: bool = False) -> RunState:
    state = RunState()
    state.take(RunStarted("r" * 32, "pets", "0.1", 7, "here", jobs, "auc", greater, None, 2.0, time=100.0))
    state.take(Planned(members, time=100.0))
    return state


def member(name: str, jobs: int = 5, stored: int = 0, cost: int = 2) -> PlannedMember:
    return PlannedMember(name, name.split("/")[0], jobs, stored, jobs, cost)


def fold(state: RunState, name: str, number: int, start: float, seconds: float) -> None:
    state.take(JobStarted(name, f"{name} fold {number}", time=start))
    state.take(JobDone(name, f"{name} fold {number}", seconds, time=start + seconds))


def test_jobs_are_counted_by_what_became_of_them() -> None:
    state = begun(member("base/a", stored=2), member("base/b"), member("base/c", stored=5))
    assert [one.state for one in state.members.values()] == ["waiting", "waiting", "stored"]
    fold(state, "base/a", 2, 100.0, 3.0)
    state.take(JobStarted("base/a", "base/a fold 3", time=103.0))
    a = state.members["base/a"]
    assert (a.n_stored, a.n_done, len(a.running), a.n_waiting, a.state) == (2, 1, 1, 1, "running")
    state.take(JobFailed("base/b", "base/b fold 0", 1.0, "boom", time=104.0))
    assert (state.members["base/b"].state, state.members["base/b"].n_waiting) == ("failed", 0)


def test_time_left_is_that_of_a_members_own_folds_shared_among_workers() -> None:
    state = begun(member("base/a"), jobs=2)
    assert state.left(100.0) is None, "nothing was measured yet"
    fold(state, "base/a", 0, 100.0, 10.0)
    assert state.left(110.0) == pytest.approx(4 * 10 / 2)
    state.take(JobStarted("base/a", "base/a fold 1", time=110.0))
    assert state.left(114.0) == pytest.approx((6 + 3 * 10) / 2)


def test_members_without_a_fold_are_weighed_by_their_cost() -> None:
    state = begun(
        member("base/cheap", 2, cost=1), member("base/dear", 2, cost=3), member("final/v", 2, cost=1)
    )
    fold(state, "base/cheap", 0, 100.0, 1.0)
    # 1 s of its own, 2 x 25 s of two ranks more, 2 s of the same rank: all levels count.
    assert state.left(101.0) == pytest.approx(1 + 2 * 25 + 2)


def test_a_training_says_itself_how_long_it_takes() -> None:
    state = begun(member("base/net", 1))
    state.take(JobStarted("base/net", "base/net fold 0", time=100.0))
    state.take(JobEpoch("base/net", "base/net fold 0", 15, 60, time=130.0))
    assert state.left(130.0) == pytest.approx(90.0)
    assert state.percent(130.0) == pytest.approx(25.0)


def test_percent_never_falls_and_is_whole_only_in_the_end() -> None:
    state = begun(member("base/a", 2), member("base/b", 2))
    fold(state, "base/a", 0, 100.0, 1.0)
    first = state.percent(101.0)
    fold(state, "base/a", 1, 101.0, 1.0)
    fold(state, "base/b", 0, 102.0, 100.0)
    assert state.percent(202.0) >= first
    fold(state, "base/b", 1, 202.0, 1.0)
    assert state.percent(203.0) == 99.0
    state.take(RunDone(0, 5.0, time=204.0))
    assert state.percent(204.0) == 100.0


@pytest.mark.parametrize(("greater", "best"), [(False, "base/a"), (True, "base/b")])
def test_the_best_score_follows_the_metric(greater: bool, best: str) -> None:
    state = begun(member("base/a"), member("base/b"), greater=greater)
    assert state.best() is None
    state.take(MemberScored("base/a", 0.4, True, time=101.0))
    state.take(MemberScored("base/b", 0.5, True, time=101.0))
    found = state.best()
    assert found is not None and found.name == best


def test_a_new_plan_keeps_what_was_done_and_drops_what_cannot_follow() -> None:
    state = begun(member("base/a"), member("base/b"), member("meta/of_b"))
    fold(state, "base/a", 0, 100.0, 1.0)
    state.take(JobEnded("base/b", "base/b fold 0", 0.0, "no time", time=101.0))
    state.take(Planned((member("base/a"),), time=102.0))
    assert {one.name: one.state for one in state.members.values()} == {
        "base/a": "waiting",
        "base/b": "left out",
        "meta/of_b": "left out",
    }
    assert state.members["base/a"].n_done == 1


def test_a_run_that_begins_again_forgets_the_one_before() -> None:
    state = begun(member("base/a"))
    state.take(Warned("careful", time=101.0))
    state.take(RunDone(130, 5.0, time=102.0))
    state.take(RunStarted("s" * 32, "pets", "0.1", 8, "here", 1, "auc", False, None, 0.0, time=200.0))
    assert (state.members, state.warnings, state.end) == ({}, [], None)
    assert state.elapsed(203.0) == pytest.approx(3.0)


def test_events_of_members_that_nobody_planned_change_nothing() -> None:
    state = begun(member("base/a"))
    unknown: list[Event] = [JobDone("base/x", "base/x fold 0", 1.0), MemberScored("base/x", 1.0, True)]
    for event in unknown:
        state.take(event)
    assert list(state.members) == ["base/a"]


def test_the_state_as_json_has_what_the_table_shows() -> None:
    state = begun(member("base/a", 2))
    fold(state, "base/a", 0, 100.0, 4.0)
    state.take(MemberScored("base/a", 0.4, True, time=104.0))
    state.take(JobStarted("base/a", "base/a fold 1", time=104.0))
    state.take(JobEpoch("base/a", "base/a fold 1", 1, 4, time=105.0))
    found = state.to_json(105.0)
    assert (found["percent"], found["seconds"], found["seconds_left"]) == (62.5, 7.0, 3.0)
    assert found["best"] == {"member": "base/a", "auc": 0.4}
    assert found["members"][0]["running"] == {"base/a fold 1": {"epoch": 1, "epochs": 4}}
    assert found["end"] is None
