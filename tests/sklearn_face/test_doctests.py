"""The examples in the docstrings of this folder run."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = ("net_classifier", "net_regressor", "oof_features", "stacking", "tap_features", "voting")


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"stackfeat.sklearn.{name}"))
    assert found.attempted > 0 and found.failed == 0
