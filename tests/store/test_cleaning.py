"""What else a store does: finds the nearest entry, cleans up."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stackfeat.store import Store, hash_recipe
from stackfeat.store.cleaning import unique_name
from tests.store.intact import is_intact

Put = Callable[..., None]
RECIPE = {"member": {"train": {"lr": 0.001}}, "fold": 0}
KEY = hash_recipe(RECIPE)


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_nearest_is_the_entry_with_the_fewest_differences(store: Store, put: Put) -> None:
    wanted = {"member": {"train": {"lr": 0.01, "epochs": 5}}, "fold": 0}
    near = {"member": {"train": {"lr": 0.001, "epochs": 5}}, "fold": 0}
    far = {"member": {"train": {"lr": 0.001, "epochs": 9}}, "fold": 1}
    assert store.nearest(wanted, "block") is None
    for recipe in (near, far, wanted):
        put(store, hash_recipe(recipe), recipe=recipe)
    put(store, "c" * 64, recipe={**wanted, "fold": 7}, kind="other")
    assert store.nearest(wanted, "block") == (hash_recipe(near), ["member.train.lr: 0.001 -> 0.01"])


def test_clean_removes_old_entries_but_not_those_to_keep(
    store: Store, monkeypatch: pytest.MonkeyPatch, put: Put
) -> None:
    past = (datetime.now(UTC) - timedelta(days=3)).isoformat(timespec="microseconds")
    with monkeypatch.context() as patch:
        patch.setattr("stackfeat.store.store.now", lambda: past)
        put(store, "a" * 64)
        put(store, "b" * 64)
    put(store, "c" * 64)
    assert store.clean().entries == 0
    assert store.clean(older_than_days=4).entries == 0
    assert store.clean(older_than_days=1e12).entries == store.clean(older_than_days=float("inf")).entries == 0
    report = store.clean(older_than_days=2, keep={"b" * 64})
    assert report.entries == 1
    assert report.bytes > 100
    assert store.keys() == ["b" * 64, "c" * 64]


def test_clean_removes_what_no_process_can_have_written(store: Store) -> None:
    host = unique_name().partition("~")[0]
    left = store.root / "tmp" / f"{host}~{10**30}~{'0' * 16}"
    left.mkdir(parents=True)
    assert store.clean().temporaries == 1
    assert not left.exists()


def test_clean_spares_writers_that_are_alive(store: Store) -> None:
    with store.write(KEY, "x", {}) as writer:
        writer.bytes("a", b"x")
        assert Store(store.root).clean().temporaries == 0
    assert is_intact(store, KEY)


def test_clean_spares_young_temporaries_of_other_machines(store: Store, put: Put) -> None:
    put(store)
    folder = store.root / "tmp" / f"elsewhere~1~{0:016x}"
    folder.mkdir()
    assert store.clean().temporaries == 0
    week_ago = time.time() - 8 * 24 * 3600
    os.utime(folder, (week_ago, week_ago))
    assert store.clean().temporaries == 1


def test_cleaning_a_store_that_does_not_exist_removes_nothing(store: Store) -> None:
    assert store.clean(older_than_days=0).bytes == 0


def test_cleaning_leaves_what_no_store_has_named(store: Store, put: Put) -> None:
    """Somebody may name a folder of his own as the store."""
    put(store)
    mine = [
        store.root / folder / name
        for folder in ("tmp", "jobs", "quarantine", "partial", "entries")
        for name in ("notes.txt", "a/b.csv", "x~y~z.tmp", "lock")
    ]
    week_ago = time.time() - 8 * 24 * 3600
    for path in (*mine, store.root / "old.tmp", store.root / "a~b.tmp"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")
        os.utime(path, (week_ago, week_ago))
        os.utime(path.parent, (week_ago, week_ago))
    store.sweep()
    report = store.clean(older_than_days=0.0)
    assert (report.temporaries, report.quarantined, report.entries) == (0, 0, 1)
    assert all(path.read_text() == "precious" for path in mine)


def test_cleaning_does_not_follow_links(store: Store, put: Put, tmp_path: Path) -> None:
    put(store)
    precious = tmp_path / "precious" / f"elsewhere~1~{0:016x}"
    precious.mkdir(parents=True)
    (precious / "x").write_text("precious")
    shutil.rmtree(store.root / "tmp")
    (store.root / "tmp").symlink_to(precious.parent)
    (store.root / "quarantine").mkdir()
    (store.root / "quarantine" / f"{KEY}.elsewhere~1~{0:016x}").symlink_to(precious)
    assert store.clean().quarantined == 1
    assert (precious / "x").read_text() == "precious"
