"""Recipes: everything a result depends on, as JSON, and the key made of it.

In:  a mapping of plain values (what went into a result).
Out: one canonical text for each value, its SHA-256 as the key, and what differs between two recipes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

_ABSENT = "(absent)"


def canonical_json(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, tuples as lists.

    Parameters
    ----------
    value : object
        Made of dict (str keys), list, tuple, str, int, float, bool and None. Exactly these types:
        numpy scalars print like numbers, but differ between versions and are refused.

    Raises
    ------
    TypeError
        If some part is of another type; the message names the part.
    ValueError
        If a number is NaN or infinite.

    Examples
    --------
    >>> canonical_json({"b": (1, 2.5), "a": None})
    '{"a":null,"b":[1,2.5]}'
    """
    return json.dumps(_plain(value, "recipe"), sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_recipe(recipe: Mapping[str, Any]) -> str:
    """Return the key of a recipe: the SHA-256 of its canonical JSON, 64 hexadecimal characters."""
    return hashlib.sha256(canonical_json(recipe).encode()).hexdigest()


def differences(old: object, new: object) -> list[str]:
    """Return what changed from one recipe to another, as ``member.train.lr: 0.001 -> 0.01``."""
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    return [
        f"{path}: {before.get(path, _ABSENT)} -> {after.get(path, _ABSENT)}"
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]


def _plain(value: object, where: str) -> Any:
    if value is None or type(value) in (str, int, bool):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError(f"{where} must be a finite number; got {value!r}; use None for 'no value'")
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {_text_key(key, where): _plain(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(
        f"{where} must be str, int, float, bool, None, list, tuple or dict; got {value!r} of type "
        f"{type(value).__module__}.{type(value).__qualname__}; convert it first (numpy: .item() or .tolist())"
    )


def _text_key(key: object, where: str) -> str:
    # json would turn the key 1 into "1", so two different recipes could get one hash.
    if type(key) is not str:
        raise TypeError(
            f"keys of {where} must be str; got {key!r} of type {type(key).__name__}; use str(key)"
        )
    return key


def _leaves(value: object, where: str) -> Iterator[tuple[str, str]]:
    """Yield (path, JSON text) for every part of a value that holds no further parts."""
    items = enumerate(value) if isinstance(value, list | tuple) else ()
    parts = list(value.items() if isinstance(value, Mapping) else items)
    if not parts:
        yield where, json.dumps(value)
    for name, part in parts:
        yield from _leaves(part, f"{where}.{name}" if where else str(name))
