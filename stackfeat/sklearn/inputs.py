"""From what scikit-learn hands over as X to the inputs of a member.

In:  an array of any rank, a DataFrame (pandas, polars), or a dict of them.
Out: a dict of name to `Table` (numbers and category codes) or array; rows to predict are read by what
     was learnt of the rows to fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils.validation import check_array

from stackfeat.data.samples import Input, Table
from stackfeat.data.schema.columns import Column, describe_column, guess_type
from stackfeat.data.schema.roles import build_table
from stackfeat.errors import DataError, UsageError
from stackfeat.registry.resolve import suggest
from stackfeat.sklearn._compat import _check_sample_weight

SINGLE = "table"
"""Name of the input where X is not a dict: that of a config with one table."""


@dataclass(frozen=True)
class InputReader:
    """How X is read, learnt in `fit`.

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
    def fit(cls, X: Any, *, as_table: bool) -> InputReader:
        """Learn the types of columns and the shapes of arrays."""
        frames: dict[str, tuple[Column, ...]] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for name, values in _named(X).items():
            if has_text(values):
                frame = to_frame(values)
                frames[name] = tuple(_typed(str(column), frame[column]) for column in frame.columns)
            else:
                shapes[name] = np.shape(values)[1:]
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
        inputs: dict[str, Input] = {}
        named = _named(X)
        self._check_names(named, X)
        for name in self.names:
            inputs[name] = self._frame(name, named[name]) if name in self.frames else self._array(name, named)
        lengths = {name: v.n_rows if isinstance(v, Table) else len(v) for name, v in inputs.items()}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"inputs must have equally many rows; got {lengths}; give a row per sample")
        return inputs

    def _check_names(self, named: Mapping[str, Any], X: Any) -> None:
        wanted = self.names
        if is_dict(X) != self.is_dict or set(named) != set(wanted):
            given = sorted(named) if is_dict(X) else type(X).__name__
            odd = next((name for name in named if name not in wanted), "")
            raise UsageError(
                f"X must have the inputs of fit, {sorted(wanted) if self.is_dict else 'an array or DataFrame'}; "
                f"got {given}.{suggest(odd, wanted)}"
            )

    def _frame(self, name: str, values: Any) -> Table:
        frame, where = to_frame(values), "X" if not self.is_dict else f"X[{name!r}]"
        columns = self.frames[name]
        if len(frame.columns) != len(columns):
            raise UsageError(f"{where} must have {len(columns)} columns; got {len(frame.columns)}")
        read = {
            column.name: column.read(frame.iloc[:, j], f"{where}: column {column.name!r}")
            for j, column in enumerate(columns)
        }
        return build_table(columns, read, len(frame))

    def _array(self, name: str, named: Mapping[str, Any]) -> Input:
        values = np.asarray(named[name])
        if values.shape[1:] != self.shapes[name]:
            raise UsageError(
                f"a row of input {name!r} must have shape {self.shapes[name]}, as in fit; got {values.shape[1:]}"
            )
        if values.ndim == 2 and self.as_table:
            return numeric_table(values)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise DataError(
                f"input {name!r} must be finite where nothing fills in missing values; got NaN or infinity; "
                "fill them in, or give a table with scaling='quantile'"
            )
        return values


def numeric_table(values: np.ndarray) -> Table:
    """Return a 2-D array of numbers as a table."""
    names = tuple(f"x{j}" for j in range(values.shape[1]))
    codes = np.zeros((len(values), 0), dtype=np.int32)
    return Table(values.astype(np.float64), names, codes, (), ())


def check_inputs(X: Any, n_least: int, *, allow_nan: bool = True) -> Any:
    """Return X with its arrays checked as scikit-learn does; DataFrames with text stay as they are.

    Parameters
    ----------
    n_least : int
        Rows that there must be.
    allow_nan : bool
        Whether somebody fills in missing numbers later.
    """
    if is_dict(X):
        if not X:
            raise UsageError("a dict X must have at least one input; got {}; give name=array")
        return {name: _checked(values, f"X[{name!r}]", n_least, allow_nan) for name, values in X.items()}
    return _checked(X, "X", n_least, allow_nan)


def _checked(values: Any, name: str, n_least: int, allow_nan: bool) -> Any:
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


def is_dict(X: Any) -> bool:
    """Whether X is several inputs by name (a sparse matrix of scipy may be a dict, too)."""
    return isinstance(X, Mapping) and not issparse(X)


def n_rows_of(X: Any) -> int:
    """Return the number of samples."""
    return len(next(iter(X.values()))) if is_dict(X) else len(X)


def is_frame(X: Any) -> bool:
    """Whether X is a pandas or polars DataFrame."""
    return hasattr(X, "columns") and hasattr(X, "dtypes")


def has_text(X: Any) -> bool:
    """Whether X has columns that are no plain numbers: strings, categories, booleans, dates."""
    if is_frame(X):
        return any(not pd.api.types.is_numeric_dtype(kind) for kind in to_frame(X).dtypes)
    kind = getattr(getattr(X, "dtype", None), "kind", "")
    if kind in "US" and kind:
        return True
    if isinstance(X, list):
        X = np.asarray(X, dtype=object) if X and isinstance(X[0], list | tuple) else X
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


def _named(X: Any) -> Mapping[str, Any]:
    return X if is_dict(X) else {SINGLE: X}


def _typed(name: str, values: pd.Series) -> Column:
    """Return the column's type; who gives a column of text to an estimator wants it read as categories."""
    is_category = isinstance(values.dtype, pd.CategoricalDtype)
    found = "categorical" if is_category else guess_type(values)
    return describe_column(name, values, "categorical" if found == "text" else found, f"X: column {name!r}")


def check_weight(sample_weight: Any, n_rows: int) -> np.ndarray | None:
    """Return checked weights as float64, or None."""
    if sample_weight is None:
        return None
    weight: np.ndarray = _check_sample_weight(sample_weight, np.empty((n_rows, 1)), dtype=np.float64)
    return weight
