"""Arrays in npz and npy files: what is in them, read without running anything they hold.

In:  the path of a npz file (named arrays) or npy file.
Out: shapes and types at once, values when asked for; large ones stay on disk.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from stackfeat.data.files.format import Format
from stackfeat.data.files.parsing import parsing, unknown_name
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import is_large
from stackfeat.errors import DataError
from stackfeat.registry.resolve import cut, name_values, quote_values, quoted, suggest
from stackfeat.store.npy import Header, check_size, load_npy, read_header, to_native

if TYPE_CHECKING:
    import pandas as pd

MOST_ARRAYS = 100_000
_SMALL_BYTES = 2**20
COLUMN_KINDS = "biufSUMm"
_BOMB_BYTES, _BOMB_RATIO = 2**28, 300
"""Deflate makes a file of zeros a thousand times smaller, and hardly any data three hundred times."""

MOST_CODE, FIRST_SURROGATE, LAST_SURROGATE = 0x10FFFF, 0xD800, 0xDFFF
"""Of Unicode: the largest number of a character, and those that are none."""


@dataclass(frozen=True)
class Stored:
    """An array of a npz file that has not been read: where it is, and what its header says."""

    member: str
    header: Header
    n_bytes: int


@dataclass(frozen=True)
class ArchiveFile:
    """A npz file.

    Attributes
    ----------
    path : Path
    arrays : dict of str to Stored
        Every array by name.
    """

    path: Path
    arrays: dict[str, Stored]

    @classmethod
    def open(cls, path: Path) -> ArchiveFile:
        """Read the headers.

        Raises
        ------
        DataError
            If it is no npz file, or unpacks to far more than its size.
        """
        arrays: dict[str, Stored] = {}
        with _as_npz(path), zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _refuse_bomb(path, members)
            for member in members:
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as stream:
                    header = read_header(stream, f"{path}: array {quoted(name)}")
                    arrays[name] = Stored(member.filename, header, member.file_size - stream.tell())
        return cls(path, arrays)

    def header(self, name: str, what: str) -> Header:
        """Return what is known of an array.

        Raises
        ------
        DataError
            If there is no such array, it holds Python objects, or not what its header says.
        """
        if name not in self.arrays:
            listed = f"; arrays are {name_values(self.arrays) or 'none'}"
            raise unknown_name(f"{self.path}: {what} must be an array of the file", name, self.arrays, listed)
        header = self.arrays[name].header
        if header.dtype.hasobject:
            raise DataError(
                f"{self.path}: array {quoted(name)} must hold numbers or text of fixed width; got Python objects, "
                "which are never read, because that can run code; write plain arrays, sequences of different "
                "lengths end to end beside an array of their lengths"
            )
        with _as_npz(self.path):
            check_size(header, self.arrays[name].n_bytes, f"{self.path}: array {quoted(name)}")
        return header

    def read(self, name: str, what: str, *, mapped: bool | None = False) -> np.ndarray:
        """Return an array; with `mapped` (None: where it is large) as a memory-mapped temporary file."""
        return next(self.read_each([name], what, mapped=mapped))

    def read_each(
        self, names: Iterable[str], what: str, *, mapped: bool | None = False
    ) -> Iterator[np.ndarray]:
        """Yield several arrays; as `read`, with the file opened once."""
        with _as_npz(self.path):
            archive = zipfile.ZipFile(self.path)
        with archive:
            for name in names:
                header = self.header(name, what)
                is_mapped = is_large(1, header.shape) if mapped is None else mapped
                where = f"{self.path}: array {quoted(name)}"
                with (
                    parsing(where, "must be readable", "write the file again with numpy.savez"),
                    archive.open(self.arrays[name].member) as member,
                ):
                    if is_mapped and header.dtype.kind in "biuf" and 0 not in header.shape:
                        array = _mapped_copy(member, where)
                    else:
                        array = np.lib.format.read_array(member, allow_pickle=False)
                yield to_native(array)


def _as_npz(path: Path) -> AbstractContextManager[None]:
    return parsing(path, "must be an npz file of plain arrays", "write it with numpy.savez")


def _refuse_bomb(path: Path, members: Collection[zipfile.ZipInfo]) -> None:
    """Refuse a file of so many arrays, or so much to unpack, that reading it is an attack or a mistake."""
    n_bytes, n_packed = sum(member.file_size for member in members), path.stat().st_size
    if n_bytes > _BOMB_BYTES and n_bytes > _BOMB_RATIO * n_packed:
        raise DataError(
            f"{path}: must not unpack to more than {_BOMB_RATIO} times its size; got {n_packed:,} bytes that say "
            f"they are {n_bytes:,}; write it with numpy.savez, which does not pack"
        )
    if len(members) > MOST_ARRAYS:
        raise DataError(
            f"{path}: must have at most {MOST_ARRAYS:,} arrays; got {len(members):,}; write the columns as one array"
        )


def _mapped_copy(member: IO[bytes], where: str) -> np.ndarray:
    """Unpack an array into a temporary file that is gone when nobody uses it any more."""
    with tempfile.TemporaryFile(prefix="stackfeat-") as file:
        shutil.copyfileobj(member, file, 2**22)
        file.seek(0)
        header = read_header(file, where)
        order: Any = "F" if header.is_fortran else "C"
        return np.memmap(file, header.dtype, "r", file.tell(), header.shape, order)


class Npy(Format):
    """One array."""

    suffixes = (".npy",)
    holds = "array"

    def array(self, path: Path, name: str, what: str, *, mapped: bool | None) -> np.ndarray:
        with parsing(what, "must name a npy file", "correct the name"):
            if not path.is_file():
                near = [other.name for other in path.parent.glob("*.npy")] if path.parent.is_dir() else []
                raise DataError(f"{what}: there is no file {path}.{suggest(path.name, near)}")
        with parsing(path, "must be a npy file of plain numbers", "write it with numpy.save"):
            array = to_native(load_npy(path, str(path), mmap=path.stat().st_size > _SMALL_BYTES))
        is_mapped = is_large(1, array.shape) if mapped is None else mapped
        return array if is_mapped else np.array(array)


class Npz(Format):
    """Arrays by name: those of one dimension are columns, as are those of a two-dimensional ``X``.

    ``y`` stands for the target, and ``id`` for the id, where the file has no array of their names; of several
    targets ``y`` has a column for each.
    Arrays that are inputs of their own are left out.
    """

    suffixes = (".npz",)
    holds = "arrays"

    def array(self, path: Path, name: str, what: str, *, mapped: bool | None) -> np.ndarray:
        return ArchiveFile.open(path).read(name, what, mapped=mapped)

    def frame(self, path: Path, options: DataOptions, most_bytes: int | None = None) -> pd.DataFrame:
        import pandas as pd

        archive = ArchiveFile.open(path)
        given = (options.inputs or {}).values()
        claimed = {name for one in given for name in (one.array, one.lengths) if name in archive.arrays}
        n_rows = _count_rows(archive, options)
        columns: dict[str, np.ndarray] = {}
        if "X" in archive.arrays and "X" not in claimed:
            _check_column(archive, "X")
            X = archive.read("X", "X")
            if X.ndim != 2 and options.inputs is None:
                raise DataError(
                    f"{path}: X must be 2-D (rows, columns) to be a table; got shape {X.shape}; for images and "
                    "sequences name an input: data.inputs: {image: {array: X}}"
                )
            columns = {f"x{j}": column for j, column in enumerate(X.T)} if X.ndim == 2 else {}
        taken = {"X"} if columns else set()
        if len(options.targets) > 1 and "y" in archive.arrays:
            columns |= _columns_of_targets(archive, options, n_rows)
            taken.add("y")
        found = _arrays_of_columns(archive, options, n_rows, claimed | taken)
        columns |= dict(zip(found.values(), archive.read_each(found, "a column"), strict=True))
        with parsing(path, "must hold columns of numbers, text or dates", "leave the others away"):
            for name, column in columns.items():
                _refuse_no_characters(name, column)
            return pd.DataFrame(columns, index=pd.RangeIndex(n_rows))


def _refuse_no_characters(name: str, column: np.ndarray) -> None:
    """Raise ValueError over texts with numbers that no character has; pandas takes them, and fails on them later."""
    if column.dtype.kind == "U" and column.dtype.itemsize:
        codes = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("=")).view(np.uint32)
        wrong = (codes > MOST_CODE) | ((codes >= FIRST_SURROGATE) & (codes <= LAST_SURROGATE))
        if wrong.any():
            raise ValueError(
                f"column {quoted(name)} has {int(codes[wrong][0]):#x} in the place of a character"
            )


def _columns_of_targets(archive: ArchiveFile, options: DataOptions, n_rows: int) -> dict[str, np.ndarray]:
    """Return the columns of a two-dimensional ``y``, called as the targets are."""
    _check_column(archive, "y")
    y = archive.read("y", "y")
    wanted = (n_rows, len(options.targets))
    if y.shape != wanted:
        raise DataError(
            f"{archive.path}: y must have a row for each sample and a column for each of data.target, shape "
            f"{wanted}; got shape {y.shape}; correct data.target, or write the array again"
        )
    return dict(zip(options.targets, y.T, strict=True))


def _arrays_of_columns(
    archive: ArchiveFile, options: DataOptions, n_rows: int, others: Collection[str | None]
) -> dict[str, str]:
    """Return which arrays are columns, and what these are called."""
    aliases = {"id": options.id or "id"}
    aliases |= {"y": options.targets[0]} if len(options.targets) == 1 else {}
    found: dict[str, str] = {}
    for name, stored in archive.arrays.items():
        column = aliases.get(name, name) if aliases.get(name) not in archive.arrays else name
        if name in others:
            continue
        if stored.header.shape == (n_rows,):
            _check_column(archive, name)
            found[name] = column
        elif column in options.roles.values():
            raise DataError(
                f"{archive.path}: {name} must have one value for each of {n_rows} rows; got shape "
                f"{stored.header.shape}"
            )
    return found


def _check_column(archive: ArchiveFile, name: str) -> None:
    dtype = archive.header(name, "a column").dtype
    if dtype.kind not in COLUMN_KINDS or dtype in (np.dtype("M8"), np.dtype("m8")):
        raise DataError(
            f"{archive.path}: array {quoted(name)} must hold numbers, text or dates with a unit to be a column; got "
            f"dtype {cut(str(dtype))}; convert it, or write it to another file"
        )


def _count_rows(archive: ArchiveFile, options: DataOptions) -> int:
    """How many samples there are: one for each length of a ragged input, or each row of an array."""
    if "is_test" in archive.arrays:
        raise DataError(
            f"{archive.path}: holds both training and test rows ('is_test'); write them into two files without it"
        )
    for name, given in (options.inputs or {}).items():
        if given.array is None or Path(given.array).suffix.lower() in Npy.suffixes:
            continue
        what = f"data.inputs.{name}.array"
        header = archive.header(given.array, what)
        if given.lengths is not None:
            header = archive.header(given.lengths, f"data.inputs.{name}.lengths")
        if not header.shape:
            raise DataError(f"{archive.path}: {what} must have a row per sample; got one number")
        return header.shape[0]
    if "X" in archive.arrays:
        return next(iter(archive.header("X", "X").shape), 0)
    if options.inputs is None:
        raise DataError(
            f"{archive.path}: must hold a 2-D array 'X'; got arrays {quote_values(archive.arrays)}; "
            "rename one to X, or name inputs: data.inputs: {NAME: {array: ARRAY}}"
        )
    return max(
        (stored.header.shape[0] for stored in archive.arrays.values() if stored.header.shape), default=0
    )
