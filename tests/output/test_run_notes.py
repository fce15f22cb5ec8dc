"""Notes of a run: added, never changed, and kept by reruns."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from stackfeat.errors import DataError, UsageError
from stackfeat.output.run_file import find_run_file
from stackfeat.output.run_notes import LONGEST, Note, add_note, latest_scores, read_notes

Project = Any


def test_notes_are_added_and_a_rerun_keeps_them(plain: Project) -> None:
    folder = plain.run_folder
    assert read_notes(folder) == ()
    add_note(folder, lb=0.8123, text="first try")
    before = plain.outputs()
    shutil.rmtree(plain.folder / ".stackfeat")
    assert plain.run().code == 0
    assert plain.run("--set", "levels.base.tree.params.max_depth=2").code == 0
    assert plain.run("--set", "levels.base.tree.params.max_depth=3").code == 0
    assert plain.outputs() == before
    notes = add_note(folder, private=0.81)
    assert [(note.lb, note.private, note.text) for note in notes] == [
        (0.8123, None, "first try"),
        (None, 0.81, ""),
    ]
    assert read_notes(folder) == notes and notes[0].date.endswith("+00:00")
    found = find_run_file(folder)
    assert found is not None and found.state == "whole" and "notes.json" in found.logs
    assert not list(folder.glob(".writing-*"))


def test_the_latest_score_counts() -> None:
    notes = [Note("", 0.1, 0.2), Note("", None, 0.3), Note("", 0.4), Note("", None, None, "words")]
    assert latest_scores(notes) == (0.4, 0.3)
    assert latest_scores([]) == (None, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "must hold a score or a text; got nothing; give lb"),
        ({"lb": float("nan")}, "lb must be a finite number; got nan"),
        ({"private": float("inf")}, "private must be a finite number; got inf"),
        ({"text": "x" * (LONGEST + 1)}, "at most 4,000 characters; got 4,001"),
    ],
)
def test_what_is_no_note_is_refused(given: dict[str, Any], message: str, plain: Project) -> None:
    with pytest.raises(UsageError, match=message):
        add_note(plain.run_folder, **given)
    assert not (plain.run_folder / "notes.json").exists()


def test_a_file_of_somebody_else_stays(plain: Project) -> None:
    path = plain.run_folder / "notes.json"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"must be a file that `stackfeat note` wrote; got .*; move it away"):
        add_note(plain.run_folder, lb=1.0)
    assert path.read_text() == "mine"


def test_only_a_finished_run_has_notes(plain: Project, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"RUN must be the folder of a finished run, with run\.json; got"):
        add_note(tmp_path, lb=1.0)
    assert list(tmp_path.glob("*.json")) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"notes": 3, "format": 1}',
        '{"notes": [{"date": 1}], "format": 1}',
        '{"notes": [], "format": 2}',
    ],
)
def test_damaged_notes_are_named_and_not_overwritten(text: str, plain: Project) -> None:
    path = plain.run_folder / "notes.json"
    add_note(plain.run_folder, lb=1.0)
    path.write_text(text)
    with pytest.raises(DataError, match=r"notes\.json"):
        add_note(plain.run_folder, lb=2.0)
    assert path.read_text() == text


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_a_link_is_not_followed(plain: Project, tmp_path: Path) -> None:
    add_note(plain.run_folder, lb=1.0)
    path = plain.run_folder / "notes.json"
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(DataError, match="must be a file that `stackfeat note` wrote; got 'a link'"):
        read_notes(plain.run_folder)


def test_the_command_shows_what_it_wrote(plain: Project) -> None:
    said = plain.cli("note", plain.run_folder)
    assert said.code == 0 and said.out.startswith("no notes on ")
    assert plain.cli("note", plain.run_folder, "--lb", "0.8123", "--text", "a\x1b[31mb").code == 0
    said = plain.cli("note", plain.run_folder, "--private", "-0.5", "--json")
    found = json.loads(said.out)
    assert [note["lb"] for note in found["notes"]] == [0.8123, None] and found["notes"][1]["private"] == -0.5
    said = plain.cli("note", plain.run_folder)
    assert "public 0.8123" in said.out and "private -0.5" in said.out and "\\x1b[31m" in said.out
    assert plain.cli("note", plain.folder).code == 2
