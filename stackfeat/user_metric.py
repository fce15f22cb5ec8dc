"""A user's metric function behind the same call as the built-in ones.

In:  a function ``(y_true, y_pred) -> float`` of original labels or values, and its attributes.
Out: a callable ``(y, prediction, task, weight) -> float`` on codes and probability matrices.
"""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stackfeat.errors import ConfigError, UsageError
from stackfeat.task import Task

Needs = Literal["label", "proba", "value"]

logger = logging.getLogger(__name__)

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
        if weight is None:
            result = self.function(y_true, y_pred)
        elif self.takes_weight:
            result = self.function(y_true, y_pred, sample_weight=weight)
        else:
            logger.debug("metric %s takes no sample_weight: rows count equally", self.name)
            result = self.function(y_true, y_pred)
        try:
            return float(result)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"metric {self.name!r} must return one number; got {type(result).__name__}. Return a float."
            ) from error


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
