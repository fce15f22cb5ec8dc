"""Apply `--set a.b.c=value` to the values of a config before they are checked.

In:  plain values, and the arguments as typed.
Out: the values with the arguments in place, the path each of them gave, and findings for paths that
     do not exist.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stackfeat.config.run_config import Key, options_class, value_at
from stackfeat.config.yaml_file import MAX_DEPTH, MAX_KEY, parse_yaml, path_of
from stackfeat.errors import ConfigError, Problem
from stackfeat.registry.resolve import cut, suggest

LONGEST_SHOWN = 200


@dataclass(frozen=True)
class Overridden:
    """Values after all overrides.

    Attributes
    ----------
    values : dict
        A copy; the values given are not changed.
    arguments : dict of str to str
        Config path to the argument that gave it.
    problems : list of Problem
        Arguments that could not be applied.
    """

    values: dict[str, Any]
    arguments: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> Overridden:
    """Put each ``a.b.c=value`` in place, in order; values are read as YAML.

    Names of members may hold dots: the longest name that exists is taken. List items are counted
    from 0 (``levels.final.soft.inputs.0=...``).
    """
    result = Overridden(copy.deepcopy(values))
    for argument in overrides:
        try:
            path = _apply(result.values, argument)
            result.arguments[path] = argument
        except ConfigError as error:
            result.problems.extend(
                Problem(problem.where, problem.message, f"--set {cut(argument, LONGEST_SHOWN)}")
                for problem in error.problems
            )
    return result


def _apply(values: dict[str, Any], argument: str) -> str:
    path, separator, text = argument.partition("=")
    path = path.strip()
    if not separator or not all(path.split(".")):
        raise ConfigError(f"must be written path.to.option=value; got {cut(argument, LONGEST_SHOWN)!r}")
    if len(path) > MAX_KEY or path.count(".") >= MAX_DEPTH:
        raise ConfigError(
            f"the path of an option has at most {MAX_DEPTH} parts and {MAX_KEY:,} characters; got "
            f"{path.count('.') + 1} parts and {len(path):,} characters; name an option of the config"
        )
    keys = _keys(path, values)
    value = parse_yaml(text, path=path).values
    here: Any = values
    for place, key in enumerate(keys[:-1]):
        here = _step(here, key, keys[:place], values)
    *above, last = keys
    if isinstance(here, list):
        here[_index(here, last, above)] = value
    else:
        _check_name(last, above, values)
        here[last] = value
    return path


def _keys(path: str, values: dict[str, Any]) -> list[Key]:
    """Split a path; a name with dots in it counts as one key where it exists."""
    rest = path.split(".")
    keys: list[Key] = []
    here: Any = values
    while rest:
        key, length = _next_key(here, rest)
        keys.append(key)
        rest = rest[length:]
        here = value_at(here, [key])
    return keys


def _next_key(here: Any, rest: Sequence[str]) -> tuple[Key, int]:
    """Return the first key of `rest` below `here`, and how many parts of the path it takes."""
    if isinstance(here, list) and rest[0].isdecimal():
        return int(rest[0]), 1
    for length in range(len(rest), 1, -1):
        if isinstance(here, dict) and ".".join(rest[:length]) in here:
            return ".".join(rest[:length]), length
    return rest[0], 1


def _step(here: Any, key: Key, above: Sequence[Key], values: dict[str, Any]) -> Any:
    """Return what stands at `key`; options not given yet start as an empty mapping."""
    if isinstance(here, list):
        return here[_index(here, key, above)]
    if key not in here or here[key] is None:
        _check_may_start(key, here, above, values)
        here[key] = {}
    if not isinstance(here[key], dict | list):
        place = path_of([*above, key])
        raise ConfigError([Problem(place, f"{place!r} is a single value, so nothing can be set below it")])
    return here[key]


def _check_may_start(key: Key, here: dict[str, Any], above: Sequence[Key], values: dict[str, Any]) -> None:
    """Options and free mappings may be started by a path; levels and members must exist."""
    if above[:1] == ["levels"] and len(above) in (1, 2):
        what = "level" if len(above) == 1 else f"member of level {above[1]!r}"
        names = [str(name) for name in here]
        message = f"there is no {what} {key!r}.{suggest(str(key), names)} There are {', '.join(names)}"
        raise ConfigError([Problem(path_of([*above, key]), message)])
    _check_name(key, above, values)


def _check_name(key: Key, above: Sequence[Key], values: dict[str, Any]) -> None:
    options = options_class(above, values)
    if options is not None and key not in options.names():
        legal = options.names()
        message = f"there is no option {key!r} here; legal are {', '.join(legal)}.{suggest(str(key), legal)}"
        raise ConfigError([Problem(path_of([*above, key]), message)])


def _index(here: list[Any], key: Key, above: Sequence[Key]) -> int:
    if isinstance(key, int) and 0 <= key < len(here):
        return key
    message = f"items are counted from 0 to {len(here) - 1}" if here else "the list is empty"
    raise ConfigError([Problem(path_of([*above, key]), f"{message}; got {key!r}")])
