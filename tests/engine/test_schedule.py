"""Under a time limit cheap members come first and whole, and nothing hangs for ever."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackfeat.engine.jobs import Job
from stackfeat.engine.schedule import GRACE_SECONDS, Deadlines, Progressed, Schedule

NOTHING = Progressed(any_job=False, any_member=False)
N_FOLDS = 5
FOR_EVER = math.inf
QUICK, BOOSTING, OTHER, NET = 1, 2, 3, 4


@dataclass
class Machine:
    """Runs a schedule in time of its own: nothing passes but what jobs take."""

    n_workers: int
    now: float = 0.0
    done: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def whole(self) -> list[str]:
        members = [key.split()[0] for key in self.done]
        return [name for name in dict.fromkeys(members) if members.count(name) == N_FOLDS]


def simulate(
    seconds: Mapping[str, float],
    deadline: float,
    n_workers: int = 1,
    ranks: Mapping[str, int] | None = None,
    starts_at: float = 0.0,
    stored: Progressed = NOTHING,
    done_before: Mapping[str, float] | None = None,
    start_seconds: float = 0.0,
) -> Machine:
    """Run N_FOLDS folds of every member, each of which takes some seconds; `done_before`: one fold less.

    A worker takes `start_seconds` before its first job, and another one where a job was ended.
    """
    ranks, machine = ranks or {}, Machine(n_workers, starts_at)
    names = [f"{name} {k}" for name in seconds for k in range(N_FOLDS - (name in (done_before or {})))]
    jobs = [Job(name.split()[0], 0, int(name.split()[1]), (SimpleNamespace(key=name),)) for name in names]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: machine.now)
        schedule = Schedule(
            jobs,
            n_workers,
            deadline,
            urgent=deadline + 10,
            rank=lambda member: ranks.get(member, OTHER),
            seconds=done_before,
            stored=stored,
        )
        running: dict[str, float] = {}
        ends: dict[str, float] = {}
        n_warm = 0
        while True:
            while len(running) < n_workers and (key := schedule.take()) is not None:
                is_warm, n_warm = n_warm > 0, max(0, n_warm - 1)
                running[key] = machine.now
                ends[key] = machine.now + seconds[key.split()[0]] + (0 if is_warm else start_seconds)
            if not running:
                break
            for key in schedule.overdue():
                machine.ended.append(key)
                del running[key]
                schedule.ended(key, 0.0, well=False)
            for key in [k for k in running if machine.now >= ends[k]]:
                machine.done.append(key)
                n_warm += 1
                schedule.ended(key, machine.now - running.pop(key), well=True)
            machine.now += 0.25
            assert machine.now < 1e5, "this run would never end"
    machine.left = [name for name in names if name not in machine.done + machine.ended]
    return machine


def test_cheap_members_come_first_and_whole_whatever_the_order_of_the_config() -> None:
    ranks = {"net": NET, "boost": BOOSTING, "line": QUICK}
    machine = simulate({"net": 30, "boost": 6, "line": 1}, 1000, ranks=ranks)
    assert machine.whole == ["line", "boost", "net"]
    assert machine.done[:5] == [f"line {k}" for k in range(5)]


def test_first_folds_of_costly_members_do_not_take_the_time_of_cheap_ones() -> None:
    ranks = {"one": NET, "two": NET, "three": NET, "boost": BOOSTING}
    machine = simulate({"one": 120, "two": 130, "three": 110, "boost": 6.6}, 170, 2, ranks)
    assert machine.whole == ["boost"]
    assert machine.now <= 170 + GRACE_SECONDS + 1


def test_a_costly_member_whose_other_folds_do_not_fit_ends_with_its_first() -> None:
    machine = simulate({"dear": 40, "cheap": 1}, 170, ranks={"dear": OTHER, "cheap": QUICK})
    assert machine.done == [*(f"cheap {k}" for k in range(5)), "dear 0"]
    assert machine.now < 60, "nothing is gained by waiting"


def test_members_that_are_let_in_count_against_each_other() -> None:
    machine = simulate({"a": 10, "b": 11}, 100, 2, {"a": NET, "b": NET})
    assert machine.whole == ["a", "b"]
    machine = simulate({"a": 10, "b": 11}, 45, 2, {"a": NET, "b": NET})
    assert machine.whole == ["a"]


@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("rank", [QUICK, OTHER])
def test_a_member_that_never_ends_costs_the_others_nothing(n_workers: int, rank: int) -> None:
    machine = simulate({"hangs": FOR_EVER, "a": 1, "b": 1.5}, 30, n_workers, {"hangs": rank, "b": NET})
    assert sorted(machine.whole) == ["a", "b"]
    assert machine.ended[0] == "hangs 0"
    assert machine.now <= 30 + GRACE_SECONDS + 1


def test_what_hangs_is_ended_only_where_another_waits_for_its_place_or_the_time_is_over() -> None:
    machine = simulate({"hangs": FOR_EVER, "a": 1}, 30, 1, {"a": QUICK})
    assert machine.done == [f"a {k}" for k in range(5)]
    assert machine.now >= 30 + GRACE_SECONDS


def test_running_jobs_get_five_seconds_when_the_time_is_over() -> None:
    stored = Progressed(any_job=True, any_member=True)
    machine = simulate({"a": 8}, 4, 5, {"a": BOOSTING}, stored=stored)
    assert machine.whole == ["a"] and machine.ended == []
    machine = simulate({"a": 8}, 2, 5, {"a": BOOSTING}, stored=stored)
    assert machine.done == [] and len(machine.ended) == 5


def test_where_nothing_is_stored_the_first_job_runs_to_its_end() -> None:
    machine = simulate({"a": 500}, 30, ranks={"a": NET})
    assert machine.done == ["a 0"] and 499 < machine.now < 502


def test_where_nothing_is_stored_a_start_that_takes_all_the_time_still_computes_one_job() -> None:
    machine = simulate({"a": 20}, 30, ranks={"a": NET}, starts_at=100)
    assert machine.done == ["a 0"]


def test_a_rerun_makes_progress_although_its_start_takes_all_the_time() -> None:
    stored = Progressed(any_job=True, any_member=False)
    machine = simulate({"a": 4}, 30, ranks={"a": NET}, starts_at=100, stored=stored)
    assert machine.done == ["a 0"]
    machine = simulate({"a": 400}, 30, ranks={"a": NET}, starts_at=100, stored=stored)
    assert machine.done == ["a 0"] and machine.ended == []


def test_a_rerun_in_which_nothing_fits_computes_folds_for_the_next() -> None:
    stored = Progressed(any_job=True, any_member=True)
    machine = simulate(
        {"a": 20, "b": 30}, 50, ranks={"a": NET, "b": NET}, stored=stored, done_before={"a": 20, "b": 30}
    )
    assert machine.done == ["a 0", "a 1"] and machine.whole == []


def test_a_run_with_nothing_to_submit_uses_its_time_for_the_next() -> None:
    machine = simulate({"a": 8, "b": 9}, 24, ranks={"a": NET, "b": NET})
    assert machine.ended == [] and machine.done == ["a 0", "b 0", "a 1", "a 2"]


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_machine_that_is_slow_to_start_does_not_make_a_run_give_up_one_member_after_another(
    n_workers: int,
) -> None:
    members = dict.fromkeys("abcdefgh", 0.5)
    machine = simulate(members, 6, n_workers, ranks={"a": QUICK}, start_seconds=7)
    assert machine.whole and machine.ended == []
    machine = simulate(members, 6, n_workers, ranks={"a": QUICK}, start_seconds=9)
    assert {key.split()[0] for key in machine.ended} == {"a"} and machine.done[0] == "b 0"


def test_time_is_kept_for_what_comes_after_only_once_there_is_something_to_keep_it_for() -> None:
    machine = simulate({"a": 7}, 30, ranks={"a": BOOSTING})
    assert machine.whole == ["a"], "35 s: within the grace of the urgent deadline"


@given(
    seconds=st.lists(st.sampled_from([0.5, 1.0, 3.0, 10.0, 80.0, FOR_EVER]), min_size=1, max_size=5),
    ranks=st.lists(st.integers(1, 4), min_size=5, max_size=5),
    n_workers=st.integers(1, 3),
    deadline=st.integers(5, 60),
)
def test_every_job_is_done_ended_or_left_and_the_limit_holds(
    seconds: list[float], ranks: list[int], n_workers: int, deadline: int
) -> None:
    names = "abcde"[: len(seconds)]
    stored = Progressed(any_job=True, any_member=True)
    of = dict(zip(names, ranks, strict=False))
    machine = simulate(dict(zip(names, seconds, strict=True)), deadline, n_workers, of, stored=stored)
    assert machine.now <= deadline + GRACE_SECONDS + 1
    outcomes = machine.done + machine.ended + machine.left
    assert sorted(outcomes) == sorted(f"{name} {k}" for name in names for k in range(N_FOLDS))


def test_fifteen_percent_and_at_least_thirty_seconds_are_kept_for_what_comes_after() -> None:
    assert Deadlines.starting_at(0.0, 1000.0).base == 850.0
    assert Deadlines.starting_at(0.0, 100.0).base == 70.0
    assert Deadlines.starting_at(0.0, 40.0).base == 20.0
    assert Deadlines.starting_at(0.0, None) == Deadlines(None, None, None)
    given = Deadlines.starting_at(0.0, 1000.0)
    assert given.later is not None and given.final is not None
    assert 850.0 < given.later < 1000.0 <= given.final <= 1045.0
