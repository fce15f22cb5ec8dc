"""A lock: held once, by the process that took it, and by no file that is left over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stackfeat.store.lock import FileLock, read_note

ROOT = Path(__file__).parents[2]
KEY = "ab" + "0" * 62


def test_a_lock_is_held_once_and_a_file_left_over_locks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = FileLock(path), FileLock(path)
    assert first.acquire() and not second.acquire()
    first.write("mine")
    assert path.read_text() == "mine"
    first.release()
    assert path.exists() and second.acquire()


def is_free(path: Path) -> bool:
    """Whether another process can take a lock."""
    code = (
        "import sys; from pathlib import Path; from stackfeat.store.lock import FileLock; "
        "sys.exit(FileLock(Path(sys.argv[1])).acquire())"
    )
    arguments = [sys.executable, "-c", code, str(path)]
    return subprocess.run(arguments, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 1


def test_a_lock_whose_note_is_read_stays_locked(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire()
    lock.write("mine")
    assert read_note(tmp_path / "lock") == b"mine"
    assert not is_free(tmp_path / "lock")
    lock.release()
    assert is_free(tmp_path / "lock")


def test_a_lock_through_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic"):
        FileLock(tmp_path / "lock").acquire()


def test_a_forked_child_neither_holds_nor_frees_the_lock(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire()
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert not is_free(tmp_path / "lock")
