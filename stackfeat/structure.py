"""Structure: JSON that came from a file becomes a frozen dataclass, or an error that says what is wrong.

In:  a value that `json` read, and the dataclass that it must be.
Out: the dataclass, every field of the type that its annotation says; nothing is converted or guessed.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from stackfeat.errors import StructureError, first_line

Built = TypeVar("Built")
LARGEST_INT = 2**63 - 1
MOST_LEVELS = 100
_SHOWN = 60


def parse_json(data: bytes, where: str, *, finite: bool = False, levels: int = MOST_LEVELS) -> Any:
    """Return the value of a JSON text.

    Parameters
    ----------
    where : str
        What the text is, for messages.
    finite : bool
        Whether ``NaN`` and ``Infinity``, which are no JSON, are refused.
    levels : int
        How deep it may be.

    Raises
    ------
    StructureError
        If it is no JSON, or is nested beyond any sense.
    """
    try:
        value = json.loads(data, parse_constant=_refuse_constant if finite else None)
        _refuse_deep(value, levels)
        return value
    except (ValueError, RecursionError) as error:
        raise StructureError(f"{where} must be JSON; got {first_line(error)}") from error


def structured(cls: type[Built], value: object, where: str, names: Mapping[str, Any] | None = None) -> Built:
    """Return the dataclass that a JSON object describes.

    Parameters
    ----------
    cls : type
        A dataclass whose fields are annotated with plain types, other dataclasses, and tuples, mappings,
        literals and unions of these. Fields with a default may be left out; others may not be added.
    where : str
        What the value is, for messages.
    names : mapping, optional
        Types that the annotations of `cls` name and its module imports for type checkers alone.

    Raises
    ------
    StructureError
        If a field is missing, unknown or of another type, or a number is not finite.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Point:
    ...     x: int
    ...     y: int = 0
    >>> structured(Point, {"x": 1}, "a point")
    Point(x=1, y=0)
    """
    hints = _hints(cast(Any, cls), tuple((names or {}).items()))
    if not isinstance(value, Mapping):
        raise _wrong(where, "an object", value)
    known = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]
    unknown = [name for name in value if name not in known]
    if unknown:
        raise StructureError(
            f"{where} must have no other fields than {', '.join(known)}; got {_show(unknown[0])}"
        )
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise StructureError(f"{where} must have the field {name!r}; got {_show(list(value))}")
    return cls(**{name: _value(hints[name], value[name], f"{where}.{name}") for name in value})


def plain(value: Any) -> Any:
    """Return a dataclass as values of JSON, from which `structured` makes it again.

    A field that has its default value is left out, so that fields which came later leave older files and keys as they
    were.
    """
    if is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name))
            for field in fields(value)
            if field.default is MISSING or getattr(value, field.name) != field.default
        }
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def checked(kind: Any, value: object, where: str) -> Any:
    """Return a JSON value that has the type of an annotation, such as ``dict[str, tuple[int, ...]]``."""
    return _value(kind, value, where)


def must(holds: bool, where: str, what: str, got: object) -> None:
    """Raise StructureError unless a claim about a value holds."""
    if not holds:
        raise StructureError(f"{where} must {what}; got {_show(got)}")


@lru_cache(maxsize=256)
def _hints(cls: type, names: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    return get_type_hints(cls, localns=dict(names) or None)


def _value(kind: Any, value: Any, where: str) -> Any:
    """Return the value as an annotation wants it."""
    origin = get_origin(kind)
    if kind is Any or kind is object:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(get_args(kind), value, where)
    if origin is Literal:
        must(
            any(value == one and type(value) is type(one) for one in get_args(kind)),
            where,
            f"be {' or '.join(map(repr, get_args(kind)))}",
            value,
        )
        return value
    if is_dataclass(kind):
        return structured(cast(Any, kind), value, where)
    if origin is tuple or (origin is not None and issubclass(origin, Sequence)):
        return _items(kind, value, where)
    if origin is not None and issubclass(origin, Mapping):
        return _object(get_args(kind)[1], value, where)
    return _plain(kind, value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) in (int, float):
        must(abs(value) < math.inf, where, "be a finite number", value)
        return float(value) if abs(value) <= LARGEST_INT else value
    if kind in (None, types.NoneType) and value is None:
        return None
    if kind is dict and type(value) is dict:
        return value
    if kind in (int, str, bool) and type(value) is kind:
        must(kind is not int or abs(value) <= LARGEST_INT, where, "be a number of 64 bits", value)
        return value
    raise _wrong(where, _NAMES.get(kind, str(kind)), value)


_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "an object",
    types.NoneType: "null",
}


def _one_of(kinds: Sequence[Any], value: Any, where: str) -> Any:
    problems = []
    for kind in kinds:
        try:
            return _value(kind, value, where)
        except StructureError as error:
            problems.append(error)
    # The problem that lies deepest is of the kind that was meant.
    raise max(problems, key=lambda error: len(str(error).partition(" must ")[0]))


def _items(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, "a list", value)
    kinds = get_args(kind)
    if get_origin(kind) is tuple and not (len(kinds) == 2 and kinds[1] is Ellipsis):
        must(len(value) == len(kinds), where, f"have {len(kinds)} items", value)
    else:
        kinds = (kinds[0],) * len(value)
    return tuple(
        _value(one, item, f"{where}[{i}]") for i, (one, item) in enumerate(zip(kinds, value, strict=True))
    )


def _object(kind: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(where, "an object", value)
    for name in value:
        must(isinstance(name, str), where, "have names that are text", name)
    return {name: _value(kind, item, f"{where}[{_show(name)}]") for name, item in value.items()}


def _wrong(where: str, what: str, value: object) -> StructureError:
    return StructureError(f"{where} must be {what}; got {_show(value)}")


def _show(value: object) -> str:
    """Return a value on one short line, without control characters."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _refuse_deep(value: Any, levels: int) -> None:
    """Raise ValueError beyond a depth at which whatever walks the value would run out of stack."""
    level = [value]
    for _ in range(levels):
        level = [
            item
            for one in level
            if type(one) in (dict, list)
            for item in (one.values() if type(one) is dict else one)
        ]
        if not level:
            return
    raise ValueError(f"more than {levels} levels")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name}, which is no number of JSON")
