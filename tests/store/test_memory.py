"""Stores in memory and in layers: they behave as the store on disk does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stackfeat.errors import StoreError
from stackfeat.store import EntryStore, LayeredStore, MemoryStore, Store

KEY = "a" * 64


def make_store(kind: str, folder: Path) -> EntryStore:
    if kind == "disk":
        return Store(folder / "store")
    return MemoryStore() if kind == "memory" else LayeredStore([MemoryStore(), Store(folder / "store")])


@pytest.fixture(params=["disk", "memory", "layered"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> EntryStore:
    return make_store(request.param, tmp_path)


def put(store: EntryStore, key: str = KEY, value: float = 1.0) -> None:
    with store.write(key, "block", {"a": (1, 2)}) as writer:
        writer.array("x/y", np.full((2, 3), value, dtype=np.float32, order="F"))
        writer.json("report", (1, None))
        writer.bytes("b", b"123")
        np.save(writer.file("own.npy"), np.arange(3))


def test_every_store_reads_back_the_same(store: EntryStore) -> None:
    put(store)
    entry = store.read(KEY)
    array = entry.array("x/y")
    assert (array.dtype, array.flags.c_contiguous, array.flags.writeable) == (np.float32, True, True)
    np.testing.assert_array_equal(array, np.ones((2, 3)))
    assert not entry.array("x/y", mmap=True).flags.writeable
    np.testing.assert_array_equal(np.load(entry.file("x/y.npy")), array)
    np.testing.assert_array_equal(entry.array("own"), np.arange(3))
    assert entry.json("report") == [1, None]
    assert entry.bytes("b") == entry.file("b").read_bytes() == b"123"
    assert entry.bytes("x/y.npy").startswith(b"\x93NUMPY")
    assert (entry.has("b"), entry.has("c")) == (True, False)
    assert store.manifest(KEY)["recipe"] == {"a": [1, 2]}
    assert store.manifest(KEY).keys() == {"key", "kind", "recipe", "created", "files"}
    assert (store.keys(), store.keys("block"), store.keys("net")) == ([KEY], [KEY], [])


def test_every_store_is_unmoved_by_later_changes_of_what_it_was_given(store: EntryStore) -> None:
    values = np.zeros(3)
    with store.write(KEY, "x", {}) as writer:
        writer.array("a", values)
        values += 1
    store.read(KEY).array("a")[:] = 7
    np.testing.assert_array_equal(store.read(KEY).array("a"), np.zeros(3))


def test_every_store_keeps_nothing_of_a_block_that_fails(store: EntryStore) -> None:
    with pytest.raises(RuntimeError, match="stop"), store.write(KEY, "x", {}) as writer:
        writer.json("a", 1)
        raise RuntimeError("stop")
    assert not store.has(KEY)
    with pytest.raises(StoreError, match="compute it first"):
        store.read(KEY)


def test_every_store_keeps_the_first_of_two_entries(store: EntryStore) -> None:
    put(store, value=1.0)
    put(store, value=2.0)
    assert store.read(KEY).array("x/y")[0, 0] == 1.0


def test_every_store_refuses_objects_and_second_names(store: EntryStore) -> None:
    with pytest.raises(TypeError, match="must hold numbers"), store.write(KEY, "x", {}) as writer:
        writer.array("a", [object()])
    with pytest.raises(ValueError, match="a second time"), store.write(KEY, "x", {}) as writer:
        writer.json("a", 1)
        writer.json("a", 1)


def test_every_store_names_the_files_there_are(store: EntryStore) -> None:
    put(store)
    with pytest.raises(StoreError, match=r"got the files b, own\.npy, report\.json, x/y\.npy"):
        store.read(KEY).bytes("c")


def test_every_store_keeps_jobs(store: EntryStore) -> None:
    store.write_job(KEY, {"fold": 1})
    assert store.read_job(KEY) == {"fold": 1}
    store.remove_job(KEY)
    with pytest.raises(StoreError):
        store.read_job(KEY)


def test_layers_read_from_the_first_that_has_it_and_write_to_the_first(tmp_path: Path) -> None:
    front, back = MemoryStore(), Store(tmp_path / "store")
    put(back, "b" * 64, value=2.0)
    put(back, value=2.0)
    put(front, value=1.0)
    layers = LayeredStore([front, back])
    assert layers.read(KEY).array("x/y")[0, 0] == 1.0
    assert layers.read("b" * 64).array("x/y")[0, 0] == 2.0
    assert layers.keys() == [KEY, "b" * 64]
    put(layers, "c" * 64)
    assert (front.has("c" * 64), back.has("c" * 64)) == (True, False)


def test_layers_need_a_store() -> None:
    with pytest.raises(ValueError, match="at least one store"):
        LayeredStore([])
