"""Cleaning: removes what nobody needs any more, and counts it.

In:  a store's folder.
Out: fewer files, and a CleanReport. Folders of writers that are still alive stay.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stackfeat.store.run_files import JOBS, PARTIAL, found_dead

_WEEK_SECONDS = 7 * 24 * 3600.0
_TEMPORARY = re.compile(r"[^~]+~[0-9]+~[0-9a-f]{16}(\.tmp)?")
_QUARANTINED = re.compile(r"[0-9a-z_-]{3,128}\.[^~]+~[0-9]+~[0-9a-f]{16}")
_RUN = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}\.json")
_ENTRY = re.compile(r"[0-9a-f]{64}")
"""Names that a store gives; a file of any other name is not the store's to remove, wherever it stands."""


@dataclass(frozen=True)
class CleanReport:
    """What was removed: counts, and bytes of all of it."""

    temporaries: int = 0
    quarantined: int = 0
    entries: int = 0
    bytes: int = 0


def unique_name() -> str:
    """Return a new name that tells which process on which machine it belongs to."""
    return f"{_machine()}~{os.getpid()}~{secrets.token_hex(8)}"


def _machine() -> str:
    """Return where numbers of processes mean the same: a container may have its host's name, not its numbers."""
    try:
        numbers = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}.{numbers}"


def clean_dead(root: Path) -> tuple[int, int]:
    """Remove temporaries of dead writers and jobs of dead runs; return how many, and their bytes."""
    temporaries = [*_children(root / "tmp", _TEMPORARY), *_children(root, _TEMPORARY)]
    removed = [_remove(path) for path in temporaries if _is_stale(path)]
    for folder in _children(root / JOBS, _RUN):
        with found_dead(folder) as is_dead:
            if is_dead or _is_old(folder):
                removed.append(_remove(folder))
    return len(removed), sum(removed)


def clean_leftovers(root: Path, is_finished: Callable[[str], bool]) -> CleanReport:
    """Remove temporaries of dead writers, jobs of dead runs, and all of quarantine.

    Snapshots of a job go when it is done, or when nobody has added to them for a week.
    """
    n_dead, n_bytes = clean_dead(root)
    snapshots = [
        path for path in _children(root / PARTIAL, _ENTRY) if is_finished(path.name) or _is_old(path)
    ]
    damaged = list(_children(root / "quarantine", _QUARANTINED))
    n_bytes += sum(_remove(path) for path in [*snapshots, *damaged])
    return CleanReport(n_dead + len(snapshots), len(damaged), 0, n_bytes)


def clean_entries(root: Path, created: Mapping[Path, str], older_than_days: float) -> tuple[int, int]:
    """Remove entries (folder to time of creation) that are too old; return how many, and their bytes."""
    try:
        limit = (datetime.now(UTC) - timedelta(days=older_than_days)).isoformat(timespec="microseconds")
    except OverflowError:
        return 0, 0  # Before the first date there is.
    n_bytes = []
    for folder, text in created.items():
        if text < limit:
            # Renamed first: a reader finds a whole entry or none.
            trash = root / "tmp" / unique_name()
            trash.parent.mkdir(exist_ok=True)
            folder.replace(trash)
            n_bytes.append(_remove(trash))
    return len(n_bytes), sum(n_bytes)


def _children(folder: Path, names: re.Pattern[str]) -> Iterable[Path]:
    if not folder.is_dir() or folder.is_symlink():
        return ()
    return sorted(path for path in folder.iterdir() if names.fullmatch(path.name))


def _is_stale(path: Path) -> bool:
    """Return whether a temporary has lost its writer."""
    host, _, rest = path.name.partition("~")
    pid = rest.partition("~")[0]
    if host == _machine() and pid.isdecimal() and not _is_alive(int(pid)):
        return True
    # Another machine's process cannot be asked, and a number may have been given to a new process.
    return _is_old(path)


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _WEEK_SECONDS
    except FileNotFoundError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass
    return True


def _remove(path: Path) -> int:
    """Remove a file or folder; return the bytes it held. Others may be removing the same one."""
    n_bytes = 0
    for file in path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]:
        with suppress(OSError):
            n_bytes += file.lstat().st_size if file.is_file() else 0
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return n_bytes
