"""Say what is wrong with a config so that a person can repair it.

In:  pydantic's errors and the values they are about; findings of later checks.
Out: findings (path, message) with what must hold, what was got and a did-you-mean; Problems with
     file and line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from stackfeat.config.overrides import LONGEST_SHOWN
from stackfeat.config.run_config import SHORT, Key, homes_of, kinds_with, options_class, value_at
from stackfeat.config.yaml_file import MAX_PROBLEMS, join_path, path_of
from stackfeat.errors import Problem
from stackfeat.members import MEMBERS
from stackfeat.registry.resolve import cut, suggest

_TYPES = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}
_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


@dataclass(frozen=True)
class Finding:
    """Something wrong in a config.

    Attributes
    ----------
    path : str
        Where, such as ``levels.base.mlp.train.lr``.
    message : str
    trust : bool
        Whether the remedy is to agree to run code.
    keys : tuple
        The path as keys and list indexes, where it is known so.
    """

    path: str
    message: str
    trust: bool = False
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Places:
    """Where the values of a config came from.

    Attributes
    ----------
    file : str
        The config file, as the user named it; empty for a dict.
    lines : mapping of str to int
        Path to line in that file.
    overrides : mapping of str to str
        Path to the ``--set`` argument that gave it.
    """

    file: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)

    def problem(self, finding: Finding) -> Problem:
        """Return the finding with the line of its path, or of the nearest path above it."""
        parts = finding.path.split(".")
        paths = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
        given = next((self.overrides[path] for path in paths if path in self.overrides), None)
        if given is not None:
            return Problem(finding.path, finding.message, f"--set {cut(given, LONGEST_SHOWN)}")
        line = next((self.lines[path] for path in paths if path in self.lines), None)
        return Problem(finding.path, finding.message, self.file, line)


NOWHERE = Places()


@dataclass(frozen=True)
class _Error:
    """One error of pydantic with a path into the values as given."""

    keys: tuple[Key, ...]
    in_union: bool
    kind: str
    context: Mapping[str, Any]
    value: Any

    @property
    def path(self) -> str:
        return path_of(self.keys)


def show(value: object) -> str:
    """Return a value as a config would write it, cut to a line."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def findings_of(error: ValidationError, values: Any) -> list[Finding]:
    """Translate all of pydantic's errors; alternatives of one place become one finding."""
    found = error.errors(include_url=False)
    errors = [_plain(item, values) for item in found[:MAX_PROBLEMS]]
    groups: dict[tuple[Key, ...], list[_Error]] = {}
    for item in errors:
        groups.setdefault(item.keys, []).append(item)
    explained = {keys[:length] for keys in groups for length in range(len(keys))}
    findings = []
    for keys, group in groups.items():
        if keys in explained and all(item.in_union for item in group):
            continue
        findings.append(Finding(group[0].path, _message(group, values), keys=keys))
    return findings


def _plain(item: Mapping[str, Any], values: Any) -> _Error:
    """Drop the parts of pydantic's location that name alternatives of a union."""
    location = list(item["loc"])
    if location[:1] == ["levels"] and len(location) > 3 and location[3] in MEMBERS:
        del location[3]
    keys: list[Key] = []
    in_union = False
    for place, key in enumerate(location):
        here = value_at(values, keys)
        is_given = key in here if isinstance(here, dict) else isinstance(key, int)
        is_missing = item["type"] == "missing" and place == len(location) - 1
        if is_given or is_missing:
            keys.append(key)
        else:
            in_union = True
    # A tuple validator turns one value into a list: its index 0 is not in the file.
    while keys and isinstance(keys[-1], int):
        if isinstance(value_at(values, keys[:-1]), list | tuple | dict):
            break
        keys.pop()
    return _Error(tuple(keys), in_union, item["type"], item.get("ctx") or {}, item["input"])


def _message(group: Sequence[_Error], values: Any) -> str:
    error = group[0]
    if error.kind == "extra_forbidden":
        return _unknown_name(error, values)
    if error.kind == "missing":
        return _missing_name(error, values)
    if error.kind == "member_kind":
        return _no_kind(error)
    if error.kind == "value_error":
        return str(error.context.get("error", error.kind))
    if isinstance(error.value, dict) and (own := [item for item in group if item.kind == "value_error"]):
        # One of several forms, and what is wrong in it is known better than which form was meant.
        return str(own[0].context.get("error", own[0].kind))
    wanted = list(dict.fromkeys(_wanted(item, values) for item in group))
    options = [word for item in group for word in _literals(item)]
    hint = suggest(error.value, options) if isinstance(error.value, str) else ""
    return (
        f"must be {' or '.join(wanted)}; got {show(error.value)}.{hint or _quote_hint(wanted, error.value)}"
    )


def _wanted(error: _Error, values: Any) -> str:
    """Return what must hold, to follow the words 'must be'."""
    if error.kind in ("literal_error", "enum"):
        words = _literals(error)
        return repr(words[0]) if len(words) == 1 else f"one of {', '.join(words)}"
    for name, text in _BOUNDS.items():
        if name in error.context:
            bound = error.context[name]
            return f"{text} {int(bound) if bound == int(bound) else format(bound, 'g')}"
    if error.kind == "string_pattern_mismatch":
        return f"text like {error.context['pattern']}"
    if error.kind == "string_too_short":
        return "text that is not empty"
    name = _TYPES.get(error.kind.split("_")[0], "")
    if name == "a mapping":
        options = options_class(error.keys, values)
        return f"a mapping ({', '.join(options.names())})" if options else name
    return name or error.kind.replace("_", " ")


def _literals(error: _Error) -> list[str]:
    text = str(error.context.get("expected", "")) if error.kind == "literal_error" else ""
    return [word.strip().strip("'") for word in text.replace(" or ", ", ").split(", ") if word.strip()]


def _quote_hint(wanted: Iterable[str], value: object) -> str:
    is_scalar = isinstance(value, int | float | bool)
    return f' Quote it: "{show(value)}"' if "text" in wanted and is_scalar else ""


def _unknown_name(error: _Error, values: Any) -> str:
    """Explain a name that is no option at its place."""
    name, parent = str(error.keys[-1]), error.keys[:-1]
    options = options_class(parent, values)
    legal = options.names() if options else []
    homes = homes_of(name, options) if options else []
    hint = (
        f" It belongs at {join_path('.'.join(map(str, parent)), homes[0])}"
        if homes
        else suggest(name, [*legal, *(() if parent else SHORT)])
    )
    is_member = len(parent) == 3 and parent[0] == "levels"
    if options and not hint:
        kinds = kinds_with(name) if is_member else []
        if kinds:
            hint = f" It is an option of {' and '.join(kinds)} members"
        elif is_member and "params" in legal:
            hint = " Arguments of the net or estimator itself go under params"
    return f"{name!r} is not an option here; legal are {', '.join(legal)}.{hint}"


def _missing_name(error: _Error, values: Any) -> str:
    name, parent = str(error.keys[-1]), value_at(values, error.keys[:-1])
    given = [str(key) for key in parent] if isinstance(parent, dict) else []
    options = options_class(error.keys[:-1], values)
    legal = options.names() if options else []
    near = suggest(name, [key for key in given if key not in legal])
    found = near.removeprefix(" Did you mean ").removesuffix("?")
    return f"{name!r} is required and not given. " + (
        f"Rename {found} to it" if near else f"Add '{name}: ...'"
    )


def _no_kind(error: _Error) -> str:
    rule = f"a member has exactly one of {', '.join(MEMBERS)}"
    if not isinstance(error.value, dict):
        return f"{rule}; got {show(error.value)}. Write a mapping such as {{net: mlp}}"
    present = [kind for kind in MEMBERS if kind in error.value]
    if present:
        return f"{rule}; got {' and '.join(present)}. Make them members of their own"
    for name in error.value:
        hint = suggest(str(name), MEMBERS)
        if hint:
            return f"{rule}; got {name!r}.{hint}"
    return f"{rule}; got {', '.join(map(str, error.value)) or 'none'}. Add one of them"
