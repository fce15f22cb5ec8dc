"""Find the options class, and so the legal names, at any place of a config.

In:  a path into a config, as keys and list indexes, and the values given there.
Out: the class whose fields are legal at that place, or nothing where anything is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from stackfeat.config.run_config import RunConfig, member_kind
from stackfeat.members import MEMBERS
from stackfeat.options import Options

Key = str | int


def value_at(values: Any, keys: Sequence[Key]) -> Any:
    """Return what stands at `keys`, or None."""
    for key in keys:
        if isinstance(values, dict):
            values = values.get(key)
        elif isinstance(values, list | tuple) and isinstance(key, int) and -len(values) <= key < len(values):
            values = values[key]
        else:
            return None
    return values


def options_class(keys: Sequence[Key], values: Any) -> type[Options] | None:
    """Return the class of the options at `keys`, or None where the place takes no options.

    Examples
    --------
    >>> options_class(["levels", "base", "a", "train"], {"levels": {"base": {"a": {"net": "mlp"}}}})
    <class 'stackfeat.nets.options.TrainOptions'>
    """
    annotation: Any = RunConfig
    rest = list(keys)
    if rest[:1] == ["levels"]:
        if len(rest) < 3:
            return None
        kind = member_kind(value_at(values, rest[:3]))
        if kind is None:
            return None
        annotation, rest = MEMBERS[kind], rest[3:]
    for key in rest:
        annotation = _step(annotation, key)
    return next((part for part in _parts(annotation) if _is_options(part)), None)


def names_of(options: type[Options]) -> list[str]:
    """Return the names that a config may use for the fields of `options`."""
    return [field.alias or name for name, field in options.model_fields.items()]


def homes_of(name: str, options: type[Options]) -> list[str]:
    """Return where below `options` an option called `name` is legal: ``lr`` -> ``train.lr``."""
    found = []
    for field_name, field in options.model_fields.items():
        inner = [part for part in _parts(field.annotation) if _is_options(part)]
        found += [f"{field_name}.{name}" for part in inner if name in names_of(part)]
    return found


def kinds_with(name: str) -> list[str]:
    """Return the kinds of member that have an option called `name`."""
    return [kind for kind in MEMBERS if name in names_of(MEMBERS[kind])]


def is_set(options: Options, name: str) -> bool:
    """Whether an option differs from its default (a resolved config writes defaults out)."""
    return bool(
        getattr(options, name) != type(options).model_fields[name].get_default(call_default_factory=True)
    )


def _is_options(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Options)


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield the alternatives of a union, without the wrapping of Annotated."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _step(annotation: Any, key: Key) -> Any:
    """Return the annotation one key further down; None where there is none."""
    steps = []
    for part in _parts(annotation):
        if _is_options(part):
            steps += [
                field.annotation for name, field in part.model_fields.items() if key in (name, field.alias)
            ]
        elif get_origin(part) is dict:
            steps.append(get_args(part)[1])
        elif get_origin(part) is tuple and isinstance(key, int):
            steps.append(get_args(part)[0])
    return Union[tuple(steps)] if steps else None  # noqa: UP007  (built from a list)
