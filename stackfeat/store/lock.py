"""A lock on a file: held by one process, and gone with it, however it ends.

In:  a path that nobody uses for anything else.
Out: whether this process has it. A file that is left over locks nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

from stackfeat.store.disk import write_all

logger = logging.getLogger(__name__)

_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_UNKNOWN = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_FAR = 2**30
"""The byte that is locked: on Windows a locked byte cannot be read, and the first ones say who has it."""

_LONGEST = 1000
_HELD: dict[str, int] = {}
"""Descriptors by real path of the locks of this process. The system does not keep its threads apart, and it
forgets a lock as soon as any other handle of its file is closed."""
_HELD_GUARD = threading.Lock()


class FileLock:
    """A lock that its process loses when it ends.

    Parameters
    ----------
    path : Path
        Made where it is missing; its folder must be there.

    Attributes
    ----------
    is_proof : bool
        Whether the file system has locks. Where it has none, everybody gets them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_proof = True
        self._descriptor: int | None = None
        self._name = ""

    def acquire(self) -> bool:
        """Take the lock; False if somebody else has it.

        Raises
        ------
        OSError
            If the file cannot be made or opened, or is a link.
        """
        name = os.path.realpath(self.path)
        with _HELD_GUARD:
            if name in _HELD:
                return False
            while True:
                flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
                descriptor = os.open(self.path, flags, 0o644)
                if not self._lock(descriptor):
                    os.close(descriptor)
                    return False
                if _is_at(descriptor, self.path):
                    break
                # Removed by its last holder between our two steps.
                os.close(descriptor)
            _HELD[name] = descriptor
        self._descriptor, self._name = descriptor, name
        return True

    def write(self, text: str) -> None:
        """Say in the file who has the lock."""
        assert self._descriptor is not None
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            write_all(self._descriptor, text.encode())

    def release(self) -> None:
        """Give the lock back; no error if it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with _HELD_GUARD:
                os.close(descriptor)
                _HELD.pop(self._name, None)

    def __del__(self) -> None:
        self.release()

    def _lock(self, descriptor: int) -> bool:
        try:
            _lock_byte(descriptor)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            if error.errno not in _UNKNOWN:
                os.close(descriptor)
                raise
            self.is_proof = False
            logger.info("%s cannot be locked (%s): nothing tells two users apart", self.path, error.strerror)
        return True


def read_note(path: Path) -> bytes:
    """Return what `FileLock.write` wrote; a lock of this process stays locked, as it would not with `open`."""
    with _HELD_GUARD:
        held = _HELD.get(os.path.realpath(path))
        descriptor = os.open(path, os.O_RDONLY) if held is None else held
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            return os.read(descriptor, _LONGEST)
        finally:
            if held is None:
                os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _lock_byte(descriptor: int) -> None:
    """Lock one byte for this process, or raise at once."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        # Of the process, and not of the open file: a child that was forked does not keep it alive.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _FAR)
