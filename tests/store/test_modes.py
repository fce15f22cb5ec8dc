"""Cache modes: readonly changes nothing, refresh counts only what is new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stackfeat.errors import StoreError
from stackfeat.store import Store, hash_recipe
from tests.store.intact import is_intact

Put = Callable[..., None]
RECIPE = {"member": {"train": {"lr": 0.001}}, "fold": 0}
KEY = hash_recipe(RECIPE)


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_readonly_reads_and_refuses_every_change(store: Store, put: Put) -> None:
    put(store)
    readonly = Store(store.root, "readonly")
    assert is_intact(readonly, KEY)
    before = files_below(store.root)
    for change in (
        lambda: put(readonly, "b" * 64),
        lambda: readonly.write_job("abc", {}),
        readonly.clean,
        lambda: readonly.remove_job("abc"),
    ):
        with pytest.raises(StoreError, match="cache: readonly must only read"):
            change()
    assert files_below(store.root) == before


def test_refresh_counts_only_new_entries_and_replaces_old_ones(store: Store, put: Put) -> None:
    put(store, value=1.0)
    refresh = Store(store.root, "refresh")
    assert not refresh.has(KEY)
    put(refresh, value=2.0)
    assert refresh.has(KEY)
    assert refresh.read(KEY).array("base/mlp/proba")[0, 0] == 2.0
    assert list((store.root / "tmp").iterdir()) == []


def test_refresh_counts_what_other_processes_wrote_since(store: Store, put: Put) -> None:
    refresh = Store(store.root, "refresh")
    put(Store(store.root))
    assert refresh.has(KEY)
    assert Store(store.root, "refresh", started=refresh.started).has(KEY)
    assert not Store(store.root, "refresh").has(KEY)


def test_a_fresh_entry_that_is_damaged_no_longer_counts(store: Store, put: Put) -> None:
    refresh = Store(store.root, "refresh")
    put(refresh)
    (store.root / "entries" / KEY[:2] / KEY / "more.csv").write_text("x")
    assert not is_intact(refresh, KEY)
    assert not refresh.has(KEY)
