"""Construct an estimator from a path and params, seeded, with its threads set.

In:  'lightgbm.LGBMClassifier' and params, possibly nested {estimator, params}.
Out: an unfitted scikit-learn style estimator.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any, cast

from stackfeat.errors import ConfigError
from stackfeat.meta.estimator_io import is_catboost
from stackfeat.registry.names import ESTIMATORS
from stackfeat.registry.parameter_kinds import GRIDS, SCORE_FUNCTIONS, TUPLES, nested_estimator
from stackfeat.registry.parameters import boosters_in, estimator_problems, library_of, refuse_untrusted
from stackfeat.registry.resolve import resolve

_TREES = ("LGBM", "XGB", "CatBoost", "HistGradientBoosting")

_NEAR = 0.85

METHODS = ("fit", "get_params", "set_params")
"""What is asked of any estimator; scikit-learn's base class has all but ``fit``."""

_THREADS = ("n_jobs", "thread_count", "nthread")


def is_tree_model(path: str) -> bool:
    """Whether an estimator takes native categories and missing values."""
    return path.replace(":", ".").rsplit(".", 1)[-1].startswith(_TREES)


def construct(
    path: str, params: Mapping[str, Any], *, seed: int, threads: int, trust_code: bool = False
) -> Any:
    """Return the estimator; `random_state` and thread counts are set where `params` does not.

    Raises
    ------
    ConfigError
        If the class does not take one of the params.
    TrustError
        If the class or one of the params needs ``--trust-code``.
    """
    if not trust_code:
        refuse_untrusted(path, estimator_problems(path, params))
    estimator = _build(path, params, trust_code)
    _set_defaults(estimator, params, seed, threads)
    return estimator


def _build(path: str, params: Mapping[str, Any], trust_code: bool, *, nested: bool = False) -> Any:
    cls = cast(Any, resolve(path, ESTIMATORS, "estimator", trust_code=trust_code, nested=nested))
    tuples = _tuples(path, params)
    values = {name: _value(name, value, trust_code, tuples) for name, value in params.items()}
    if library_of(path) == "sklearn":
        values = {name: _with_functions(name, value) for name, value in values.items()}
    if library_of(path) == "catboost":
        values.setdefault("allow_writing_files", False)
    _refuse_misspelt(path, cls, params)
    try:
        made = cls(**values)
    except TypeError as error:
        raise ConfigError(
            f"{path} must take its params; got {sorted(values)}: {error}. Look up the parameters of {path}"
        ) from error
    absent = [name for name in METHODS if not callable(getattr(made, name, None))]
    if absent and not nested:  # kernels and the like have no fit
        raise ConfigError(
            f"an estimator must have the methods {', '.join(METHODS)}; got {path}, a {type(made).__name__} without "
            f"{', '.join(absent)}. Let its class inherit sklearn.base.BaseEstimator, and write fit"
        )
    return made


def _refuse_misspelt(path: str, cls: Any, params: Mapping[str, Any]) -> None:
    """Refuse names that nearly are a parameter: boosting libraries swallow any name without a word."""
    signature = inspect.signature(cls)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        return
    known = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    known |= _lightgbm_names() if cls.__module__.startswith("lightgbm.") else set()
    for name in params:
        near = difflib.get_close_matches(name, known, n=1, cutoff=_NEAR)
        if name not in known and near:
            raise ConfigError(f"{path} has no parameter {name!r}. Did you mean {near[0]!r}?")


def _lightgbm_names() -> set[str]:
    """Every name and alias that LightGBM knows; its list is private, so it may be absent."""
    try:
        from lightgbm.basic import _ConfigAliases

        aliases = _ConfigAliases._get_all_param_aliases()
    except (ImportError, AttributeError):
        return set()
    return {str(name) for names in aliases.values() for name in names} | set(aliases)


def _tuples(path: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the parameters whose lists become tuples, in the estimator and in grids of a search."""
    boosters = {library_of(path)} | boosters_in(params)
    # XGBoost takes a tuple and fails at a list; CatBoost the other way round.
    return (
        (*TUPLES, "monotone_constraints") if "xgboost" in boosters and "catboost" not in boosters else TUPLES
    )


def _value(name: str, value: Any, trust_code: bool, tuples: tuple[str, ...]) -> Any:
    if nested_estimator(value):
        return _build(value["estimator"], value.get("params") or {}, trust_code, nested=True)
    if isinstance(value, list):
        items = [_value(name, item, trust_code, tuples) for item in value]
        return tuple(items) if name.rpartition("__")[2] in tuples else items
    if isinstance(value, Mapping) and name in GRIDS:
        return {key: _value(str(key), item, trust_code, tuples) for key, item in value.items()}
    return value


def _with_functions(name: str, value: Any) -> Any:
    """Return a value with the function that a `score_func`, alone or in a grid, names."""
    if isinstance(value, list | tuple):
        return type(value)(_with_functions(name, item) for item in value)
    if isinstance(value, Mapping) and name in GRIDS:
        return {key: _with_functions(str(key), item) for key, item in value.items()}
    if name.rpartition("__")[2] == "score_func" and isinstance(value, str) and value in SCORE_FUNCTIONS:
        return getattr(importlib.import_module("sklearn.feature_selection"), value)
    return value


def _is_scikit_learn(estimator: Any) -> bool:
    # None is one thread there, and all cores in the boosting libraries.
    return type(estimator).__module__.startswith("sklearn.")


def _set_defaults(estimator: Any, params: Mapping[str, Any], seed: int, threads: int) -> None:
    settings: dict[str, Any] = {}
    for name, value in estimator.get_params(deep=True).items():
        last = name.rsplit("__", 1)[-1]
        if name in params:
            continue
        if last == "random_state" and value is None:
            settings[name] = seed
        elif last in _THREADS and (value == -1 or (value is None and not _is_scikit_learn(estimator))):
            settings[name] = threads
    if type(estimator).__name__ == "LogisticRegression" and "max_iter" not in params:
        settings["max_iter"] = 1000
    if type(estimator).__name__.startswith("LGBM") and "verbosity" not in params and "verbose" not in params:
        settings["verbosity"] = -1
    if type(estimator).__name__.startswith("XGB") and "enable_categorical" not in params:
        settings["enable_categorical"] = True
    if is_catboost(estimator):
        settings |= _catboost_defaults(params, seed, threads)
    estimator.set_params(**settings)


def _catboost_defaults(params: Mapping[str, Any], seed: int, threads: int) -> dict[str, Any]:
    """Return what CatBoost, which lists no parameter that was not set, would be left without."""
    settings: dict[str, Any] = {"allow_writing_files": False, "thread_count": threads}
    if not {"random_seed", "random_state"} & set(params):
        settings["random_seed"] = seed
    if not {"verbose", "silent", "logging_level", "verbose_eval"} & set(params):
        settings["verbose"] = False
    return {name: value for name, value in settings.items() if name not in params}
