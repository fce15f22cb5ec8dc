"""Cleaning: removes what nobody needs any more, and counts it.

In:  a store's folder.
Out: fewer files, and a CleanReport. Folders of writers that are still alive stay.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stackfeat.store.scratch import PARTIAL

_WEEK_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class CleanReport:
    """What was removed: counts, and bytes of all of it."""

    temporaries: int = 0
    quarantined: int = 0
    entries: int = 0
    bytes: int = 0


def unique_name() -> str:
    """Return a new name that tells which process on which machine it belongs to."""
    return f"{socket.gethostname()}~{os.getpid()}~{secrets.token_hex(8)}"


def clean_leftovers(root: Path, is_finished: Callable[[str], bool]) -> CleanReport:
    """Remove temporaries of dead writers, jobs older than a week, and all of quarantine.

    Snapshots of a unit go when it is finished, or when nobody has added to them for a week.
    """
    stale = [path for path in _children(root / "tmp") if _is_stale(path)]
    stale += [path for path in _children(root / "jobs") if _is_old(path)]
    stale += [path for path in _children(root / PARTIAL) if is_finished(path.name) or _is_old(path)]
    damaged = list(_children(root / "quarantine"))
    return CleanReport(len(stale), len(damaged), 0, sum(_remove(path) for path in [*stale, *damaged]))


def clean_entries(root: Path, created: Mapping[Path, str], older_than_days: float) -> tuple[int, int]:
    """Remove entries (folder to time of creation) that are too old; return how many, and their bytes."""
    limit = (datetime.now(UTC) - timedelta(days=older_than_days)).isoformat(timespec="microseconds")
    n_bytes = []
    for folder, text in created.items():
        if text < limit:
            # Renamed first: a reader finds a whole entry or none.
            trash = root / "tmp" / unique_name()
            trash.parent.mkdir(exist_ok=True)
            folder.replace(trash)
            n_bytes.append(_remove(trash))
    return len(n_bytes), sum(n_bytes)


def _children(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()


def _is_stale(path: Path) -> bool:
    """Return whether a temporary has lost its writer."""
    host, _, rest = path.name.partition("~")
    pid = rest.partition("~")[0]
    if host == socket.gethostname() and pid.isdecimal() and not _is_alive(int(pid)):
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
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove(path: Path) -> int:
    """Remove a file or folder; return the bytes it held."""
    if not path.is_dir():
        size = path.stat().st_size if path.exists() else 0
        path.unlink(missing_ok=True)
        return size
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    shutil.rmtree(path)
    return size
