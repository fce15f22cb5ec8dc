"""Failing disks and missing rights: a StoreError that helps, and no partial entry."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stackfeat.errors import StoreError
from stackfeat.store import Store, hash_recipe
from tests.store.intact import is_intact

Put = Callable[..., None]
RECIPE = {"member": {"train": {"lr": 0.001}}, "fold": 0}
KEY = hash_recipe(RECIPE)


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def assert_no_traces(root: Path) -> None:
    assert [path for path in files_below(root) if not path.startswith("quarantine")] == []
    assert list((root / "tmp").glob("*")) == []


class FailingCall:
    """Fails the n-th call of an os function, and counts calls."""

    def __init__(self, name: str, fails_at: int, number: int) -> None:
        self.real = getattr(os, name)
        self.fails_at = fails_at
        self.number = number
        self.n_calls = 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.n_calls += 1
        if self.n_calls == self.fails_at:
            raise OSError(self.number, os.strerror(self.number))
        return self.real(*args, **kwargs)


@pytest.mark.parametrize("name", ["write", "fsync", "replace", "open", "mkdir", "close"])
def test_every_failing_call_gives_a_store_error_and_no_partial_entry(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, put: Put
) -> None:
    for number in (errno.ENOSPC, errno.EIO):
        for fails_at in range(1, 100):
            store = Store(tmp_path / f"{number}-{fails_at}")
            call = FailingCall(name, fails_at, number)
            with monkeypatch.context() as patch:
                patch.setattr(os, name, call)
                try:
                    put(store)
                except StoreError as error:
                    message = str(error)
                else:
                    assert call.n_calls < fails_at, "the failure was swallowed"
                    break
            assert str(store.root) in message
            assert os.strerror(number) in message
            if number == errno.ENOSPC:
                assert "free disk space" in message
            assert list((store.root / "tmp").glob("*")) == []
            assert not store.has(KEY) or is_intact(store, KEY)
            put(store)
            assert store.read(KEY).array("base/mlp/proba")[0, 0] == 1.0
        assert fails_at > 1


def test_a_full_disk_says_how_many_bytes_were_wanted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_job("abc", {})
    monkeypatch.setattr(os, "write", FailingCall("write", 1, errno.ENOSPC))
    told = pytest.raises(StoreError, match=r"big\.npy \(8000 bytes wanted\).*No space left.*stackfeat clean")
    with told, store.write(KEY, "x", {}) as writer:
        writer.array("big", np.zeros(1000))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_store_that_cannot_be_written_says_what_to_do(
    store: Store, number: int, monkeypatch: pytest.MonkeyPatch, put: Put
) -> None:
    monkeypatch.setattr(os, "mkdir", FailingCall("mkdir", 1, number))
    with pytest.raises(StoreError, match=r"make the folder writable.*cache: readonly") as caught:
        put(store)
    assert caught.value.errno == number


def test_a_full_disk_met_by_another_library_is_a_store_error(store: Store) -> None:
    with pytest.raises(StoreError, match="No space left"), store.write(KEY, "x", {}):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert_no_traces(store.root)


def test_a_root_that_is_a_file_is_a_store_error(tmp_path: Path, put: Put) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="must be able to use"):
        put(Store(tmp_path / "file"))


def test_the_root_is_for_this_user_alone(store: Store, put: Put) -> None:
    put(store)
    assert store.root.stat().st_mode & 0o777 == 0o700


def test_a_world_writable_root_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "open"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(StoreError, match=r"must not be writable by everybody.*mode=0777; run chmod o-w"):
        Store(root)


def test_no_folder_is_world_writable_whatever_the_umask(store: Store, put: Put) -> None:
    before = os.umask(0)
    try:
        put(store)
        store.write_job("abc", {})
    finally:
        os.umask(before)
    assert [path for path in store.root.rglob("*") if path.is_dir() and path.stat().st_mode & 0o002] == []
