"""The user's own state folder: small JSON records that no project and no received folder can bring along.

In:  a kind ("configs", "runs") and the path that a record is about.
Out: records, believed only where nobody else could have written them.

``STACKFEAT_STATE`` names the folder; without it ``$XDG_STATE_HOME/stackfeat`` or
``~/.local/state/stackfeat``, on macOS ``~/Library/Application Support/stackfeat``, on Windows
``%LOCALAPPDATA%\\stackfeat``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stackfeat.errors import UsageError

logger = logging.getLogger(__name__)

VARIABLE = "STACKFEAT_STATE"
MAX_BYTES = 4_000_000
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_HAS_OWNERS = hasattr(os, "geteuid")


def state_folder() -> Path:
    """Return the folder; it may not be there yet.

    Raises
    ------
    UsageError
        If ``STACKFEAT_STATE`` is not an absolute path: a relative one would lie in whatever folder was received.
    """
    given = os.environ.get(VARIABLE, "")
    if given:
        if not Path(given).is_absolute():
            raise UsageError(
                f"{VARIABLE} must be an absolute path; got {given!r}; write it out from the root"
            )
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "stackfeat"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "stackfeat"
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    # The specification says to ignore a relative path.
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "stackfeat"


def read_record(kind: str, about: Path) -> dict[str, Any] | None:
    """Return the record about a path, or None where there is none that can be believed."""
    path = _path(kind, about)
    found = _believed(path) if _is_own(path.parent.parent, path.parent) else None
    return found if found is not None and found.get("about") == str(about) else None


def write_record(kind: str, about: Path, values: dict[str, Any]) -> None:
    """Write a record whole, readable and writable by its owner alone.

    Raises
    ------
    UsageError
        If the folder cannot be written, or others may write in it.
    """
    path = _path(kind, about)
    text = json.dumps({"about": str(about), **values}, indent=1, sort_keys=True) + "\n"
    temporary = ""
    try:
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        if not _is_own(path.parent.parent, path.parent):
            raise PermissionError(
                0, "others could have written in it; remove it, or make it yours with mode 0700"
            )
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(_FILE_MODE)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
        raise UsageError(
            f"what is trusted is remembered in {path.parent}, which must be yours and writable; got "
            f"{error.strerror or error}. Repair it, or name another folder in {VARIABLE}"
        ) from error


def remove_record(kind: str, about: Path) -> bool:
    """Forget a record; return whether there was one."""
    try:
        _path(kind, about).unlink()
    except OSError:
        return False
    return True


def records(kind: str) -> Iterator[dict[str, Any]]:
    """Yield all records of a kind that can be believed, by path."""
    folder = state_folder() / kind
    if not _is_own(folder.parent, folder):
        return
    found = [_believed(path) for path in sorted(folder.glob("*.json"))]
    yield from sorted((item for item in found if item is not None), key=lambda item: str(item.get("about")))


def _path(kind: str, about: Path) -> Path:
    name = hashlib.sha256(os.fsencode(about)).hexdigest()
    return state_folder() / kind / f"{name}.json"


def _is_own(*folders: Path) -> bool:
    return all(_problem(folder, stat.S_ISDIR) is None for folder in folders)


def _believed(path: Path) -> dict[str, Any] | None:
    """Read a file that only its owner can have written; say why one is ignored."""
    if _problem(path, stat.S_ISREG) is not None:
        return None
    values: Any = None
    try:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            data = file.read(MAX_BYTES + 1)
        values = json.loads(data) if len(data) <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        _ignored(path, f"it cannot be read ({error})")
        return None
    if not isinstance(values, dict):
        _ignored(path, "it is damaged")
        return None
    return values


def _problem(path: Path, is_kind: Any) -> str | None:
    """Return why a file or folder is not believed, after a warning; "absent" without one."""
    try:
        found = path.lstat()
    except OSError:
        return "absent"
    if not is_kind(found.st_mode):
        problem = "it is a link, or of another kind"
    elif _HAS_OWNERS and found.st_uid != os.geteuid():
        problem = f"it belongs to user {found.st_uid}"
    elif _HAS_OWNERS and found.st_mode & _WRITABLE_BY_OTHERS:
        problem = f"others may write to it (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return None
    _ignored(path, problem)
    return problem


def _ignored(path: Path, why: str) -> None:
    logger.warning("what was trusted is ignored: %s: %s. Remove it and trust again", path, why)
