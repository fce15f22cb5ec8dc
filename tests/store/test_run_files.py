"""Jobs and snapshots of a run: whole or not there, seen by nobody else, and gone when nobody needs them."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stackfeat.errors import StoreError
from stackfeat.store import LayeredStore, MemoryStore, Scratch, Store, hash_recipe

Put = Callable[..., None]
ROOT = Path(__file__).parents[2]
KEY = hash_recipe({"member": {"train": {"lr": 0.001}}, "fold": 0})


def scratch_of(store: Store, key: str = KEY) -> Scratch:
    scratch = store.scratch(key)
    assert scratch is not None
    return scratch


def test_what_was_written_last_is_read_by_another_store_until_it_is_removed(store: Store) -> None:
    scratch = scratch_of(store)
    assert scratch.read("net.0/all") is None
    scratch.write("net.0/all", b"one")
    scratch.write("net.0/all", b"two")
    again = scratch_of(Store(store.root))
    assert again.read("net.0/all") == b"two"
    assert again.read("net.1/all") is None
    assert list((store.root / "tmp").iterdir()) == []
    again.remove()
    again.remove()
    assert scratch.read("net.0/all") is None
    assert not (store.root / "partial" / KEY).exists()


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:-1] + b"?", lambda b: b"", lambda b: b[:30]]
)
def test_a_damaged_file_is_a_warning_and_removed(
    store: Store, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    scratch = scratch_of(store)
    scratch.write("net", b"state of a net")
    (path,) = (store.root / "partial" / KEY).iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING, "stackfeat"):
        assert scratch.read("net") is None
    assert "is damaged: removed, starting anew" in caplog.text
    assert not path.exists()


def test_refresh_does_not_read_older_files_and_readonly_has_none(store: Store) -> None:
    scratch_of(store).write("net", b"old")
    time.sleep(0.01)
    refresh = scratch_of(Store(store.root, "refresh"))
    assert refresh.read("net") is None
    refresh.write("net", b"new")
    assert refresh.read("net") == b"new"
    assert Store(store.root, "readonly").scratch(KEY) is None
    assert MemoryStore().scratch(KEY) is None
    layered = LayeredStore([store, MemoryStore()]).scratch(KEY)
    assert layered is not None and layered.read("net") == b"new"


def test_cleaning_takes_files_of_finished_units_and_very_old_ones(store: Store, put: Put) -> None:
    other, third = "a" * 64, "b" * 64
    for key in (KEY, other, third):
        scratch_of(store, key).write("net", b"123")
    put(store, KEY)
    old = time.time() - 8 * 24 * 3600
    os.utime(store.root / "partial" / third, (old, old))
    report = store.clean()
    assert report.temporaries == 2
    assert [path.name for path in (store.root / "partial").iterdir()] == [other]


def test_a_place_that_cannot_be_written_is_a_store_error(store: Store) -> None:
    store.root.mkdir(parents=True)
    (store.root / "partial").write_text("in the way")
    with pytest.raises(StoreError, match="the store must be able to use"):
        scratch_of(store).write("net", b"1")


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


def test_jobs_are_written_replaced_read_and_removed(store: Store) -> None:
    store.write_job(KEY, {"member": "mlp"})
    store.write_job(KEY, {"member": "gbm"})
    assert store.read_job(KEY) == {"member": "gbm"}
    folder = store.root / "jobs" / store.run
    assert sorted(path.name for path in folder.iterdir()) == sorted([f"{KEY}.json", "lock"])
    store.remove_job(KEY)
    store.remove_job(KEY)
    with pytest.raises(StoreError, match="No such file"):
        store.read_job(KEY)


def test_a_broken_job_file_is_a_store_error(store: Store) -> None:
    store.write_job(KEY, {})
    (store.root / "jobs" / store.run / f"{KEY}.json").write_text("{")
    with pytest.raises(StoreError, match="must be JSON"):
        store.read_job(KEY)


def test_a_snapshot_is_written_although_another_run_removes_the_folder(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = store.scratch(KEY)
    assert scratch is not None
    replace, calls = Path.replace, []

    def removing(self: Path, target: Path) -> Path:
        if not calls:
            calls.append(1)
            Store(store.root).scratch(KEY).remove()  # type: ignore[union-attr]
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", removing)
    scratch.write("net", b"state")
    assert scratch.read("net") == b"state"
    assert list((store.root / "tmp").iterdir()) == []
