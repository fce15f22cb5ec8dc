"""Scratch files of units in work: whole or not there, and gone when nobody needs them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

import pytest

from stackfeat.errors import StoreError
from stackfeat.store import LayeredStore, MemoryStore, Scratch, Store, hash_recipe

Put = Callable[..., None]
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
