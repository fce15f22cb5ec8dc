"""Files in, `Samples` and `Folds` out: everything between a path and an array.

Belongs here: loaders (one table from csv, parquet, feather, npz or a built-in set), typing of
columns, `Schema`, `Samples`, `Folds`, inner splits, and fold-local preprocessing (`prepare`).
Does not belong here: anything that learns to predict, and anything that imports torch.
Names are resolved lazily, so that a config can be checked without pandas or scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Folds": "stackfeat.data.splits.folds",
    "LoadedData": "stackfeat.data.load",
    "Samples": "stackfeat.data.samples",
    "Schema": "stackfeat.data.schema.columns",
    "Table": "stackfeat.data.samples",
    "fingerprint": "stackfeat.data.files.fingerprint",
    "inner_split": "stackfeat.data.splits.validation_split",
    "load": "stackfeat.data.load",
    "load_rows": "stackfeat.data.load",
    "make_folds": "stackfeat.data.splits.folds",
    "resolve_kind": "stackfeat.data.splits.splitters",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_HOMES)
