"""Diagnostics of an estimator's outputs, as in the pipeline, and the nested score of a stack.

In:  out-of-fold columns by output name, and the fits behind them.
Out: numbers for each output; the score of the final estimator on folds that it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score, r2_score, root_mean_squared_error

from stackfeat.encodings.diagnostics import BlockDiagnostics, fold_id_accuracy
from stackfeat.engine.blocks import usable_anchors
from stackfeat.nets.options import TapOptions
from stackfeat.sklearn._compat import _safe_indexing
from stackfeat.sklearn.emission import encodings_of
from stackfeat.sklearn.folding import Views
from stackfeat.sklearn.rows import first_fold_of


def diagnose_outputs(outputs: Mapping[str, np.ndarray], views: Views) -> dict[str, dict[str, Any]]:
    """Measure each feature output; predictions are no feature block and are left out.

    Returns
    -------
    dict of str to dict
        As `BlockDiagnostics.to_json`, and ``warnings``: what is past its threshold.
    """
    fold_of = first_fold_of(views.folds)
    found = {}
    for tap, encoding in encodings_of(views.emission):
        name = f"{tap.key}@{encoding}"
        values = outputs[name]
        measured = BlockDiagnostics(
            name=name,
            n_folds=views.folds.n_folds,
            fold_id=fold_id_accuracy(values, fold_of, 0),
            **_alignment_report(tap, views, values) if encoding == "aligned" else {},
        )
        found[name] = {**measured.to_json(), "warnings": list(measured.warnings())}
    return found


def _alignment_report(tap: TapOptions, views: Views, values: np.ndarray) -> dict[str, Any]:
    alignments = [views.alignments[part] for part in tap.parts]
    return {
        "anchor_cosine": float(np.mean([alignment.anchor_cosine for alignment in alignments])),
        "held_out_cosine": float(np.mean([alignment.held_out_cosine for alignment in alignments])),
        "n_anchors": int(min(mask.sum() for mask in usable_anchors(views.folds, 0))),
        "width": values.shape[1],
    }


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
    # A classifier and a regressor have other methods, and other scores in scikit-learn.
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
    # Scores of values, or of classes.
    if not is_classifier(stack):
        return {"rmse": float(root_mean_squared_error(y, said)), "r2": float(r2_score(y, said))}
    codes = said.argmax(axis=1) if with_proba else said.astype(np.int64)
    scores = {"accuracy": float(accuracy_score(y, codes))}
    if with_proba:
        scores["log_loss"] = float(stack._task.row_loss(y, said).mean())
    return scores
