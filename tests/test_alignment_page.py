"""The page on alignment shows what its script measured: tables, pictures, and their sizes."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/explanation/alignment.md"
PICTURES = ROOT / "docs/explanation/pictures"
LARGEST_PICTURE = 150_000


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script beside its neighbours, as python benchmarks/alignment_pictures.py finds them."""
    before = set(sys.modules)
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("alignment_pictures")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        for name in set(sys.modules) - before:
            if name.startswith("alignment_"):
                del sys.modules[name]


def test_tables_of_the_page_are_those_that_were_measured(script: ModuleType) -> None:
    text = PAGE.read_text("utf-8")
    numbers = json.loads((PICTURES / "numbers.json").read_text("utf-8"))
    for name, table in script.tables(numbers).items():
        assert table in text, (
            f"the table {name} of the page is not that of numbers.json; paste what the script prints"
        )


def test_every_picture_is_shown_and_small() -> None:
    text = PAGE.read_text("utf-8")
    found = sorted(PICTURES.glob("*.png"))
    assert found
    for path in found:
        assert f"](pictures/{path.name})" in text, path.name
        assert path.stat().st_size < LARGEST_PICTURE, path.name


def test_accuracy_above_chance_is_right_on_made_up_rows(script: ModuleType) -> None:
    """Rows that hold their label are all guessed; rows of noise are at chance."""
    leak = sys.modules["alignment_leak"]
    rng = np.random.default_rng(0)
    y = np.arange(2000) % leak.N_CLASSES
    splits = [np.arange(1000)[fold :: leak.N_FOLDS] for fold in range(leak.N_FOLDS)]
    test = np.arange(1000, 2000)
    known = [np.eye(leak.N_CLASSES)[y]] * leak.N_FOLDS
    noise = [rng.normal(size=(2000, 8))] * leak.N_FOLDS
    highest = 100 - 100 / leak.N_CLASSES
    assert leak._above_chance(known, splits, test, y) == {"oof": highest, "test": highest}
    assert max(map(abs, leak._above_chance(noise, splits, test, y).values())) < 6
