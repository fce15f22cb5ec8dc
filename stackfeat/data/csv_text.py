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
from pathlib import Path

import pandas as pd

from stackfeat.data.options import DataOptions
from stackfeat.data.phrases import name_values
from stackfeat.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
_SAMPLE_LINES = 100
_SAMPLE_CHARACTERS = 1_000_000


def read_csv(path: Path, options: DataOptions) -> pd.DataFrame:
    """Read a text file with a header line; every cell as text, empty cells as ``""``."""
    content = path.read_bytes()
    if not content.strip():
        raise DataError(f"{path}: the file must have a header and rows; got an empty file; check the path")
    encoding = options.encoding or _find_encoding(content)
    head = _decode_head(path, content, encoding)
    separator = options.separator or find_separator(head)
    header = _read_header(path, head, separator)
    try:
        with warnings.catch_warnings():
            # With index_col=False pandas only warns of rows that are longer than the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
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
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError) as error:
        raise DataError(
            f"{path}: must be readable as text with separator {separator!r}; got: {error}; repair it"
        ) from error
    frame.columns = pd.Index(header, dtype=object)
    if (frame.iloc[:, -1] == "").any():
        _check_complete(path, content.decode(encoding), separator, len(header))
    return frame


def _find_encoding(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig" if content.startswith(codecs.BOM_UTF8) else "utf-8"


def _decode_head(path: Path, content: bytes, encoding: str) -> str:
    """Decode everything, so that a wrong byte is named by its position, and return the beginning."""
    try:
        text = content.decode(encoding)
    except LookupError as error:
        raise DataError(
            f"{path}: data.encoding must be a known encoding; got {encoding!r}; try latin-1"
        ) from error
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding.startswith("utf-8") else encoding
        wrong = f"byte 0x{content[error.start]:02X} at {error.start}"
        raise DataError(
            f"{path}: the file is not {name} ({wrong}); set data.encoding, such as latin-1"
        ) from error
    if "\0" in text[:_SAMPLE_CHARACTERS]:
        raise DataError(
            f"{path}: holds NUL characters, so it is not {encoding} text; set data.encoding, such as "
            "utf-16-le"
        )
    return text[:_SAMPLE_CHARACTERS]


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
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=separator, skipinitialspace=True)
    rows = []
    try:
        for row in reader:
            rows.append(row)
            if len(rows) == _SAMPLE_LINES:
                break
    except csv.Error:
        return rows
    # The last row may have been cut by the sample.
    return rows[:-1] if len(head) == _SAMPLE_CHARACTERS and len(rows) > 1 else rows


def _read_header(path: Path, head: str, separator: str) -> list[str]:
    """Return the names as written; pandas would rename a second ``a`` to ``a.1`` without a word."""
    if len(separator) != 1:
        raise DataError(f"{path}: data.separator must be one character; got {separator!r}")
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
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    widths = [len(row) for row in rows if row]
    short = [number for number, width in enumerate(widths) if width < n_columns]
    if short:
        raise DataError(
            f"{path}: every row must have {n_columns} fields, as the header; "
            f"got fewer in row {name_values(short)}; repair or complete the file"
        )
