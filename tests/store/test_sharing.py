"""Several processes on one store: what is gone is computed again, and two may clean at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackfeat.errors import DamagedEntryError, StoreError
from stackfeat.store import Store, hash_recipe
from tests.store.intact import is_intact

Put = Callable[..., None]
KEY = hash_recipe({"member": {"train": {"lr": 0.001}}, "fold": 0})


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
