"""Jobs belong to a run: nobody else reads or removes them, and they go when the run is provably over."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackfeat.errors import StoreError
from stackfeat.store import Store
from stackfeat.store.lock import FileLock, read_note

ROOT = Path(__file__).parents[2]
KEY = "ab" + "0" * 62
HOLDER = """
import sys
from pathlib import Path
from stackfeat.store import Store
store = Store(Path(sys.argv[1]), run="7" * 32)
store.write_job("abc", {"of": "theirs"})
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_run(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Start a process with a job of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def test_runs_do_not_see_each_others_jobs(store: Store) -> None:
    other = Store(store.root)
    store.write_job(KEY, {"of": "mine"})
    other.write_job(KEY, {"of": "theirs"})
    assert store.read_job(KEY) == {"of": "mine"}
    other.remove_job(KEY)
    other.end_run()
    assert store.read_job(KEY) == {"of": "mine"}
    assert Store(store.root, run=store.run).read_job(KEY) == {"of": "mine"}, "what a worker process does"
    store.end_run()
    assert list((store.root / "jobs").iterdir()) == []


def test_jobs_of_a_living_run_are_spared_and_those_of_a_dead_one_go(
    store: Store, other_run: subprocess.Popen[str]
) -> None:
    store.sweep()
    assert store.clean().temporaries == 0
    assert Store(store.root, run="7" * 32).read_job("abc") == {"of": "theirs"}
    other_run.kill()
    other_run.wait()
    store.sweep()
    assert list((store.root / "jobs").iterdir()) == []


def test_a_run_of_this_process_is_alive(store: Store) -> None:
    store.write_job(KEY, {"of": "mine"})
    Store(store.root).sweep()
    assert store.read_job(KEY) == {"of": "mine"}


def test_a_store_removed_under_a_run_is_a_store_error(store: Store) -> None:
    store.write_job(KEY, {})
    shutil.rmtree(store.root)
    with pytest.raises(StoreError, match="No such file"):
        store.write_job(KEY, {})


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
