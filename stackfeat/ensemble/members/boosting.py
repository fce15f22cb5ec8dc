"""Early stopping for boosted trees: rounds from an inner split, then a refit on all rows.

The held-out fold is never looked at; stopping on it would make its score optimistic.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from sklearn.utils.validation import has_fit_parameter

from stackfeat.ensemble.category_columns import as_taken, fit_keywords, is_catboost
from stackfeat.ensemble.columns import take_rows
from stackfeat.ensemble.members.predict import fit_estimator
from stackfeat.errors import MemberError

_ROUNDS = ("n_estimators", "iterations")


def fit_early_stopped(
    estimator: Any,
    columns: Any,
    y: np.ndarray,
    weight: np.ndarray | None,
    parts: tuple[np.ndarray, np.ndarray],
) -> Any:
    """Find the number of rounds on (fit rows, validation rows), then fit that many on all rows.

    Raises
    ------
    MemberError
        If the estimator does not tell its best round.
    """
    fit_rows, valid_rows = parts
    # scikit-learn's clone refuses CatBoost with a parameter that is a list.
    probe = deepcopy(estimator)
    extra = {} if weight is None else {"sample_weight": weight[fit_rows]}
    validation = _validation(probe, as_taken(probe, take_rows(columns, valid_rows)), y[valid_rows])
    quiet = {"verbose": False} if not type(probe).__name__.startswith("LGBM") else {}
    keywords = {**validation, **extra, **quiet, **fit_keywords(probe, columns)}
    probe.fit(as_taken(probe, take_rows(columns, fit_rows)), y[fit_rows], **keywords)
    final = deepcopy(estimator).set_params(
        early_stopping_rounds=None, **{_rounds_name(estimator): best_rounds(probe)}
    )
    return fit_estimator(final, columns, y, weight)


def _validation(estimator: Any, columns: Any, y: np.ndarray) -> dict[str, Any]:
    """Return validation rows as `fit` wants them; LightGBM deprecates eval_set from 4.7 on."""
    if has_fit_parameter(estimator, "eval_X"):
        return {"eval_X": columns, "eval_y": y}
    return {"eval_set": [(columns, y)]}


def best_rounds(estimator: Any) -> int:
    """Return the number of boosting rounds that early stopping kept."""
    for name, offset in (("best_iteration_", 0), ("best_iteration", 1)):
        value = getattr(estimator, name, None)
        if value is not None:
            # LightGBM counts rounds, XGBoost and CatBoost give the index of the best one.
            is_index = offset == 1 or is_catboost(estimator)
            return max(1, int(value) + int(is_index))
    raise MemberError(
        f"early_stopping_rounds needs an estimator that tells its best round; got {type(estimator).__name__}. "
        "Remove it from params"
    )


def _rounds_name(estimator: Any) -> str:
    # CatBoost names its parameters only where they were set.
    params = estimator.get_params()
    return next((name for name in _ROUNDS if name in params), "iterations")
