"""Rankers of the boosting libraries, which are fitted on rows sorted by list.

In:  an unfitted estimator, columns, relevance, the number of each row's list.
Out: the fitted estimator. Rows are sorted here and nowhere else.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import has_fit_parameter

from stackfeat.data.prepare.weights import mean_one
from stackfeat.meta.columns import take_rows


def _sizes(lists: np.ndarray, name: str = "group") -> dict[str, np.ndarray]:
    return {name: np.unique_counts(lists).counts}


RANKERS: Mapping[str, Callable[[np.ndarray], dict[str, np.ndarray]]] = {
    "LGBMRanker": _sizes,
    "XGBRanker": lambda lists: {"qid": lists},
    "CatBoostRanker": lambda lists: {"group_id": lists},
}
"""How each is told which of its sorted rows belong together, by the name of its class."""
_WEIGHS_LISTS = ("XGBRanker", "CatBoostRanker")
"""Those that take a weight of each list, not of each row."""


def is_ranker(estimator: Any) -> bool:
    return _kind(estimator) is not None


def _kind(estimator: Any) -> str | None:
    return next((cls.__name__ for cls in type(estimator).__mro__ if cls.__name__ in RANKERS), None)


def fit_ranker(
    estimator: Any,
    columns: Any,
    relevance: np.ndarray,
    lists: np.ndarray,
    weight: np.ndarray | None,
    keywords: Mapping[str, Any],
) -> Any:
    """Fit a ranker, with the mean weight of a list where it takes no weights of rows."""
    kind = _kind(estimator)
    assert kind is not None
    order = np.argsort(lists, kind="stable")
    ordered = take_rows(columns, order)
    told = dict(keywords) | RANKERS[kind](lists[order])
    with warnings.catch_warnings():
        # LightGBM says so of every `eval_at` among params, which is where a config has it.
        warnings.filterwarnings("ignore", "Found '.*' in params. Will use it instead of 'eval_at'")
        return estimator.fit(ordered, relevance[order], **told, **_weights(kind, weight, lists, order))


def validation_of_ranker(
    estimator: Any,
    columns: Any,
    relevance: np.ndarray,
    lists: np.ndarray,
    weight: np.ndarray | None,
    rows: np.ndarray,
) -> dict[str, Any]:
    """Return validation rows as `fit` of a ranker wants them."""
    kind, order = _kind(estimator), rows[np.argsort(lists[rows], kind="stable")]
    assert kind is not None
    ordered = take_rows(columns, order)
    inside = None if weight is None else weight[order]
    own = _weights(kind, inside, lists[order], np.arange(len(order)))
    if kind == "CatBoostRanker":
        pool = importlib.import_module("catboost").Pool
        names = [str(name) for name in getattr(columns, "columns", ()) if str(columns[name].dtype) == "int32"]
        told = RANKERS[kind](lists[order]) | own
        return {"eval_set": pool(ordered, relevance[order], cat_features=names or None, **told)}
    pair = (ordered, relevance[order])
    if kind == "XGBRanker":
        found: dict[str, Any] = {"eval_set": [pair], "eval_qid": [lists[order]], "verbose": False}
        return found | ({"sample_weight_eval_set": [own["sample_weight"]]} if own else {})
    given = (
        {"eval_X": pair[0], "eval_y": pair[1]}
        if has_fit_parameter(estimator, "eval_X")
        else {"eval_set": [pair]}
    )
    weights = {"eval_sample_weight": [own["sample_weight"]]} if own else {}
    return {**given, "eval_group": [_sizes(lists[order])["group"]], **weights}


def _weights(
    kind: str, weight: np.ndarray | None, lists: np.ndarray, order: np.ndarray
) -> dict[str, np.ndarray]:
    if weight is None:
        return {}
    if kind not in _WEIGHS_LISTS:
        return {"sample_weight": mean_one(weight)[order]}
    _, place, sizes = np.unique(lists, return_inverse=True, return_counts=True)
    of_list = mean_one(np.bincount(place, weights=weight) / sizes)
    return {"sample_weight": of_list} if kind == "XGBRanker" else {"group_weight": of_list[place][order]}
