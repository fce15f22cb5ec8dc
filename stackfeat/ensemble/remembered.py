"""Remembered: rows and folds are read from the store once per process, because jobs share them."""

from __future__ import annotations

from typing import Any

from stackfeat.data.folds import Folds, load_folds
from stackfeat.data.samples import Samples, load_samples
from stackfeat.store import EntryStore

_SIZE = 8
# By (kind, key). The store is no part of it, since a key names contents.
_values: dict[tuple[str, str], Any] = {}


def samples_of(store: EntryStore, key: str) -> Samples:
    """Return the rows stored under a key."""
    if ("samples", key) not in _values:
        _remember(("samples", key), load_samples(store.read(key)))
    samples: Samples = _values["samples", key]
    return samples


def folds_of(store: EntryStore, key: str) -> Folds:
    """Return the folds stored under a key."""
    if ("folds", key) not in _values:
        _remember(("folds", key), load_folds(store.read(key)))
    folds: Folds = _values["folds", key]
    return folds


def _remember(name: tuple[str, str], value: Any) -> None:
    while len(_values) >= _SIZE:
        _values.pop(next(iter(_values)))
    _values[name] = value
