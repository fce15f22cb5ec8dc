"""A file is made again if its recipe or its bytes changed, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackfeat.output.written import RECORD, Written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text("1")
    written = Written(tmp_path)
    written.note("a.csv", {"key": "x"})
    written.save()
    return tmp_path


def test_an_unchanged_file_is_current(folder: Path) -> None:
    assert Written(folder).is_current("a.csv", {"key": "x"})


def test_another_recipe_an_edit_and_a_lost_file_are_not(folder: Path) -> None:
    assert not Written(folder).is_current("a.csv", {"key": "y"})
    (folder / "a.csv").write_text("2")
    assert not Written(folder).is_current("a.csv", {"key": "x"})
    (folder / "a.csv").unlink()
    assert not Written(folder).is_current("a.csv", {"key": "x"})


def test_a_damaged_record_only_costs_time(folder: Path) -> None:
    (folder / RECORD).write_text("{")
    assert not Written(folder).is_current("a.csv", {"key": "x"})


def test_files_that_are_no_longer_written_leave_the_record(folder: Path) -> None:
    Written(folder).save()
    assert not Written(folder).is_current("a.csv", {"key": "x"})
