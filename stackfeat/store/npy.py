"""Read npy files that somebody else may have made: the header is believed only where the bytes bear it out.

numpy allocates what a header says before it looks whether the rows are there, so a file of a hundred
bytes can ask for more memory than there is.
"""

from __future__ import annotations

import ast
import io
import math
import operator
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from stackfeat.errors import StructureError

MOST_DIMENSIONS = 32
LONGEST_HEADER = 10_000
_MAGIC = b"\x93NUMPY"
_READERS: dict[int, Any] = {
    1: np.lib.format.read_array_header_1_0,
    2: np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Header:
    """Shape and type of an array that has not been read."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]


def load_npy(path: Path, where: str, *, mmap: bool = False) -> np.ndarray:
    """Return the array of a npy file of which every byte is accounted for.

    Raises
    ------
    StructureError
        If it is no such file, holds Python objects, or is longer or shorter than its header says.
    """
    with path.open("rb") as file:
        check_header(file, path.stat().st_size, where)
        if not mmap:
            file.seek(0)
            array: np.ndarray = np.load(file, allow_pickle=False)
            return array
    mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def parse_npy(data: bytes, where: str) -> np.ndarray:
    """Return the array of the bytes of a npy file; as `load_npy`."""
    check_header(io.BytesIO(data), len(data), where)
    array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def to_native(array: np.ndarray) -> np.ndarray:
    """Return an array in the byte order of this machine, which compiled code asks for; a mapped one stays on disk."""
    if array.dtype.isnative:
        return array
    dtype = array.dtype.newbyteorder("=")
    if not isinstance(array, np.memmap):
        return array.astype(dtype)
    with tempfile.TemporaryFile(prefix="stackfeat-") as file:
        np.memmap(file, dtype=dtype, mode="w+", shape=array.shape)[...] = array
        return np.memmap(file, dtype=dtype, mode="r", shape=array.shape)


def check_header(file: IO[bytes], size: int, where: str) -> None:
    """Raise StructureError unless a file of `size` bytes holds what its header says."""
    header = read_header(file, where)
    if header.dtype.hasobject:
        raise StructureError(
            f"{where} must hold numbers or text, no Python objects; got dtype {_short(header.dtype)}"
        )
    check_size(header, size - file.tell(), where)


def read_header(file: IO[bytes], where: str) -> Header:
    """Return what the beginning of a npy file says; the file then stands where its numbers begin.

    Raises
    ------
    StructureError
        If it is no such file.
    """
    try:
        start = file.read(10)
        version = start[len(_MAGIC)] if start.startswith(_MAGIC) and len(start) == 10 else 0
        start += file.read(2 if version > 1 else 0)
        # numpy reads as many bytes as a header says it has before it finds that too long.
        length = int.from_bytes(start[8:], "little")
        if version not in (1, 2, 3) or length > LONGEST_HEADER:
            raise ValueError("no header of numpy")
        return _parsed(version, start[8:] + file.read(length))
    except Exception as error:
        raise StructureError(f"{where} must be a npy file; got {_short(error)}") from error


@lru_cache(maxsize=256)
def _parsed(version: int, data: bytes) -> Header:
    """Return the header in its length and its text; models hold hundreds of arrays with few different headers."""
    if version == 3:
        return _header_of_text(data[4:])
    return Header(*_READERS[version](io.BytesIO(data)))


def _header_of_text(text: bytes) -> Header:
    """Return the header of version 3, for names of columns beyond latin-1, which numpy has no function for."""
    values = ast.literal_eval(text.decode("utf-8"))
    return Header(
        tuple(map(operator.index, values["shape"])),
        bool(values["fortran_order"]),
        np.lib.format.descr_to_dtype(values["descr"]),
    )


def check_size(header: Header, n_bytes: int, where: str) -> None:
    """Raise StructureError unless an array has as many bytes as its header says."""
    shape, dtype = header.shape, header.dtype
    if len(shape) > MOST_DIMENSIONS or any(length < 0 for length in shape) or not dtype.itemsize:
        raise StructureError(f"{where} must have a shape; got {_short(shape)} of {_short(dtype)}")
    if math.prod(shape) * dtype.itemsize != n_bytes:
        raise StructureError(
            f"{where} must have the {_short(shape)} numbers its header says; got {n_bytes} bytes"
        )


def _short(value: object) -> str:
    text = str(value).partition("\n")[0]
    return text if len(text) <= 100 else f"{text[:100]}..."
