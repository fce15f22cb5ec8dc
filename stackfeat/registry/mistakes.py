"""Mistakes in the parameters of estimators and nets: names they do not have, values that they would refuse.

In:  a class as a config names it, and its parameters.
Out: (place, message) for each mistake, with a did-you-mean; nothing is imported. Whether a parameter may be given
     without trust is another question: `parameters`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from stackfeat.registry.legal_values import Rule, rule_of_range, value_problem, within
from stackfeat.registry.names import ESTIMATORS, NET_FAMILIES, NETS
from stackfeat.registry.parameter_kinds import BOOSTERS, RANGES, REFUSED, Key, nested_estimator
from stackfeat.registry.parameters import library_of
from stackfeat.registry.patterns import is_pattern
from stackfeat.registry.resolve import LONGEST_SUGGESTED, name_values, suggest
from stackfeat.registry.signatures import Signature, layers_of, signature_of

Place = tuple[Key, ...]

_DEEPEST = 10
_NEAR = 0.85
_SHOWN = 12


def estimator_mistakes(
    path: str, params: Any, search_path: Path | None = None
) -> Iterator[tuple[Place, str]]:
    """Yield what is wrong with the parameters of an estimator, and of those inside them.

    Parameters
    ----------
    path : str
        As a config names the class.
    params : mapping
    search_path : Path, optional
        The config's folder, for classes of the user's own.
    """
    yield from _of_class(path, params, search_path, (), 0)


def net_mistakes(
    name: str, params: Any, given: Collection[str], search_path: Path | None = None
) -> Iterator[tuple[Place, str]]:
    """Yield what is wrong with the parameters of a net.

    Parameters
    ----------
    name : str
        Of the registry, or ``pkg.mod:Net``.
    params : mapping
    given : collection of str
        Arguments that the constructor is given besides, where it has them.
    """
    if not isinstance(params, Mapping) or name.partition(":")[0] in NET_FAMILIES:
        return
    is_ours = name in NETS
    signature = signature_of(NETS.get(name, name), None if is_ours else search_path)
    if signature is None:
        return
    yield from _names(name, signature, params, given)
    for key, value in params.items():
        if message := value_problem(_rules(signature, "nets" if is_ours else "", str(key), is_ours), value):
            yield (str(key),), message


_FIRST = re.compile(r"([A-Za-z_]\w*)(?=$|[.:#\[])")


def tap_mistake(name: str, tap: str, search_path: Path | None = None) -> str | None:
    """Say that a tap begins with a name that no layer of a net has, where its text tells that.

    What a pattern means is known when the net has been built.

    Examples
    --------
    >>> tap_mistake("mlp", "block.0")
    "mlp has no layer 'block'; it names blocks, embedding, head. Did you mean 'blocks'?"
    """
    first = _FIRST.match(tap)
    if first is None or is_pattern(tap) or name.partition(":")[0] in NET_FAMILIES or tap in _SAID:
        return None
    layers = layers_of(NETS.get(name, name), None if name in NETS else search_path)
    if layers is None or first[1] in layers:
        return None
    named = sorted(layer for layer in layers if not layer.startswith("_"))
    return (
        f"{name} has no layer {first[1]!r}; it names {name_values(named, _SHOWN)}.{suggest(first[1], named)}"
    )


_SAID = ("penultimate", "output", "input")
"""Taps that name no layer."""


def _of_class(
    path: str, params: Any, search_path: Path | None, at: Place, depth: int
) -> Iterator[tuple[Place, str]]:
    if not isinstance(params, Mapping) or depth > _DEEPEST:
        return
    library, signature = library_of(path), None
    if library in BOOSTERS:
        yield from (((*at, *place), text) for place, text in _misspelt(library, path, params))
    else:
        is_known = path in ESTIMATORS or library == "sklearn"
        signature = signature_of(ESTIMATORS.get(path, path), None if is_known else search_path)
        named = () if signature is None else _names(path, signature, params, ())
        yield from (((*at, *place), text) for place, text in named)
    for name, value in params.items():
        rules = _rules(signature, library, str(name), path in ESTIMATORS)
        if message := value_problem(rules, value):
            yield (*at, str(name)), message
        yield from _inside(value, search_path, (*at, str(name)), depth)


def _inside(value: Any, search_path: Path | None, at: Place, depth: int) -> Iterator[tuple[Place, str]]:
    """Yield the mistakes of estimators inside a value."""
    if nested_estimator(value):
        params = value.get("params") or {}
        yield from _of_class(value["estimator"], params, search_path, (*at, "params"), depth + 1)
    elif isinstance(value, list | tuple) and depth <= _DEEPEST:
        for place, item in enumerate(value):
            yield from _inside(item, search_path, (*at, place), depth + 1)


def _rules(signature: Signature | None, library: str, name: str, is_ours: bool) -> tuple[Rule, ...]:
    """Return the rules of a parameter: what its class says, within the range of its library."""
    is_said = signature is not None and (is_ours or library == "sklearn")
    own = signature.rules.get(name, ()) if signature is not None and is_said else ()
    range_ = RANGES.get(library, {}).get(name)
    if range_ is None:
        return own
    # What else a booster takes is judged with its kinds.
    return tuple(within(rule, rule_of_range(range_)) for rule in own or _OF_BOOSTERS)


_OF_BOOSTERS = (Rule("number"), *(Rule(kind, is_hidden=True) for kind in ("null", "text", "list", "mapping")))


def _names(
    path: str, signature: Signature, params: Mapping[Any, Any], given: Collection[str]
) -> Iterator[tuple[Place, str]]:
    """Yield names that a signature has not, and required ones that are not given."""
    free = [name for name in signature.names if name not in given]
    unknown = [] if signature.is_open else [str(name) for name in params if str(name) not in signature.names]
    for name in unknown:
        legal = name_values(free, _SHOWN) or "none"
        yield (name,), f"{path} has no parameter {name!r}; it takes {legal}.{suggest(name, free)}"
    missing = [name for name in signature.required if name not in params and name not in given]
    if missing and not unknown:
        yield (
            (),
            f"{path} needs {', '.join(missing)}; got {name_values(map(str, params)) or 'no params'}. Add it",
        )


def _misspelt(library: str, path: str, params: Mapping[Any, Any]) -> Iterator[tuple[Place, str]]:
    """Yield names that nearly are one of a booster: it swallows any other without a word."""
    refused = {name for names in REFUSED[library].values() for name in names.split()}
    for name in map(str, params):
        if name in BOOSTERS[library] or name in refused or len(name) > LONGEST_SUGGESTED:
            continue
        near = difflib.get_close_matches(name, BOOSTERS[library], n=1, cutoff=_NEAR)
        if near:
            yield (name,), f"{path} has no parameter {name!r}. Did you mean {near[0]!r}?"
