"""Bytes that can be trusted: finished results by key, written whole or not at all.

Here belong recipes and their hashes, entries (named arrays, JSON values and files), writing,
verifying, putting aside what is damaged, and cleaning. What the entries mean (blocks, nets, folds)
does not: this folder knows no stage of the flow.
"""

from stackfeat.store.cleaning import CleanReport
from stackfeat.store.disk import from_safe_name, safe_name
from stackfeat.store.entry import Entry, EntryStore, EntryWriter, reading
from stackfeat.store.memory import LayeredStore, MemoryStore
from stackfeat.store.recipe import canonical_json, hash_recipe
from stackfeat.store.run_files import Scratch
from stackfeat.store.store import Store

__all__ = [
    "CleanReport",
    "Entry",
    "EntryStore",
    "EntryWriter",
    "LayeredStore",
    "MemoryStore",
    "Scratch",
    "Store",
    "canonical_json",
    "from_safe_name",
    "hash_recipe",
    "reading",
    "safe_name",
]
