"""Events as lines of a file: they come back as they were, a torn line hurts nobody, and the documents list them."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from stackfeat.output.events import (
    EPOCH_SECONDS,
    KINDS,
    EventsFile,
    EventsReader,
    JobEpoch,
    JobStarted,
    Planned,
    PlannedMember,
    RunDone,
    RunStarted,
    Warned,
    last_run,
    read_event,
)

STARTED = RunStarted("r" * 32, "pets", "0.1", 7, "here", 2, "log_loss", False, None, 1.5, time=100.0)
EVENTS = [
    STARTED,
    Planned((PlannedMember("base/a", "base", 5, 1, 5, 2),), time=101.0),
    JobStarted("base/a", "base/a fold 1", time=102.0),
    Warned("a name with \x1b[31m and \n in it", time=103.0),
    RunDone(0, 9.0, "base/a", 0.4, 0.01, {"submission": "submission.csv"}, time=109.0),
]


def test_events_come_back_as_they_were_and_a_line_is_safe_to_print(tmp_path: Path) -> None:
    with EventsFile(tmp_path / "new" / "events.jsonl") as file:
        for number, event in enumerate(EVENTS):
            file(event)
            # Flushed line by line: another process reads it now.
            assert len((tmp_path / "new" / "events.jsonl").read_bytes().splitlines()) == number + 1
    assert list(EventsReader(tmp_path / "new" / "events.jsonl").read()) == EVENTS
    assert (tmp_path / "new" / "events.jsonl").read_text().isascii()
    assert b"\x1b" not in (tmp_path / "new" / "events.jsonl").read_bytes()


def test_a_torn_line_is_ended_by_the_next_run_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventsFile(path) as file:
        file(EVENTS[0])
    path.write_bytes(path.read_bytes() + b'{"event": "job_sta')
    reader = EventsReader(path)
    assert list(reader.read()) == [EVENTS[0]]
    with EventsFile(path) as file:
        file(EVENTS[0])
        file(EVENTS[2])
    assert list(reader.read()) == [EVENTS[0], EVENTS[2]]
    assert last_run([*EVENTS, STARTED, EVENTS[2]]) == [STARTED, EVENTS[2]]
    assert last_run(EVENTS[1:]) == ()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b'{"event": "new_kind", "time": 1.0}',
        b'{"event": ["run_done"]}',
        b'{"event": "warning", "time": 1.0, "text": 3}',
        b'{"event": "warning", "time": NaN, "text": "a"}',
        b'{"event": "warning", "time": 1.0}',
        b"[" * 10_000,
    ],
)
def test_what_is_no_event_is_passed_over(line: bytes) -> None:
    assert read_event(line) is None


def test_an_epoch_of_a_job_is_written_every_few_seconds(tmp_path: Path) -> None:
    with EventsFile(tmp_path / "events.jsonl") as file:
        for number in range(100):
            file(JobEpoch("base/a", "base/a fold 0", number + 1, 100, time=100 + 0.1 * number))
            file(JobEpoch("base/a", "base/a fold 1", number + 1, 100, time=100 + 0.1 * number))
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    for job in ("base/a fold 0", "base/a fold 1"):
        times = [line["time"] for line in lines if line["job"] == job]
        assert len(times) == 4
        assert min(b - a for a, b in pairwise(times)) >= EPOCH_SECONDS - 1e-6


def test_a_full_disk_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EventsFile(tmp_path / "events.jsonl") as file:

        class Full:
            def write(self, data: bytes) -> int:
                raise OSError(28, "No space left on device")

            def close(self) -> None:
                pass

        monkeypatch.setattr(file, "_file", Full())
        file(EVENTS[0])


def test_every_event_and_field_is_in_the_documents() -> None:
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    for kind, cls in KINDS.items():
        row = re.search(rf"^\| `{kind}` \|(.*)$", page, re.MULTILINE)
        assert row, f"{kind} must have a row of the table"
        for field in fields(cls):
            if field.name != "time":
                assert f"`{field.name}`" in row.group(1), f"{kind}: {field.name}"
    for field in fields(PlannedMember):
        assert f"`{field.name}`" in page
