"""Entries as folders: damage is found before any parser runs, put aside, and others may replace what is read."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.errors import DamagedEntryError
from stackfeat.store import Store, disk, hash_recipe
from stackfeat.store import folder as folder_module
from stackfeat.store.folder import find_fault, publish, put_aside
from tests.store.intact import is_intact

Put = Callable[..., None]
RECIPE = {"member": {"train": {"lr": 0.001}}, "fold": 0}
KEY = hash_recipe(RECIPE)


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    elif how == "truncate":
        path.write_bytes(data[:-1])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "longer":
        path.write_bytes(data + b"x")
    else:
        path.unlink()


def read_everything(store: Store) -> float:
    entry = store.read(KEY)
    entry.json("report")
    entry.bytes("net.safetensors")
    entry.file("more.csv")
    return float(entry.array("base/mlp/proba")[0, 0])


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("how", ["flip", "truncate", "empty", "longer", "remove"])
@pytest.mark.parametrize(
    "name", ["base%2Fmlp%2Fproba.npy", "report.json", "net.safetensors", "more.csv", "manifest.json", "DONE"]
)
def test_every_damage_is_found_put_aside_and_computed_again(
    store: Store,
    name: str,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    put: Put,
) -> None:
    put(store)
    assert is_intact(store, KEY)
    damage(store.root / "entries" / KEY[:2] / KEY / name, how)

    def no_parser(*_: object, **__: object) -> None:
        pytest.fail("a parser saw bytes that were not verified")

    monkeypatch.setattr(np, "load", no_parser)
    if not (name == "DONE" and how == "remove"):
        with pytest.raises(DamagedEntryError, match=r"must be as it was written.*run again"):
            read_everything(store)
        assert len(list((store.root / "quarantine").iterdir())) == 1
        assert len(caplog.records) == 1
    monkeypatch.undo()
    assert not store.has(KEY)
    assert not is_intact(store, KEY)
    put(store)
    assert read_everything(store) == 1.0
    assert store.clean().quarantined == len(caplog.records)
    assert read_everything(store) == 1.0


def test_an_entry_under_the_key_of_another_is_damage(store: Store, put: Put) -> None:
    put(store, "ab" + "0" * 62)
    (store.root / "entries/ab" / ("ab" + "0" * 62)).rename(store.root / "entries/ab" / ("ab" + "1" * 62))
    with pytest.raises(DamagedEntryError, match="is that of entry ab000"):
        store.read("ab" + "1" * 62)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be an hour later, so that every file was changed long ago."""
    monkeypatch.setattr(disk, "now_ns", lambda: time.time_ns() + 3600 * 10**9)


def test_a_file_is_hashed_once_per_process_and_again_when_it_changes(
    store: Store, monkeypatch: pytest.MonkeyPatch, put: Put, later: None
) -> None:
    put(store)
    n_hashed = []
    monkeypatch.setattr(folder_module, "hash_file", lambda path: n_hashed.append(path) or hash_of(path))
    for _ in range(3):
        Store(store.root).read(KEY).array("base/mlp/proba")
    assert len(n_hashed) == 1
    path = store.read(KEY).file("base/mlp/proba.npy")
    os.utime(path)
    store.read(KEY).array("base/mlp/proba")
    assert len(n_hashed) == 2


def test_damage_within_a_tick_of_the_clock_is_found(
    store: Store, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    path = store.root / "entries" / KEY[:2] / KEY / "net.safetensors"
    # A clock that stands still is the worst that a tick can be: no stamp differs.
    frozen = disk.stamp_of(path.stat())
    monkeypatch.setattr(folder_module, "stamp_of", lambda status: frozen)
    monkeypatch.setattr(disk, "now_ns", lambda: frozen.noted + disk.TICK_NS)
    assert is_intact(store, KEY)
    damage(path, "flip")
    assert not is_intact(store, KEY)


def test_damage_with_the_times_set_back_is_found(store: Store, put: Put, later: None) -> None:
    put(store)
    path = store.root / "entries" / KEY[:2] / KEY / "net.safetensors"
    before = path.stat()
    assert is_intact(store, KEY)
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        damage(path, "flip")
        damage(path, "flip")
    damage(path, "flip")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert not is_intact(store, KEY)


def test_damage_in_a_readonly_store_is_told_and_stays(store: Store, put: Put) -> None:
    put(store)
    damage(store.root / "entries" / KEY[:2] / KEY / "more.csv", "flip")
    with pytest.raises(DamagedEntryError, match="it stays, because the store is readonly"):
        Store(store.root, "readonly").read(KEY).file("more.csv")
    assert (store.root / "entries" / KEY[:2] / KEY / "DONE").exists()


def test_an_entry_without_marker_does_not_exist_and_is_replaced(store: Store, put: Put) -> None:
    folder = store.root / "entries" / KEY[:2] / KEY
    folder.mkdir(parents=True)
    (folder / "half").write_text("x")
    assert not store.has(KEY)
    put(store)
    assert is_intact(store, KEY)
    assert not (folder / "half").exists()


def test_one_warning_per_damaged_entry(store: Store, caplog: pytest.LogCaptureFixture, put: Put) -> None:
    put(store)
    damage(store.root / "entries" / KEY[:2] / KEY / "more.csv", "flip")
    with caplog.at_level(logging.WARNING):
        assert not is_intact(store, KEY)
        assert not is_intact(store, KEY)
    assert len(caplog.records) == 1


def test_an_entry_replaced_while_it_is_read_is_read_on(store: Store, put: Put) -> None:
    put(store, value=1.0)
    entry = store.read(KEY)
    assert entry.array("base/mlp/proba")[0, 0] == 1.0
    put(Store(store.root, "refresh"), value=2.0)
    assert entry.array("base/mlp/proba")[0, 0] == 2.0
    assert entry.bytes("net.safetensors") == b"\x00weights"
    assert is_intact(store, KEY)
    assert not (store.root / "quarantine").exists()


def test_a_reader_of_a_readonly_store_goes_on_with_a_newer_entry(store: Store, put: Put) -> None:
    put(store, value=1.0)
    entry = Store(store.root, "readonly").read(KEY)
    put(Store(store.root, "refresh"), value=2.0)
    assert entry.array("base/mlp/proba")[0, 0] == 2.0


def test_what_another_process_has_computed_anew_is_not_put_aside(
    store: Store, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    path = store.root / "entries" / KEY[:2] / KEY / "more.csv"
    path.write_text("damaged")
    entry = store.read(KEY)

    def late(place: Path, quarantine: Path, is_damaged: Callable[[Path], bool]) -> str:
        # Between our look and our move the other has looked, moved and computed.
        assert not is_intact(Store(store.root), KEY)
        put(Store(store.root))
        return put_aside(place, quarantine, is_damaged)

    with monkeypatch.context() as patch:
        calls: list[int] = []

        def once(*arguments: Any) -> str:
            calls.append(1)
            return (late if len(calls) == 1 else put_aside)(*arguments)

        patch.setattr("stackfeat.store.store.put_aside", once)
        with pytest.raises(DamagedEntryError, match="another process has computed it anew"):
            entry.file("more.csv")
    assert is_intact(store, KEY), "the good entry is back"
    assert len(list((store.root / "quarantine").iterdir())) == 1


def test_a_file_that_vanishes_between_looking_and_reading_is_looked_for_again(
    store: Store, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, value=1.0)
    entry = store.read(KEY)
    load, calls = folder_module.load_npy, []

    def vanishing(path: Path, name: str, *, mmap: bool) -> Any:
        calls.append(1)
        if len(calls) == 1:
            put(Store(store.root, "refresh"), value=2.0)
            raise FileNotFoundError(2, "gone", str(path))
        return load(path, name, mmap=mmap)

    monkeypatch.setattr(folder_module, "load_npy", vanishing)
    assert entry.array("base/mlp/proba")[0, 0] == 2.0


def filled(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "x").write_text(text)
    return folder


def test_a_folder_moves_to_its_place_unless_a_good_one_is_there(tmp_path: Path) -> None:
    place = tmp_path / "entries" / "ab" / "key"
    assert publish(filled(tmp_path / "tmp" / "1", "one"), place, lambda: pytest.fail("nothing is there"))
    second = filled(tmp_path / "tmp" / "2", "two")
    assert not publish(second, place, lambda: True)
    assert (place / "x").read_text() == "one" and second.exists(), "the caller's to remove"
    assert publish(second, place, lambda: False)
    assert (place / "x").read_text() == "two" and list((tmp_path / "tmp").iterdir()) == []


def test_what_is_damaged_is_put_aside_and_what_is_good_again_is_put_back(tmp_path: Path) -> None:
    place, quarantine = tmp_path / "key", tmp_path / "quarantine"
    filled(place, "good")
    assert "another process has computed it anew" in put_aside(place, quarantine, lambda aside: False)
    assert (place / "x").read_text() == "good" and list(quarantine.iterdir()) == []
    said = put_aside(place, quarantine, lambda aside: (aside / "x").read_text() == "good")
    (aside,) = quarantine.iterdir()
    assert said == f"it is now {aside}; run again to compute it anew" and not place.exists()
    assert "another process has put it aside" in put_aside(place, quarantine, lambda aside: True)
    (tmp_path / "file").write_text("in the way")
    filled(place, "bad")
    said = put_aside(place, tmp_path / "file", lambda aside: True)
    assert "could not be put aside" in said and f"remove {place} yourself" in said and place.exists()


def test_pieces_are_the_bytes_of_the_whole_array_and_a_file_asked_for_is_hashed(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(6, 4)
    writer = folder_module.FolderWriter(tmp_path)
    writer.array("whole", np.asfortranarray(values))
    writer.pieces("pieces", (6, 4), "f4", (np.asfortranarray(values[i : i + 4]) for i in (0, 4)))
    writer.file("mine.txt").write_text("abc")
    writer.finish({"key": KEY, "kind": "block", "recipe": {}, "created": ""})
    found = folder_module.read_manifest(tmp_path, KEY)
    assert isinstance(found, dict)
    for name, listed in found["files"].items():
        assert listed == {"size": (tmp_path / name).stat().st_size, "sha256": hash_of(tmp_path / name)}
    for name in ("whole", "pieces"):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), values)
    assert (tmp_path / "whole.npy").read_bytes()[-96:] == (tmp_path / "pieces.npy").read_bytes()[-96:]


def test_a_file_is_at_fault_by_size_by_hash_or_by_absence(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    sha256 = hashlib.sha256(b"abc").hexdigest()
    assert find_fault(tmp_path / "x", 3, sha256) == ""
    assert find_fault(tmp_path / "x", 4, sha256) == "must have 4 bytes, got 3"
    assert find_fault(tmp_path / "x", 3, "0" * 64) == f"must have SHA-256 {'0' * 12}..., got {sha256[:12]}..."
    assert find_fault(tmp_path / "y", 3, sha256) == "is missing"
