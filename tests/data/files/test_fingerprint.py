"""The root of every key, and what planning may import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stackfeat.data.files.fingerprint import fingerprint, hash_file
from stackfeat.data.options import DataOptions
from stackfeat.store import disk


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be an hour later, so that every file was changed long ago."""
    monkeypatch.setattr(disk, "now_ns", lambda: time.time_ns() + 3600 * 10**9)


def test_fingerprint_follows_bytes_and_reading_options(tmp_path: Path, later: None) -> None:
    path, memory = tmp_path / "a.csv", tmp_path / "memory.json"
    path.write_text("a,y\n1,2\n")
    first = fingerprint(path, DataOptions(train="a.csv"), memory)
    assert first == fingerprint(path, DataOptions(train="./a.csv", test="b.csv"), memory)
    assert first != fingerprint(path, DataOptions(train="a.csv", drop=("a",)), memory)
    assert memory.exists()
    path.write_text("a,y\n1,33\n")
    assert first != fingerprint(path, DataOptions(train="a.csv"), memory)
    memory.write_text("damaged")
    assert fingerprint(path, DataOptions(train="a.csv"), memory)
    assert fingerprint("sklearn:digits", DataOptions(train="sklearn:digits")) == "sklearn:digits"


def test_a_hash_is_remembered_only_of_a_file_whose_next_change_would_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, memory = tmp_path / "a.csv", tmp_path / "memory.json"
    path.write_text("a,y\n1,2\n")
    frozen = disk.stamp_of(path.stat())
    monkeypatch.setattr(disk, "stamp_of", lambda status: frozen)
    monkeypatch.setattr(disk, "now_ns", lambda: frozen.noted + disk.TICK_NS)
    first = hash_file(path, memory)
    assert not memory.exists()
    path.write_text("a,y\n1,3\n")
    assert hash_file(path, memory) != first


def test_a_file_changed_with_its_time_set_back_gets_a_new_hash(tmp_path: Path, later: None) -> None:
    path, memory = tmp_path / "a.csv", tmp_path / "memory.json"
    path.write_text("a,y\n1,2\n")
    before = path.stat()
    first = hash_file(path, memory)
    assert memory.exists()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_text("a,y\n1,3\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hash_file(path, memory) != first


def test_planning_imports_neither_pandas_nor_scikit_learn() -> None:
    code = (
        "import sys, stackfeat.data.options, stackfeat.data.splits.splitters\n"
        "import stackfeat.data.files.fingerprint, stackfeat.data.schema.prediction_file\n"
        "heavy = {'pandas', 'sklearn', 'scipy', 'torch'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
