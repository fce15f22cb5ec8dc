"""One file in, one DataFrame out; the suffix says the format.

In:  a path to csv, tsv, txt, parquet, feather or npz, or ``sklearn:NAME``.
Out: a DataFrame with distinct, named columns. Text formats give every cell as text, so ids such as ``007`` stay as
     they are; their encoding, separator and header are found out, never guessed silently.
"""

from __future__ import annotations

import codecs
import csv
import importlib.util
import io
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from stackfeat.data.files.array_files import array_inputs_of, read_npz_frame
from stackfeat.data.files.parsing import parsing
from stackfeat.data.messages import name_values, quote_values
from stackfeat.data.options import DataOptions
from stackfeat.errors import DataError, MissingExtraError
from stackfeat.registry.resolve import quoted, suggest

if TYPE_CHECKING:
    from collections.abc import Callable

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


Part = Literal["train", "test"]

BUILTIN = "sklearn:"

BUILTIN_SETS = ("digits", "iris", "wine", "breast_cancer", "diabetes")


def read_frame(path: Path | str, options: DataOptions, part: Part = "train") -> pd.DataFrame:
    """Read one file.

    Parameters
    ----------
    path : Path or str
        A file, or ``sklearn:digits`` (iris, wine, breast_cancer, diabetes): 75 % of its rows are the
        training part, 25 % the test part, always the same ones.
    options : DataOptions
        `encoding` and `separator` of text files; `id` and `target` name the columns of npz files and
        built-in sets.
    part : {"train", "test"}
        Which part of a built-in set.

    Returns
    -------
    DataFrame
        Text formats: dtype ``str`` everywhere.

    Raises
    ------
    DataError
        If the file cannot be read, is empty, or has duplicate column names.
    MissingExtraError
        If parquet or feather is read without pyarrow.
    """
    if str(path).startswith(BUILTIN):
        return _read_builtin(str(path), options, part)
    path = Path(path)
    readers: dict[str, Callable[[Path, DataOptions], pd.DataFrame]] = {
        ".csv": read_csv,
        ".tsv": read_csv,
        ".txt": read_csv,
        ".parquet": _read_arrow,
        ".feather": _read_arrow,
        ".npz": read_npz_frame,
    }
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise DataError(
            f"{path}: the suffix must be one of {', '.join(readers)}; got {quoted(suffix)}; convert the file"
        )
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or device"
        raise DataError(f"{path}: data must be a regular file; got {what}; name a file")
    if not path.is_file():
        near = [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else []
        raise DataError(f"{path}: there is no such file.{suggest(path.name, near)}")
    frame = readers[suffix](path, options)
    frame.columns = pd.Index([str(name) for name in frame.columns], dtype=object)
    doubled = frame.columns[frame.columns.duplicated()].unique()
    if len(doubled):
        raise DataError(
            f"{path}: column names must differ; got more than one {quote_values(doubled)}; rename them"
        )
    with parsing(path, "must hold text that can be read", "write it again"):
        _check_texts(frame)
    if len(frame) == 0 or (frame.shape[1] == 0 and not array_inputs_of(options)):
        raise DataError(
            f"{path}: the file must have rows; got {len(frame)} rows, {frame.shape[1]} columns; check the "
            "path"
        )
    return frame


def _read_arrow(path: Path, options: DataOptions) -> pd.DataFrame:
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError(
            f"{path}: reading {path.suffix[1:]} needs pyarrow; install it with: pip install "
            "'stackfeat[parquet]'"
        )
    with parsing(path, f"must be a readable {path.suffix[1:]} file", "write it again", states_sizes=True):
        frame = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else pd.read_feather(path)
        named = [name for name in frame.index.names if name is not None]
        return frame.reset_index() if named else frame.reset_index(drop=True)


def _check_texts(frame: pd.DataFrame) -> None:
    """Look at every text now: a damaged one would raise where it is first used."""
    if importlib.util.find_spec("pyarrow") is None:
        return
    import pyarrow

    for name, dtype in frame.dtypes.items():
        if isinstance(dtype, pd.StringDtype):
            pyarrow.array(frame[name].array).validate(full=True)


def _read_builtin(name: str, options: DataOptions, part: Part) -> pd.DataFrame:
    from sklearn import datasets

    known = name.removeprefix(BUILTIN)
    if known not in BUILTIN_SETS:
        raise DataError(
            f"{name}: must be one of sklearn:{', sklearn:'.join(BUILTIN_SETS)}.{suggest(known, BUILTIN_SETS)}"
        )
    bunch = getattr(datasets, f"load_{known}")()
    frame = pd.DataFrame(bunch.data, columns=[str(feature) for feature in bunch.feature_names])
    frame[options.target] = bunch.target
    if options.id is not None:
        frame.insert(0, options.id, np.arange(len(frame)))
    # RandomState's permutation is frozen by numpy's compatibility policy; Generator's is not.
    shuffled = np.random.RandomState(0).permutation(len(frame))
    n_train = round(0.75 * len(frame))
    rows = np.sort(shuffled[:n_train] if part == "train" else shuffled[n_train:])
    return frame.iloc[rows].reset_index(drop=True)
