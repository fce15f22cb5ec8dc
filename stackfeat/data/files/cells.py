"""Cells of text columns, many columns at a time: what a text says is found out once for each text.

In:  columns of a frame.
Out: for every column `TextCells`, or the column itself where its file already gave numbers or dates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from stackfeat.data.files.parsing import parsing
from stackfeat.registry.resolve import quoted

MISSING = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NAN", "null", "NULL", "None", "?")
BOOLEANS = {"True": 1.0, "true": 1.0, "TRUE": 1.0, "False": 0.0, "false": 0.0, "FALSE": 0.0}
DATE_PATTERN = r"\d{4}[-/]\d{2}[-/]\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?"

_BLOCK_CELLS = 2**22
_EXACT = 2.0**53


class TextBlock:
    """Columns of text side by side, as numbers of their distinct texts.

    Attributes
    ----------
    texts : ndarray of object
        Every text that stands in a cell, tokens for missing values included.
    codes : ndarray of shape (n_columns, n_rows)
        Which text each cell holds; -1 where it is missing.
    """

    def __init__(self, cells: np.ndarray) -> None:
        codes, texts = pd.factorize(cells.T.ravel())
        self.texts: np.ndarray = np.asarray(texts, dtype=object)
        is_token = np.append(pd.Index(self.texts, dtype=object).isin(MISSING), True)
        self.codes: np.ndarray = np.where(is_token[codes], -1, codes).reshape(cells.shape[1], len(cells))

    @cached_property
    def numbers(self) -> np.ndarray:
        """Each text as float64, NaN where it is no number."""
        parsed = pd.to_numeric(pd.Series(self.texts, dtype=object), errors="coerce")
        numbers = np.array(parsed.to_numpy(dtype=np.float64, na_value=np.nan))
        for place in np.flatnonzero(np.isfinite(numbers) & (np.abs(numbers) >= _EXACT)):
            # pandas rounds long whole numbers twice where anything but whole numbers stands in a column.
            text = self.texts[place].strip()
            numbers[place] = float(text) if text.lstrip("+-").isdecimal() else numbers[place]
        return numbers

    @cached_property
    def values(self) -> np.ndarray:
        """Cells as float64 of shape (n_columns, n_rows), NaN where they are missing or no number."""
        return np.asarray(np.append(self.numbers, np.nan)[self.codes])

    @cached_property
    def is_numeric(self) -> np.ndarray:
        """Whether each column has values, all of them numbers."""
        present = self.codes >= 0
        return np.asarray(present.any(axis=1) & ~(np.isnan(self.values) & present).any(axis=1))

    @cached_property
    def is_boolean(self) -> np.ndarray:
        """Whether each text is a truth value."""
        return np.asarray(pd.Index(self.texts, dtype=object).isin(list(BOOLEANS)))

    @cached_property
    def is_date(self) -> np.ndarray:
        """Whether each text is written like a date."""
        found: np.ndarray = np.isnan(self.numbers)
        written = pd.Series(self.texts[found], dtype="str")
        found[found] = written.str.fullmatch(DATE_PATTERN).to_numpy(dtype=bool)
        return found

    @cached_property
    def is_fine_date(self) -> np.ndarray:
        """Whether each text has more digits of a second than microseconds need."""
        return np.asarray(pd.Series(self.texts, dtype="str").str.contains(r"\.\d{7}"), dtype=bool)

    @cached_property
    def dates(self) -> np.ndarray:
        """Each text as a time in microseconds, in UTC; NaT where it is none, or finer."""
        return parse_dates(np.where(self.is_fine_date, "", self.texts)).astype("datetime64[us]")

    @cached_property
    def has_space(self) -> np.ndarray:
        """Whether each text has a space in it."""
        return np.array([" " in text for text in self.texts], dtype=bool)

    @cached_property
    def lengths(self) -> np.ndarray:
        """How many characters each text has."""
        return np.array([len(text) for text in self.texts], dtype=np.int64)


@dataclass(frozen=True)
class TextCells:
    """One column of a block."""

    block: TextBlock
    place: int = 0

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def codes(self) -> np.ndarray:
        """Which text of the block each cell holds; -1 where it is missing."""
        return np.asarray(self.block.codes[self.place])

    @property
    def is_missing(self) -> np.ndarray:
        return np.asarray(self.codes < 0)

    @cached_property
    def distinct(self) -> np.ndarray:
        """Numbers of the texts that stand in this column."""
        distinct = np.unique(self.codes)
        return distinct[distinct >= 0]

    @property
    def texts(self) -> list[str]:
        """Those texts."""
        return list(self.block.texts[self.distinct])

    def numbers(self) -> np.ndarray:
        """Return float64, NaN where a cell is missing or no number."""
        return np.array(self.block.values[self.place])

    def booleans(self) -> np.ndarray:
        """Return 1.0 and 0.0, NaN where a cell is missing or no truth value."""
        known = {**BOOLEANS, "1": 1.0, "0": 0.0}
        return self.looked_up([known.get(text, np.nan) for text in self.texts], np.nan)

    @cached_property
    def distinct_dates(self) -> np.ndarray:
        """The time that each of `texts` is, in UTC; NaT where it is none."""
        if self.block.is_fine_date[self.distinct].any():
            return parse_dates(self.block.texts[self.distinct])
        return np.asarray(self.block.dates[self.distinct])

    def dates(self) -> np.ndarray:
        """Return times in UTC, NaT where a cell is missing or no time."""
        return self.looked_up(self.distinct_dates, np.datetime64("NaT"))

    def looked_up(self, values: Any, missing: Any) -> np.ndarray:
        """Return for each cell the value given for its text, in the order of `texts`."""
        places = np.where(self.is_missing, len(self.distinct), np.searchsorted(self.distinct, self.codes))
        return np.asarray(np.append(values, missing)[places])


Cells = pd.Series | TextCells


def as_str(values: pd.Series) -> pd.Series:
    """Return cells as text; what a cell of a foreign type raises is a matter of its file."""
    remedy = "convert the cells, or leave the column out (data.drop)"
    with parsing(f"column {quoted(values.name)}", "every cell must be a number or text", remedy):
        return values.astype("str")


def is_text(values: pd.Series) -> bool:
    """Whether cells are text (or categories, or mixed objects), to be parsed."""
    return isinstance(values.dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(values.dtype)


def to_text(values: pd.Series) -> pd.Series:
    """Return cells as text with missing tokens as missing; whole floats without ``.0``."""
    if is_text(values):
        text = as_str(values)
        return text.mask(text.isin(MISSING))
    missing = values.isna()
    if pd.api.types.is_float_dtype(values):
        present = values[~missing].to_numpy(dtype=np.float64)
        if np.all(present == np.floor(present)) and np.all(np.abs(present) < 2**53):
            return values.astype("Int64").astype("str").mask(missing)
    return as_str(values).mask(missing)


def parse_dates(texts: np.ndarray) -> np.ndarray:
    """Return texts as times in UTC, NaT where they are none."""
    written = pd.Series(texts, dtype="str").str.replace("/", "-", regex=False)
    parsed = pd.to_datetime(written, format="ISO8601", errors="coerce", utc=True)
    return parsed.dt.tz_localize(None).to_numpy()


def text_cells(values: Cells) -> TextCells:
    """Return cells as text, whatever they are."""
    if isinstance(values, TextCells):
        return values
    text = as_str(values) if is_text(values) else to_text(values)
    return TextCells(TextBlock(text.to_numpy(dtype=object)[:, None]))


def parsed_cells(values: Cells) -> Cells:
    """Return text as `TextCells`, and numbers and dates as they are."""
    return text_cells(values) if isinstance(values, TextCells) or is_text(values) else values


def column_cells(frame: pd.DataFrame, names: Collection[str]) -> Iterator[tuple[str, Cells]]:
    """Yield the cells of these columns in the order of the frame, of wide tables many columns at a time."""
    wanted = set(names)
    n_together = max(1, _BLOCK_CELLS // max(1, len(frame)))
    for start in range(0, frame.shape[1], n_together):
        part = frame if n_together >= frame.shape[1] else frame.iloc[:, start : start + n_together]
        places = {
            name: place
            for place, (name, dtype) in enumerate(part.dtypes.items())
            if name in wanted and isinstance(dtype, pd.StringDtype)
        }
        block = TextBlock(part.to_numpy(dtype=object)[:, list(places.values())]) if places else None
        place_of = {name: place for place, name in enumerate(places)}
        for name in part.columns:
            if block is not None and name in place_of:
                yield name, TextCells(block, place_of[name])
            elif name in wanted:
                yield name, parsed_cells(part[name])
