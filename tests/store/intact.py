"""Whether all of a stored entry is as it was written."""

from stackfeat.errors import DamagedEntryError
from stackfeat.store import Store


def is_intact(store: Store, key: str) -> bool:
    """Whether there is an entry and all its files are intact; a damaged one is put aside."""
    if not store.has(key):
        return False
    try:
        entry = store.read(key)
        for name in entry.manifest["files"]:
            entry.file(name)
    except DamagedEntryError:
        return False
    return True
