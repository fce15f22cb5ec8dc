"""Several processes on one store: entries are replaced, put aside and tidied away while others use them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackfeat.errors import DamagedEntryError, StoreError
from stackfeat.store import Store, hash_recipe
from stackfeat.store import folder as folder_module
from stackfeat.store.folder import put_aside
from tests.store.intact import is_intact

Put = Callable[..., None]
KEY = hash_recipe({"member": {"train": {"lr": 0.001}}, "fold": 0})


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


def test_an_entry_that_is_gone_is_computed_again_by_a_run_that_still_has_its_store(
    store: Store, put: Put
) -> None:
    put(store)
    with pytest.raises(StoreError) as caught:
        store.read("ab" + "0" * 62)
    assert not isinstance(caught.value, DamagedEntryError), "no run: it was never computed"
    store.write_job("abc", {})
    worker = Store(store.root, run=store.run)
    for one in (store, worker):
        with pytest.raises(DamagedEntryError, match="got none"):
            one.read("ab" + "0" * 62)
    shutil.rmtree(store.root)
    for one in (store, worker):
        with pytest.raises(StoreError) as caught:
            one.read(KEY)
        assert not isinstance(caught.value, DamagedEntryError), "the store was removed: the run ends"


def test_a_run_without_jobs_also_computes_again_what_is_gone(store: Store, put: Put) -> None:
    put(store)
    with store.running(), pytest.raises(DamagedEntryError, match="got none"):
        store.read("ab" + "0" * 62)


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


def test_two_that_clean_at_once_do_not_stumble(
    store: Store, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackfeat.store import cleaning

    put(store)
    (store.root / "entries" / KEY[:2] / KEY / "more.csv").write_text("damaged")
    assert not is_intact(store, KEY)
    children = cleaning._children

    def swept(folder: Path, names: Any) -> Any:
        found = list(children(folder, names))
        for path in found:
            if folder.name == "quarantine":
                shutil.rmtree(path)
        return found

    monkeypatch.setattr(cleaning, "_children", swept)
    assert store.clean().quarantined == 1
