"""Cells of text columns, many columns at a time: what a text says is found out once for each text.

In:  columns of a frame.
Out: for every column `TextCells`, or the column itself where its file already gave numbers or dates.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from stackfeat.data.files.notation import MISSING, PLAIN, Notation
from stackfeat.data.files.parsing import parsing
from stackfeat.registry.resolve import quoted

BOOLEANS = {"True": 1.0, "true": 1.0, "TRUE": 1.0, "False": 0.0, "false": 0.0, "FALSE": 0.0}
DATE_PATTERN = r"\d{4}[-/]\d{2}[-/]\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?"

_BLOCK_CELLS = 2**22
EXACT = 2.0**53


class TextBlock:
    """Columns of text side by side, as numbers of their distinct texts.

    Attributes
    ----------
    texts : ndarray of object
        Every text that stands in a cell, without spaces around it, tokens for missing values included.
    written : ndarray of shape (n_columns, n_rows)
        Which text each cell holds; -1 where the file has none.
    codes : ndarray of shape (n_columns, n_rows)
        The same, -1 also where the text stands for a missing value.
    """

    def __init__(self, cells: np.ndarray, notation: Notation = PLAIN) -> None:
        codes, texts = pd.factorize(cells.T.ravel())
        bare = list(map(str.strip, texts))
        if any(map(operator.is_not, bare, texts)):
            places, texts = pd.factorize(np.array([*bare, ""], dtype=object)[:-1])
            codes = np.append(places, -1)[codes]
        self._set(np.asarray(texts, dtype=object), codes.reshape(cells.shape[1], len(cells)), notation)

    def _set(self, texts: np.ndarray, written: np.ndarray, notation: Notation) -> None:
        self.texts, self.written, self.notation = texts, written, notation
        is_token = pd.Index(texts, dtype=object).isin(notation.missing)
        if notation.missing_numbers:
            is_token = is_token | np.isin(self.numbers, notation.missing_numbers)
        self.is_token = is_token
        self.codes: np.ndarray = np.where(np.append(is_token, True)[written], -1, written)

    def one_column(self, place: int, notation: Notation) -> TextBlock:
        """Return a column alone, read in another notation."""
        block = TextBlock.__new__(TextBlock)
        found, codes = np.unique(self.written[place], return_inverse=True)
        is_absent = int(len(found) > 0 and found[0] < 0)
        block._set(self.texts[found[is_absent:]], (codes - is_absent)[None, :], notation)
        return block

    @cached_property
    def numbers(self) -> np.ndarray:
        """Each text as float64, NaN where it is no number."""
        texts: list[str | None] = self.texts.tolist()
        if not self.notation.is_plain:
            texts = self.notation.plain_texts(self.texts)
        parsed = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce")
        numbers = np.array(parsed.to_numpy(dtype=np.float64, na_value=np.nan))
        for place in np.flatnonzero(np.isfinite(numbers) & (np.abs(numbers) >= EXACT)):
            # pandas rounds long whole numbers twice where anything but whole numbers stands in a column.
            text = str(texts[place]).strip()
            numbers[place] = float(text) if text.lstrip("+-").isdecimal() else numbers[place]
        return numbers

    @cached_property
    def is_rounded(self) -> np.ndarray:
        """Whether each text is a whole number so long that a float may not hold it."""
        found = np.abs(self.numbers) >= EXACT
        found[found] = [str(text).lstrip("+-").isdecimal() for text in self.texts[found]]
        return np.asarray(found)

    @cached_property
    def has_padded(self) -> bool:
        """Whether some text is padded; cheaper than to ask for those of a column."""
        return bool(self.is_padded.any())

    @cached_property
    def has_rounded(self) -> bool:
        """The same of long whole numbers."""
        return bool(self.is_rounded.any())

    @cached_property
    def is_padded(self) -> np.ndarray:
        """Whether each text is made of three digits or more, of which the first is a zero."""
        return np.array(
            [len(text) > 2 and text[0] == "0" and text.isdecimal() for text in self.texts], dtype=bool
        )

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
        """Whether each text is a truth value; ``1`` and ``0`` are where words stand beside them."""
        return np.asarray(pd.Index(self.texts, dtype=object).isin([*BOOLEANS, "1", "0"]))

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
    name: str = ""

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def codes(self) -> np.ndarray:
        """Which text of the block each cell holds; -1 where it is missing."""
        return np.asarray(self.block.codes[self.place])

    def under(self, notation: Notation) -> TextCells:
        """Return the cells as they are read in another notation."""
        return replace(self, block=self.block.one_column(self.place, notation), place=0)

    def counts(self) -> dict[str, int]:
        """Return in how many cells each text stands that is not missing."""
        return self._counted(self.codes)

    def missing_counts(self) -> dict[str, int]:
        """Return in how many cells each text stands that was taken for a missing value; "" is no text."""
        if not self.block.is_token.any():
            return {}
        found = self._counted(np.where(self.is_missing, self.block.written[self.place], -1))
        return {text: n for text, n in found.items() if text}

    def _counted(self, codes: np.ndarray) -> dict[str, int]:
        places, counts = np.unique(codes[codes >= 0], return_counts=True)
        return dict(zip(self.block.texts[places].tolist(), counts.tolist(), strict=True))

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
        text = as_str(values).str.strip()
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


def text_cells(values: Cells, notation: Notation = PLAIN) -> TextCells:
    """Return cells as text, whatever they are."""
    if isinstance(values, TextCells):
        return values
    text = as_str(values) if is_text(values) else to_text(values)
    return TextCells(TextBlock(text.to_numpy(dtype=object)[:, None], notation), name=str(values.name))


def parsed_cells(values: Cells, notation: Notation = PLAIN) -> Cells:
    """Return text as `TextCells`, and numbers and dates as they are, but for numbers that stand for missing ones."""
    if isinstance(values, TextCells) or is_text(values):
        return text_cells(values, notation)
    if notation.missing_numbers and pd.api.types.is_numeric_dtype(values):
        return values.mask(values.isin(notation.missing_numbers))
    return values


def column_cells(frame: pd.DataFrame, notations: Mapping[str, Notation]) -> Iterator[tuple[str, Cells]]:
    """Yield the cells of these columns in the order of the frame, of wide tables many columns at a time."""
    n_together = max(1, _BLOCK_CELLS // max(1, len(frame)))
    for start in range(0, frame.shape[1], n_together):
        part = frame if n_together >= frame.shape[1] else frame.iloc[:, start : start + n_together]
        together: dict[Notation, list[tuple[str, int]]] = {}
        for place, (name, dtype) in enumerate(part.dtypes.items()):
            if name in notations and isinstance(dtype, pd.StringDtype):
                together.setdefault(notations[str(name)], []).append((str(name), place))
        read = dict(_block_cells(part, together))
        for name in part.columns:
            if name in read:
                yield name, read[name]
            elif name in notations:
                yield name, parsed_cells(part[name], notations[name])


def _block_cells(
    frame: pd.DataFrame, together: Mapping[Notation, Sequence[tuple[str, int]]]
) -> Iterator[tuple[str, TextCells]]:
    """Yield the cells of text columns, those of one notation from one block."""
    cells = frame.to_numpy(dtype=object) if together else None
    for notation, columns in together.items():
        assert cells is not None
        block = TextBlock(cells[:, [place for _, place in columns]], notation)
        yield from ((name, TextCells(block, index, name)) for index, (name, _) in enumerate(columns))
