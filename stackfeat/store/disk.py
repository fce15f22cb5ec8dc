"""The store's calls to the file system, with errors that say what to do; names of anything as file names.

In:  paths and bytes.
Out: files whose SHA-256 is known and that survive a power cut, or a StoreError and nothing else. A stamp says whether
     a file that was hashed may be taken for unchanged. It differs after every change, but for changes within one tick
     of the file system's clock; so a file counts by its stamp only if its last change was longer ago than a tick.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from stackfeat.errors import NO_ACCESS, NO_SPACE, StackfeatError, StoreError, machine_fault, numbered

_Bytes = bytes | bytearray | memoryview

LARGEST_TEXT = 256 << 20
"""Bytes of a manifest at most."""


def store_error(error: OSError, path: Path, n_bytes: int | None = None) -> StoreError:
    """Return the StoreError that says what could not be done where, and what to do about it."""
    if error.errno in NO_SPACE:
        advice = "free disk space, run `stackfeat clean`, or set `store` to a folder on another disk"
    elif error.errno in NO_ACCESS:
        advice = (
            "make the folder writable, set `store` to another folder, or use cache: readonly to read only"
        )
    else:
        advice = "check the disk, or set `store` to another folder"
    wanted = "" if n_bytes is None else f" ({n_bytes} bytes wanted)"
    reason = f"{error.strerror or error} (errno={error.errno})"
    text = f"the store must be able to use {path}{wanted}; got {reason}; {advice}"
    return numbered(StoreError, (text,), error.errno)


def explained(path: Path, n_bytes: int | None = None) -> AbstractContextManager[None]:
    """Turn every OSError of the block into a StoreError about `path`."""
    return reworded(lambda error: str(store_error(error, path, n_bytes)))


@contextmanager
def reworded(words: Callable[[OSError], str]) -> Iterator[None]:
    """Turn every OSError of the block, but for those of ours, into a StoreError in other words."""
    try:
        yield
    except StackfeatError:
        raise
    except OSError as error:
        raise numbered(StoreError, (words(error),), error.errno) from error


def is_about(error: OSError, folder: Path) -> bool:
    """Return whether other code failed to write into a folder, and not at something of its own."""
    return not isinstance(error, StoreError) and machine_fault(error, (folder,)) is not None


def write_all(descriptor: int, data: _Bytes, offset: int | None = None) -> None:
    """Write bytes to an open file: the one function through which all that we write reaches a disk."""
    rest = memoryview(data).cast("B")
    while rest:
        if offset is None:
            rest = rest[os.write(descriptor, rest) :]
        else:
            n_written = os.pwrite(descriptor, rest, offset)
            rest, offset = rest[n_written:], offset + n_written


def create(path: Path) -> int:
    """Return the descriptor of a new file; it must not be there yet."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o644)


def write_file(path: Path, *parts: _Bytes, synced: bool = True) -> None:
    """Write a new file; what there is of it is removed if that fails."""
    descriptor = create(path)
    try:
        try:
            for data in parts:
                write_all(descriptor, data)
            if synced:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def replace_file(path: Path, *parts: _Bytes, temporary: Path, synced: bool = True) -> None:
    """Write a file under a temporary name on the same file system and rename it; the old one stays if that fails."""
    try:
        write_file(temporary, *parts, synced=synced)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


class HashedFile:
    """A new file that is hashed while it is written, so no byte is read twice."""

    def __init__(self, path: Path) -> None:
        self._descriptor = create(path)
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: _Bytes) -> int:
        rest = memoryview(data).cast("B")
        n_bytes = len(rest)
        self._sha256.update(rest)
        write_all(self._descriptor, rest)
        self.size += n_bytes
        return n_bytes

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()

    def close(self) -> None:
        os.close(self._descriptor)


def allocate(descriptor: int, n_bytes: int) -> None:
    """Reserve the blocks of a file; where the file system cannot, writing still reports a full disk."""
    if n_bytes and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, n_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
                raise


def read_text_file(path: Path) -> bytes:
    """Return the bytes of a file of text; OSError where it is no file, or beyond any sense."""
    refuse_no_file(path.stat(), path)
    with path.open("rb") as file:
        data = file.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST_TEXT >> 20} MiB", str(path))
    return data


def refuse_no_file(status: os.stat_result, path: Path) -> None:
    """Raise OSError at folders, and at pipes and devices, which could be read for ever."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync folders and say so with EINVAL.
        if not (error.errno == errno.EINVAL and path.is_dir()):
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and its parents (never world-writable), and make them durable."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(mode=0o775, exist_ok=True)
    sync(path.parent)


TICK_NS = 100_000_000
"""Clocks of file systems move in steps of up to 10 ms, and may be behind ours by one."""
COARSE_TICK_NS = 3_000_000_000
"""Some keep whole seconds (ext3, HFS+), or every second one (FAT)."""
_SECOND_NS = 1_000_000_000


class Stamp(NamedTuple):
    """What changes with a file. Anybody can set `changed` back; `noted` is the system's own."""

    size: int
    changed: int
    noted: int
    inode: int


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file."""
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def is_settled(stamp: Stamp, looked_at: int) -> bool:
    """Return whether every change after `looked_at` gives another stamp.

    Parameters
    ----------
    looked_at : int
        `now_ns` of a moment before the file was asked for its stamp.
    """
    last = max(stamp.changed, stamp.noted)
    tick = COARSE_TICK_NS if last % _SECOND_NS == 0 else TICK_NS
    return looked_at - last > tick


def now_ns() -> int:
    """Return the time as file systems note it."""
    return time.time_ns()


MANIFEST = "manifest.json"

DONE = "DONE"

_RESERVED = frozenset({MANIFEST, DONE, ".", ".."})

_LONGEST = 240


def safe_name(name: str) -> str:
    """Return the file name that stands for a name.

    Characters outside ``[A-Za-z0-9._@-]`` are percent-encoded, and so is the first character of
    names that mean something else (``.``, ``..``, the store's own files), so the result is always
    one file directly inside its folder.

    Raises
    ------
    ValueError
        If the name is empty, or its file name would be too long for a file system.

    Examples
    --------
    >>> safe_name("base/cnn/fc.1@aligned")
    'base%2Fcnn%2Ffc.1@aligned'
    """
    if not name:
        raise ValueError(f"a name must have at least one character; got name={name!r}; give it one")
    encoded = quote(name, safe="@", encoding="utf-8", errors="surrogatepass").replace("~", "%7E")
    if encoded in _RESERVED:
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if len(encoded) > _LONGEST:
        raise ValueError(
            f"a name must fit in a file name of {_LONGEST} characters once percent-encoded; "
            f"got {len(encoded)} for name={name!r}; use a shorter name"
        )
    return encoded


def from_safe_name(encoded: str) -> str:
    """Return the name that `safe_name` made this file name of."""
    return unquote(encoded, encoding="utf-8", errors="surrogatepass")


FOLDERS: set[str] = set()
"""Temporary folders of this process."""


class TemporaryFolder(tempfile.TemporaryDirectory[str]):
    """A temporary folder that goes with this process, also where a signal ends it."""

    def __init__(self, prefix: str = "stackfeat-") -> None:
        super().__init__(prefix=prefix)
        FOLDERS.add(self.name)

    def cleanup(self) -> None:
        """Remove the folder."""
        super().cleanup()
        FOLDERS.discard(self.name)
