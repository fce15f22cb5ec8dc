"""Bytes of a fitted preparer: a dict of arrays, numbers, texts and scikit-learn parts, by skops.

In:  the state of a preparer, or bytes whose SHA-256 the store has checked.
Out: bytes, or the state. Nothing but the types listed here is ever constructed; no pickle.
"""

from __future__ import annotations

from typing import Any

import skops.io

from stackfeat.errors import StoreError

TRUSTED_TYPES = (
    "sklearn.impute._base.SimpleImputer",
    "sklearn.impute._base.MissingIndicator",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._encoders.OneHotEncoder",
    "numpy.dtype",
)


def dump_state(kind: str, state: dict[str, Any]) -> bytes:
    """Return the state of a preparer of this kind as bytes."""
    content: bytes = skops.io.dumps({"kind": kind, "version": 1, **state})
    return content


def load_state(kind: str, content: bytes) -> dict[str, Any]:
    """Return the state written by `dump_state`.

    Raises
    ------
    StoreError
        If the bytes hold another kind of preparer, or a type that is not listed.
    """
    untrusted = set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED_TYPES)
    if untrusted:
        raise StoreError(
            f"a stored preparer holds known types only; got {sorted(untrusted)}; it was not loaded"
        )
    state: dict[str, Any] = skops.io.loads(content, trusted=list(TRUSTED_TYPES))
    if state.get("kind") != kind:
        raise StoreError(
            f"stored preparer must be of kind {kind!r}; got kind={state.get('kind')!r}; read another entry"
        )
    return state
