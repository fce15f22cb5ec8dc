"""Fingerprint of a data file and the options that say how it is read; the root of every key.

In:  a path (or ``sklearn:NAME``) and `DataOptions`.
Out: a SHA-256. The hash of a large file is remembered while size, time and inode stay the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from stackfeat.data.options import DataOptions
from stackfeat.errors import DataError

logger = logging.getLogger(__name__)

VERSION = 1
"""Raised when the same file and options are read into other arrays."""

_FILES = {"train", "test", "sample_submission"}
_remembered: dict[str, str] = {}


def fingerprint(path: Path | str, options: DataOptions, memory: Path | None = None) -> str:
    """Return the SHA-256 of a file's bytes together with the options that change how it is read.

    Parameters
    ----------
    path : Path or str
    options : DataOptions
        The names of its files do not count.
    memory : Path, optional
        A JSON file that remembers hashes between processes. It may be absent, damaged or read-only.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    described = {key: value for key, value in options.to_json().items() if key not in _FILES}
    if str(path).startswith("sklearn:"):
        content = f"{path} {version('scikit-learn')}"
    else:
        content = hash_file(Path(path), memory)
    text = json.dumps([VERSION, content, described], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path, memory: Path | None = None) -> str:
    """Return the SHA-256 of a file's bytes, remembered as `fingerprint` does."""
    try:
        status = path.stat()
        identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
        if identity not in _remembered and memory is not None:
            _remembered.update(_read_memory(memory))
        if identity not in _remembered:
            with path.open("rb") as file:
                _remembered[identity] = hashlib.file_digest(file, "sha256").hexdigest()
            if memory is not None:
                _write_memory(memory, identity)
    except OSError as error:
        raise DataError(
            f"{path}: the file must be readable; got: {error.strerror}; check the path"
        ) from error
    return _remembered[identity]


def _read_memory(memory: Path) -> dict[str, str]:
    try:
        values = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    is_whole = isinstance(values, dict) and all(
        isinstance(value, str) and len(value) == 64 for value in values.values()
    )
    return values if is_whole else {}


def _write_memory(memory: Path, identity: str) -> None:
    """Add one hash. Two processes may overwrite each other's: the loser's file is hashed again."""
    values = {**_read_memory(memory), identity: _remembered[identity]}
    temporary = memory.with_name(f"{memory.name}.{hashlib.sha256(identity.encode()).hexdigest()[:8]}.tmp")
    try:
        temporary.write_text(json.dumps(values, indent=0))
        temporary.replace(memory)
    except OSError as error:
        logger.info("hashes of data files are not remembered: %s", error)
        with suppress(OSError):
            temporary.unlink()
