"""What scikit-learn hands to `fit` and `predict`: X in any form, labels, weights, groups.

In:  arrays of any rank, DataFrames (pandas, polars), sparse matrices, lists, dicts of them; parameters of `fit`.
Out: their rows, checked as scikit-learn checks them; for nets the inputs of a member, by name, as `Table` (numbers
     and category codes) or array; for each estimator and for the splitter what they are to get.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d, indexable

from stackfeat.data.samples import Input, Table
from stackfeat.data.schema.columns import Column, describe_column, infer_type
from stackfeat.data.schema.roles import build_table
from stackfeat.errors import DataError, UsageError
from stackfeat.registry.resolve import suggest
from stackfeat.sklearn._compat import (
    _check_feature_names,
    _check_method_params,
    _check_n_features,
    _check_sample_weight,
    _num_samples,
    _raise_for_params,
    _safe_indexing,
)

SINGLE = "table"
"""Name of the input where X is not a dict: that of a config with one table."""


@dataclass(frozen=True)
class InputReader:
    """How a net reads X, learnt in `fit`.

    Attributes
    ----------
    names : tuple of str
        Inputs in the order of `fit`, in which nets get them.
    frames : dict of str to tuple of Column
        Typed columns of the inputs that are DataFrames.
    shapes : dict of str to tuple of int
        Shape of a row of the inputs that are arrays.
    is_dict : bool
        Whether X is a dict.
    as_table : bool
        Whether 2-D arrays become tables, whose columns are scaled; otherwise nets get them as they are.
    """

    names: tuple[str, ...]
    frames: dict[str, tuple[Column, ...]]
    shapes: dict[str, tuple[int, ...]]
    is_dict: bool
    as_table: bool

    @classmethod
    def fit(cls, X: Any, *, as_table: bool, texts: Sequence[str] = ()) -> InputReader:
        """Learn the types of columns and the shapes of arrays.

        Parameters
        ----------
        texts : sequence of str
            Columns whose words are read.

        Raises
        ------
        UsageError
            If one of `texts` is no column of strings.
        """
        frames: dict[str, tuple[Column, ...]] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for name, values in _named(X).items():
            if has_text(values):
                frame = to_frame(values)
                frames[name] = tuple(
                    _typed(str(column), frame[column], str(column) in texts) for column in frame.columns
                )
            else:
                shapes[name] = np.shape(values)[1:]
        known = [column.name for columns in frames.values() for column in columns]
        unknown = [column for column in texts if column not in known]
        if unknown:
            raise UsageError(
                f"texts must name columns of a DataFrame with strings; got {unknown[0]!r}, which X has not."
                f"{suggest(unknown[0], known)}"
            )
        return cls(tuple(_named(X)), frames, shapes, is_dict(X), as_table)

    def read(self, X: Any) -> dict[str, Input]:
        """Return the inputs by name.

        Raises
        ------
        UsageError
            If inputs are missing, or an array has another shape than in `fit`.
        DataError
            If cells of a DataFrame cannot be read.
        """
        named = _named(X)
        if is_dict(X) != self.is_dict or set(named) != set(self.names):
            given = sorted(named) if is_dict(X) else type(X).__name__
            odd = next((name for name in named if name not in self.names), "")
            raise UsageError(
                f"X must have the inputs of fit, {sorted(self.names) if self.is_dict else 'an array or DataFrame'}; "
                f"got {given}.{suggest(odd, self.names)}"
            )
        inputs: dict[str, Input] = {
            name: self._frame(name, named[name]) if name in self.frames else self._array(name, named[name])
            for name in self.names
        }
        lengths = {name: v.n_rows if isinstance(v, Table) else len(v) for name, v in inputs.items()}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"inputs must have equally many rows; got {lengths}; give a row per sample")
        return inputs

    def _frame(self, name: str, values: Any) -> Table:
        frame, where = to_frame(values), f"X[{name!r}]" if self.is_dict else "X"
        columns = self.frames[name]
        if len(frame.columns) != len(columns):
            raise UsageError(f"{where} must have {len(columns)} columns; got {len(frame.columns)}")
        read = {
            column.name: column.read(frame.iloc[:, j], f"{where}: column {column.name!r}")
            for j, column in enumerate(columns)
        }
        return build_table(columns, read, len(frame))

    def _array(self, name: str, given: Any) -> Input:
        values = np.asarray(given)
        if values.shape[1:] != self.shapes[name]:
            raise UsageError(
                f"a row of input {name!r} must have shape {self.shapes[name]}, as in fit; got {values.shape[1:]}"
            )
        if values.ndim == 2 and self.as_table:
            names = tuple(f"x{j}" for j in range(values.shape[1]))
            return Table(values.astype(np.float64), names, np.zeros((len(values), 0), dtype=np.int32), (), ())
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise DataError(
                f"input {name!r} must be finite where nothing fills in missing values; got NaN or infinity; "
                "fill them in, or give a table with scaling='quantile'"
            )
        return values


def _named(X: Any) -> Mapping[str, Any]:
    return X if is_dict(X) else {SINGLE: X}


def _typed(name: str, values: pd.Series, is_text: bool) -> Column:
    """Return the column's type; strings are categories unless it is said that their words are to be read."""
    if is_text:
        return describe_column(name, values, "text", f"X: column {name!r}")
    is_category = isinstance(values.dtype, pd.CategoricalDtype)
    found = "categorical" if is_category else infer_type(values)
    return describe_column(name, values, "categorical" if found == "text" else found, f"X: column {name!r}")


def is_dict(X: Any) -> bool:
    """Whether X is several inputs by name (a sparse matrix of scipy may be a dict, too)."""
    return isinstance(X, Mapping) and not issparse(X)


def has_text(X: Any) -> bool:
    """Whether X has columns that are no plain numbers: strings, categories, booleans, dates."""
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        return any(not pd.api.types.is_numeric_dtype(kind) for kind in to_frame(X).dtypes)
    if getattr(getattr(X, "dtype", None), "kind", "") in ("U", "S"):
        return True
    if isinstance(X, list) and X and isinstance(X[0], list | tuple):
        X = np.asarray(X, dtype=object)
    is_objects = isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 2
    return is_objects and any(isinstance(cell, str) for cell in X.ravel())


def to_frame(X: Any) -> pd.DataFrame:
    """Return X as a pandas DataFrame."""
    if isinstance(X, pd.DataFrame):
        return X
    if hasattr(X, "columns") and hasattr(X, "to_numpy"):
        return pd.DataFrame({str(name): _plain_column(X[name]) for name in X.columns})
    array = np.asarray(X, dtype=object)
    return pd.DataFrame(array, columns=[f"x{j}" for j in range(array.shape[1])]).infer_objects()


def _plain_column(values: Any) -> Any:
    """Return a polars column as numpy values; categories as text."""
    array = values.to_numpy()
    return array if array.dtype != object else [None if cell is None else cell for cell in values.to_list()]


def check_inputs(owner: Any, X: Any, *, reset: bool, n_least: int = 1, allow_nan: bool = True) -> Any:
    """Return X with its arrays checked as scikit-learn does, names and number of columns included.

    DataFrames with text stay as they are.

    Parameters
    ----------
    owner : estimator
        Notes names and number of columns where `reset` is true, else compares them.
    n_least : int
        Rows that there must be.
    allow_nan : bool
        Whether somebody fills in missing numbers later.
    """

    def checked(values: Any, name: str) -> Any:
        if has_text(values):
            return values
        return check_array(
            values,
            dtype="numeric",
            allow_nd=True,
            ensure_all_finite="allow-nan" if allow_nan else True,
            ensure_min_samples=n_least,
            input_name=name,
        )

    if is_dict(X):
        if not X:
            raise UsageError("a dict X must have at least one input; got {}; give name=array")
        return {name: checked(values, f"X[{name!r}]") for name, values in X.items()}
    values = checked(X, "X")
    # Names are those of a DataFrame, the width that of the array it became.
    check_width(owner, X if hasattr(X, "columns") else values, reset=reset)
    return values


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


def check_weight(sample_weight: Any, n_rows: int) -> np.ndarray | None:
    """Return checked weights as float64, or None."""
    if sample_weight is None:
        return None
    weight: np.ndarray = _check_sample_weight(sample_weight, np.empty((n_rows, 1)), dtype=np.float64)
    return weight


def encode_labels(owner: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
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
        raise ValueError(
            f"{type(owner).__name__} must have at least 2 classes in y; got 1 class: {classes[0]!r}; "
            "add rows of another class"
        )
    return classes, codes.astype(np.int64)


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


def count(X: Any) -> int:
    """Return the number of samples."""
    return int(_num_samples(next(iter(X.values())) if is_dict(X) else X))


def take(X: Any, rows: np.ndarray | None) -> Any:
    """Return these rows of X; None: all of them."""
    if rows is None:
        return X
    if is_dict(X):
        return {name: _safe_indexing(values, rows) for name, values in X.items()}
    return _safe_indexing(X, rows)


def take_params(X: Any, params: Mapping[str, Any], rows: np.ndarray | None) -> dict[str, Any]:
    """Return metadata (sample weights) of these rows."""
    if rows is None or not params:
        return dict(params)
    return dict(_check_method_params(np.empty((count(X), 1)), params=dict(params), indices=rows))


def fingerprint(X: Any) -> str:
    """Return a hash by which the same rows are known again, in whatever container of the same kind."""
    digest = hashlib.sha256()
    for name, values in X.items() if is_dict(X) else [("", X)]:
        digest.update(f"{name}{count(values)}{np.shape(values)}".encode())
        array = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
        is_objects = array.dtype == object
        digest.update(repr(array.tolist()).encode() if is_objects else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def refuse_metadata(owner: Any, given: Mapping[str, Any]) -> None:
    """Raise ValueError where `fit` is given more than weights and groups, and metadata routing is not enabled."""
    if set(given) - {"sample_weight", "groups"}:
        _raise_for_params(given, owner, "fit")


def route(
    owner: Any, fit_params: Mapping[str, Any], estimators: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the metadata that the `fit` of each estimator is to get, and the splitter.

    Raises
    ------
    ValueError
        Without metadata routing: if anything but ``sample_weight`` and ``groups`` is given.
    TypeError
        If an estimator is to get weights that its `fit` does not take.
    """
    given = {name: value for name, value in fit_params.items() if value is not None}
    if get_config()["enable_metadata_routing"]:
        routed = process_routing(owner, "fit", **given)
        of_fits = {name: dict(routed.get(name, {}).get("fit", {})) for name in estimators}
        of_split = dict(routed.get("splitter", {}).get("split", {}))
    else:
        refuse_metadata(owner, given)
        weight = {name: value for name, value in given.items() if name == "sample_weight"}
        of_fits = dict.fromkeys(estimators, weight)
        of_split = {name: value for name, value in given.items() if name == "groups"}
    for name in [name for name, params in of_fits.items() if "sample_weight" in params]:
        taken = inspect.signature(estimators[name].fit).parameters.values()
        if not any(one.name == "sample_weight" or one.kind is one.VAR_KEYWORD for one in taken):
            raise TypeError(
                f"Underlying estimator {type(estimators[name]).__name__} does not support sample weights; "
                f"got sample_weight for {name!r}; use another estimator, or fit without weights"
            )
    return of_fits, of_split
