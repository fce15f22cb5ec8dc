"""Columns: what type each one has, and how its cells become numbers or codes.

In:  a column of the training file (text, numbers, dates) and its declared type, if any.
Out: a `Column` that turns the same column of any later file into floats or category codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from stackfeat.data.cells import Cells, TextCells, parsed_cells, text_cells
from stackfeat.data.parsing import parsing
from stackfeat.data.phrases import name_rows, quoted
from stackfeat.errors import DataError

DATE_PARTS = ("year", "month", "day", "weekday", "hour", "days")

_SHARE_OF_DATES = 0.9
_SHARE_UNIQUE = 0.5
_LONG_TEXT = 30
_LARGEST = float(np.finfo(np.float32).max)

Type = Literal["numeric", "boolean", "categorical", "date", "text"]


@dataclass(frozen=True)
class Column:
    """One typed column of the training file.

    Attributes
    ----------
    name : str
    type : {"numeric", "boolean", "categorical", "date"}
    levels : tuple of str
        Categorical: the texts in the training file, sorted.
    parts : tuple of str
        Date: which of year, month, day, weekday, hour, days (since 1970) are read.
    """

    name: str
    type: Type
    levels: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def numeric_names(self) -> tuple[str, ...]:
        if self.type == "date":
            return tuple(f"{self.name}.{part}" for part in self.parts)
        return () if self.type == "categorical" else (self.name,)

    def read(self, values: Cells, where: str) -> np.ndarray:
        """Return int32 codes of shape (n_rows,) if categorical, else float64 of shape (n_rows, n_parts)."""
        return self.codes(values) if self.type == "categorical" else self.numbers(values, where)

    def numbers(self, values: Cells, where: str) -> np.ndarray:
        """Return float64 of shape (n_rows, len(numeric_names)); NaN where missing."""
        if self.type == "date":
            parts = date_parts(to_dates(values))
            return np.column_stack([np.zeros((len(values), 0)), *(parts[part] for part in self.parts)])
        return to_numbers(values, where, booleans=self.type == "boolean").reshape(-1, 1)

    def codes(self, values: Cells) -> np.ndarray:
        """Return int32 of shape (n_rows,): index into `levels`, -1 missing, -2 not a level."""
        cells = text_cells(values)
        place_of = {level: place for place, level in enumerate(self.levels)}
        return cells.looked_up([place_of.get(text, -2) for text in cells.texts], -1).astype(np.int32)


def to_numbers(values: Cells, where: str, booleans: bool = False) -> np.ndarray:
    """Return cells as float64, NaN where missing.

    Raises
    ------
    DataError
        If a cell is not a number, or is infinite or beyond the range of float32; names the rows.
    """
    cells = parsed_cells(values)
    if isinstance(cells, TextCells):
        parsed = cells.booleans() if booleans else cells.numbers()
        wrong = np.isnan(parsed) & ~cells.is_missing
        if wrong.any():
            what = "True or False" if booleans else "a number"
            raise DataError(
                f"{where}: every cell must be {what}; got {quoted(cells.series[wrong].iloc[0])} in "
                f"{name_rows(wrong)}; repair the cells, or set the column's type in data.types"
            )
    elif isinstance(cells.dtype, np.dtype) and cells.dtype.kind in "biuf":
        parsed = np.array(cells, dtype=np.float64)
    else:
        with parsing(where, "every cell must be a number", "set the column's type in data.types"):
            parsed = pd.to_numeric(cells).to_numpy(dtype=np.float64, na_value=np.nan)
    beyond = np.abs(parsed) > _LARGEST
    if beyond.any():
        raise DataError(
            f"{where}: numbers must be finite and below 3.4e38; got {parsed[beyond][0]} in "
            f"{name_rows(beyond)}; replace them, or leave the cells empty"
        )
    return parsed


def to_dates(values: Cells) -> np.ndarray:
    """Return cells as UTC times without a zone, datetime64, NaT where missing or unreadable."""
    if isinstance(values, pd.Series) and isinstance(values.dtype, pd.DatetimeTZDtype):
        return values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    if isinstance(values, pd.Series) and pd.api.types.is_datetime64_any_dtype(values):
        return values.to_numpy(dtype=None if isinstance(values.dtype, np.dtype) else "datetime64[ns]")
    return text_cells(values).dates()


def date_parts(dates: np.ndarray) -> dict[str, np.ndarray]:
    """Return year, month, day, weekday, hour and days since 1970, float64, NaN where there is no date."""
    missing = np.isnat(dates)
    years, months, whole_days = (dates.astype(f"datetime64[{unit}]") for unit in "YMD")
    parts = {
        "year": years.astype(np.int64) + 1970,
        "month": (months - years).astype(np.int64) + 1,
        "day": (whole_days - months).astype(np.int64) + 1,
        "weekday": (whole_days.astype(np.int64) + 3) % 7,
        "hour": (dates.astype("datetime64[h]") - whole_days).astype(np.int64),
        "days": days_since_1970(dates),
    }
    return {part: np.where(missing, np.nan, values) for part, values in parts.items()}


def days_since_1970(dates: np.ndarray) -> np.ndarray:
    """Return float64, NaN where there is no date."""
    days: np.ndarray = (dates - np.datetime64(0, "D")) / np.timedelta64(1, "D")
    return days


def guess_type(values: Cells) -> Type:
    """Return the type of a training column that nobody declared."""
    if isinstance(values, pd.Series):
        if pd.api.types.is_bool_dtype(values):
            return "boolean"
        if pd.api.types.is_datetime64_any_dtype(values):
            return "date"
    cells = parsed_cells(values)
    if not isinstance(cells, TextCells) or cells.is_numeric:
        return "numeric"
    block, distinct = cells.block, cells.distinct
    if block.is_boolean[distinct].all():
        return "boolean"
    if (
        block.is_date[distinct].mean() > _SHARE_OF_DATES
        and np.mean(~np.isnat(cells.distinct_dates)) > _SHARE_OF_DATES
    ):
        return "date"
    return "text" if _reads_as_text(cells) else "categorical"


def _reads_as_text(cells: TextCells) -> bool:
    """Whether a column is prose or a name per row, not categories."""
    distinct, n_present = cells.distinct, len(cells) - int(cells.is_missing.sum())
    if n_present < 20 or len(distinct) <= _SHARE_UNIQUE * n_present:
        return False
    return bool(
        len(distinct) == n_present
        or cells.block.has_space[distinct].mean() > _SHARE_UNIQUE
        or cells.block.lengths[distinct].mean() > _LONG_TEXT
    )


def describe_column(name: str, values: Cells, type_: Type, where: str) -> Column:
    """Return the typed column, with levels or date parts from the training file."""
    if type_ == "categorical":
        return Column(name, type_, levels=tuple(sorted(text_cells(values).texts)))
    if type_ == "date":
        return Column(name, type_, parts=_parts_that_vary(name, values, where))
    return Column(name, type_)


def _parts_that_vary(name: str, values: Cells, where: str) -> tuple[str, ...]:
    dates = to_dates(values)
    if np.isnat(dates).all():
        raise DataError(
            f"{where}: a date column must hold dates such as 2024-01-31; got none; change its type in "
            "data.types"
        )
    parts = date_parts(dates[~np.isnat(dates)])
    return tuple(part for part in DATE_PARTS if np.any(parts[part] != parts[part][0]))
