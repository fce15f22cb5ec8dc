"""Read npy files that somebody else may have made: the header is believed only where the bytes bear it out.

numpy allocates what a header says before it looks whether the rows are there, so a file of a hundred
bytes can ask for more memory than there is.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import IO, Any

import numpy as np

from stackfeat.errors import StructureError

MOST_DIMENSIONS = 32
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


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


def check_header(file: IO[bytes], size: int, where: str) -> None:
    """Raise StructureError unless a file of `size` bytes holds what its header says."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in _READERS:
            raise ValueError(f"version {version}")
        reader: Any = _READERS[version]
        shape, _, dtype = reader(file)
    except Exception as error:
        raise StructureError(f"{where} must be a npy file; got {_short(error)}") from error
    if dtype.hasobject:
        raise StructureError(f"{where} must hold numbers or text, no Python objects; got dtype {dtype}")
    if len(shape) > MOST_DIMENSIONS or any(length < 0 for length in shape) or not dtype.itemsize:
        raise StructureError(f"{where} must have a shape; got {_short(shape)} of {dtype}")
    wanted, found = math.prod(shape) * dtype.itemsize, size - file.tell()
    if wanted != found:
        raise StructureError(
            f"{where} must have the {_short(shape)} numbers its header says; got {found} bytes"
        )


def _short(value: object) -> str:
    text = str(value).partition("\n")[0]
    return text if len(text) <= 100 else f"{text[:100]}..."
