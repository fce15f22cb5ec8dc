"""What is shown of a run: a table that fits its terminal whatever the run, and few lines in a log."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from importlib.util import find_spec

import pytest
from rich.console import Console

from stackfeat.log import redraws
from stackfeat.output.events import (
    Event,
    JobDone,
    JobEnded,
    JobEpoch,
    JobFailed,
    JobStarted,
    MemberDone,
    MemberScored,
    Planned,
    PlannedMember,
    RunStarted,
)
from stackfeat.output.live_table import LiveTable, clock, shown, state_table
from stackfeat.output.run_state import RunState

STARTED = RunStarted("r" * 32, "pets", "0.1", 7, "here", 4, "log_loss", False, None, 2.0, time=100.0)


def planned(*names: str, jobs: int = 5) -> Planned:
    return Planned(
        tuple(PlannedMember(name, name.split("/")[0], jobs, 0, 5, 2) for name in names), time=100.0
    )


def half_done(n_members: int, jobs: int = 5) -> list[Event]:
    """Half of the members are done, one has failed, three run, others wait; names are long."""
    names = [f"base/a_rather_long_name_of_a_member_{number}" for number in range(n_members)]
    events: list[Event] = [STARTED, planned(*names, jobs=jobs)]
    for name in names[: n_members // 2]:
        for fold in range(jobs):
            events.append(JobStarted(name, f"{name} fold {fold}", time=100.0))
            events.append(JobDone(name, f"{name} fold {fold}", 2.0, time=102.0))
        events += [MemberScored(name, 0.5, True, time=102.0), MemberDone(name, 10.0, time=102.0)]
    bad, *running = names[n_members // 2 : n_members // 2 + 4]
    events.append(JobFailed(bad, f"{bad} fold 0", 1.0, "boom", time=102.0))
    for name in running:
        events.append(JobStarted(name, f"{name} fold 0", time=102.0))
        events.append(JobEpoch(name, f"{name} fold 0", 12, 60, time=103.0))
    return events


def drawn(events: list[Event], width: int, height: int = 24, now: float = 105.0) -> list[str]:
    state = RunState()
    for event in events:
        state.take(event)
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(state_table(state, now, width, height))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("n_members", [4, 8, 50, 300])
@pytest.mark.parametrize("jobs", [5, 40])
def test_any_run_fits_the_terminal(width: int, n_members: int, jobs: int) -> None:
    lines = drawn(half_done(n_members, jobs), width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 22
    assert sum("epoch 12/60" in line for line in lines) == min(3, n_members // 2 - 1)
    assert any(line.startswith("✗ base/a_rather") for line in lines)
    assert re.match(r"pets  \d+ %  7\.0 s, about .* left  \(\d+ of \d+ jobs\)$", lines[0])
    assert lines[1] == "best so far: base/a_rather_long_name_of_a_member_0, log_loss 0.5"[:width]


def test_a_small_run_shows_each_member_and_a_large_one_folds_those_that_do_not_run() -> None:
    small, large = drawn(half_done(8), 80), drawn(half_done(50), 80)
    assert sum(line.startswith("✓ base/a_rather") for line in small) == 4
    assert any("✓✓✓✓✓" in line for line in small) and any("▶····" in line for line in small)
    assert any(line.startswith("✓ 25 members done: base/a_rather") for line in large)
    assert any(line.startswith("· 21 members wait: base/a_rather") for line in large)


def test_the_members_of_a_pool_are_one_row() -> None:
    names = [f"base/mates:team{number}" for number in range(500)]
    events: list[Event] = [STARTED, planned("base/own", *names)]
    events.append(JobDone(names[0], f"{names[0]} fold 0", 1.0, time=101.0))
    events.append(JobStarted(names[1], f"{names[1]} fold 0", time=105.0))
    lines = drawn(events, 80)
    assert any(re.match(r"▶ base/mates:\* \(500\) +1/2500 +1\.0 s", line) for line in lines)


def test_many_running_members_leave_room_for_the_rest() -> None:
    names = [f"base/m{number}" for number in range(60)]
    events: list[Event] = [STARTED, planned(*names)]
    events += [JobStarted(name, f"{name} fold 0", time=101.0) for name in names[:40]]
    lines = drawn(events, 80)
    assert len(lines) <= 22 and any(re.match(r"▶ and \d+ more", line) for line in lines)


def test_the_end_of_the_work_is_said() -> None:
    events: list[Event] = [
        STARTED,
        planned("base/a", jobs=1),
        JobDone("base/a", "base/a fold 0", 1.0, time=101.0),
    ]
    assert drawn(events, 80)[0] == "pets  99 %  7.0 s, scoring and writing  (1 of 1 jobs)"


def logged(events: list[Event], *, each_job: bool = False, quiet: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    with LiveTable(console, each_job=each_job, quiet=quiet) as table:
        for event in events:
            table(event)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def some_events() -> list[Event]:
    mlp = [JobDone("base/mlp", f"base/mlp fold {fold}", 2.46, time=101.0) for fold in range(5)]
    return [
        STARTED,
        Planned(
            (
                PlannedMember("base/mlp", "base", 5, 0, 5, 4),
                PlannedMember("base/gbm", "base", 8, 2, 5, 2),
                PlannedMember("base/old", "base", 5, 5, 5, 2),
                PlannedMember("base/bad", "base", 5, 0, 5, 2),
                PlannedMember("base/late", "base", 5, 0, 5, 2),
            ),
            time=100.0,
        ),
        *mlp,
        MemberScored("base/mlp", 0.41234, True, time=101.0),
        MemberDone("base/mlp", 12.3, time=101.0),
        *(JobDone("base/gbm", f"base/gbm fold {fold}", 1.0, time=101.0) for fold in range(6)),
        MemberScored("base/gbm", 0.5, False, time=101.0),
        MemberDone("base/gbm", 6.0, time=101.0),
        *(
            JobFailed("base/bad", f"base/bad fold {fold}", 1.0, "no\nsuch thing", time=102.0)
            for fold in (0, 1)
        ),
        *(JobEnded("base/late", f"base/late fold {fold}", 0.0, "not begun", time=103.0) for fold in (0, 1)),
    ]


def test_a_log_has_a_line_for_each_member() -> None:
    assert logged(some_events()) == [
        "stored already: 1 of 5 members",
        "base/mlp: 5 folds, 12.3 s, log_loss 0.4123",
        "base/gbm: 8 jobs (2 stored before), 6.0 s, log_loss 0.5 before thresholds",
        "base/bad fold 0: failed: no",
        "    such thing",
        "base/late fold 0: not begun",
    ]


def test_large_scores_are_written_out() -> None:
    events = [STARTED, planned("base/gbm"), MemberScored("base/gbm", 67604.3, True, time=101.0)]
    lines = logged([*events, MemberDone("base/gbm", 4.5, time=102.0)])
    assert "base/gbm: 5 folds, 4.5 s, log_loss 67604" in lines


def test_a_log_has_a_line_for_each_job_on_request_and_none_where_nothing_is_to_be_said() -> None:
    lines = logged(some_events(), each_job=True)
    assert [line for line in lines if line.startswith("base/mlp")] == [
        f"base/mlp fold {fold}: 2.5 s" for fold in range(5)
    ]
    assert "base/bad fold 1: failed: no" in lines and "base/late fold 1: not begun" in lines
    assert logged(some_events(), quiet=True) == []


def test_a_terminal_shows_a_table_and_nothing_of_it_stays() -> None:
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    with LiveTable(console) as table:
        for event in half_done(8):
            table(event)
        assert "boom" not in console.file.getvalue()  # type: ignore[attr-defined]
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "best so far" in said and said.count("\x1b[2K") > 5, "the lines are erased"


def test_a_limit_of_time_stands_beside_the_time() -> None:
    limited = replace(STARTED, limit=600.0)
    assert drawn([limited, planned("base/a")], 80)[0] == "pets  0 %  7.0 s of 10 m 00 s  (0 of 5 jobs)"


def test_a_notebook_without_widgets_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=80)
    console.is_jupyter = True
    for name, can_redraw in (("json", True), ("no_such_package", False)):
        monkeypatch.setattr("stackfeat.log.find_spec", lambda asked, name=name: find_spec(name))
        assert redraws(console) is can_redraw


def test_a_callable_is_given_the_events_themselves() -> None:
    heard: list[Event] = []
    with shown(heard.append) as show:
        show(STARTED)
    assert heard == [STARTED]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12.3, "12 s"),
        (99.0, "99 s"),
        (130.0, "2 m 10 s"),
        (8000.0, "2 h 13 m"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert clock(seconds) == text
