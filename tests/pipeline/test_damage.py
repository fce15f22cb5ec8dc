"""Damaged store entries are put aside and made again; refresh and readonly do as they say."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

Project = Any


def flip(path: Path, place: float = 0.6) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(data)


def entries(project: Project) -> Path:
    folder: Path = project.folder / ".stackfeat" / "entries"
    return folder


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_byte_in_any_array_is_found_and_made_again(seed: int, quick: Project) -> None:
    before = quick.outputs()
    paths = sorted(entries(quick).rglob("*.npy"))
    flip(random.Random(seed).choice(paths), random.Random(seed).random())
    said = quick.run()
    assert said.code == 0, said.err
    assert quick.outputs() == before


def test_every_damaged_array_is_found_at_once(quick: Project) -> None:
    before = quick.outputs()
    for path in sorted(entries(quick).rglob("*oof*.npy"))[::3]:
        flip(path)
    # Arrays are read when a file has to be made of them.
    shutil.rmtree(quick.run_folder / "oof")
    assert quick.run().code == 0
    assert quick.outputs() == before
    assert list((quick.folder / ".stackfeat" / "quarantine").iterdir())
    assert "computing it again" in (quick.run_folder / "run.log").read_text()


@pytest.mark.parametrize(
    "pattern", ["*.skops", "DONE", "manifest.json", "info.json", "notes.json", "shape.json"]
)
def test_a_truncated_file_is_made_again(pattern: str, quick: Project) -> None:
    before = quick.outputs()
    path = sorted(entries(quick).rglob(pattern))[0]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-30])
    said = quick.run()
    assert said.code == 0, said.err
    assert quick.outputs() == before


def test_damaged_training_rows_are_read_again_when_they_are_needed(quick: Project) -> None:
    for manifest in entries(quick).rglob("manifest.json"):
        if '"kind": "samples"' in manifest.read_text() or '"kind":"samples"' in manifest.read_text():
            for path in manifest.parent.glob("*.npy"):
                flip(path)
    said = quick.run("--set", "levels.base.linear.params={C: 0.2}")
    assert said.code == 0, said.err
    assert quick.scores()["failed"] == []


def test_a_missing_file_counts_as_damage(quick: Project) -> None:
    before = quick.outputs()
    sorted(entries(quick).rglob("oof*.npy"))[0].unlink()
    said = quick.run()
    assert said.code == 0, said.err
    assert quick.outputs() == before


def test_refresh_computes_everything_again_to_the_same_bytes(quick: Project, fits: list[str]) -> None:
    before = quick.outputs()
    assert quick.run("--set", "cache=refresh").code == 0
    assert len(fits) == 18
    assert quick.outputs() == before


def test_readonly_uses_what_is_there_and_writes_nothing_into_the_store(quick: Project) -> None:
    before, files = quick.outputs(), {path: path.stat().st_mtime_ns for path in entries(quick).rglob("*")}
    said = quick.run("--set", "cache=readonly")
    assert said.code == 0, said.err
    assert quick.outputs() == before
    assert {path: path.stat().st_mtime_ns for path in entries(quick).rglob("*")} == files


def test_readonly_says_when_something_is_missing(quick: Project) -> None:
    said = quick.run("--set", "cache=readonly", "--set", "levels.base.linear.params={C: 0.2}")
    assert said.code == 1
    assert "cache: readonly must only read the store" in said.err and "Traceback" not in said.err


def test_readonly_does_not_touch_a_damaged_entry(quick: Project) -> None:
    path = sorted(entries(quick).rglob("oof*.npy"))[0]
    flip(path)
    shutil.rmtree(quick.run_folder / "oof")
    said = quick.run("--set", "cache=readonly")
    assert said.code == 1 and "cache: auto" in said.err and "Traceback" not in said.err
    assert path.exists()
