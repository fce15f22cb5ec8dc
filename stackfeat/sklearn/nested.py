"""The nested score of a stack: its final estimator judged on folds that it was not fitted on.

In:  a fitted stack.
Out: JSON values: gate, blocks, scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score, r2_score, root_mean_squared_error
from sklearn.utils import _safe_indexing

from stackfeat.metric_functions import log_loss
from stackfeat.sklearn.block_report import diagnose_outputs


def diagnose_stack(stack: Any) -> dict[str, Any]:
    """Return (and remember) what a fitted stack says of itself."""
    if not hasattr(stack, "_diagnostics"):
        blocks: dict[str, Any] = {}
        for name, views in stack.fits_.items():
            found = diagnose_outputs(views.oof_features(), views)
            blocks |= {f"{name}/{output}": values for output, values in found.items()}
        stack._diagnostics = {
            "gate": dict(stack.design_.report),
            "blocks": blocks,
            "nested": nested_score(stack),
        }
    return stack._diagnostics


def nested_score(stack: Any) -> dict[str, float]:
    """Fit the final estimator (gate included) without each fold, and score it on all of them together.

    Returns
    -------
    dict of str to float
        ``accuracy`` and, with probabilities, ``log_loss``; or ``rmse`` and ``r2``. Empty for prefit estimators.
    """
    base, features, y, params, fold_of = stack._rows_of_final
    if not stack.fits_ or np.ndim(y) > 1:
        return {}
    with_proba = is_classifier(stack) and hasattr(stack.final_estimator_, "predict_proba")
    shape = (len(fold_of), len(stack.classes_)) if with_proba else (len(fold_of),)
    said: np.ndarray = np.zeros(shape)
    for fold in np.unique(fold_of):
        inside, outside = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
        kept = {name: values[outside] for name, values in features.items()}
        weights = {name: _safe_indexing(value, outside) for name, value in params.items()}
        design, final = stack._fit_one_final(base[outside], kept, y[outside], weights, fold_of[outside])
        columns = design.join(base[inside], {name: values[inside] for name, values in features.items()})
        if with_proba:
            said[np.ix_(inside, final.classes_)] = final.predict_proba(columns)
        else:
            said[inside] = final.predict(columns)
    if not is_classifier(stack):
        return {"rmse": float(root_mean_squared_error(y, said)), "r2": float(r2_score(y, said))}
    codes = said.argmax(axis=1) if with_proba else said.astype(np.int64)
    scores = {"accuracy": float(accuracy_score(y, codes))}
    if with_proba:
        scores["log_loss"] = log_loss(y, said, stack._task)
    return scores
