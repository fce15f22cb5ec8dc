"""Entries as folders: writing one file by file, reading one without trusting a byte, moving one as a whole.

In:  arrays, JSON values, bytes; a folder nobody else writes to.
Out: files, ``manifest.json`` with their sizes and SHA-256, and ``DONE`` with the manifest's own
SHA-256; when read, every file is hashed before any parser sees it.
"""

from __future__ import annotations

import builtins
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from stackfeat.errors import StoreError, StructureError
from stackfeat.store import disk
from stackfeat.store.cleaning import unique_name
from stackfeat.store.disk import (
    DONE,
    MANIFEST,
    HashedFile,
    Stamp,
    explained,
    hash_file,
    is_settled,
    make_folder,
    read_text_file,
    refuse_no_file,
    safe_name,
    stamp_of,
    sync,
    write_file,
)
from stackfeat.store.entry import Entry, EntryWriter, claim, plain_array
from stackfeat.store.manifest import checked_manifest
from stackfeat.store.npy import load_npy

_Content = TypeVar("_Content")

_REPLACED_AT_MOST = 3

_VERIFIED: dict[str, tuple[Stamp, str]] = {}
"""Files this process has hashed: path to stamp and SHA-256."""


class FolderWriter(EntryWriter):
    """Writes the files of one entry into a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, dict[str, Any]] = {}

    def array(self, name: str, values: Any) -> None:
        array = plain_array(values, name)
        with self._new_file(f"{name}.npy", array.nbytes) as sink:
            np.lib.format.write_array(sink, array, allow_pickle=False)

    def pieces(self, name: str, shape: tuple[int, ...], dtype: Any, pieces: Iterable[np.ndarray]) -> None:
        # Not through a memory map: a full disk would end the process with SIGBUS.
        dtype = np.dtype(dtype)
        head = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        with self._new_file(f"{name}.npy", math.prod(shape) * dtype.itemsize) as sink:
            np.lib.format.write_array_header_1_0(sink, head)
            for piece in pieces:
                sink.write(np.ascontiguousarray(piece, dtype=dtype).reshape(-1).view(np.uint8).data)

    def bytes(self, name: str, data: builtins.bytes) -> None:
        with self._new_file(name, len(data)) as sink:
            sink.write(data)

    def file(self, name: str) -> Path:
        claim(name, self._files)
        self._files[name] = {}
        return self.folder / safe_name(name)

    def finish(self, head: dict[str, Any]) -> None:
        """Write manifest and marker, and wait until everything is on the disk."""
        with explained(self.folder):
            for name, listed in self._files.items():
                if not listed:
                    self._files[name] = self._describe(name)
                sync(self.folder / safe_name(name))
            text = json.dumps({**head, "files": self._files}, indent=1).encode()
            write_file(self.folder / MANIFEST, text)
            write_file(self.folder / DONE, hashlib.sha256(text).hexdigest().encode())
            sync(self.folder)

    @contextmanager
    def _new_file(self, name: str, n_bytes: int) -> Iterator[HashedFile]:
        claim(name, self._files)
        path = self.folder / safe_name(name)
        with explained(path, n_bytes):
            sink = HashedFile(path)
            try:
                yield sink
            finally:
                sink.close()
        self._files[name] = {"size": sink.size, "sha256": sink.hexdigest()}

    def _describe(self, name: str) -> dict[str, Any]:
        """Return size and hash of a file that somebody else wrote."""
        path = self.folder / safe_name(name)
        if not path.is_file():
            raise StoreError(
                f"a file asked for with file({name!r}) must be written before the block ends; "
                f"got nothing at {path}; write it, or do not ask for it"
            )
        return {"size": path.stat().st_size, "sha256": hash_file(path)}


class FolderEntry(Entry):
    """Reads one entry from its folder.

    Parameters
    ----------
    damaged : callable
        Takes the key, what is wrong, and the manifest that was read; puts the entry aside and raises.
    newer : callable
        Takes the key and the manifest that was read; returns that of another entry which has taken its
        place since, or None. A run with ``cache: refresh`` replaces entries that others are reading.
    """

    def __init__(
        self,
        key: str,
        path: Path,
        manifest: dict[str, Any],
        damaged: Callable[[str, str, Any], NoReturn],
        newer: Callable[[str, dict[str, Any]], dict[str, Any] | None],
    ) -> None:
        super().__init__(key, path, manifest)
        self._damaged = damaged
        self._newer = newer

    def array(self, name: str, *, mmap: bool = False) -> np.ndarray:
        try:
            return self._read(f"{name}.npy", lambda path: load_npy(path, f"{name}.npy", mmap=mmap))
        except StructureError as error:
            self.refuse(str(error))

    def bytes(self, name: str) -> builtins.bytes:
        return self._read(name, Path.read_bytes)

    def file(self, name: str) -> Path:
        path = self.path / safe_name(name)
        fault = self._fault(name, path)
        for _ in range(_REPLACED_AT_MOST):
            newer = self._newer(self.key, self.manifest) if fault else None
            if newer is None:
                break
            self.manifest = newer
            fault = self._fault(name, path)
        if fault:
            self.refuse(f"{name}: {fault}")
        return path

    def refuse(self, fault: str) -> NoReturn:
        self._damaged(self.key, fault, self.manifest)

    def _fault(self, name: str, path: Path) -> str:
        listed = self._listed(name)
        with explained(path):
            return find_fault(path, listed["size"], listed["sha256"])

    def _read(self, name: str, read: Callable[[Path], _Content]) -> _Content:
        path = self.file(name)
        for _ in range(_REPLACED_AT_MOST):
            with explained(path), suppress(FileNotFoundError):
                return read(path)
            path = self.file(name)
        with explained(path):
            return read(path)


def read_manifest(folder: Path, key: str) -> dict[str, Any] | str:
    """Return the manifest of an entry, or what is wrong with it.

    Raises
    ------
    FileNotFoundError
        If the entry has no marker, so it does not exist.
    """
    marker = read_text_file(folder / DONE)
    try:
        text = read_text_file(folder / MANIFEST)
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    if hashlib.sha256(text).hexdigest().encode() != marker:
        return f"{MANIFEST} does not match the hash in {DONE}"
    try:
        return checked_manifest(text, key)
    except StructureError as error:
        return str(error)


def find_fault(path: Path, size: int, sha256: str) -> str:
    """Return how a file differs from what was written, or "" where it does not.

    A file is hashed once per process, and again when its stamp has changed or may hide a change.
    """
    try:
        looked_at = disk.now_ns()
        status = path.stat()
        stamp = stamp_of(status)
        if _VERIFIED.get(os.fspath(path)) == (stamp, sha256):
            return ""
        refuse_no_file(status, path)
        if status.st_size != size:
            return f"must have {size} bytes, got {status.st_size}"
        found = hash_file(path)
    except FileNotFoundError:
        return "is missing"
    if found != sha256:
        return f"must have SHA-256 {sha256[:12]}..., got {found[:12]}..."
    if is_settled(stamp, looked_at):
        _VERIFIED[os.fspath(path)] = stamp, sha256
    return ""


_PLACE_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


def publish(folder: Path, place: Path, is_taken: Callable[[], bool]) -> bool:
    """Move a finished folder to its place, unless a good entry is there already.

    Parameters
    ----------
    folder, place : Path
        On one file system; `folder` stands among the temporaries.
    is_taken : callable
        Says whether what stands at `place` counts. If not, it is removed.

    Returns
    -------
    bool
        Whether `folder` was moved.
    """
    make_folder(place.parent)
    while True:
        try:
            folder.replace(place)
        except OSError as error:
            if error.errno not in _PLACE_TAKEN:
                raise
        else:
            sync(place.parent)
            return True
        if is_taken():
            return False
        trash = folder.with_name(unique_name())
        with suppress(FileNotFoundError):
            place.replace(trash)
        shutil.rmtree(trash, ignore_errors=True)


def put_aside(place: Path, quarantine: Path, is_damaged: Callable[[Path], bool]) -> str:
    """Move a damaged entry into quarantine, and return what became of it.

    Parameters
    ----------
    is_damaged : callable
        Says whether what was moved is what was found damaged: others may have put it aside and computed
        it again in the meantime. If not, it is moved back.
    """
    aside = quarantine / f"{place.name}.{unique_name()}"
    try:
        make_folder(quarantine)
        place.replace(aside)
        if not is_damaged(aside):
            # Where one more process was faster, its entry is as good as this one.
            with suppress(OSError):
                aside.replace(place)
            return "another process has computed it anew; run again"
    except FileNotFoundError:
        return "another process has put it aside; run again to compute it anew"
    except OSError as error:
        return f"it could not be put aside ({error}); remove {place} yourself"
    return f"it is now {aside}; run again to compute it anew"
