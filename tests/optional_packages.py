"""Whether packages that documents speak of, and that need not be installed, can be imported."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache

from tests.torchvision_operators import declare_missing_operators


@cache
def is_importable(package: str) -> bool:
    """Whether a package can be imported here."""
    if importlib.util.find_spec(package) is None:
        return False
    declare_missing_operators()
    try:
        importlib.import_module(package)
    except Exception:  # of another torch, or half installed
        return False
    return True
