"""Text files with separators: encoding, separator and header are found out, not guessed silently.

In:  a path and, where finding out fails, `encoding` and `separator` of `DataOptions`.
Out: a DataFrame of text, each cell exactly as it stands in the file.
"""

from __future__ import annotations

import codecs
import csv
import io
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from stackfeat.data.options import DataOptions
from stackfeat.data.parsing import parsing
from stackfeat.data.phrases import name_values, quoted
from stackfeat.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
_SAMPLE_LINES = 100
_SAMPLE_CHARACTERS = 1_000_000
_NO_TEXT = ("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "unicode-escape")
"""Codecs of single names or of source code; two of them take time by the square of the file."""


def read_csv(path: Path, options: DataOptions) -> pd.DataFrame:
    """Read a text file with a header line; every cell as text, empty cells as ``""``."""
    with parsing(path, "must be a file that can be read", "check its permissions"):
        content = path.read_bytes()
    if not content.strip():
        raise DataError(f"{path}: the file must have a header and rows; got an empty file; check the path")
    encoding = options.encoding or _find_encoding(content)
    text = _decode(path, content, encoding)
    if options.separator is not None:
        _check_separator(path, options.separator)
    head = text[: max(_SAMPLE_CHARACTERS, 2 * _first_line_ends(text))]
    separator = options.separator or find_separator(head)
    header = _read_header(path, head, separator)
    frame = _read_cells(path, content, encoding, separator, header)
    if frame.shape[1] != len(header):
        raise DataError(
            f"{path}: the header must have a name for each column; got {len(header)} names for "
            f"{frame.shape[1]} columns with separator {separator!r}; repair the quotes in the first lines, or set "
            "data.separator"
        )
    frame.columns = pd.Index(header, dtype=object)
    if (frame.iloc[:, -1] == "").any():
        _check_complete(path, text, separator, len(header))
    return frame


def _read_cells(
    path: Path, content: bytes, encoding: str, separator: str, header: Sequence[str]
) -> pd.DataFrame:
    """Return all rows below the header as text."""
    with parsing(path, f"must be readable as text with separator {separator!r}", "repair it"):
        try:
            with warnings.catch_warnings():
                # With index_col=False pandas only warns of rows that are longer than the header.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                return pd.read_csv(
                    io.BytesIO(content),
                    dtype=str,
                    sep=separator,
                    encoding=encoding,
                    keep_default_na=False,
                    index_col=False,
                    skipinitialspace=True,
                    low_memory=False,
                )
        except pd.errors.ParserWarning as error:
            raise DataError(
                f"{path}: every row must have {len(header)} fields, as the header; got longer rows; repair them"
            ) from error


def _find_encoding(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig" if content.startswith(codecs.BOM_UTF8) else "utf-8"


def _decode(path: Path, content: bytes, encoding: str) -> str:
    """Return the text of the whole file, so that a wrong byte is named by its position."""
    try:
        is_text = codecs.lookup(encoding).name not in _NO_TEXT
    except (LookupError, ValueError):
        is_text = False
    if not is_text:
        raise DataError(
            f"{path}: data.encoding must be a known encoding; got {quoted(encoding)}; try latin-1"
        )
    name = "UTF-8" if encoding.startswith("utf-8") else encoding
    with parsing(path, f"the file is not {name}", "set data.encoding, such as latin-1"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError as error:
            wrong = f"byte 0x{content[error.start]:02X} at {error.start}"
            raise DataError(
                f"{path}: the file is not {name} ({wrong}); set data.encoding, such as latin-1"
            ) from error
    if "\0" in text:
        raise DataError(
            f"{path}: holds NUL characters, so it is not {encoding} text; set data.encoding, such as "
            "utf-16-le"
        )
    return text


def _check_separator(path: Path, separator: str) -> None:
    if len(separator) != 1 or not separator.isascii() or separator in '\r\n"\0':
        raise DataError(
            f"{path}: data.separator must be one character, such as ',' or '|', and neither a quote nor the end of "
            f"a line; got {quoted(separator)}; write the file with one of them"
        )


def _first_line_ends(text: str) -> int:
    """Return where the first line that is not empty ends."""
    start = len(text) - len(text.lstrip("\r\n"))
    ends = [end for end in (text.find("\n", start), text.find("\r", start)) if end >= 0]
    return min(ends, default=len(text))


def find_separator(head: str) -> str:
    """Return the separator that divides the first lines most evenly; a comma where none divides them.

    The separator whose field count agrees between most lines wins; among equals, the one that gives
    more fields.
    """
    scores = []
    for rank, separator in enumerate(SEPARATORS):
        widths = Counter(len(fields) for fields in _first_rows(head, separator) if fields)
        if not widths:
            continue
        width, lines = max(widths.items(), key=lambda item: (item[1], item[0]))
        if width > 1:
            scores.append((lines / widths.total(), width, -rank, separator))
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
    # A table written with its row numbers has one empty name, the first.
    if header[0] == "" and header.count("") == 1:
        header[0] = "Unnamed: 0"
    if "" in header:
        raise DataError(
            f"{path}: every column must have a name; column {header.index('') + 1} has none; name it"
        )
    return header


def _check_complete(path: Path, text: str, separator: str, n_columns: int) -> None:
    """Refuse rows with too few fields, which pandas fills up with empty cells.

    Reads the file once more, so it is called only where a last cell is empty.
    """
    with parsing(path, f"must be readable as text with separator {separator!r}", "repair it"):
        widths = [len(row) for row in _rows(text, separator) if row]
    short = [number for number, width in enumerate(widths) if width < n_columns]
    if short:
        raise DataError(
            f"{path}: every row must have {n_columns} fields, as the header; "
            f"got fewer in row {name_values(short)}; repair or complete the file"
        )
