"""Rows of a file as `Samples`: ids, roles and tables, checked value by value.

In:  a frame and typed columns (training) or a `Schema` (later files).
Out: arrays; every error names the file, the column and the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from stackfeat.data.cells import as_str, is_text, to_text
from stackfeat.data.columns import Column, guess_type, to_dates, to_numbers
from stackfeat.data.phrases import name_rows, name_values, quote_values, quoted
from stackfeat.data.samples import Table
from stackfeat.errors import DataError


def build_table(columns: Sequence[Column], values: Mapping[str, np.ndarray], n_rows: int) -> Table:
    """Put read columns together, numbers first."""
    numeric = [column for column in columns if column.type != "categorical"]
    coded = [column for column in columns if column.type == "categorical"]
    return Table(
        numeric=np.hstack([np.zeros((n_rows, 0)), *(values[column.name] for column in numeric)]),
        numeric_names=tuple(name for column in numeric for name in column.numeric_names),
        codes=np.column_stack(
            [np.zeros((n_rows, 0), dtype=np.int32), *(values[column.name] for column in coded)]
        ),
        code_names=tuple(column.name for column in coded),
        levels=tuple(column.levels for column in coded),
    )


def read_ids(frame: pd.DataFrame, column: str | None, where: str) -> np.ndarray:
    """Return ids exactly as in the file, str of shape (n_rows,); row numbers from 0 without a column.

    Raises
    ------
    DataError
        If ids are missing or not unique.
    """
    if column is None:
        return np.arange(len(frame)).astype(str)
    values = frame[column]
    text = as_str(values) if is_text(values) else to_text(values)
    missing = (text.isna() | (text.str.strip() == "")).to_numpy()
    if missing.any():
        raise DataError(
            f"{where}: every row must have an id in {quoted(column)}; got none in {name_rows(missing)}; fill them "
            "in"
        )
    doubled = text.duplicated(keep=False)
    if doubled.any():
        repeated = text[doubled].unique()
        raise DataError(
            f"{where}: ids in {quoted(column)} must be unique; got {quote_values(repeated)} more than "
            "once, "
            f"in {name_rows(doubled.to_numpy())}; remove the duplicates, or name another column as data.id"
        )
    return text.to_numpy(dtype=object).astype(np.str_)


def read_group(values: pd.Series, where: str) -> np.ndarray:
    """Return int64 numbers of the groups, in the sorted order of their texts."""
    text = to_text(values)
    _refuse_missing(text.isna().to_numpy(), where, "group")
    return pd.factorize(text, sort=True)[0].astype(np.int64)


def read_time(values: pd.Series, where: str) -> np.ndarray:
    """Return float64 that increases with time: the numbers, or seconds since 1970."""
    type_ = guess_type(values)
    if type_ == "date":
        dates = to_dates(values)
        _refuse_missing(np.isnat(dates), where, "time")
        seconds: np.ndarray = (dates - np.datetime64(0, "s")) / np.timedelta64(1, "s")
        return seconds
    if type_ != "numeric":
        example = str(values.iloc[0])
        raise DataError(
            f"{where}: time must be numbers or dates such as 2024-01-31; got {quoted(example)}; convert the column"
        )
    time = to_numbers(values, where)
    _refuse_missing(np.isnan(time), where, "time")
    return time


def read_weight(values: pd.Series, where: str) -> np.ndarray:
    """Return float64 weights, at least 0."""
    weight = to_numbers(values, where)
    wrong = ~(weight >= 0)
    if wrong.any():
        raise DataError(
            f"{where}: weights must be at least 0; got {weight[wrong][0]} in {name_rows(wrong)}; repair them"
        )
    if not weight.any():
        raise DataError(f"{where}: some weight must be above 0; got 0 in every row; remove data.weight")
    return weight


def read_fold(values: pd.Series, where: str) -> np.ndarray:
    """Return int64 fold numbers 0, 1, ...; a column that counts from 1 is shifted. -1 is held out."""
    fold = to_numbers(values, where)
    _refuse_missing(np.isnan(fold), where, "fold")
    held_out = fold == -1
    present = np.unique(fold[~held_out])
    first = present[0] if len(present) else -1.0
    expected = first + np.arange(len(present))
    if first not in (0.0, 1.0) or len(present) < 2 or not np.array_equal(present, expected):
        raise DataError(
            f"{where}: folds must be numbered 0, 1, ... without gaps, at least two; "
            f"got {name_values(f'{value:g}' for value in np.unique(fold))}; number them anew"
        )
    return np.where(held_out, -1, fold - first).astype(np.int64)


def _refuse_missing(missing: np.ndarray, where: str, role: str) -> None:
    if missing.any():
        raise DataError(
            f"{where}: every row must have a {role}; got none in {name_rows(missing)}; fill the cells in"
        )
