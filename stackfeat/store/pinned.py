"""A store that was packed up: it holds the very entries that a list names, and is only read.

In:  a folder of entries and the SHA-256 of each manifest.
Out: entries every byte of which hangs on that list.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from stackfeat.errors import DamagedEntryError, StoreError
from stackfeat.store.disk import MANIFEST, explained, hash_file
from stackfeat.store.entry import Entry
from stackfeat.store.store import Store


class PinnedStore(Store):
    """Entries whose manifests are known by hash.

    Parameters
    ----------
    root : Path
    manifests : mapping of str to str
        Key to the SHA-256 of the entry's ``manifest.json``.
    remedy : str
        What to do where an entry is not the one that was packed.
    """

    def __init__(self, root: Path, manifests: Mapping[str, str], remedy: str) -> None:
        super().__init__(root, "readonly")
        self.manifests, self._remedy = dict(manifests), remedy

    def has(self, key: str) -> bool:
        return key in self.manifests and super().has(key)

    def read(self, key: str) -> Entry:
        if not self.has(key):
            raise StoreError(f"entry {key} must be in {self.root}; got none; {self._remedy}")
        entry = super().read(key)
        path = entry.path / MANIFEST
        with explained(path):
            is_packed = hash_file(path) == self.manifests[key]
        if not is_packed:
            entry.refuse(f"{MANIFEST} is another one than was packed")
        return entry

    def _newer(self, key: str, seen: dict[str, Any]) -> None:
        """Nothing: only the entries of the list count."""

    def _put_aside(self, key: str, fault: str, seen: Any) -> NoReturn:
        place = self._folder(key)
        raise DamagedEntryError(f"{place} must be as it was written; got damage: {fault}; {self._remedy}")
