"""Check the parameters of allowed classes and of the registry's nets by kind.

In:  the path of a class, or the name of a net, and its parameters as a config writes them.
Out: problems, each with its place: numbers out of bounds, texts outside closed sets, classes not allowed. Nothing
     is imported or constructed. Code that was agreed to with ``--trust-code`` needs no check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stackfeat.errors import TrustError
from stackfeat.registry.allowed import is_allowed_path
from stackfeat.registry.booster_parameters import BOOSTERS, REFUSED
from stackfeat.registry.names import ESTIMATORS
from stackfeat.registry.parameter_kinds import (
    MOST_VALUES,
    Key,
    Kind,
    is_name,
    nested_estimator,
    problems,
    table,
    words,
)
from stackfeat.registry.resolve import suggest
from stackfeat.registry.sklearn_parameters import GRIDS, MEMBER_LISTS, SKLEARN

_LAYERS = "relu relu6 gelu gelu_tanh silu swish mish selu elu leaky_relu hard_swish hardswish hard_mish"

NET_NUMBER = Kind(4_096)
"""What every other parameter takes: a width, a share, a switch."""

_ENCODERS = "tcn gru transformer_encoder inception_time cnn vector"

_ACTIVATIONS = "auto relu gelu silu mish selu"

NET_KINDS: dict[str, Kind] = {
    "activation": words(_ACTIVATIONS),
    "architecture": words("tabm tabm-mini tabm-packed"),
    "augment": Kind(360, free=frozenset({"keys"})),
    "encoders": words(f"{_ENCODERS} {_ACTIVATIONS}", most=4_096, free=frozenset({"keys"}), widths=True),
    "hidden": Kind(4_096, 65_536, widths=True),
    "how": words("concat attention"),
    "num_embeddings": words("none piecewise_linear periodic"),
    **table((Kind(64), "depth n_blocks heads"), (Kind(1_024), "width filters k"), (Kind(6), "stages")),
}
"""Nets of the table NETS."""

_TIMM: dict[str, Kind] = {
    "act_layer": words(_LAYERS),
    "global_pool": words("avg max avgmax catavgmax token map"),
    "norm_layer": words("batchnorm batchnorm2d groupnorm groupnorm1 layernorm layernorm2d rmsnorm rmsnorm2d"),
    **table(
        (Kind(1, is_true=False), "pretrained features_only exportable scriptable"),
        (
            Kind(0, is_true=False),
            "checkpoint_path pretrained_cfg pretrained_cfg_overlay cache_dir pretrained_strict weights",
        ),
    ),
}

_TORCHVISION: dict[str, Kind] = table(
    (Kind(0, is_true=False), "pretrained weights weights_backbone"),
)

FAMILIES: dict[str, dict[str, Kind]] = {"timm": _TIMM, "torchvision": _TORCHVISION}
"""Nets of other libraries, by what stands before the colon."""

_DEEPEST = 10

_MOST_MEMBERS = 1_000

_MOST_TRIALS = 10_000

_GRID_NAME = re.compile(r"[A-Za-z_]\w{0,99}(?:__[A-Za-z_]\w{0,99}){0,9}")

_REMEDY = "If you trust this config, agree to it with --trust-code (trust_code=True)"

_NUMBER = Kind()

_COLUMNS = Kind(free=frozenset({"text", "items"}))

_DEPRECATED = (
    "algorithm base_estimator copy copy_X criterion multi_class n_alphas penalty probability random_state "
    "shuffle store_cv_values"
)

_NOT_GIVEN = dict.fromkeys(_DEPRECATED.split(), "deprecated")


_NOT_GIVEN |= dict.fromkeys(("alphas", "l1_ratios", "scoring", "use_legacy_attributes"), "warn")
"""Defaults by which scikit-learn, from 1.6 on, marks parameters that are not given."""

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
    kinds = FAMILIES.get(name.partition(":")[0], NET_KINDS)
    found = []
    for key, value in params.items():
        for place, text in problems(kinds.get(str(key), NET_NUMBER), value):
            found.append(_problem((str(key), *place), text))
    return found


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
    return isinstance(value, str) and _NOT_GIVEN.get(name) == value


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
        if not isinstance(item, list | tuple) or not 2 <= len(item) <= 3 or not _is_word(item[0]):
            yield place, f"must be a pair [name, {{estimator: ...}}]; got {item!r}"
            continue
        if nested_estimator(item[1]):
            yield from _of_nested(item[1], (*place, 1), depth)
        elif item[1] not in (None, "drop", "passthrough"):
            yield (*place, 1), f"must be {{estimator: ...}}, drop or passthrough; got {item[1]!r}"
        if len(item) == 3:
            yield from (((*place, 2, *inner), text) for inner, text in problems(_COLUMNS, item[2]))


def _is_word(name: Any) -> bool:
    return isinstance(name, str) and is_name(name)


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
