"""The state of a fitted preparer as bytes, and the category codes that preparers share.

In:  a dict of arrays, numbers, texts and scikit-learn parts; or bytes whose SHA-256 the store has checked.
Out: bytes, or the state. Nothing but known types is ever constructed; no pickle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stackfeat.errors import StructureError
from stackfeat.registry.parameters import refuse_untrusted
from stackfeat.registry.saved_parameters import object_problems
from stackfeat.store.skops_file import load_object, save_object


def dump_state(kind: str, state: dict[str, Any]) -> bytes:
    """Return the state of a preparer of this kind as bytes."""
    return save_object({"kind": kind, "version": 1, **state})


def pack(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays of one dimension end to end: thousands of them would take a millisecond each."""
    lengths = np.array([len(array) for array in arrays], dtype=np.int64)
    return {"values": np.concatenate(arrays) if len(arrays) else np.zeros(0), "lengths": lengths}


def unpack(packed: dict[str, np.ndarray] | list[np.ndarray]) -> list[np.ndarray]:
    """Return the arrays that `pack` put end to end; a list, as earlier versions wrote it, as it is."""
    if isinstance(packed, list):
        return packed
    values, lengths = packed["values"], packed["lengths"]
    if (lengths < 0).any() or lengths.sum() != len(values):
        raise StructureError(f"lengths of a stored preparer must sum to {len(values)}; got {lengths.sum()}")
    return np.split(values, np.cumsum(lengths)[:-1]) if len(lengths) else []


def load_state(kind: str, content: bytes) -> dict[str, Any]:
    """Return the state written by `dump_state`.

    Raises
    ------
    TrustError, StructureError
        If the bytes hold a type that is not known, or another kind of preparer.
    """
    state: dict[str, Any] = load_object(content)
    if not isinstance(state, dict) or state.get("kind") != kind:
        found = state.get("kind") if isinstance(state, dict) else type(state).__name__
        raise StructureError(f"a stored preparer must be of kind {kind!r}; got {str(found)[:60]!r}")
    refuse_untrusted("stored preparer", object_problems(state))
    return state


def seen_levels(codes: np.ndarray, at_most: int | None = None) -> np.ndarray:
    """Return the codes present in one column, sorted; only the most frequent where there are too many."""
    counts = np.bincount(codes[codes >= 0])
    seen = np.flatnonzero(counts)
    if at_most is not None and len(seen) > at_most:
        seen = np.sort(seen[np.argsort(-counts[seen], kind="stable")[:at_most]])
    return seen


def renumber(codes: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return positions in `seen`, int64; -1 for every other code."""
    if len(seen) == 0:
        return np.full(len(codes), -1, dtype=np.int64)
    position = np.minimum(np.searchsorted(seen, codes), len(seen) - 1)
    return np.where(seen[position] == codes, position, -1)
