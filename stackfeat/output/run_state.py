"""The state of a run, from its events: what is done, what runs, how long the rest may take, the best score so far.

In:  events, from the run itself or from ``events.jsonl``.
Out: `RunState`, which a live table, lines of a log and ``watch --json`` show.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stackfeat.errors import INTERRUPTED
from stackfeat.output.events import (
    Event,
    JobDone,
    JobEnded,
    JobEpoch,
    JobFailed,
    JobStarted,
    LevelDone,
    MemberDone,
    MemberScored,
    Planned,
    PlannedMember,
    RunDone,
    RunStarted,
    Warned,
)

RANK_FACTOR = 5.0
"""How many times longer a fit is taken to run for each rank of its cost, where none of that rank was measured."""
MOST_PERCENT = 99.0
"""As long as files are not written."""

How = Literal["running", "done", "failed", "interrupted", "killed"]


@dataclass
class RunningJob:
    """A job that runs since a time, and the epoch that its training has come to."""

    since: float
    epoch: int = 0
    epochs: int = 0

    def left(self, now: float, expected: float | None) -> float | None:
        """Return the seconds that it will still take: by its epochs, or by what others of its member took."""
        ran = max(now - self.since, 0.0)
        if self.epoch:
            return ran / self.epoch * (self.epochs - self.epoch)
        return None if expected is None else max(expected - ran, 0.1 * expected)


@dataclass
class MemberState:
    """Jobs of one member: those stored before the run, and what became of the others."""

    plan: PlannedMember
    n_done: int = 0
    seconds: float = 0.0
    failed: str | None = None
    ended: str | None = None
    running: dict[str, RunningJob] = field(default_factory=dict)
    score: float | None = None
    is_exact: bool = True

    @property
    def name(self) -> str:
        return self.plan.member

    @property
    def n_stored(self) -> int:
        return max(min(self.plan.stored, self.plan.jobs - self.n_done), 0)

    @property
    def n_waiting(self) -> int:
        """Jobs that have not begun, and will."""
        if self.failed is not None or self.ended is not None:
            return 0
        return max(self.plan.jobs - self.n_stored - self.n_done - len(self.running), 0)

    @property
    def state(self) -> Literal["waiting", "running", "done", "stored", "failed", "left out"]:
        if self.failed is not None:
            return "failed"
        if self.ended is not None:
            return "left out"
        if self.running:
            return "running"
        if self.n_waiting:
            return "waiting"
        return "done" if self.n_done else "stored"

    def to_json(self) -> dict[str, Any]:
        jobs = {
            job: {"epoch": one.epoch, "epochs": one.epochs} if one.epochs else {}
            for job, one in self.running.items()
        }
        return {
            "member": self.name,
            "level": self.plan.level,
            "state": self.state,
            "jobs": self.plan.jobs,
            "stored": self.n_stored,
            "done": self.n_done,
            "running": jobs,
            "seconds": round(self.seconds, 3),
            "score": self.score,
            "error": self.failed or self.ended,
        }


class RunState:
    """What is known of a run after the events that it was given."""

    def __init__(self) -> None:
        self._begin(None)

    def _begin(self, run: RunStarted | None) -> None:
        self.run = run
        self.members: dict[str, MemberState] = {}
        self.warnings: list[str] = []
        self.end: RunDone | None = None
        self._percent = 0.0

    def take(self, event: Event) -> None:
        """Take in an event."""
        match event:
            case RunStarted():
                self._begin(event)
            case Planned():
                self._plan(event)
            case JobStarted() | JobEpoch() | JobDone() | JobFailed() | JobEnded() | MemberScored():
                if event.member in self.members:
                    self._member(self.members[event.member], event)
            case Warned():
                self.warnings.append(event.text)
            case RunDone():
                self.end = event
            case MemberDone() | LevelDone():
                pass
        if self.end is not None:
            self.halt()

    def halt(self) -> None:
        """Take it that no job runs any more: those without a result wait for the next run."""
        for member in self.members.values():
            member.running.clear()

    def how(self) -> How:
        """Return whether a run is running, done, failed, interrupted, or killed before it could say how it ended."""
        if self.end is not None:
            if self.end.exit_code == INTERRUPTED:
                return "interrupted"
            return "failed" if self.end.error is not None else "done"
        assert self.run is not None
        is_here = os.name == "posix" and self.run.host == socket.gethostname()
        return "killed" if is_here and not _lives(self.run.pid) else "running"

    def cut_short(self) -> str:
        """Return what ended a run before its time, and what to do; "" where it runs, or is done."""
        how = self.how()
        if how in ("running", "done"):
            return ""
        said = how if self.end is None else self.end.error or how
        if self.end is not None and how == "failed":
            return f"failed with exit code {self.end.exit_code}: {said}"
        return f"{said}; finished jobs are stored: run the same command to go on"

    def _plan(self, event: Planned) -> None:
        for planned in event.members:
            member = self.members.setdefault(planned.member, MemberState(planned))
            member.plan = planned
        named = {planned.member for planned in event.members}
        for name, member in self.members.items():
            if name not in named and member.failed is None and member.ended is None:
                member.ended = "it needs a member that has no result"

    def _member(self, member: MemberState, event: Event) -> None:
        match event:
            case JobStarted():
                member.running[event.job] = RunningJob(event.time)
            case JobEpoch():
                job = member.running.setdefault(event.job, RunningJob(event.time))
                job.epoch, job.epochs = event.epoch, event.epochs
            case JobDone():
                member.running.pop(event.job, None)
                member.n_done += 1
                member.seconds += event.seconds
            case JobFailed():
                member.running.pop(event.job, None)
                member.failed = event.error
            case JobEnded():
                member.running.pop(event.job, None)
                member.ended = event.error
            case MemberScored():
                member.score, member.is_exact = event.score, event.exact

    @property
    def metric(self) -> str:
        return "" if self.run is None else self.run.metric

    def elapsed(self, now: float) -> float:
        """Seconds since the command began."""
        return 0.0 if self.run is None else max(now - self.run.time + self.run.seconds, 0.0)

    def best(self) -> MemberState | None:
        """Return the member with the best score so far."""
        scored = [member for member in self.members.values() if member.score is not None]
        sign = 1.0 if self.run is not None and self.run.greater_is_better else -1.0
        return max(scored, key=lambda member: sign * (member.score or 0.0), default=None)

    def _means(self) -> dict[int, float]:
        """Return what a job took in the mean, by the rank of its member's cost."""
        found: dict[int, tuple[int, float]] = {}
        for member in self.members.values():
            n_done, seconds = found.get(member.plan.cost, (0, 0.0))
            found[member.plan.cost] = n_done + member.n_done, seconds + member.seconds
        return {cost: seconds / n_done for cost, (n_done, seconds) in found.items() if n_done}

    def work_left(self, now: float) -> float | None:
        """Return the seconds that all jobs would still take, one after the other; None where none was measured.

        A job takes as long as others of its member did, or those of members that cost about as much.
        """
        means, total = self._means(), 0.0
        for member in self.members.values():
            expected = _expected(member, means)
            parts = [job.left(now, expected) for job in member.running.values()]
            if member.n_waiting:
                parts.append(None if expected is None else expected * member.n_waiting)
            for part in parts:
                if part is None:
                    return None
                total += part
        return total

    def left(self, now: float) -> float | None:
        """Return the seconds that the run will still take, without scoring and writing; None if not known yet."""
        work = self.work_left(now)
        if work is None or self.run is None:
            return None
        n_jobs = sum(member.n_waiting + len(member.running) for member in self.members.values())
        return work / max(min(self.run.jobs, n_jobs), 1)

    def percent(self, now: float) -> float:
        """Return how much of the work is done, of what this run has to compute.

        It does not fall while the run works. One that ended early has done only what is stored.
        """
        if self.end is not None:
            if self.end.exit_code == 0:
                return 100.0
            self._percent = 0.0
        left = self.work_left(now)
        members = self.members.values()
        ran = [max(now - job.since, 0.0) for member in members for job in member.running.values()]
        done = sum(member.seconds for member in members) + sum(ran)
        if left is not None and done + left > 0:
            self._percent = max(self._percent, min(100.0 * done / (done + left), MOST_PERCENT))
        return self._percent

    def to_json(self, now: float) -> dict[str, Any]:
        """Return what ``watch --json`` prints."""
        best, left = self.best(), None if self.end else self.left(now)
        return {
            "run": None if self.run is None else self.run.to_json(),
            "percent": round(self.percent(now), 1),
            "seconds": round(self.end.seconds if self.end else self.elapsed(now), 1),
            "seconds_left": None if left is None else round(left, 1),
            "best": None if best is None else {"member": best.name, self.metric: best.score},
            "members": [member.to_json() for member in self.members.values()],
            "warnings": self.warnings,
            "end": None if self.end is None else self.end.to_json(),
        }


def _lives(pid: int) -> bool:
    try:
        os.kill(max(pid, 1), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass
    return True


def _expected(member: MemberState, means: Mapping[int, float]) -> float | None:
    """Return what a job of a member will take, by its own, or by the means of ranks of cost."""
    if member.n_done:
        return member.seconds / member.n_done
    if not means:
        return None
    nearest = min(means, key=lambda cost: abs(cost - member.plan.cost))
    return means[nearest] * RANK_FACTOR ** (member.plan.cost - nearest)
