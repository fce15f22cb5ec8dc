"""Quantiles in the regressors: `quantiles=(0.1, 0.5, 0.9)` of nets and stacks.

In:  levels, or None; estimators as they were given.
Out: the task; estimators that predict a column for each level; a score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.metrics import d2_pinball_score
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import column_or_1d

from stackfeat.errors import UsageError
from stackfeat.meta.by_level import ByLevel
from stackfeat.registry.allowed import path_of
from stackfeat.registry.quantile_learners import QUANTILE_LEARNERS, learns_quantiles, quantile_params
from stackfeat.sklearn.targets import has_columns
from stackfeat.tasks.quantile import of_quantiles, quantile_problem
from stackfeat.tasks.task import Task


def task_of_levels(quantiles: Any) -> Task:
    """Return the task of these levels; UsageError unless they ascend between 0 and 1."""
    try:
        levels = tuple(float(level) for level in quantiles)
        problem = quantile_problem(levels)
    except (TypeError, ValueError):
        problem = "be a sequence of numbers"
    if problem:
        raise UsageError(f"quantiles must {problem}; got quantiles={quantiles!r}; such as (0.1, 0.5, 0.9)")
    return of_quantiles(levels)


def read_levels(y: Any, quantiles: Any) -> tuple[np.ndarray, Task]:
    """Return one column of values, and the task of these levels."""
    if has_columns(y):
        raise UsageError(
            f"quantiles are of one target; got y of shape {np.shape(y)}; fit an estimator for each column"
        )
    return column_or_1d(y, warn=True), task_of_levels(quantiles)


@dataclass(eq=False, repr=False)
class QuantileRegressors(RegressorMixin, BaseEstimator):
    """An estimator that is fitted once for each level.

    Parameters
    ----------
    estimator : estimator
        One of the classes that learn a quantile, or a pipeline that ends with one.
    quantiles : sequence of float
    """

    estimator: Any
    quantiles: Sequence[float] = (0.5,)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit a copy for each level."""
        path, prefix = learner_of(self.estimator)
        made = [
            clone(self.estimator).set_params(
                **{prefix + name: value for name, value in quantile_params(path, level).items()}
            )
            for level in self.quantiles
        ]
        self.fitted_ = ByLevel(made).fit(X, np.asarray(y), sample_weight)
        return self

    @property
    def n_features_in_(self) -> int:
        """Columns that it was fitted on."""
        return int(self.fitted_.estimator.n_features_in_)

    def predict(self, X: Any) -> np.ndarray:
        """Return a column for each level, which do not cross, (n_samples, n_levels)."""
        return np.sort(self.fitted_.predict(X), axis=1)


def learner_of(estimator: Any) -> tuple[str, str]:
    """Return the path of the class that learns, and what its parameters begin with inside a pipeline."""
    prefix = ""
    while isinstance(estimator, Pipeline):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    path = path_of(type(estimator))
    # Boosting libraries define their classes in modules of their own.
    short = f"{path.partition('.')[0]}.{type(estimator).__name__}"
    return short if learns_quantiles(short) else path, prefix


def at_levels(name: str, estimator: Any, quantiles: Sequence[float]) -> Any:
    """Return an estimator that predicts all levels: a net that is told them, or one that is fitted for each.

    Raises
    ------
    UsageError
        If it can learn no quantile.
    """
    if "quantiles" in estimator.get_params(deep=False):
        return clone(estimator).set_params(quantiles=tuple(quantiles))
    path, _ = learner_of(estimator)
    if not learns_quantiles(path):
        able = ", ".join(["NetRegressor", *QUANTILE_LEARNERS])
        raise UsageError(f"{name} must be able to learn a quantile; got {path}; use one of {able}")
    return QuantileRegressors(estimator, tuple(quantiles))


def at_all_levels(live: Mapping[str, Any], quantiles: Sequence[float] | None) -> dict[str, Any]:
    """Return estimators by name as `at_levels`; as they are where there are no levels."""
    if quantiles is None:
        return dict(live)
    return {name: at_levels(name, estimator, quantiles) for name, estimator in live.items()}


class ScoreOfLevels:
    """The score of a regressor that may predict quantiles; it stands before the class whose score it adds to."""

    def score(self: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R2; of quantiles the share of the pinball loss that the target's own quantiles leave, on average."""
        if self.quantiles is None:
            return float(super().score(X, y, sample_weight))  # type: ignore[misc]
        pairs = zip(self.predict(X).T, self.quantiles, strict=True)
        scores = [d2_pinball_score(y, one, sample_weight=sample_weight, alpha=level) for one, level in pairs]
        return float(np.mean(scores))
