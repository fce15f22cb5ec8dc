"""Metrics by name: the built-in ones, and a user's own function as one more.

In:  "log_loss" or "my_pkg.metrics:kappa", the kind of task; of a user's function ``(y_true, y_pred) -> float``
     of original labels or values also its attributes.
Out: a Metric. Nothing is imported from the user without trust.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stackfeat.errors import ConfigError, UsageError, first_line
from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.metric import Function, Metric, Needs
from stackfeat.metrics.table import MARK
from stackfeat.registry.resolve import check_name, resolve, suggest
from stackfeat.tasks.task import Task, task_class

_OTHER_NAMES = {
    "auc": "roc_auc",
    "logloss": "log_loss",
    "cross_entropy": "log_loss",
    "acc": "accuracy",
    "qwk": "quadratic_weighted_kappa",
    "cohen_kappa": "kappa",
    "mse": "rmse",
    "f1_score": "f1_macro",
    "ap": "average_precision",
    "r2_score": "r2",
    "mean_absolute_percentage_error": "mape",
    "median_absolute_error": "medae",
    "top_k_accuracy": "top_k@5",
    "top5": "top_k@5",
    "f2": "fbeta@2",
    "f05": "fbeta@0.5",
}
_PATHS = dict.fromkeys(METRICS, "")
_TRIAL_ROWS = 2_000
_LOOKS_LIKE_A_LOSS = re.compile(r"loss|error|mse|mae|mape|brier|deviance|rmsle")


def metric_names(task_kind: str) -> list[str]:
    """Return the names of the metrics that fit a kind of task, but for those with a number in the name.

    Examples
    --------
    >>> metric_names("regression")[:2]
    ['rmse', 'rmsle']
    """
    return [name for name, metric in METRICS.items() if task_kind in metric.tasks]


def _deciding(task_kind: str) -> list[str]:
    """Return those of `metric_names` that a run may be judged by."""
    return [name for name in metric_names(task_kind) if METRICS[name].is_optimised]


def metric_patterns(task_kind: str) -> list[str]:
    """Return how the names with a number in them, of metrics that fit a kind of task, are written.

    Examples
    --------
    >>> metric_patterns("binary")
    ['fbeta@B']
    """
    return [family.pattern for family in METRICS.families.values() if task_kind in family.tasks]


def declared(name: str) -> Metric:
    """Return what is known of a metric before any user code may be imported: of a user's own no optional facts."""
    return METRICS.get(name) or Metric(name=name, needs="label", greater_is_better=True, tasks=())


def check_metric(
    name: str, task_kind: str, *, trust_code: bool = False, search_path: Path | None = None
) -> None:
    """Raise what `get_metric` would raise, without importing user code."""
    legal = ", ".join([*_deciding(task_kind), *metric_patterns(task_kind)])
    family = METRICS.families.get(name.partition(MARK)[0])
    if name not in METRICS and family is not None:
        raise ConfigError(f"metric must be written as {family.described}; got {name!r}.")
    if name not in METRICS and ":" not in name and "." not in name:
        near = f" Did you mean {_OTHER_NAMES[name]!r}?" if name in _OTHER_NAMES else suggest(name, METRICS)
        raise ConfigError(f"metric must be one of {legal} or 'package.module:function'; got {name!r}.{near}")
    if name not in METRICS:
        check_name(name, _PATHS, "metric", packages=(), trust_code=trust_code, search_path=search_path)
    elif task_kind not in (tasks := METRICS[name].tasks):
        raise ConfigError(
            f"metric must fit task {task_kind}; got {name!r}, which is for {' and '.join(tasks)}. "
            f"Choose one of {legal}."
        )


def check_decides(name: str, task_kind: str) -> None:
    """Raise ConfigError where a metric only describes predictions, so that no run may be judged by it."""
    if not declared(name).is_optimised:
        raise ConfigError(
            f"metric must be one that better predictions improve; got {name!r}, which is reported beside others but "
            f"never optimised: any prediction that is wide, or narrow, enough is best by it. Choose one of "
            f"{', '.join(_deciding(task_kind))}."
        )


def get_metric(
    name: str, task_kind: str, *, trust_code: bool = False, search_path: Path | None = None
) -> Metric:
    """Return the metric of a name.

    Parameters
    ----------
    name : str
        A key of `METRICS`, or ``pkg.mod:function``: a function ``(y_true, y_pred) -> float`` of original
        labels (or values), which may carry ``greater_is_better`` (default True) and ``needs`` ("label",
        "proba" or "value"; default "label", regression "value") as attributes, and take ``sample_weight``.
        A binary "proba" function gets the positive column, a multiclass one the matrix.
    task_kind : {"binary", "multiclass", "regression", "quantile"}
    trust_code : bool
        Whether user code may be imported.
    search_path : Path or None
        The config's folder.

    Raises
    ------
    ConfigError
        If there is no such metric, or it does not fit the task.
    TrustError
        If it is user code and `trust_code` is false.
    """
    check_metric(name, task_kind, trust_code=trust_code, search_path=search_path)
    if name in METRICS:
        return METRICS[name].of(task_kind)
    found = resolve(name, _PATHS, "metric", packages=(), trust_code=trust_code, search_path=search_path)
    return user_metric(name, found, task_kind)


@dataclass(frozen=True, kw_only=True)
class UserMetric(Metric):
    """A metric of one's own.

    Attributes
    ----------
    takes_weight : bool
        Whether the user's function takes ``sample_weight``.
    """

    takes_weight: bool
    remedy: ClassVar[str] = "repair the function"

    def tried_on(self, y: np.ndarray, task: Task, weight: np.ndarray | None) -> list[str]:
        random = np.random.default_rng(0)
        rows = _some_rows(task.strata(y), random)
        y, drawn = y[rows], None if weight is None else weight[rows]
        score = self.score(y, task.guess(y, self.needs == "label", random), task, drawn)
        if not np.isfinite(score):
            raise UsageError(
                f"metric {self.name!r} must return a finite number; got {score} for guesses of {len(y)} training "
                "rows, before any training; repair the function"
            )
        if weight is None or self.takes_weight:
            return []
        return [
            f"metric {self.name} takes no sample_weight: scores count all rows equally, although data.weight is "
            "set; give the function an argument sample_weight"
        ]


def _some_rows(strata: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return at most about 2,000 rows, some of each stratum."""
    found = []
    for value in np.unique(strata):
        rows = np.flatnonzero(strata == value)
        n_wanted = max(2, round(_TRIAL_ROWS * len(rows) / len(strata)))
        found.append(random.permutation(rows)[:n_wanted])
    return np.sort(np.concatenate(found))


def user_metric(name: str, found: object, task_kind: str) -> UserMetric:
    """Read a function's attributes and check that they fit the task.

    Raises
    ------
    ConfigError
        If it is not callable, or declares something that does not fit.
    """
    if not callable(found):
        raise ConfigError(f"metric {name!r} must be a function (y_true, y_pred); got {type(found).__name__}.")
    legal = task_class(task_kind).needs
    needs: Any = getattr(found, "needs", legal[0])
    if needs not in legal:
        raise ConfigError(
            f"metric {name!r}: attribute needs must be one of {', '.join(legal)} for task {task_kind}; "
            f"got {needs!r}."
        )
    greater_is_better = getattr(found, "greater_is_better", None)
    if greater_is_better is None:
        greater_is_better = True
        if _LOOKS_LIKE_A_LOSS.search(name.rpartition(":")[2].lower()):
            warnings.warn(
                f"metric {name!r} is taken as greater-is-better, but its name reads like a loss. "
                "Set the function's attribute greater_is_better = False (or True, to silence this).",
                UserWarning,
                stacklevel=3,
            )
    takes_weight = _takes_weight(found)
    return UserMetric(
        name=name,
        needs=needs,
        greater_is_better=bool(greater_is_better),
        tasks=(task_kind,),
        function=_on_codes(name, found, needs, takes_weight),
        over_targets="whole",
        takes_weight=takes_weight,
    )


def _on_codes(name: str, function: Callable[..., Any], needs: Needs, takes_weight: bool) -> Function:
    """Return the user's function as a function of codes and probability matrices."""

    def call(y: np.ndarray, prediction: np.ndarray, task: Task, weight: np.ndarray | None) -> float:
        y_true = task.labels_of(y)
        y_pred = task.labels_of(prediction) if needs == "label" else task.counted(prediction)
        keywords = {"sample_weight": np.array(weight)} if weight is not None and takes_weight else {}
        try:
            # Copies: a function that changes what it is given would change what the next one is given.
            result = function(np.array(y_true), np.array(y_pred), **keywords)
        except (MemoryError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise UsageError(
                f"metric {name!r} must return a number for {len(y)} rows; it raised {type(error).__name__}: "
                f"{first_line(error)}; repair the function"
            ) from error
        return _as_number(name, result)

    return call


def _as_number(name: str, result: Any) -> float:
    if not isinstance(result, str | bytes | complex | np.complexfloating) and np.size(result) == 1:
        with suppress(TypeError, ValueError):
            return float(result)
    shape = f" of shape {np.shape(result)}" if np.ndim(result) else ""
    raise UsageError(
        f"metric {name!r} must return one number; got {type(result).__name__}{shape}. Return a float."
    )


def _takes_weight(function: Callable[..., Any]) -> bool:
    try:
        return "sample_weight" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
