"""Arrays of rows that are written in order: in memory, or as `.npy` files that survive a kill.

In:  rows of float32 columns by tap, from the first row on.
Out: arrays, or files `TAP.npy` in a folder beside `extraction.json`, which says how far they are.
     Files are written, not mapped: a full disk is an error and never a bus error, and pages written
     do not count as memory of the process.
     Large arrays come from a pool of memory that the process already has.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from stackfeat.errors import NO_SPACE, UsageError
from stackfeat.store import disk
from stackfeat.store.disk import reworded, safe_name
from stackfeat.store.npy import read_header

SMALLEST_BYTES = 1 << 20

KEPT_BYTES = 256 << 20

_POOL: dict[int, np.ndarray] = {}


class Lease:
    """Memory lent to one array and its views; it comes back when all of them are gone."""

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

    def __del__(self) -> None:
        _POOL[id(self.memory)] = self.memory
        while sum(memory.nbytes for memory in list(_POOL.values())) > KEPT_BYTES:
            _POOL.pop(next(iter(_POOL)), None)  # the one that has waited longest


def pooled_array(shape: Sequence[int]) -> np.ndarray:
    """Return a float32 array of `shape`; its content is arbitrary."""
    n_bytes = 4 * math.prod(shape)
    if not SMALLEST_BYTES <= n_bytes <= KEPT_BYTES:
        return np.empty(shape, dtype=np.float32)
    spare = list(_POOL.items())
    fitting = sorted((memory.nbytes, key) for key, memory in spare if n_bytes <= memory.nbytes <= 2 * n_bytes)
    taken = (_POOL.pop(key, None) for _, key in fitting)  # another thread may be first
    memory = next((memory for memory in taken if memory is not None), None)
    if memory is None:
        # numpy asks for huge pages, torch does not: a third less time on large arrays.
        memory = np.empty(n_bytes, dtype=np.uint8)
    return np.asarray(Lease(memory))[:n_bytes].view(np.float32).reshape(shape)


HEADER_BYTES = 256

FLOAT = np.dtype("<f4")


@dataclass
class MemoryOutputs:
    """Arrays in memory; without a known number of rows the parts are joined at the end."""

    n_rows: int | None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    parts: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)

    def write(self, key: str, start: int, rows: Tensor) -> None:
        """Put float32 rows in their place; a layer may run several times in one pass: the last call counts."""
        values = rows.numpy()
        if self.n_rows is None:
            self.parts.setdefault(key, {})[start] = values.copy()
            return
        if key not in self.arrays:
            self.arrays[key] = pooled_array((self.n_rows, *values.shape[1:]))
        self.arrays[key][start : start + len(values)] = values

    def finish(self) -> dict[str, np.ndarray]:
        # Hooks may keep this object alive for a while: the arrays are the caller's alone.
        arrays, self.arrays = self.arrays, {}
        parts, self.parts = self.parts, {}
        return arrays | {key: np.concatenate(list(values.values())) for key, values in parts.items()}


@dataclass
class FileOutputs:
    """Files `TAP.npy.part`, preallocated, that get their names when they are whole."""

    folder: Path
    n_rows: int | None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    descriptors: dict[str, int] = field(default_factory=dict)

    def write(self, key: str, start: int, rows: Tensor) -> None:
        """Put float32 rows in their place of the file."""
        values = np.ascontiguousarray(rows.numpy(), dtype=FLOAT)
        if key not in self.descriptors:
            self.open(key, tuple(values.shape[1:]), start)
        if values.shape[1:] != self.shapes[key]:
            raise UsageError(
                f"rows of tap {key!r} must have one shape; got {values.shape[1:]} after {self.shapes[key]}; "
                "choose a pool that does not depend on the length, such as 'mean'"
            )
        with explained(part_path(self.folder, key), values.nbytes):
            place = HEADER_BYTES + start * row_bytes(self.shapes[key])
            disk.write_all(self.descriptors[key], values.data if values.size else b"", place)

    def open(self, key: str, shape: tuple[int, ...], start: int) -> None:
        """Make the file at its full size before the first row, so that a full disk shows now."""
        path, n_rows = part_path(self.folder, key), self.n_rows or 0
        n_bytes = HEADER_BYTES + n_rows * row_bytes(shape)
        with explained(path, n_bytes):
            flags = os.O_RDWR | os.O_CREAT | (0 if start else os.O_TRUNC)
            self.descriptors[key] = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o644)
            self.shapes[key] = shape
            disk.allocate(self.descriptors[key], n_bytes)
            disk.write_all(self.descriptors[key], npy_header((n_rows, *shape)), 0)

    def n_bytes(self, n_rows: int) -> int:
        """Return the size of so many rows in all files."""
        return n_rows * sum(row_bytes(shape) for shape in self.shapes.values())

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        for key, descriptor in self.descriptors.items():
            with explained(part_path(self.folder, key)):
                os.fsync(descriptor)

    def finish(self, n_rows: int) -> None:
        """Give the files their names."""
        for key, descriptor in self.descriptors.items():
            path = part_path(self.folder, key)
            with explained(path):
                os.ftruncate(descriptor, HEADER_BYTES + n_rows * row_bytes(self.shapes[key]))
                disk.write_all(descriptor, npy_header((n_rows, *self.shapes[key])), 0)
                path.replace(final_path(self.folder, key))

    def close(self) -> None:
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors.clear()


Outputs = MemoryOutputs | FileOutputs


def final_path(folder: Path, key: str) -> Path:
    return folder / f"{safe_name(key)}.npy"


def part_path(folder: Path, key: str) -> Path:
    """Return the name of a file that is not whole yet."""
    return folder / f"{safe_name(key)}.npy.part"


def open_output(folder: Path, key: str) -> np.ndarray:
    """Open a finished file; an array without values cannot be mapped."""
    path = final_path(folder, key)
    header = np.load(path, mmap_mode="r", allow_pickle=False)
    return header if isinstance(header, np.ndarray) else np.load(path, allow_pickle=False)


def row_bytes(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * FLOAT.itemsize


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Return an npy header of fixed length, so that the number of rows can be corrected in place."""
    text = repr({"descr": FLOAT.str, "fortran_order": False, "shape": shape})
    body = text.ljust(HEADER_BYTES - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body.encode("latin1")


def explained(path: Path, n_bytes: int | None = None) -> AbstractContextManager[None]:
    """Turn an OSError into a StoreError that says what to do."""
    wanted = "" if n_bytes is None else f" ({n_bytes} bytes wanted)"

    def words(error: OSError) -> str:
        advice = "free disk space, or set `out` to a folder on another disk"
        return (
            f"extract must be able to write {path}{wanted}; got {error.strerror or error} (errno={error.errno}); "
            f"{advice if error.errno in NO_SPACE else 'set `out` elsewhere'}; the same call goes on where it stopped"
        )

    return reworded(words)


def open_arrays(path: Path) -> Any:
    """Open an npy file as a memmap, or an npz file as a dict of memmaps where it is not compressed.

    Raises
    ------
    UsageError
        If it is neither, or damaged.
    """
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
                return {
                    info.filename.removesuffix(".npy"): open_member(path, archive, info) for info in members
                }
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} must be a readable npy or npz file; got {error}; write it anew") from error
    raise UsageError(f"a file of inputs must end in .npy or .npz; got {path.name!r}; save it with numpy")


def open_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Map a stored member where it lies in the archive; read a compressed one."""
    with archive.open(info) as member:
        if info.compress_type != zipfile.ZIP_STORED:
            return np.lib.format.read_array(member, allow_pickle=False)
        header = read_header(member, info.filename)
        header_bytes = member.tell()
    if header.dtype.hasobject:
        raise ValueError("an array of objects")
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        sizes = file.read(4)
    name_and_extra = int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:], "little")
    offset = info.header_offset + 30 + name_and_extra + header_bytes
    order: Literal["F", "C"] = "F" if header.is_fortran else "C"
    if 0 in header.shape:
        return np.empty(header.shape, header.dtype)
    mapped: np.ndarray = np.memmap(
        str(path), header.dtype, mode="r", offset=offset, shape=header.shape, order=order
    )
    return mapped
