"""What a run keeps in its store besides entries: what its workers need to know, and snapshots of unfinished jobs.

In:  a run's id, a key and a job; bytes by name, for the key of an entry that is not there yet.
Out: ``jobs/RUN/KEY.json``, in a folder that is locked while its run lives, so that nobody takes it for left over;
     and ``partial/KEY/NAME``, from which a killed job goes on. A snapshot is written under a temporary name, synced
     and renamed, with its SHA-256 in front: nothing is parsed that is not as it was written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stackfeat.errors import StoreError
from stackfeat.store.disk import explained, make_folder, replace_file, safe_name, sync, write_file
from stackfeat.store.lock import FileLock
from stackfeat.structure import checked, parse_json

logger = logging.getLogger(__name__)

JOBS = "jobs"
LOCK = "lock"
PARTIAL = "partial"
_TRIES = 100
_TRIES_TO_PUT = 10
_HASH_LENGTH = 64


class Jobs:
    """The jobs of one run.

    Parameters
    ----------
    root : Path
        The store's folder.
    run : str
        The run's id.
    new_temporary : callable
        Gives a new path on the same file system.
    """

    def __init__(self, root: Path, run: str, new_temporary: Callable[[], Path]) -> None:
        self.folder = root / JOBS / safe_name(run)
        self._new_temporary = new_temporary
        self._lock: FileLock | None = None

    @property
    def is_claimed(self) -> bool:
        """Whether the folder has been made by this very object; in workers it was made by their parent's."""
        return self._lock is not None

    def write(self, key: str, job: Mapping[str, Any]) -> None:
        """Write what a worker needs to know to compute a key; replaces an older job."""
        text = json.dumps(job).encode()
        path, temporary = self._path(key), self._new_temporary()
        with explained(path, len(text)):
            self._claim()
            # Not synced: after a power cut the run writes its jobs again.
            replace_file(path, text, temporary=temporary, synced=False)

    def read(self, key: str) -> dict[str, Any]:
        """Return a job; StoreError if there is none."""
        path = self._path(key)
        with explained(path):
            text = path.read_bytes()
        try:
            job: dict[str, Any] = checked(dict[str, Any], parse_json(text, path.name), path.name)
        except ValueError:
            raise StoreError(
                f"job {path} must be JSON; got {text[:40]!r}; run again to write it anew"
            ) from None
        return job

    def remove(self, key: str) -> None:
        """Remove a job; no error if there is none."""
        with explained(self._path(key)):
            self._path(key).unlink(missing_ok=True)

    def end(self) -> None:
        """Remove the folder; the run needs no worker any more."""
        lock, self._lock = self._lock, None
        if lock is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            lock.release()

    def _path(self, key: str) -> Path:
        return self.folder / f"{safe_name(key)}.json"

    def _claim(self) -> None:
        """Make the folder and lock it, once: if it is gone later, somebody has removed the store."""
        if self._lock is not None:
            return
        lock = FileLock(self.folder / LOCK)
        for _ in range(_TRIES):
            make_folder(self.folder)
            # Whoever cleans up may have found the folder before it was locked.
            with suppress(FileNotFoundError):
                if lock.acquire():
                    self._lock = lock
                    return
        raise StoreError(
            f"the jobs of a run must be its own; got another user of {self.folder}; run again for a new id"
        )


@contextmanager
def found_dead(folder: Path) -> Iterator[bool]:
    """Say whether the run of a folder of jobs is provably over, and keep it so for the block."""
    if not (folder / LOCK).is_file():
        yield False
        return
    lock = FileLock(folder / LOCK)
    try:
        try:
            is_dead = lock.acquire() and lock.is_proof
        except OSError:
            is_dead = False
        yield is_dead
    finally:
        lock.release()


class Scratch:
    """Snapshots of one unfinished job, beside the entries of its store.

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
        """Rename a file into place; another run that is done with the same job may remove the folder."""
        for _ in range(_TRIES_TO_PUT):
            with suppress(FileNotFoundError):
                make_folder(self.folder)
                temporary.replace(path)
                break
        with suppress(FileNotFoundError):
            sync(self.folder)

    def remove(self) -> None:
        """Remove all files; no error if there are none."""
        shutil.rmtree(self.folder, ignore_errors=True)
