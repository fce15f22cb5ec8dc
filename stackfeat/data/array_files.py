"""Arrays in npz and npy files: what is in them, read without running anything they hold.

In:  the path of a npz file (named arrays) or npy file.
Out: shapes and types at once, values when asked for; large ones stay on disk.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from stackfeat.data.lazy import is_large
from stackfeat.data.options import DataOptions
from stackfeat.data.phrases import name_values
from stackfeat.errors import DataError
from stackfeat.registry.resolve import suggest

ROLES = ("id", "target", "group", "time", "weight", "fold")
_UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    AttributeError,
    TypeError,
    NotImplementedError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class Header:
    """Shape and type of an array that has not been read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class ArchiveFile:
    """A npz file.

    Attributes
    ----------
    path : Path
    headers : dict of str to Header
        Every array by name.
    """

    path: Path
    headers: dict[str, Header]

    @classmethod
    def open(cls, path: Path) -> ArchiveFile:
        """Read the headers.

        Raises
        ------
        DataError
            If it is no npz file.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                headers = {}
                for name in archive.namelist():
                    with archive.open(name) as member:
                        headers[name.removesuffix(".npy")] = read_header(member)
        except _UNREADABLE as error:
            raise DataError(
                f"{path}: must be an npz file of plain arrays; got: {error}; write it with numpy.savez"
            ) from error
        return cls(path, headers)

    def header(self, name: str, what: str) -> Header:
        """Return what is known of an array.

        Raises
        ------
        DataError
            If there is no such array, or it holds Python objects.
        """
        if name not in self.headers:
            raise DataError(
                f"{self.path}: {what} must be an array of the file; got {name!r}; arrays are "
                f"{name_values(self.headers) or 'none'}.{suggest(name, self.headers)}"
            )
        header = self.headers[name]
        if header.dtype.hasobject:
            raise DataError(
                f"{self.path}: array {name!r} must hold numbers or text of fixed width; got Python objects, "
                "which are never read, because that can run code; write plain arrays, sequences of different "
                "lengths end to end beside an array of their lengths"
            )
        return header

    def read(self, name: str, what: str, *, mapped: bool | None = False) -> np.ndarray:
        """Return an array; with `mapped` (None: where it is large) as a memory-mapped temporary file."""
        header = self.header(name, what)
        if mapped is None:
            mapped = is_large(1, header.shape)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as member:
                if mapped and header.dtype.kind in "biuf" and 0 not in header.shape:
                    return _mapped_copy(member, header)
                values: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
                return values
        except _UNREADABLE as error:
            raise DataError(
                f"{self.path}: array {name!r} must be readable; got: {error}; write the file again with "
                "numpy.savez"
            ) from error


def read_header(stream: IO[bytes]) -> Header:
    """Return shape and type from the first bytes of a npy file."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    return Header(shape, dtype)


def _mapped_copy(member: IO[bytes], header: Header) -> np.ndarray:
    """Unpack an array into a temporary file that is gone when nobody uses it any more."""
    with tempfile.TemporaryFile(prefix="stackfeat-") as file:
        shutil.copyfileobj(member, file, 2**22)
        file.seek(0)
        version = np.lib.format.read_magic(file)
        reader = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = reader(file)
        order: Any = "F" if is_fortran else "C"
        return np.memmap(file, dtype=dtype, mode="r", offset=file.tell(), shape=shape, order=order)


def read_npy(path: Path, what: str, *, mapped: bool | None = None) -> np.ndarray:
    """Return the array of a npy file, memory-mapped where it is large.

    Raises
    ------
    DataError
        If there is no such file, or it holds anything but plain numbers or text.
    """
    if not path.is_file():
        near = [other.name for other in path.parent.glob("*.npy")] if path.parent.is_dir() else []
        raise DataError(f"{what}: there is no file {path}.{suggest(path.name, near)}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except _UNREADABLE as error:
        raise DataError(
            f"{path}: must be a npy file of plain numbers; got: {error}; write it with numpy.save"
        ) from error
    if mapped is None:
        mapped = is_large(1, array.shape)
    return array if mapped else np.array(array)


def read_npz_frame(path: Path, options: DataOptions) -> pd.DataFrame:
    """Return the one-dimensional arrays of a npz file as columns, and those of a two-dimensional ``X``.

    ``y`` stands for the target, and ``id`` for the id, where the file has no array of their names.
    Arrays that are inputs of their own are left out.
    """
    archive = ArchiveFile.open(path)
    claimed = _claimed(archive, options)
    n_rows = _count_rows(archive, options)
    columns: dict[str, Any] = {}
    if "X" in archive.headers and "X" not in claimed:
        X = _plain_X(archive, options)
        columns = {f"x{j}": X[:, j] for j in range(X.shape[1])}
    aliases = {"y": options.target, "id": options.id or "id"}
    named = {getattr(options, role) for role in ROLES}
    for name, header in archive.headers.items():
        column = aliases.get(name, name) if aliases.get(name) not in archive.headers else name
        if name in claimed or (name == "X" and columns):
            continue
        if header.shape == (n_rows,):
            columns[column] = archive.read(name, f"array {name!r}")
        elif column in named:
            raise DataError(
                f"{path}: {name} must have one value for each of {n_rows} rows; got shape {header.shape}"
            )
    return pd.DataFrame(columns, index=pd.RangeIndex(n_rows))


def array_inputs_of(options: DataOptions) -> dict[str, str]:
    """Return the arrays that inputs name, by input."""
    return {name: given.array for name, given in (options.inputs or {}).items() if given.array is not None}


def _claimed(archive: ArchiveFile, options: DataOptions) -> set[str]:
    arrays = set(array_inputs_of(options).values())
    lengths = {given.lengths for given in (options.inputs or {}).values() if given.lengths is not None}
    return (arrays | lengths) & set(archive.headers)


def _count_rows(archive: ArchiveFile, options: DataOptions) -> int:
    """How many samples there are: one for each length of a ragged input, or each row of an array."""
    if "is_test" in archive.headers:
        raise DataError(
            f"{archive.path}: holds both training and test rows ('is_test'); write them into two files "
            "without it"
        )
    for name, given in (options.inputs or {}).items():
        if given.array is None or given.array.endswith(".npy"):
            continue
        what = f"data.inputs.{name}.array"
        header = archive.header(given.array, what)
        if given.lengths is not None:
            header = archive.header(given.lengths, f"data.inputs.{name}.lengths")
        if not header.shape:
            raise DataError(f"{archive.path}: {what} must have a row per sample; got one number")
        return header.shape[0]
    if "X" in archive.headers:
        shape = archive.header("X", "X").shape
        return shape[0] if shape else 0
    if options.inputs is None:
        raise DataError(
            f"{archive.path}: must hold a 2-D array 'X'; got arrays {name_values(map(repr, archive.headers))}; "
            "rename one to X, or name inputs: data.inputs: {NAME: {array: ARRAY}}"
        )
    sizes = [header.shape[0] for header in archive.headers.values() if header.shape]
    return max(sizes, default=0)


def _plain_X(archive: ArchiveFile, options: DataOptions) -> np.ndarray:
    X = archive.read("X", "X")
    if X.ndim != 2 and options.inputs is None:
        raise DataError(
            f"{archive.path}: X must be 2-D (rows, columns) to be a table; got shape {X.shape}; for images and "
            "sequences name an input: data.inputs: {image: {array: X}}"
        )
    return X if X.ndim == 2 else np.zeros((len(X), 0))
