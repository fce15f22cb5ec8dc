"""Check the parameters of allowed classes and of the registry's nets by kind.

In:  the path of a class, or the name of a net, and its parameters as a config writes them; or an estimator that came
     from a file, with all estimators inside it.
Out: problems, each with its place: numbers out of bounds, texts outside closed sets, classes not allowed. Nothing
     is imported or constructed. Code that was agreed to with ``--trust-code`` needs no check.

A class may be allowed and its parameters not: `CountVectorizer(input="filename")` opens what its rows name when it
predicts. Callables in a loaded estimator were judged as types, before it was built.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from stackfeat.errors import TrustError
from stackfeat.registry.allowed import is_allowed_path, path_of
from stackfeat.registry.names import ESTIMATORS
from stackfeat.registry.parameter_kinds import (
    BOOSTERS,
    FAMILIES,
    GRIDS,
    MEMBER_LISTS,
    MOST_VALUES,
    NETS,
    NOT_GIVEN,
    REFUSED,
    SKLEARN,
    Key,
    Kind,
    is_name,
    nested_estimator,
    problems,
)
from stackfeat.registry.resolve import suggest

_NET_NUMBER = Kind(4_096)
"""What every other parameter of a net takes: a width, a share, a switch."""

_DEEPEST = 10
_MOST_MEMBERS = 1_000
_MOST_TRIALS = 10_000
_GRID_NAME = re.compile(r"[A-Za-z_]\w{0,99}(?:__[A-Za-z_]\w{0,99}){0,9}")

_REMEDY = "If you trust this config, agree to it with --trust-code (trust_code=True)"

_NUMBER = Kind()

_COLUMNS = Kind(free=frozenset({"text", "items"}))

Place = tuple[Key, ...]


@dataclass(frozen=True)
class ParameterProblem:
    """A parameter that needs trust: where it is below `params`, and why."""

    place: Place
    message: str


def estimator_problems(path: str, params: Any) -> list[ParameterProblem]:
    """Return what in an estimator's parameters may not be given without ``--trust-code``.

    Classes named inside `params` are checked too; `path` itself is not.
    """
    if (count := _count(params)) > MOST_VALUES:
        return [_problem((), f"must hold at most {MOST_VALUES:,} values; got {count:,} or more")]
    return [_problem(place, text) for place, text in _of_estimator(path, params, (), 0)]


def net_problems(name: str, params: Any) -> list[ParameterProblem]:
    """Return what in the parameters of a net of the registry may not be given without ``--trust-code``."""
    if not isinstance(params, Mapping):
        return [_problem((), f"must be a mapping; got {params!r}")]
    kinds = FAMILIES.get(name.partition(":")[0], NETS)
    found = []
    for key, value in params.items():
        for place, text in problems(kinds.get(str(key), _NET_NUMBER), value):
            found.append(_problem((str(key), *place), text))
    return found


def parameter_problems(
    untrusted: Iterable[ParameterProblem], mistakes: Iterable[tuple[Place, str]] = ()
) -> Iterator[tuple[str, str, bool]]:
    """Yield the place below a member, the message, and whether trust is the remedy; one for each place.

    What would not work under trust either is a mistake, and is said to be one where it is known what is meant.
    """
    of_trust = {problem.place: problem.message for problem in untrusted}
    for place, message in mistakes:
        if place not in of_trust or message.endswith("?"):
            of_trust.pop(place, None)
            yield _below_member(place), message, False
    for place, message in of_trust.items():
        yield _below_member(place), message, True


def _below_member(place: Place) -> str:
    return ".".join(["params", *map(str, place)])


def library_of(path: str) -> str:
    """Return the package that a class is of: 'catboost' for 'catboost.CatBoostClassifier' and 'catboost:...'."""
    return path.replace(":", ".").partition(".")[0]


def refuse_untrusted(what: str, found: list[ParameterProblem]) -> None:
    """Raise TrustError with the first problem and how many there are, in one line; nothing if there are none."""
    if found:
        place = ".".join(map(str, found[0].place)) or "params"
        others = f" ({len(found) - 1} more like it)" if len(found) > 1 else ""
        raise TrustError(f"{what}: {place} {found[0].message}{others}")


def _problem(place: Place, text: str) -> ParameterProblem:
    return ParameterProblem(place, f"{text}{'' if text.endswith('?') else '.'} {_REMEDY}")


def _of_estimator(path: str, params: Any, at: Place, depth: int) -> Iterator[tuple[Place, str]]:
    if not isinstance(params, Mapping):
        yield at, f"must be a mapping of parameters; got {params!r}"
    elif depth > _DEEPEST:
        yield at, f"must not nest more than {_DEEPEST} estimators"
    else:
        library = library_of(path)
        for name, value in params.items():
            yield from _of_parameter(library, str(name), value, params, (*at, str(name)), depth)


def _of_parameter(
    library: str, name: str, value: Any, params: Mapping[Any, Any], at: Place, depth: int
) -> Iterator[tuple[Place, str]]:
    if library not in BOOSTERS and name in MEMBER_LISTS:
        yield from _of_members(value, at, depth)
    elif library not in BOOSTERS and name in GRIDS:
        yield from _of_grids(value, params, at, depth)
    elif library in BOOSTERS or not _is_not_given(name, value):
        kind = _kind(library, name)
        if kind is None:
            yield at, _unknown(library, name)
        elif kind.nests and nested_estimator(value):
            yield from _of_nested(value, at, depth)
        else:
            yield from ((at + place, text) for place, text in problems(kind, value))


def _is_not_given(name: str, value: Any) -> bool:
    return isinstance(value, str) and NOT_GIVEN.get(name) == value


def _kind(library: str, name: str) -> Kind | None:
    """Return what a parameter takes; None for a name that a booster's table lacks."""
    if library in BOOSTERS:
        return BOOSTERS[library].get(name)
    return SKLEARN.get(name, _NUMBER)


def _unknown(library: str, name: str) -> str:
    for reason, names in REFUSED[library].items():
        if name in names.split():
            return f"must be a parameter of training; got {name!r}, which {reason}"
    near = suggest(name, BOOSTERS[library])
    return f"must be a parameter of training: {library} has no parameter {name!r}{'.' if near else ''}{near}"


def _of_nested(value: Mapping[str, Any], at: Place, depth: int) -> Iterator[tuple[Place, str]]:
    path = value["estimator"]
    if path in ESTIMATORS or is_allowed_path(path, nested=True):
        yield from _of_estimator(path, value.get("params") or {}, (*at, "params"), depth + 1)
    else:
        yield (
            (*at, "estimator"),
            f"must be a public estimator class on the allow-list, a kernel, a splitter or a covariance; got {path!r}",
        )


def _of_members(value: Any, at: Place, depth: int) -> Iterator[tuple[Place, str]]:
    """Check a list of [name, estimator] or [name, estimator, columns]."""
    if not isinstance(value, list | tuple) or len(value) > _MOST_MEMBERS:
        yield at, f"must be a list of at most {_MOST_MEMBERS} pairs [name, {{estimator: ...}}]"
        return
    for i, item in enumerate(value):
        place = (*at, i)
        if (
            not isinstance(item, list | tuple)
            or not 2 <= len(item) <= 3
            or not (isinstance(item[0], str) and is_name(item[0]))
        ):
            yield place, f"must be a pair [name, {{estimator: ...}}]; got {item!r}"
            continue
        if nested_estimator(item[1]):
            yield from _of_nested(item[1], (*place, 1), depth)
        elif item[1] not in (None, "drop", "passthrough"):
            yield (*place, 1), f"must be {{estimator: ...}}, drop or passthrough; got {item[1]!r}"
        if len(item) == 3:
            yield from (((*place, 2, *inner), text) for inner, text in problems(_COLUMNS, item[2]))


def _of_grids(value: Any, params: Mapping[Any, Any], at: Place, depth: int) -> Iterator[tuple[Place, str]]:
    """Check values that a search sets: each by the kinds of all libraries whose estimators it may reach."""
    libraries = boosters_in(params)
    n_trials = 0
    for grid in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(grid, Mapping):
            yield at, f"must be a mapping from parameters to lists of values; got {grid!r}"
            return
        size = 1
        for name, values in grid.items():
            if not isinstance(name, str) or not _GRID_NAME.fullmatch(name):
                yield at, f"must name parameters such as 'model__C'; got {name!r}"
                continue
            items = values if isinstance(values, list | tuple) else [values]
            size *= max(len(items), 1)
            for i, item in enumerate(items):
                yield from _of_trial(libraries, name, item, (*at, name, i), depth)
        n_trials += size
    if n_trials > _MOST_TRIALS:
        yield at, f"must make at most {_MOST_TRIALS:,} trials; got {n_trials:,}"


def _of_trial(
    libraries: set[str], name: str, value: Any, at: Place, depth: int
) -> Iterator[tuple[Place, str]]:
    last = name.rsplit("__", 1)[-1]
    if nested_estimator(value):
        yield from _of_nested(value, at, depth)
        return
    if value in (None, "drop", "passthrough"):
        return
    # Which of the estimators the name belongs to is known to scikit-learn alone, so every one must take it.
    found = [kind for kind in (_kind(library, last) for library in libraries) if kind is not None]
    if last in SKLEARN or not libraries:
        found.append(SKLEARN.get(last, _NUMBER))
    if not found or any(last in names.split() for row in REFUSED.values() for names in row.values()):
        yield at, f"must be a parameter of training; got {name!r}, which is on no list of those"
        return
    for kind in found:
        yield from ((at + place, text) for place, text in problems(kind, value))


def boosters_in(value: Any) -> set[str]:
    """Return the boosting libraries of the estimators named anywhere in a value."""
    if isinstance(value, Mapping):
        path = value.get("estimator")
        own = {library_of(path)} & set(BOOSTERS) if isinstance(path, str) else set()
        return own.union(*(boosters_in(item) for item in value.values()))
    if isinstance(value, list | tuple):
        return set().union(*(boosters_in(item) for item in value))
    return set()


def _count(value: Any, depth: int = 0) -> int:
    """Count the values in a value, as far as it takes to know that they are too many."""
    if depth > 40:
        return MOST_VALUES + 1
    items = value.values() if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping | list | tuple):
        return 1
    total = 0
    for item in items:
        total += _count(item, depth + 1)
        if total > MOST_VALUES:
            break
    return total + len(value) if isinstance(value, Mapping) else total


_PLAIN = (bool, int, float, str)
_TEXTS = tuple("OSTUV")
_PASSED_ON = {"lightgbm": "_other_params", "xgboost": "kwargs", "catboost": "_init_params"}
"""Where the boosters keep parameters that no argument of their constructor has."""


def object_problems(estimator: Any) -> list[ParameterProblem]:
    """Return what in the parameters of an estimator, and of all inside it, needs ``--trust-code``."""
    found: list[ParameterProblem] = []
    for item in _estimators(estimator):
        path = path_of(type(item))
        found += estimator_problems(path, _plain_parameters(item, path))
    return found


def _plain_parameters(estimator: Any, path: str) -> dict[str, Any]:
    """Return the parameters that a config could write; objects of allowed classes were judged as types."""
    given = vars(estimator)
    values = {name: given[name] for name in _arguments(cast(Any, type(estimator))) if name in given}
    passed_on = given.get(_PASSED_ON.get(path.partition(".")[0], ""))
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
def _arguments(cls: Any) -> tuple[str, ...]:
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
            if is_allowed_path(path_of(type(item)), nested=True):
                yield item
            waiting.extend(vars(item).values())
