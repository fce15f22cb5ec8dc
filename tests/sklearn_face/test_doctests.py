"""The examples in the docstrings of this folder run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import stackfeat

FOLDER = Path(stackfeat.__file__).parent / "sklearn"
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if ">>>" in path.read_text("utf-8"))


def test_every_public_module_has_examples() -> None:
    assert {"nets", "oof_features", "stacking", "tap_features", "voting"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"stackfeat.sklearn.{name}"))
    assert found.attempted > 0 and found.failed == 0
