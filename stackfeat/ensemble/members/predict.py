"""Fit and predict with a foreign estimator: weights in, all classes in order out."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.utils.validation import has_fit_parameter

from stackfeat.ensemble.category_columns import as_taken, fit_keywords
from stackfeat.errors import MemberError
from stackfeat.probabilities import checked_finite, checked_probabilities
from stackfeat.task import Task


def fit_estimator(estimator: Any, columns: Any, y: np.ndarray, weight: np.ndarray | None) -> Any:
    """Fit, with row weights where there are any.

    Raises
    ------
    MemberError
        If there are weights and the estimator's `fit` does not take them.
    """
    taken, keywords = as_taken(estimator, columns), fit_keywords(estimator, columns)
    if weight is None:
        return estimator.fit(taken, y, **keywords)
    if not has_fit_parameter(estimator, "sample_weight"):
        raise MemberError(
            f"{type(estimator).__name__}.fit must take sample_weight, because data.weight is set; it does not. "
            "Use another estimator, or remove data.weight"
        )
    return estimator.fit(taken, y, sample_weight=weight, **keywords)


def predict_rows(estimator: Any, columns: Any, task: Task) -> np.ndarray:
    """Return predictions as float64 of shape (n_rows, n_outputs).

    Classes that the estimator never saw get probability zero. Without `predict_proba`
    a decision function goes through the logistic or soft-max function; without that,
    predicted labels become certain probabilities.
    """
    columns = as_taken(estimator, columns)
    name = type(estimator).__name__
    if not task.is_classification:
        values = checked_finite(estimator.predict(columns), name)
        return _of_length(values, len(columns), 1, name)[:, :1]
    classes = np.asarray(estimator.classes_, dtype=np.int64)
    proba = np.zeros((len(columns), task.n_outputs))
    proba[:, classes] = _of_length(
        _class_shares(estimator, columns, classes), len(columns), len(classes), name
    )
    return checked_probabilities(proba, name)


def _of_length(values: np.ndarray, n_rows: int, n_columns: int, name: str) -> np.ndarray:
    """Return predictions as (n_rows, n_columns); MemberError where they have another shape."""
    if values.ndim == 0 or len(values) != n_rows or values.size < n_rows * n_columns or values.ndim > 2:
        raise MemberError(
            f"{name} must predict {n_columns} numbers for each of {n_rows} rows; got shape={values.shape}; "
            "return a row for each row of X, in their order"
        )
    return values.reshape(n_rows, -1)


def _class_shares(estimator: Any, columns: Any, classes: np.ndarray) -> np.ndarray:
    if hasattr(estimator, "predict_proba"):
        return checked_finite(estimator.predict_proba(columns), type(estimator).__name__)
    if hasattr(estimator, "decision_function"):
        scores = checked_finite(estimator.decision_function(columns), type(estimator).__name__)
        if scores.ndim == 1:
            positive = expit(scores)
            return np.column_stack([1 - positive, positive])
        return np.asarray(softmax(scores, axis=1))
    return np.asarray(np.asarray(estimator.predict(columns))[:, None] == classes[None, :], dtype=np.float64)
