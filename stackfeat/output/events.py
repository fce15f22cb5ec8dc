"""Events of a run: what happens while it works, one value each, for a display and for ``events.jsonl``.

In:  events, as they happen.
Out: lines of JSON, added to a file and flushed one by one; and the same values, read back from it by `watch`.

They tell times, so the file is a log: it has no hash, and nothing reads it to compute anything.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from stackfeat.errors import StructureError
from stackfeat.output.files import explained
from stackfeat.structure import parse_json, structured

EVENTS = "events.jsonl"
EPOCH_SECONDS = 3.0
"""An epoch of a job is written at most this often."""
MOST_BYTES = 1 << 24
"""Longest line that is read: one of a plan with thousands of members has a hundredth of that."""


@dataclass(frozen=True)
class Event:
    """Something that happened; `time` is in seconds since 1970."""

    kind: ClassVar[str] = ""

    time: float = field(default_factory=time.time, kw_only=True)

    def to_json(self) -> dict[str, Any]:
        return {"event": self.kind, **asdict(self), "time": round(self.time, 3)}


@dataclass(frozen=True)
class RunStarted(Event):
    """The command works; a run that is resumed begins with another one."""

    kind: ClassVar[str] = "run_started"

    run: str
    name: str
    version: str
    pid: int
    host: str
    jobs: int
    metric: str
    greater_is_better: bool
    limit: float | None
    seconds: float


@dataclass(frozen=True)
class PlannedMember:
    """A member of the plan: its jobs, those stored already, folds among them, and a rank of what a fit costs."""

    member: str
    level: str
    jobs: int
    stored: int
    folds: int
    cost: int


@dataclass(frozen=True)
class Planned(Event):
    """What there is to do; again where members failed or were left out, without them."""

    kind: ClassVar[str] = "plan"

    members: tuple[PlannedMember, ...]


@dataclass(frozen=True)
class JobStarted(Event):
    """A job runs, or runs again after the death of its worker."""

    kind: ClassVar[str] = "job_started"

    member: str
    job: str


@dataclass(frozen=True)
class JobEpoch(Event):
    """A net that trains in a job has done an epoch."""

    kind: ClassVar[str] = "epoch"

    member: str
    job: str
    epoch: int
    epochs: int


@dataclass(frozen=True)
class JobDone(Event):
    """The result of a job is stored."""

    kind: ClassVar[str] = "job_done"

    member: str
    job: str
    seconds: float


@dataclass(frozen=True)
class WithoutResult(Event):
    """What is told of a job that has no result, and why."""

    member: str
    job: str
    seconds: float
    error: str


class JobFailed(WithoutResult):
    """A job raised an error."""

    kind: ClassVar[str] = "job_failed"


class JobEnded(WithoutResult):
    """Time did not allow a job: it was ended, or did not begin."""

    kind: ClassVar[str] = "job_ended"


@dataclass(frozen=True)
class MemberScored(Event):
    """All folds of a member are predicted; `exact`: whether the leaderboard will say the same."""

    kind: ClassVar[str] = "member_scored"

    member: str
    score: float
    exact: bool


@dataclass(frozen=True)
class MemberDone(Event):
    """All jobs of a member are done; `seconds` is the sum of those of this run."""

    kind: ClassVar[str] = "member_done"

    member: str
    seconds: float


@dataclass(frozen=True)
class LevelDone(Event):
    """No job of a level is left."""

    kind: ClassVar[str] = "level_done"

    level: str
    seconds: float


@dataclass(frozen=True)
class Warned(Event):
    """A warning, as in ``run.log``."""

    kind: ClassVar[str] = "warning"

    text: str


@dataclass(frozen=True)
class RunDone(Event):
    """The run has ended; `files` are relative to the run folder."""

    kind: ClassVar[str] = "run_done"

    exit_code: int
    seconds: float
    submitted: str | None = None
    score: float | None = None
    se: float | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


KINDS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        *(RunStarted, Planned, JobStarted, JobEpoch, JobDone, JobFailed, JobEnded),
        *(MemberScored, MemberDone, LevelDone, Warned, RunDone),
    )
}


class EventsFile:
    """Adds events to a file; a context manager.

    A kill can tear the last line, which the next run ends. What a full disk does not take is lost, and ends no run.
    """

    def __init__(self, path: Path) -> None:
        with explained(f"{path} must be a file that can be written", "Choose another outputs.dir"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab+", buffering=0)
            self._end_torn_line()
        self._turn = threading.Lock()
        self._epochs: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, JobEpoch):
            if event.time - self._epochs.get(event.job, 0.0) < EPOCH_SECONDS:
                return
            self._epochs[event.job] = event.time
        line = json.dumps(event.to_json(), allow_nan=False) + "\n"
        with self._turn, suppress(OSError):
            self._file.write(line.encode())

    def last(self, event: Event) -> None:
        """Add an event from a thread that ends the process: it waits for no other, which may never go on."""
        with suppress(OSError, ValueError):
            self._file.write((json.dumps(event.to_json(), allow_nan=False) + "\n").encode())

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> EventsFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _end_torn_line(self) -> None:
        if self._file.seek(0, 2):
            self._file.seek(-1, 2)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")


def read_event(line: bytes) -> Event | None:
    """Return the event of a line; None where it is none: torn by a kill, or of another version."""
    try:
        values = parse_json(line, "a line", finite=True)
        cls = KINDS[values.pop("event")]
        return structured(cls, values, "an event")
    except (StructureError, LookupError, AttributeError, TypeError):
        return None


class EventsReader:
    """Reads what has been added to a file of events since it was read before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        self._rest = b""

    def read(self) -> Iterator[Event]:
        """Yield new events; a line that is not whole yet waits for the next call."""
        with self._path.open("rb") as file:
            file.seek(self._place)
            while piece := file.read(1 << 20):
                self._place += len(piece)
                *lines, self._rest = (self._rest + piece).split(b"\n")
                if len(self._rest) > MOST_BYTES:
                    self._rest = b""
                for line in lines:
                    event = read_event(line)
                    if event is not None:
                        yield event

    def read_last_run(self) -> Sequence[Event]:
        """Return new events of the last run; none where the file is a link or not there."""
        is_file = self._path.is_file() and not self._path.is_symlink()
        return last_run(list(self.read())) if is_file else ()


def last_run(events: Sequence[Event]) -> Sequence[Event]:
    """Return the events of the last run of a folder."""
    starts = [place for place, event in enumerate(events) if isinstance(event, RunStarted)]
    return events[starts[-1] :] if starts else ()
