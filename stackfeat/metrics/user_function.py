"""A user's metric function behind the same call as the built-in ones.

In:  a function ``(y_true, y_pred) -> float`` of original labels or values, and its attributes.
Out: a callable ``(y, prediction, task, weight) -> float`` on codes and probability matrices.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stackfeat.errors import ConfigError, UsageError, first_line
from stackfeat.tasks.task import Task

Needs = Literal["label", "proba", "value"]

_TRIAL_ROWS = 2_000
_LOOKS_LIKE_A_LOSS = re.compile(r"loss|error|mse|mae|mape|brier|deviance|rmsle")


@dataclass(frozen=True)
class UserFunction:
    """A user's function with what it declares; called like a built-in metric."""

    name: str
    function: Callable[..., Any]
    needs: Needs
    greater_is_better: bool
    takes_weight: bool

    def __call__(self, y: np.ndarray, prediction: np.ndarray, task: Task, weight: np.ndarray | None) -> float:
        y_true, y_pred = y, prediction
        if task.is_classification:
            labels = np.asarray(task.classes)
            y_true = labels[y]
            if self.needs == "label":
                y_pred = labels[prediction]
            elif task.kind == "binary":
                y_pred = prediction[:, task.positive]
        keywords = {}
        if weight is not None and self.takes_weight:
            keywords["sample_weight"] = np.array(weight)
        try:
            # Copies: a function that changes what it is given would change what the next one is given.
            result = self.function(np.array(y_true), np.array(y_pred), **keywords)
        except (MemoryError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise UsageError(
                f"metric {self.name!r} must return a number for {len(y)} rows; it raised {type(error).__name__}: "
                f"{first_line(error)}; repair the function"
            ) from error
        if isinstance(result, str | bytes | complex | np.complexfloating) or np.size(result) != 1:
            raise UsageError(self._not_a_number(result))
        try:
            return float(result)
        except (TypeError, ValueError) as error:
            raise UsageError(self._not_a_number(result)) from error

    def _not_a_number(self, result: Any) -> str:
        shape = f" of shape {np.shape(result)}" if np.ndim(result) else ""
        return f"metric {self.name!r} must return one number; got {type(result).__name__}{shape}. Return a float."


def try_metric(function: UserFunction, y: np.ndarray, task: Task, weight: np.ndarray | None) -> None:
    """Call a user's function once before the training, on guesses for some of the training rows.

    Parameters
    ----------
    y : array (n,)
        Codes, or values on the scale of the target.

    Raises
    ------
    UsageError
        If it raises, or returns anything but a finite number.
    """
    random = np.random.default_rng(0)
    rows = _some_rows(y if task.is_classification else np.zeros(len(y)), random)
    y, weight = y[rows], None if weight is None else weight[rows]
    mixed = random.permutation(y)
    if not task.is_classification:
        guess = 0.5 * mixed + 0.5 * y.mean()
        guess = np.rint(guess) if function.needs == "label" else guess
    elif function.needs == "label":
        guess = mixed
    else:
        guess = 0.5 * random.dirichlet(np.ones(task.n_outputs), len(y)) + 0.5 / task.n_outputs
    score = function(y, guess, task, weight)
    if not np.isfinite(score):
        raise UsageError(
            f"metric {function.name!r} must return a finite number; got {score} for guesses of {len(y)} training "
            "rows, before any training; repair the function"
        )


def _some_rows(strata: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return at most about 2,000 rows, some of each stratum."""
    found = []
    for value in np.unique(strata):
        rows = np.flatnonzero(strata == value)
        n_wanted = max(2, round(_TRIAL_ROWS * len(rows) / len(strata)))
        found.append(random.permutation(rows)[:n_wanted])
    return np.sort(np.concatenate(found))


def wrap_user_function(name: str, found: object, task_kind: str) -> UserFunction:
    """Read a function's attributes and check that they fit the task.

    Raises
    ------
    ConfigError
        If it is not callable, or declares something that does not fit.
    """
    if not callable(found):
        raise ConfigError(f"metric {name!r} must be a function (y_true, y_pred); got {type(found).__name__}.")
    is_classification = task_kind != "regression"
    legal: tuple[Needs, ...] = ("label", "proba") if is_classification else ("value", "label")
    needs: Needs = getattr(found, "needs", legal[0])
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
    return UserFunction(name, found, needs, bool(greater_is_better), _takes_weight(found))


def _takes_weight(function: Callable[..., Any]) -> bool:
    try:
        return "sample_weight" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
