"""Scratch files: what a unit in work writes down, so that a killed one does not start anew.

In:  bytes by name, for the key of an entry that is not there yet.
Out: the same bytes in a later process, or None. A file is written under a temporary name, synced and
     renamed, with its SHA-256 in front: nothing is parsed that is not as it was written.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from stackfeat.store.disk import explained, make_folder, safe_name, sync, write_file

logger = logging.getLogger(__name__)

PARTIAL = "partial"
_HASH_LENGTH = 64
_TRIES = 10


class Scratch:
    """Files of one unit in work, beside the entries of its store.

    Parameters
    ----------
    folder : Path
        Where they stand; made by the first write.
    new_temporary : callable
        Gives a new path on the same file system.
    since : str, optional
        Files older than this time (as `stackfeat.store.store.now` writes it) do not count.
    """

    def __init__(self, folder: Path, new_temporary: Callable[[], Path], since: str | None = None) -> None:
        self.folder = folder
        self._new_temporary = new_temporary
        self._since = since

    def read(self, name: str) -> bytes | None:
        """Return what was written last; None if there is nothing, or if it is damaged (a warning says so)."""
        path = self.folder / safe_name(name)
        try:
            content = path.read_bytes()
            changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="microseconds")
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("the snapshot %s cannot be read (%s): starting anew", path, error)
            return None
        if self._since is not None and changed < self._since:
            return None
        data = content[_HASH_LENGTH:]
        if hashlib.sha256(data).hexdigest().encode() != content[:_HASH_LENGTH]:
            logger.warning("the snapshot %s is damaged: removed, starting anew", path)
            with suppress(OSError):
                path.unlink()
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Replace the file of this name.

        Raises
        ------
        StoreError
            If the disk is full, read-only or not allowed.
        """
        path = self.folder / safe_name(name)
        temporary = self._new_temporary()
        try:
            with explained(path, len(data)):
                write_file(temporary, hashlib.sha256(data).hexdigest().encode(), data)
                # A file system stamps files by a coarser clock than `since` comes from: milliseconds behind.
                os.utime(temporary, ns=(time.time_ns(),) * 2)
                self._put(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _put(self, temporary: Path, path: Path) -> None:
        """Rename a file into place; another run that is done with the same unit may remove the folder."""
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):
                make_folder(self.folder)
                temporary.replace(path)
                break
        with suppress(FileNotFoundError):
            sync(self.folder)

    def remove(self) -> None:
        """Remove all files; no error if there are none."""
        shutil.rmtree(self.folder, ignore_errors=True)
