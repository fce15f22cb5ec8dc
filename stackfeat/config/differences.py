"""Differences of configs: which options are not the same, as a person reads them.

In:  the options of resolved configs, by the name of their run.
Out: paths such as ``levels.base.mlp.train.lr``, each with what every config says there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stackfeat.registry.resolve import cut

PLACES = ("name", "outputs", "store", "executor", "cache")
"""Options at the top that say what a run is called and where it works; results do not depend on them."""
ABSENT = "–"
_LONGEST = 120


@dataclass(frozen=True)
class Difference:
    """One option that is not the same everywhere.

    Attributes
    ----------
    path : str
    values : tuple of str
        In the order of the configs; ``–`` where a config has no such option, or leaves it empty.
    """

    path: str
    values: tuple[str, ...]


def differences(*configs: Mapping[str, Any]) -> list[Difference]:
    """Return what differs between configs, in the order of their options.

    A member, or any other group of options that some config lacks, is one difference.

    Examples
    --------
    >>> differences({"seed": 1, "folds": {"n": 5}}, {"seed": 1, "folds": {"n": 10}})
    [Difference(path='folds.n', values=('5', '10'))]
    """
    parts = [{key: value for key, value in config.items() if key not in PLACES} for config in configs]
    return list(_between("", parts))


def _between(path: str, values: list[Any]) -> Iterator[Difference]:
    if all(isinstance(value, Mapping) for value in values):
        for key in dict.fromkeys(key for value in values for key in value):
            below = [value.get(key) for value in values]
            yield from _between(f"{path}.{key}" if path else str(key), below)
        return
    if any(_is_empty(value) for value in values):
        # What another version of stackfeat wrote out as an empty option, and what it did not know.
        values = [None if _is_empty(value) else value for value in values]
    if any(value != values[0] for value in values):
        yield Difference(path, tuple(_shown(value) for value in values))


def _is_empty(value: Any) -> bool:
    return value is None or value == [] or value == {}


def _shown(value: Any) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, Mapping):
        value = {key: one for key, one in value.items() if not _is_empty(one)}
    return cut(
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str), _LONGEST
    )
