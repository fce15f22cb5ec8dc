"""Fit and predict with a foreign estimator: weights in, all classes in order out."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.utils.validation import has_fit_parameter

from stackfeat.ensemble.category_columns import as_taken, fit_keywords
from stackfeat.errors import MemberError
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
    if not task.is_classification:
        values = np.asarray(estimator.predict(columns), dtype=np.float64).reshape(len(columns), -1)
        return _finite(values[:, :1], estimator)
    classes = np.asarray(estimator.classes_, dtype=np.int64)
    proba = np.zeros((len(columns), task.n_outputs))
    proba[:, classes] = _class_shares(estimator, columns, classes)
    proba = _finite(np.clip(proba, 0.0, 1.0), estimator)
    return np.asarray(proba / np.maximum(proba.sum(axis=1, keepdims=True), 1e-300))


def row_losses(prediction: np.ndarray, y: np.ndarray, task: Task) -> np.ndarray:
    """Return the log-loss or squared error of every row, shape (n_rows,)."""
    if task.is_classification:
        return np.asarray(-np.log(np.clip(prediction[np.arange(len(y)), y], 1e-15, None)))
    return np.asarray((prediction[:, 0] - y) ** 2)


def _class_shares(estimator: Any, columns: Any, classes: np.ndarray) -> np.ndarray:
    if hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict_proba(columns), dtype=np.float64)
    if hasattr(estimator, "decision_function"):
        scores = np.asarray(estimator.decision_function(columns), dtype=np.float64)
        if scores.ndim == 1:
            positive = expit(scores)
            return np.column_stack([1 - positive, positive])
        return np.asarray(softmax(scores, axis=1))
    return np.asarray(np.asarray(estimator.predict(columns))[:, None] == classes[None, :], dtype=np.float64)


def _finite(values: np.ndarray, estimator: Any) -> np.ndarray:
    if not np.isfinite(values).all():
        n_bad = int((~np.isfinite(values)).any(axis=1).sum())
        raise MemberError(
            f"{type(estimator).__name__} must predict finite numbers; got {n_bad} rows with NaN or infinity"
        )
    return values
