"""Check the parameters that a loaded estimator carries, as those of a config are checked.

In:  an estimator that came from a file, with all estimators inside it.
Out: problems: texts that open files, caches, hosts. A class may be allowed and its parameters not:
     `CountVectorizer(input="filename")` opens what its rows name whenever it predicts. Callables were
     judged as types, before the estimator was built.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

from stackfeat.registry.allowed import is_allowed_path, public_path
from stackfeat.registry.parameters import ParameterProblem, estimator_problems
from stackfeat.registry.sklearn_parameters import GRIDS, MEMBER_LISTS

_PLAIN = (bool, int, float, str)
_TEXTS = tuple("OSTUV")
_PASSED_ON = {"lightgbm": "_other_params", "xgboost": "kwargs", "catboost": "_init_params"}
"""Where the boosters keep parameters that no argument of their constructor has."""


def object_problems(estimator: Any) -> list[ParameterProblem]:
    """Return what in the parameters of an estimator, and of all inside it, needs ``--trust-code``."""
    found: list[ParameterProblem] = []
    for item in _estimators(estimator):
        path = public_path(f"{type(item).__module__}.{type(item).__qualname__}")
        found += estimator_problems(path, _plain_parameters(item, path))
    return found


def _parameters(estimator: Any) -> dict[str, Any]:
    given = vars(estimator)
    return {name: given[name] for name in _names(cast(Any, type(estimator))) if name in given}


def _plain_parameters(estimator: Any, path: str) -> dict[str, Any]:
    """Return the parameters that a config could write; objects of allowed classes were judged as types."""
    values = _parameters(estimator)
    passed_on = vars(estimator).get(_PASSED_ON.get(path.partition(".")[0], ""))
    if isinstance(passed_on, Mapping):
        values = {**values, **passed_on}
    # Lists of members and grids hold objects, which are walked by themselves.
    plain = {
        name: _without_arrays(value)
        for name, value in values.items()
        if name not in (*MEMBER_LISTS, *GRIDS) and value is not None
    }
    return {name: value for name, value in plain.items() if _is_plain(value)}


def _without_arrays(value: Any) -> Any:
    """Return an array of texts as a list: one of a single text compares as that text does."""
    return value.tolist() if getattr(getattr(value, "dtype", None), "kind", "") in _TEXTS else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for item in value.values())
    return value is None or isinstance(value, _PLAIN)


@lru_cache(maxsize=256)
def _names(cls: Any) -> tuple[str, ...]:
    parameters = inspect.signature(cls).parameters.values()
    return tuple(item.name for item in parameters if item.kind is not item.VAR_KEYWORD)


def _estimators(value: Any) -> Iterator[Any]:
    """Yield every estimator of the allow-list in a value: in attributes, lists, mappings and arrays of objects."""
    waiting, seen = [value], set[int]()
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, _PLAIN) or item is None:
            continue
        seen.add(id(item))
        if isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
        elif getattr(getattr(item, "dtype", None), "kind", "") == "O":
            waiting.extend(item.ravel().tolist())
        elif hasattr(item, "__dict__") and not isinstance(item, type):
            if is_allowed_path(
                public_path(f"{type(item).__module__}.{type(item).__qualname__}"), nested=True
            ):
                yield item
            waiting.extend(vars(item).values())
