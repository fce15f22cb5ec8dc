"""Rows of X and y in any form, their metadata, and the folds of a scikit-learn splitter.

In:  arrays, DataFrames, sparse matrices, lists, dicts of them; a splitter; sample weights and groups.
Out: parts of them, and `Folds` as the rest of the package knows them; weights go to estimators, groups to the
     splitter.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn import get_config
from sklearn.model_selection import TimeSeriesSplit
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, indexable

from stackfeat.data.splits.folds import Folds
from stackfeat.sklearn._compat import (
    _check_feature_names,
    _check_method_params,
    _check_n_features,
    _num_samples,
    _raise_for_params,
    _safe_indexing,
)
from stackfeat.sklearn.inputs import is_dict


def take(X: Any, rows: np.ndarray | None) -> Any:
    """Return these rows of X; None: all of them."""
    if rows is None:
        return X
    if is_dict(X):
        return {name: _safe_indexing(values, rows) for name, values in X.items()}
    return _safe_indexing(X, rows)


def as_rows(X: Any) -> Any:
    """Return X in a form whose rows can be taken: sparse matrices by row, lists as they are.

    Columns of DataFrames get the byte order of this machine, without which pandas takes no rows of them.

    Raises
    ------
    ValueError
        If X has no rows.
    """
    if is_dict(X):
        return {name: as_rows(values) for name, values in X.items()}
    if isinstance(X, pd.DataFrame):
        foreign = {
            name: kind for name, kind in X.dtypes.items() if isinstance(kind, np.dtype) and not kind.isnative
        }
        X = X.astype({name: kind.newbyteorder("=") for name, kind in foreign.items()}) if foreign else X
    (rows,) = indexable(X)
    if count(rows) < 1:
        raise ValueError(f"X must have at least 1 sample; got 0 sample(s) (shape={np.shape(rows)})")
    return rows


def check_width(owner: Any, X: Any, *, reset: bool) -> None:
    """Note, or compare, names and number of columns, as scikit-learn's estimators do.

    Raises
    ------
    ValueError
        If X has other columns than in `fit`, or is no table where it was one.
    """
    if is_dict(X):
        return
    _check_feature_names(owner, X, reset=reset)
    shape = getattr(X, "shape", ()) or np.shape(X)
    if len(shape) >= 2:
        _check_n_features(owner, X, reset=reset)
    elif not reset and hasattr(owner, "n_features_in_"):
        raise ValueError(
            f"Expected 2D array, got 1D array instead: shape={shape}. Reshape your data either using "
            "array.reshape(-1, 1) if it has a single feature or array.reshape(1, -1) if it is one sample."
        )


def encode_labels(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes and their codes, int64.

    Raises
    ------
    ValueError
        If y are no classes, or there is only one.
    """
    labels = column_or_1d(y, warn=True)
    check_classification_targets(labels)
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y must have at least 2 classes; got 1 class: {classes[0]!r}; add rows of another")
    return classes, codes.astype(np.int64)


def count(X: Any) -> int:
    """Return the number of samples."""
    return int(_num_samples(next(iter(X.values())) if is_dict(X) else X))


def take_params(X: Any, params: Mapping[str, Any], rows: np.ndarray | None) -> dict[str, Any]:
    """Return metadata (sample weights) of these rows."""
    if rows is None or not params:
        return dict(params)
    return dict(_check_method_params(np.empty((count(X), 1)), params=dict(params), indices=rows))


def split_folds(cv: Any, X: Any, y: Any, metadata: Mapping[str, Any]) -> Folds:
    """Ask a splitter for its folds.

    Rows may be predicted several times (repeated splitters) or never (over time). All splits stand in
    one repeat, so the K models of every repeat are pipelines beside each other.

    Raises
    ------
    ValueError
        If the splitter gives fewer than two folds, or a fold predicts rows it trains on.
    """
    rows = np.arange(count(X)) if is_dict(X) else X
    splits = tuple(
        (np.asarray(train, dtype=np.int64), np.asarray(test, dtype=np.int64))
        for train, test in cv.split(rows, y, **metadata)
    )
    if len(splits) < 2:
        raise ValueError(f"cv must give at least 2 folds; got {len(splits)}; use more splits")
    for number, (train, test) in enumerate(splits):
        both = np.intersect1d(train, test)
        if len(both):
            raise ValueError(
                f"a fold of cv must not predict rows that it trains on; got {len(both)} such rows in fold "
                f"{number}; repair the splitter"
            )
    kind = "time" if isinstance(cv, TimeSeriesSplit) else "custom"
    return Folds(kind=kind, splits=(splits,), n_rows=count(X))


def spread(folds: Folds, parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Put the folds' predicted rows where they belong; rows predicted several times get the mean.

    Returns
    -------
    values : ndarray of shape (n_rows, n_columns)
        NaN in rows that no fold predicts.
    covered : ndarray of bool, shape (n_rows,)
    """
    times = np.zeros(folds.n_rows, dtype=np.int64)
    for _, rows in folds.splits[0]:
        times[rows] += 1
    if times.max() <= 1:
        # As they are: labels may be integers, or text.
        whole = times.min() == 1
        values = np.empty((folds.n_rows, *parts[0].shape[1:]), dtype=np.result_type(*parts))
        if not whole:
            values = np.full(values.shape, np.nan, dtype=np.result_type(values.dtype, np.float32))
        for (_, rows), part in zip(folds.splits[0], parts, strict=True):
            values[rows] = part
        return values, times > 0
    total = np.zeros((folds.n_rows, *parts[0].shape[1:]))
    for (_, rows), part in zip(folds.splits[0], parts, strict=True):
        total[rows] += part
    shape = (-1,) + (1,) * (total.ndim - 1)
    mean = np.where((times > 0).reshape(shape), total / np.maximum(times, 1).reshape(shape), np.nan)
    return mean, times > 0


def first_fold_of(folds: Folds) -> np.ndarray:
    """Return the first fold that predicts each row, -1 where none does: what choices are grouped by."""
    fold_of = np.full(folds.n_rows, -1, dtype=np.int64)
    for fold, (_, rows) in reversed(list(enumerate(folds.splits[0]))):
        fold_of[rows] = fold
    return fold_of


def fingerprint(X: Any) -> str:
    """Return a hash by which the same rows are known again, in whatever container of the same kind."""
    digest = hashlib.sha256()
    parts = X.items() if is_dict(X) else [("", X)]
    for name, values in parts:
        digest.update(f"{name}{count(values)}{np.shape(values)}".encode())
        array = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
        data = (
            repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes()
        )
        digest.update(data)
    return digest.hexdigest()


def refuse_metadata(owner: Any, given: Mapping[str, Any]) -> None:
    """Raise ValueError where `fit` is given more than weights and groups, and metadata routing is not enabled."""
    if set(given) - {"sample_weight", "groups"}:
        _raise_for_params(given, owner, "fit")


def route(owner: Any, fit_params: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the metadata of every estimator named, and of the splitter.

    Raises
    ------
    ValueError
        Without metadata routing: if anything but ``sample_weight`` and ``groups`` is given.
    """
    given = {name: value for name, value in fit_params.items() if value is not None}
    refuse_metadata(owner, given)
    if get_config()["enable_metadata_routing"]:
        return process_routing(owner, "fit", **given)
    weight = {name: value for name, value in given.items() if name == "sample_weight"}
    groups = {name: value for name, value in given.items() if name == "groups"}
    return {**{name: {"fit": weight} for name in names}, "splitter": {"split": groups}}


def metadata_of(routed: Any, name: str, method: str) -> dict[str, Any]:
    """Return the metadata of an object's method; none where it asks for none."""
    return dict(routed.get(name, {}).get(method, {}))


def check_weights_supported(estimators: Mapping[str, Any], routed: Any) -> None:
    """Raise TypeError before any fit where an estimator is to get weights that its `fit` does not take."""
    for name, estimator in estimators.items():
        if "sample_weight" not in metadata_of(routed, name, "fit"):
            continue
        taken = inspect.signature(estimator.fit).parameters.values()
        if not any(one.name == "sample_weight" or one.kind is one.VAR_KEYWORD for one in taken):
            raise TypeError(
                f"Underlying estimator {type(estimator).__name__} does not support sample weights; "
                f"got sample_weight for {name!r}; use another estimator, or fit without weights"
            )
