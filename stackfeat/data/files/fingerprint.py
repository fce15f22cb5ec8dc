"""Fingerprint of a data file and the options that say how it is read; the root of every key.

In:  a path (or ``sklearn:NAME``) and `DataOptions`.
Out: a SHA-256. The hash of a large file is remembered while its stamp says that it is the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stackfeat.data.files.tables import files_beside, read_frame
from stackfeat.data.options import FILES, DataOptions
from stackfeat.errors import NO_SPACE, DataError, StructureError
from stackfeat.store import disk
from stackfeat.store.cleaning import unique_name
from stackfeat.structure import checked, parse_json

logger = logging.getLogger(__name__)

VERSION = 1
"""Raised when the same file and options are read into other arrays."""

_remembered: dict[str, str] = {}


def fingerprint(
    path: Path | str, options: DataOptions, memory: Path | None = None, folder: Path | None = None
) -> str:
    """Return the SHA-256 of a file's bytes together with the options that change how it is read.

    Parameters
    ----------
    path : Path or str
    options : DataOptions
        The names of its files do not count; the bytes of the npy and image files that its inputs name do.
    memory : Path, optional
        A JSON file that remembers hashes between processes. It may be absent, damaged or read-only.
    folder : Path, optional
        What roots of image files are relative to; by default the folder of `path`.

    Returns
    -------
    str
        64 hexadecimal digits; of a built-in set its name, for recipes know the version of its library.
    """
    described = {key: value for key, value in options.to_json().items() if key not in FILES}
    if isinstance(path, str):
        return path
    content: Any = _hash_files([path], memory)[0]
    beside = _files_of_inputs(path, options, path.parent if folder is None else folder)
    if beside:
        content = [content, _hash_files(beside, memory)]
    text = json.dumps([VERSION, content, described], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _files_of_inputs(path: Path, options: DataOptions, folder: Path) -> list[Path]:
    """Return the files of arrays and images that the rows of a file name, in the order of the rows."""
    named = (options.inputs or {}).values()
    files = [file for given in named for _, file in files_beside(path, given)]
    if any(given.column is not None for given in named):
        # Only the rows say which images count: a folder may hold those of other files too.
        frame = read_frame(path, options)
        for given in named:
            if given.column in frame.columns:
                root = folder / (given.root or ".")
                files += [root / str(name) for name in frame[given.column]]
    return files


def hash_file(path: Path, memory: Path | None = None) -> str:
    """Return the SHA-256 of a file's bytes, remembered as `fingerprint` does."""
    return _hash_files([path], memory)[0]


def _hash_files(paths: Sequence[Path], memory: Path | None) -> list[str]:
    """Return the hash of each file; of one among several "" where it cannot be read."""
    hashes, fresh = [], []
    is_read = memory is None
    for path in paths:
        try:
            looked_at = disk.now_ns()
            stamp = disk.stamp_of(path.stat())
            identity = "|".join([str(path.resolve()), *map(str, stamp)])
            if identity not in _remembered and not is_read and memory is not None:
                _remembered.update(_read_memory(memory))
                is_read = True
            found = _remembered.get(identity)
            if found is None:
                found = disk.hash_file(path)
                if disk.is_settled(stamp, looked_at):
                    _remembered[identity] = found
                    fresh.append(identity)
            hashes.append(found)
        except OSError as error:
            # A missing image is a matter of the loader, which names all of them.
            if len(paths) > 1:
                hashes.append("")
                continue
            raise DataError(f"{path}: must be readable; got: {error.strerror}; check the path") from error
    if fresh and memory is not None:
        _write_memory(memory, fresh)
    return hashes


def _read_memory(memory: Path) -> dict[str, str]:
    with suppress(OSError, StructureError):
        text = disk.read_text_file(memory)
        values: dict[str, str] = checked(dict[str, str], parse_json(text, memory.name), memory.name)
        if all(len(value) == 64 for value in values.values()):
            return values
    return {}


def _write_memory(memory: Path, identities: Sequence[str]) -> None:
    """Add hashes. Two processes may overwrite each other's: the loser's files are hashed again."""
    values = {**_read_memory(memory), **{identity: _remembered[identity] for identity in identities}}
    temporary = memory.with_name(f"{unique_name()}.tmp")
    try:
        text = json.dumps(values, indent=0).encode()
        disk.replace_file(memory, text, temporary=temporary, synced=False)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise disk.store_error(error, memory) from error
        logger.info("hashes of data files are not remembered: %s", error)
