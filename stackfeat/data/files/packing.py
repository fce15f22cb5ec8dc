"""Packed files: which suffixes say so, and their content, unpacked in memory within limits.

In:  the path of a file such as ``train.csv.gz``.
Out: its bytes as they were before packing; nothing is written anywhere. Formats that read bytes read them by
     `content_of`, so that no format knows of packing.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import importlib.util
import io
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from stackfeat.data.files.parsing import parsing
from stackfeat.errors import DataError, MissingExtraError
from stackfeat.registry.resolve import quote_values

MOST_BYTES = 20 * 10**9
"""No file is unpacked to more than this, or than the memory of the machine."""
SMALL_BYTES, MOST_TIMES = 2**28, 300
"""Beyond so many bytes a file must not unpack to more than so many times its size."""
_CHUNK, _PIECE = 2**22, 2**10
_LARGEST_WINDOW = 2**27
_NO_DATA = "__MACOSX/"


def _zip(file: IO[bytes], path: Path) -> Any:
    archive = zipfile.ZipFile(file)
    members = [
        one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith(_NO_DATA)
    ]
    if len(members) != 1:
        got = quote_values(one.filename for one in members) or "none"
        raise DataError(f"{path}: a zip file must hold one file; got {got}; pack the data file alone")
    return archive.open(members[0])


class _Zstd:
    """Unpacks by the package `zstandard`, whose own reader takes a file that was cut off for a whole one."""

    def __init__(self, file: IO[bytes], zstandard: Any) -> None:
        self.file, self.packed = file, b""
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        self.frame: Any = None

    def __enter__(self) -> _Zstd:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def read(self, size: int) -> bytes:
        """Return some bytes, b"" at the end; a piece is so small that even zeros alone are not many MB."""
        while True:
            self.packed = self.packed or self.file.read(_PIECE)
            if not self.packed:
                if self.frame is not None:
                    raise EOFError("the file ends before its content does")
                return b""
            self.frame = self.frame or self.decompressor.decompressobj()
            unpacked: bytes = self.frame.decompress(self.packed)
            self.packed = self.frame.unused_data
            if self.frame.eof:
                self.frame = None
            if unpacked:
                return unpacked


def _zstd(file: IO[bytes], path: Path) -> Any:
    with suppress(ImportError):
        return importlib.import_module("compression.zstd").ZstdFile(file)
    if importlib.util.find_spec("zstandard") is None:
        remedy = "install it with: pip install 'stackfeat[zstd]'"
        raise MissingExtraError(f"{path}: unpacking zst needs zstandard; {remedy}")
    return _Zstd(file, importlib.import_module("zstandard"))


PACKINGS: dict[str, Callable[[IO[bytes], Path], Any]] = {
    ".gz": lambda file, path: gzip.GzipFile(fileobj=file),
    ".zip": _zip,
    ".bz2": lambda file, path: bz2.BZ2File(file),
    ".zst": _zstd,
}
"""By suffix: from an open file to one that gives its content."""


def unpacked_name(name: str | Path) -> Path:
    """Return the name that a file had before it was packed.

    Examples
    --------
    >>> unpacked_name("train.csv.gz").name, unpacked_name("train.csv").name
    ('train.csv', 'train.csv')
    """
    path = Path(name)
    return path.with_suffix("") if path.suffix.lower() in PACKINGS else path


def content_of(path: Path) -> bytes:
    """Return the bytes of a file, unpacked where its suffix says that it is packed.

    Raises
    ------
    DataError
        If it cannot be read or unpacked, holds no or several files, or unpacks to more than it may.
    MissingExtraError
        If what unpacking needs is not installed.
    """
    opened = PACKINGS.get(path.suffix.lower())
    if opened is None:
        with parsing(path, "must be a file that can be read", "check its permissions"):
            return path.read_bytes()
    most = _most_bytes(path)
    unpacked = io.BytesIO()
    must = f"must be a whole {path.suffix.lower()[1:]} file"
    with (
        parsing(path, must, "pack it again, or unpack it"),
        path.open("rb") as file,
        opened(file, path) as packed,
    ):
        while chunk := packed.read(_CHUNK):
            unpacked.write(chunk)
            if unpacked.tell() > most:
                raise DataError(
                    f"{path}: must not unpack to more than {most:,} bytes; got more from {path.stat().st_size:,} "
                    "packed ones; unpack it yourself if you trust it"
                )
    return unpacked.getvalue()


def _most_bytes(path: Path) -> int:
    most = MOST_BYTES
    with suppress(OSError, ValueError):
        most = min(most, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(most, max(SMALL_BYTES, MOST_TIMES * path.stat().st_size))
