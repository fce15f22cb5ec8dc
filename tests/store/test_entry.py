"""Entries, however their bytes are kept: one order of memory, no objects, and what is not as written is put aside."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stackfeat.errors import DamagedEntryError, DataError, OutOfMemoryError, StoreError, StructureError
from stackfeat.store import EntryStore, MemoryStore, Store
from stackfeat.store.entry import Entry, claim, plain_array, reading

KEY = "a" * 64


@dataclass(frozen=True)
class Report:
    """What an entry of these tests holds."""

    epochs: int
    names: tuple[str, ...]


@pytest.fixture(params=["folder", "memory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> EntryStore:
    return Store(tmp_path / "store") if request.param == "folder" else MemoryStore()


def written(store: EntryStore, value: object = None) -> Entry:
    with store.write(KEY, "block", {"of": "a test"}) as writer:
        writer.json("report", {"epochs": 3, "names": ("a", "b")} if value is None else value)
        writer.array("x", np.arange(6.0).reshape(2, 3).T)
    return store.read(KEY)


def test_an_entry_says_what_it_is_and_what_it_holds(any_store: EntryStore) -> None:
    entry = written(any_store)
    assert (entry.key, entry.kind, entry.recipe) == (KEY, "block", {"of": "a test"})
    assert sorted(entry.files) == ["report.json", "x.npy"]
    assert entry.has("x.npy") and not entry.has("x") and not entry.has("report")
    assert entry.json("report") == {"epochs": 3, "names": ["a", "b"]}, "tuples become lists"
    assert entry.structure("report", Report) == Report(3, ("a", "b"))


def test_arrays_are_read_in_c_order_however_they_were_given(any_store: EntryStore) -> None:
    entry = written(any_store)
    for array in (entry.array("x"), entry.array("x", mmap=True)):
        assert array.flags.c_contiguous and array.shape == (3, 2)
        np.testing.assert_array_equal(array, [[0, 3], [1, 4], [2, 5]])


@pytest.mark.parametrize(
    "value", [{"epochs": 3}, {"epochs": "3", "names": []}, [1], {"epochs": 1, "names": 2}]
)
def test_a_value_of_another_structure_is_damage_and_the_entry_is_put_aside(
    value: object, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    entry = written(store, value)
    assert entry.json("report") == value, "sound JSON of its own"
    with pytest.raises(DamagedEntryError, match=r"must be as it was written; got .*report\.json"):
        entry.structure("report", Report)
    assert not store.has(KEY) and len(list((store.root / "quarantine").iterdir())) == 1


@pytest.mark.parametrize(
    "error",
    [KeyError("weights"), StructureError("its y must have a row for each id; got 3"), RecursionError()],
)
def test_whatever_fails_over_what_an_entry_holds_puts_it_aside(error: Exception, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    entry = written(store)
    with pytest.raises(DamagedEntryError, match="run again to compute it anew"), reading(entry):
        raise error
    assert not store.has(KEY)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), OutOfMemoryError),
        (OSError(errno.ENOSPC, "No space left on device"), StoreError),
        (DataError("somebody's file"), DataError),
    ],
)
def test_what_is_no_fault_of_an_entry_leaves_it_in_its_place(
    error: Exception, expected: type[Exception], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    entry = written(store)
    with pytest.raises(expected) as caught, reading(entry):
        raise error
    assert not isinstance(caught.value, DamagedEntryError) and store.has(KEY)


@pytest.mark.parametrize(
    "given", [lambda x: x, lambda x: x.T, lambda x: x[::2, 1:], lambda x: x[:, ::-1], np.asfortranarray, list]
)
def test_an_array_keeps_its_values_and_gets_c_order(given: Callable[[np.ndarray], np.ndarray]) -> None:
    values = given(np.arange(20.0).reshape(4, 5))
    array = plain_array(values, "x")
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, np.array(values))


def test_objects_are_refused_by_name_and_dtype() -> None:
    assert plain_array(["a", "bc"], "x").dtype == np.dtype("<U2")
    for values in ([{}, {}], np.array(["a", None]), np.zeros(2, [("a", "f4"), ("b", "O")])):
        with pytest.raises(TypeError, match=r"array 'x' must hold numbers.*got dtype=.*; convert it"):
            plain_array(values, "x")


def test_a_second_file_of_a_name_is_refused() -> None:
    claim("b.npy", {"a.npy": 1})
    with pytest.raises(ValueError, match=r"must differ; got 'a\.npy' a second time; use another name"):
        claim("a.npy", {"a.npy": 1})
