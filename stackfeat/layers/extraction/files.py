"""Arrays of rows that are written in order: in memory, or as `.npy` files that survive a kill.

In:  rows of float32 columns by tap, from the first row on.
Out: arrays, or files `TAP.npy` in a folder beside `extraction.json`, which says how far they are.
     Files are written, not mapped: a full disk is an error and never a bus error, and pages written
     do not count as memory of the process.
     Large arrays come from a pool of memory that the process already has.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from stackfeat.errors import NO_SPACE, StoreError, UsageError
from stackfeat.store import disk
from stackfeat.store.disk import safe_name

SMALLEST_BYTES = 1 << 20

KEPT_BYTES = 256 << 20

_SPARE: dict[int, np.ndarray] = {}


class Lease:
    """Memory lent to one array and its views; it comes back when all of them are gone."""

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

    def __del__(self) -> None:
        _SPARE[id(self.memory)] = self.memory
        while sum(memory.nbytes for memory in list(_SPARE.values())) > KEPT_BYTES:
            _SPARE.pop(next(iter(_SPARE)), None)  # the one that has waited longest


def pooled_array(shape: Sequence[int]) -> np.ndarray:
    """Return a float32 array of `shape`; its content is arbitrary."""
    n_bytes = 4 * math.prod(shape)
    if not SMALLEST_BYTES <= n_bytes <= KEPT_BYTES:
        return np.empty(shape, dtype=np.float32)
    memory = take(n_bytes)
    if memory is None:
        # numpy asks for huge pages, torch does not: a third less time on large arrays.
        memory = np.empty(n_bytes, dtype=np.uint8)
    return np.asarray(Lease(memory))[:n_bytes].view(np.float32).reshape(shape)


def take(n_bytes: int) -> np.ndarray | None:
    """Take the smallest spare memory that fits without wasting more than it holds."""
    fitting = sorted(
        (memory.nbytes, key)
        for key, memory in list(_SPARE.items())
        if n_bytes <= memory.nbytes <= 2 * n_bytes
    )
    for _, key in fitting:
        memory = _SPARE.pop(key, None)  # another thread may have been first
        if memory is not None:
            return memory
    return None


HEADER_BYTES = 256

MAX_RANK = 8

FLOAT = np.dtype("<f4")


class MemoryOutputs:
    """Arrays in memory; without a known number of rows the parts are joined at the end."""

    def __init__(self, n_rows: int | None) -> None:
        self.n_rows = n_rows
        self.arrays: dict[str, np.ndarray] = {}
        self.parts: dict[str, list[np.ndarray]] = {}

    def write(self, key: str, start: int, rows: Tensor) -> None:
        """Put float32 rows in their place."""
        values = rows.numpy()
        if self.n_rows is None:
            parts = self.parts.setdefault(key, [])
            # A layer may run several times in one pass: the last call counts.
            del parts[self.n_parts(key, start) :]
            parts.append(values.copy())
            return
        if key not in self.arrays:
            self.arrays[key] = pooled_array((self.n_rows, *values.shape[1:]))
        self.arrays[key][start : start + len(values)] = values

    def n_parts(self, key: str, start: int) -> int:
        n_before = n_parts = 0
        for part in self.parts[key]:
            if n_before >= start:
                break
            n_before, n_parts = n_before + len(part), n_parts + 1
        return n_parts

    def finish(self, n_rows: int) -> dict[str, np.ndarray]:
        # Hooks may keep this object alive for a while: the arrays are the caller's alone.
        arrays, self.arrays = self.arrays, {}
        parts, self.parts = self.parts, {}
        return arrays | {key: np.concatenate(values) for key, values in parts.items()}


class FileOutputs:
    """Files `TAP.npy.part`, preallocated, that get their names when they are whole."""

    def __init__(self, folder: Path, n_rows: int | None) -> None:
        self.folder = folder
        self.n_rows = n_rows
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.descriptors: dict[str, int] = {}
        self.paths: dict[str, Path] = {}

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
        with explained(self.part(key), values.nbytes):
            disk.write_all(
                self.descriptors[key], as_bytes(values), HEADER_BYTES + start * row_bytes(self.shapes[key])
            )

    def open(self, key: str, shape: tuple[int, ...], start: int) -> None:
        """Make the file at its full size before the first row, so that a full disk shows now."""
        path, n_rows = self.part(key), self.n_rows or 0
        n_bytes = HEADER_BYTES + n_rows * row_bytes(shape)
        with explained(path, n_bytes):
            flags = os.O_RDWR | os.O_CREAT | (0 if start else os.O_TRUNC)
            self.descriptors[key] = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o644)
            self.shapes[key] = shape
            disk.allocate(self.descriptors[key], n_bytes)
            disk.write_all(self.descriptors[key], npy_header((n_rows, *shape)), 0)

    def part(self, key: str) -> Path:
        if key not in self.paths:
            self.paths[key] = self.folder / f"{safe_name(key)}.npy.part"
        return self.paths[key]

    def n_bytes(self, n_rows: int) -> int:
        """Return the size of so many rows in all files."""
        return n_rows * sum(row_bytes(shape) for shape in self.shapes.values())

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        for key, descriptor in self.descriptors.items():
            with explained(self.part(key)):
                os.fsync(descriptor)

    def finish(self, n_rows: int) -> dict[str, np.ndarray]:
        """Give the files their names and open them for reading."""
        for key, descriptor in self.descriptors.items():
            with explained(self.part(key)):
                os.ftruncate(descriptor, HEADER_BYTES + n_rows * row_bytes(self.shapes[key]))
                disk.write_all(descriptor, npy_header((n_rows, *self.shapes[key])), 0)
                self.part(key).replace(final_path(self.folder, key))
        keys = list(self.descriptors)
        self.close()
        return {key: open_output(self.folder, key) for key in keys}

    def close(self) -> None:
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors.clear()


def final_path(folder: Path, key: str) -> Path:
    return folder / f"{safe_name(key)}.npy"


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


def as_bytes(values: np.ndarray) -> memoryview:
    return values.reshape(-1).view(np.uint8).data if values.size else memoryview(b"")


@contextmanager
def explained(path: Path, n_bytes: int | None = None) -> Iterator[None]:
    """Turn an OSError into a StoreError that says what to do."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        wanted = "" if n_bytes is None else f" ({n_bytes} bytes wanted)"
        full = error.errno in NO_SPACE
        advice = (
            "free disk space, or set `out` to a folder on another disk" if full else "set `out` elsewhere"
        )
        failure = StoreError(
            f"extract must be able to write {path}{wanted}; got {error.strerror or error} "
            f"(errno={error.errno}); {advice}; the same call goes on where it stopped"
        )
        failure.errno = error.errno
        raise failure from error


def write_json(path: Path, value: Any) -> None:
    """Replace a small file at once."""
    with explained(path):
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        disk.write_file(temporary, json.dumps(value, indent=1, sort_keys=True).encode(), synced=False)
        temporary.replace(path)


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
        version = np.lib.format.read_magic(member)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read(member)
        header_bytes = member.tell()
    if dtype.hasobject:
        raise ValueError("an array of objects")
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        sizes = file.read(4)
    name_and_extra = int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:], "little")
    offset = info.header_offset + 30 + name_and_extra + header_bytes
    order: Literal["F", "C"] = "F" if is_fortran else "C"
    if 0 in shape:
        return np.empty(shape, dtype)
    mapped: np.ndarray = np.memmap(str(path), dtype, mode="r", offset=offset, shape=shape, order=order)
    return mapped
