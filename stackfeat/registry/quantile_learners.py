"""Estimators that learn one quantile of a target: which parameters ask for it.

In:  the path of a class, a level between 0 and 1.
Out: the parameters with which it learns that quantile. Nothing is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LEVEL = object()
"""Stands for the level itself."""

QUANTILE_LEARNERS: dict[str, Mapping[str, Any]] = {
    "lightgbm.LGBMRegressor": {"objective": "quantile", "alpha": _LEVEL},
    "xgboost.XGBRegressor": {"objective": "reg:quantileerror", "quantile_alpha": _LEVEL},
    "catboost.CatBoostRegressor": {"loss_function": "Quantile:alpha={:.12g}"},
    "sklearn.ensemble.HistGradientBoostingRegressor": {"loss": "quantile", "quantile": _LEVEL},
    "sklearn.ensemble.GradientBoostingRegressor": {"loss": "quantile", "alpha": _LEVEL},
    "sklearn.linear_model.QuantileRegressor": {"quantile": _LEVEL},
    "sklearn.dummy.DummyRegressor": {"strategy": "quantile", "quantile": _LEVEL},
}
"""Parameters by path; a text with braces takes the level in their place."""


def learns_quantiles(path: str) -> bool:
    """Whether a class learns one quantile when it is told which."""
    return path.replace(":", ".") in QUANTILE_LEARNERS


def quantile_params(path: str, level: float) -> dict[str, Any]:
    """Return the parameters with which a class of the table learns a quantile.

    Examples
    --------
    >>> quantile_params("catboost.CatBoostRegressor", 0.1)
    {'loss_function': 'Quantile:alpha=0.1'}
    """
    given = QUANTILE_LEARNERS[path.replace(":", ".")]
    return {name: _at(value, level) for name, value in given.items()}


def _at(value: Any, level: float) -> Any:
    if value is _LEVEL:
        return level
    return value.format(level) if "{" in value else value


def quantile_problem(path: str, params: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return where and what keeps a class from learning quantiles: it cannot, or its params say something else."""
    if not learns_quantiles(path):
        able = ", ".join(["gated_linear", *QUANTILE_LEARNERS])
        return (
            "estimator",
            f"must be able to learn a quantile for task quantile; got {path}. Use one of {able}",
        )
    given = [name for name in QUANTILE_LEARNERS[path.replace(":", ".")] if name in params]
    if not given:
        return None
    message = f"is set by the run, which fits {path} once for each of quantiles; got {params[given[0]]!r}. Remove it"
    return f"params.{given[0]}", message
