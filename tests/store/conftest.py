"""What the store's tests share: an empty store, and one way to fill it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stackfeat.store import EntryStore, Store, hash_recipe

RECIPE = {"member": {"train": {"lr": 0.001}}, "fold": 0}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def put() -> Callable[..., None]:
    """A function that writes an entry with one file of each sort."""

    def write_entry(
        store: EntryStore,
        key: str = hash_recipe(RECIPE),
        value: float = 1.0,
        recipe: dict[str, object] | None = None,
        kind: str = "block",
    ) -> None:
        with store.write(key, kind, recipe or RECIPE) as writer:
            writer.array("base/mlp/proba", np.full((3, 2), value))
            writer.json("report", {"epochs": (1, 2)})
            writer.bytes("net.safetensors", b"\x00weights")
            writer.file("more.csv").write_text("a,b\n1,2\n")

    return write_entry
