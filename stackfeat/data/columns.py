"""Columns: what type each one has, and how its cells become numbers or codes.

In:  a column of the training file (text, numbers, dates) and its declared type, if any.
Out: a `Column` that turns the same column of any later file into floats or category codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from stackfeat.data.phrases import name_rows
from stackfeat.errors import DataError

MISSING = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NAN", "null", "NULL", "None", "?")
BOOLEANS = {"True": 1.0, "true": 1.0, "TRUE": 1.0, "False": 0.0, "false": 0.0, "FALSE": 0.0}
DATE_PATTERN = r"\d{4}[-/]\d{2}[-/]\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?"
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

    def read(self, values: pd.Series, where: str) -> np.ndarray:
        """Return int32 codes of shape (n_rows,) if categorical, else float64 of shape (n_rows, n_parts)."""
        return self.codes(values) if self.type == "categorical" else self.numbers(values, where)

    def numbers(self, values: pd.Series, where: str) -> np.ndarray:
        """Return float64 of shape (n_rows, len(numeric_names)); NaN where missing."""
        if self.type == "date":
            parts = date_parts(to_dates(values))
            return np.column_stack([parts[part] for part in self.parts])
        return to_numbers(values, where, booleans=self.type == "boolean").reshape(-1, 1)

    def codes(self, values: pd.Series) -> np.ndarray:
        """Return int32 of shape (n_rows,): index into `levels`, -1 missing, -2 not a level."""
        text = to_text(values)
        codes = (
            pd.Index(list(self.levels), dtype=object)
            .get_indexer(pd.Index(text.astype(object)))
            .astype(np.int32)
        )
        codes[codes == -1] = -2
        codes[text.isna().to_numpy()] = -1
        return codes


def to_text(values: pd.Series) -> pd.Series:
    """Return cells as text with missing tokens as missing; whole floats without ``.0``."""
    if is_text(values):
        text = values.astype("str")
        return text.mask(text.isin(MISSING))
    missing = values.isna()
    if pd.api.types.is_float_dtype(values):
        present = values[~missing].to_numpy(dtype=np.float64)
        if np.all(present == np.floor(present)) and np.all(np.abs(present) < 2**53):
            return values.astype("Int64").astype("str").mask(missing)
    return values.astype("str").mask(missing)


def is_text(values: pd.Series) -> bool:
    """Whether cells are text (or categories, or mixed objects), to be parsed."""
    dtype = values.dtype
    return (
        isinstance(dtype, pd.CategoricalDtype)
        or dtype == np.dtype(object)
        or pd.api.types.is_string_dtype(dtype)
    )


def to_numbers(values: pd.Series, where: str, booleans: bool = False) -> np.ndarray:
    """Return cells as float64, NaN where missing.

    Raises
    ------
    DataError
        If a cell is not a number, or is infinite or beyond the range of float32; names the rows.
    """
    if is_text(values):
        text = to_text(values)
        parsed = _parse(text.map({**BOOLEANS, "1": 1.0, "0": 0.0}) if booleans else text)
        wrong = np.isnan(parsed) & text.notna().to_numpy()
        if wrong.any():
            what = "True or False" if booleans else "a number"
            raise DataError(
                f"{where}: every cell must be {what}; got {str(text[wrong].iloc[0])!r} in "
                f"{name_rows(wrong)}; repair the cells, or set the column's type in data.types"
            )
    else:
        parsed = pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan)
    beyond = np.abs(parsed) > _LARGEST
    if beyond.any():
        raise DataError(
            f"{where}: numbers must be finite and below 3.4e38; got {parsed[beyond][0]} in "
            f"{name_rows(beyond)}; replace them, or leave the cells empty"
        )
    return parsed


def _parse(text: pd.Series) -> np.ndarray:
    """Return texts as float64, NaN where there is no number."""
    # Parsing is slow, so columns of few different texts are parsed once for each text.
    repetitive = len(text) > 1000 and text.iloc[:1000].nunique() < 500
    codes, unique = pd.factorize(text) if repetitive else (None, text)
    parsed = pd.to_numeric(pd.Series(unique), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return parsed if codes is None else np.append(parsed, np.nan)[codes]


def to_dates(values: pd.Series) -> pd.Series:
    """Return cells as UTC times without a zone, NaT where missing or unreadable."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return pd.Series(values.dt.tz_convert("UTC").dt.tz_localize(None))
    if pd.api.types.is_datetime64_any_dtype(values):
        return values
    text = to_text(values).str.replace("/", "-", regex=False)
    dates = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
    return pd.Series(dates.dt.tz_localize(None))


def date_parts(dates: pd.Series) -> dict[str, np.ndarray]:
    """Return year, month, day, weekday, hour and days since 1970, float64, NaN where there is no date."""
    days = (dates - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
    accessor: Any = dates.dt
    parts = {part: getattr(accessor, part) for part in ("year", "month", "day", "hour")}
    parts |= {"weekday": accessor.day_of_week, "days": days}
    return {part: values.to_numpy(dtype=np.float64, na_value=np.nan) for part, values in parts.items()}


def guess_type(values: pd.Series) -> Type:
    """Return the type of a training column that nobody declared."""
    if pd.api.types.is_bool_dtype(values):
        return "boolean"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "date"
    if not is_text(values):
        return "numeric"
    text = to_text(values).dropna()
    unique = pd.Series(text.unique(), dtype="str")
    if unique.isin(BOOLEANS).all():
        return "boolean"
    if pd.to_numeric(unique, errors="coerce").notna().all():
        return "numeric"
    if (
        unique.str.fullmatch(DATE_PATTERN).mean() > _SHARE_OF_DATES
        and to_dates(unique).notna().mean() > _SHARE_OF_DATES
    ):
        return "date"
    return "text" if _reads_as_text(text, unique) else "categorical"


def _reads_as_text(text: pd.Series, unique: pd.Series) -> bool:
    """Whether a column is prose or a name per row, not categories."""
    if len(text) < 20 or len(unique) <= _SHARE_UNIQUE * len(text):
        return False
    has_space = unique.str.contains(" ", regex=False).mean()
    return bool(len(unique) == len(text) or has_space > _SHARE_UNIQUE or unique.str.len().mean() > _LONG_TEXT)


def describe_column(name: str, values: pd.Series, type_: Type, where: str) -> Column:
    """Return the typed column, with levels or date parts from the training file."""
    if type_ == "categorical":
        return Column(name, type_, levels=tuple(sorted(to_text(values).dropna().unique().tolist())))
    if type_ == "date":
        return Column(name, type_, parts=_parts_that_vary(name, values, where))
    return Column(name, type_)


def _parts_that_vary(name: str, values: pd.Series, where: str) -> tuple[str, ...]:
    dates = to_dates(values)
    if dates.isna().all():
        raise DataError(
            f"{where}: a date column must hold dates such as 2024-01-31; got none; change its type in "
            "data.types"
        )
    parts = date_parts(dates)
    return tuple(part for part in DATE_PARTS if len(np.unique(parts[part][~np.isnan(parts[part])])) > 1)
