"""Fold-local preprocessing: typed columns in, what a kind of learner wants out.

Belongs here: a class per kind of learner, fitted on the training rows of one fold alone and written as bytes.
Nothing but known types is ever constructed from bytes; no pickle. Does not belong here: typing of columns, which
looks at the whole training file but never at labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from stackfeat.errors import StructureError


class Preparer:
    """What is learnt from the rows of one fold, as attributes that the constructor names.

    Attributes
    ----------
    kind : str
        Its name in bytes.
    packed : tuple of str
        Attributes that are lists of arrays: thousands of them would take a millisecond each.
    """

    kind: ClassVar[str]
    packed: ClassVar[tuple[str, ...]] = ()

    def to_bytes(self) -> bytes:
        """Return what was learnt as bytes."""
        # Here and below: students are loaded in a moment, and have no preparers.
        from stackfeat.store.skops_file import save_object

        state = {**vars(self), **{name: pack(getattr(self, name)) for name in self.packed}}
        return save_object({"kind": self.kind, "version": 1, **state})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return the preparer that `to_bytes` wrote, from bytes whose SHA-256 the store has checked.

        Raises
        ------
        TrustError, StructureError
            If the bytes hold a type that is not known, or another kind of preparer.
        """
        from stackfeat.registry.parameters import object_problems, refuse_untrusted
        from stackfeat.store.skops_file import load_object

        state = load_object(content)
        if not isinstance(state, dict) or state.get("kind") != cls.kind:
            found = state.get("kind") if isinstance(state, dict) else type(state).__name__
            raise StructureError(f"a stored preparer must be of kind {cls.kind!r}; got {str(found)[:60]!r}")
        refuse_untrusted("stored preparer", object_problems(state))
        preparer = cls()
        for name in vars(preparer):
            setattr(preparer, name, unpack(state[name]) if name in cls.packed else state[name])
        return preparer


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
