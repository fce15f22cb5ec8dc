"""Text files of columns: encoding, separator and header are found out, never guessed silently.

In:  a csv, tsv or txt file with a header line.
Out: a DataFrame of texts, empty cells as ``""``.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stackfeat.data.files.format import IS_PART, Format
from stackfeat.data.files.packing import content_of
from stackfeat.data.files.parsing import parsing
from stackfeat.data.files.plain_cells import PlainCells
from stackfeat.data.options import DataOptions
from stackfeat.errors import DataError
from stackfeat.registry.resolve import name_values, quoted

if TYPE_CHECKING:
    import pandas as pd

SEPARATOR = "stackfeat.separator"
"""Which attribute of a frame says what separated its cells."""
SEPARATORS = (",", ";", "\t", "|")
_SAMPLE_LINES = 100
_SAMPLE_CHARACTERS = 1_000_000
_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?")
_HINT = re.compile(r"sep=(.)\1?")
_FIRST_LINE = re.compile(r"[\r\n]*[^\r\n]*")
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
"""Encodings by their byte order mark; that of UTF-16 begins like that of UTF-32."""
_MOST_CELL_LINES = 1_000
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NO_TEXT = ("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "unicode-escape")
"""Codecs of single names or of source code; two of them take time by the square of the file."""


class Csv(Format):
    """Text with a header line; every cell is read as text."""

    suffixes = (".csv", ".tsv", ".txt")
    ambiguous = (".txt",)
    may_be_packed = True

    def names(self, path: Path, options: DataOptions) -> list[str]:
        return _Text.read(path, options).header

    def frame(self, path: Path, options: DataOptions, most_bytes: int | None = None) -> pd.DataFrame:
        import pandas as pd

        text = _Text.read(path, options, most_bytes)
        with text.parsing():
            frame = text.cells()
        if frame.shape[1] != len(text.header):
            raise DataError(
                f"{path}: the header must have a name for each column; got {len(text.header)} names for "
                f"{frame.shape[1]} columns with separator {text.separator!r}; repair the quotes in the first "
                "lines, or set data.separator"
            )
        frame.columns = pd.Index(text.header, dtype=object)
        frame.attrs[SEPARATOR], frame.attrs[IS_PART] = text.separator, text.is_part
        if (frame.iloc[:, -1] == "").any():
            text.check_complete()
        return frame

    def plain(self, path: Path) -> PlainCells | None:
        text = _Text.read(path, DataOptions(train=str(path)))
        is_usual = text.encoding == "utf-8" and len(set(text.header)) == len(text.header)
        return PlainCells.of(text.content, text.separator, text.header) if is_usual else None


@dataclass(frozen=True)
class _Text:
    """A text file that has been read and decoded, but for its rows."""

    path: Path
    content: bytes
    encoding: str
    text: str
    separator: str
    header: list[str]
    is_part: bool = False

    @classmethod
    def read(cls, path: Path, options: DataOptions, most_bytes: int | None = None) -> _Text:
        whole = content_of(path)
        is_wide = (options.encoding or "").lower().startswith(("utf-16", "utf_16", "utf-32", "utf_32"))
        content = whole if is_wide else first_lines(whole, most_bytes)
        found = (name for mark, name in _MARKS.items() if content.startswith(mark))
        encoding = options.encoding or next(found, "utf-8")
        text = _decode(path, content, encoding) if content.strip() else ""
        if options.separator is not None:
            _check_separator(path, options.separator)
        first_line = next(_FIRST_LINE.finditer(text))
        head = text[: max(_SAMPLE_CHARACTERS, 2 * first_line.end())]
        separator = options.separator or find_separator(head)
        is_part = len(content) < len(whole)
        return cls(path, content, encoding, text, separator, _read_header(path, head, separator), is_part)

    def parsing(self) -> AbstractContextManager[None]:
        must = f"must be readable as text with separator {self.separator!r}"
        return parsing(self.path, must, "repair it")

    def cells(self) -> pd.DataFrame:
        """Return all rows below the header as text."""
        import pandas as pd

        try:
            with warnings.catch_warnings():
                # With index_col=False pandas only warns of rows that are longer than the header.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                return pd.read_csv(
                    io.BytesIO(self.content),
                    # Arrow would copy every text, and every text back where cells are parsed.
                    dtype=pd.StringDtype("python", na_value=np.nan),
                    sep=self.separator,
                    encoding=self.encoding,
                    keep_default_na=False,
                    index_col=False,
                    skipinitialspace=self.has_spaced_quotes,
                    low_memory=False,
                )
        except pd.errors.ParserWarning as error:
            if len(self.header) == 1:
                raise DataError(
                    f"{self.path}: the first line must be the header; got {quoted(self.header[0])}; remove it"
                ) from error
            raise DataError(
                f"{self.path}: every row must have {len(self.header)} fields, as the header; got longer rows; "
                "repair them"
            ) from error

    @property
    def has_spaced_quotes(self) -> bool:
        """Whether a quoted cell has spaces before it; only then are spaces there no part of cells."""
        spaced = rf"(?:^|{re.escape(self.separator)}) +\""
        return ' "' in self.text and re.search(spaced, self.text, re.MULTILINE) is not None

    def check_complete(self) -> None:
        """Refuse rows with too few fields, which pandas fills up with empty cells.

        Reads the file once more, so it is called only where a last cell is empty.
        """
        with self.parsing():
            widths = [len(row) for row in _rows(self.text, self.separator) if row]
        short = [number for number, width in enumerate(widths) if width < len(self.header)]
        if short:
            raise DataError(
                f"{self.path}: every row must have {len(self.header)} fields, as the header; got fewer in row "
                f"{name_values(short)}; repair or complete the file"
            )


def first_lines(content: bytes, most_bytes: int | None) -> bytes:
    """Return the first lines of a text of more than `most_bytes`, all of another."""
    if most_bytes is None or len(content) <= most_bytes or content.startswith(_WIDE_MARKS):
        return content
    end = most_bytes
    for _ in range(_MOST_CELL_LINES):
        end = content.rfind(b"\n", 0, end)
        # A line may end within quotes.
        if end < 0 or content.count(b'"', 0, end) % 2 == 0:
            break
    return content if end < 0 else content[: end + 1]


def _decode(path: Path, content: bytes, encoding: str) -> str:
    """Return the text of the whole file, so that a wrong byte is named by its position."""
    is_text = False
    with suppress(LookupError, ValueError):
        is_text = codecs.lookup(encoding).name not in _NO_TEXT
    if not is_text:
        raise DataError(
            f"{path}: data.encoding must be a known encoding; got {quoted(encoding)}; try cp1252 or latin-1"
        )
    name = "UTF-8" if encoding.startswith("utf-8") else encoding
    with parsing(path, f"the file is not {name}", "set data.encoding, such as cp1252 or latin-1"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError as error:
            wrong = f"byte 0x{content[error.start]:02X} at {error.start}"
            raise DataError(
                f"{path}: the file is not {name} ({wrong}); set data.encoding, such as cp1252 or latin-1"
            ) from error
    if "\0" in text:
        raise DataError(
            f"{path}: holds NUL characters, so it is not {encoding} text; set data.encoding, such as utf-16-le"
        )
    return text


def _check_separator(path: Path, separator: str) -> None:
    if len(separator) != 1 or not separator.isascii() or separator in '\r\n"\0':
        raise DataError(
            f"{path}: data.separator must be one character, such as ',' or '|', and neither a quote nor the end of "
            f"a line; got {quoted(separator)}; write the file with one of them"
        )


def find_separator(head: str) -> str:
    """Return the separator that divides the first lines most evenly; a comma where none divides them.

    The separator whose field count agrees between most lines wins; among equals, the one that leaves more of the
    cells numbers, for a comma may stand within them; then the one that gives more fields.
    """
    scores = []
    for rank, separator in enumerate(SEPARATORS):
        rows = [fields for fields in _first_rows(head, separator) if fields]
        widths = Counter(map(len, rows))
        width, lines = max(widths.items(), key=lambda item: (item[1], item[0]), default=(0, 0))
        if width > 1:
            cells = [cell for fields in rows[1:] for cell in fields]
            n_numbers = sum(_NUMBER.fullmatch(cell.strip()) is not None for cell in cells)
            scores.append((lines / widths.total(), n_numbers / max(1, len(cells)), width, -rank, separator))
    return max(scores)[-1] if scores else ","


def _first_rows(head: str, separator: str) -> list[list[str]]:
    rows = []
    with suppress(csv.Error):
        for row in _rows(head, separator):
            rows.append(row)
            if len(rows) == _SAMPLE_LINES:
                return rows
    # The last row may have been cut by the sample.
    return rows[:-1] if len(head) >= _SAMPLE_CHARACTERS and len(rows) > 1 else rows


def _rows(text: str, separator: str) -> Iterator[list[str]]:
    """Yield rows of any length of cell; the limit of the csv module is meant for streams."""
    limit = csv.field_size_limit(max(len(text), 1))
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    finally:
        csv.field_size_limit(limit)


def _read_header(path: Path, head: str, separator: str) -> list[str]:
    """Return the names as written; pandas would rename a second ``a`` to ``a.1`` without a word."""
    rows = [row for row in _first_rows(head.removeprefix("\ufeff"), separator) if row]
    if not rows:
        raise DataError(f"{path}: the file must have a header and rows; got an empty file; check the path")
    header = [name.strip() for name in rows[0]]
    if _HINT.fullmatch(separator.join(header)):
        got = f"{quoted(separator.join(header))}, a word to Excel"
        raise DataError(f"{path}: the first line must be the header; got {got}; remove it")
    # A table written with its row numbers has one empty name, the first.
    if header[0] == "" and header.count("") == 1:
        header[0] = "Unnamed: 0"
    if "" in header:
        raise DataError(f"{path}: columns must have names; column {header.index('') + 1} has none; name it")
    return header
