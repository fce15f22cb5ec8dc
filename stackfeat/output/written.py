"""Written: what each large file of a run folder was made of, so that a rerun does not make it again.

In:  a run folder.
Out: whether a file still is what a recipe would give: same recipe, same bytes on disk.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from stackfeat.output.files import write_json
from stackfeat.store import hash_recipe

RECORD = ".written.json"


class Written:
    """The record of one run folder.

    Parameters
    ----------
    folder : Path
        Its record may be absent or damaged: then every file counts as not written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record: dict[str, list[str]] = {}
        self.before = _read(folder / RECORD)

    def is_current(self, name: str, made_of: Any) -> bool:
        """Whether the file is there, with the bytes that `made_of` gave; if so it stays in the record."""
        entry = [hash_recipe({"made_of": made_of}), _hash(self.folder / name)]
        if self.before.get(name) != entry:
            return False
        self.record[name] = entry
        return True

    def note(self, name: str, made_of: Any) -> None:
        """Take note of a file that was just written."""
        self.record[name] = [hash_recipe({"made_of": made_of}), _hash(self.folder / name)]

    def save(self) -> None:
        """Write the record; files that were neither current nor written are forgotten."""
        write_json(self.folder / RECORD, self.record)


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _read(path: Path) -> dict[str, list[str]]:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
