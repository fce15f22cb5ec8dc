"""Stores without a folder of their own: in memory, and several stores read as one.

In:  the same calls as `Store`.
Out: the same arrays and values, bit for bit; nothing outlives the process.
"""

from __future__ import annotations

import builtins
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from stackfeat.errors import DamagedEntryError, StoreError
from stackfeat.store.disk import TemporaryFolder, safe_name, write_file
from stackfeat.store.entry import Entry, EntryStore, EntryWriter, claim, plain_array
from stackfeat.store.npy import parse_npy
from stackfeat.store.recipe import canonical_json
from stackfeat.store.run_files import Scratch
from stackfeat.store.store import now

_Content = np.ndarray | bytes


class MemoryStore(EntryStore):
    """Entries in memory: for cross-fitting without a store, and for predicting."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._jobs: dict[str, str] = {}

    def has(self, key: str) -> bool:
        """Return whether there is an entry."""
        return key in self._entries

    def read(self, key: str) -> Entry:
        """Return an entry; StoreError if there is none."""
        if key not in self._entries:
            raise StoreError(f"entry {key} must be in the store; got none in memory; compute it first")
        return self._entries[key]

    @contextmanager
    def write(self, key: str, kind: str, recipe: Mapping[str, Any]) -> Iterator[EntryWriter]:
        """Write an entry, as `Store.write`."""
        plain_recipe = json.loads(canonical_json(recipe))
        with ExitStack() as stack:
            writer = MemoryWriter(stack)
            yield writer
            contents = writer.finish()
        files = {name: {"size": _size(content)} for name, content in contents.items()}
        manifest = {"key": key, "kind": kind, "recipe": plain_recipe, "created": now(), "files": files}
        self._entries.setdefault(key, MemoryEntry(key, manifest, contents))

    def keys(self, kind: str | None = None) -> list[str]:
        """Return the keys of all entries, sorted; of one kind where it is given."""
        return sorted(key for key, entry in self._entries.items() if kind in (None, entry.kind))

    def write_job(self, key: str, job: Mapping[str, Any]) -> None:
        """Keep what is needed to compute a key."""
        self._jobs[key] = json.dumps(job)

    def read_job(self, key: str) -> dict[str, Any]:
        """Return a job; StoreError if there is none."""
        if key not in self._jobs:
            raise StoreError(f"job {key} must be in the store; got none in memory; write it first")
        job: dict[str, Any] = json.loads(self._jobs[key])
        return job

    def remove_job(self, key: str) -> None:
        """Remove a job; no error if there is none."""
        self._jobs.pop(key, None)

    def scratch(self, key: str) -> None:
        """Return None: nothing here outlives the process."""


class LayeredStore(EntryStore):
    """Several stores as one: reads from the first that has an entry, writes to the first.

    Parameters
    ----------
    stores : sequence of stores
        At least one.
    """

    def __init__(self, stores: Sequence[EntryStore]) -> None:
        if not stores:
            raise ValueError("a LayeredStore must have at least one store; got stores=[]; give it one")
        self.stores = tuple(stores)

    def has(self, key: str) -> bool:
        """Return whether any of the stores has an entry."""
        return any(store.has(key) for store in self.stores)

    def read(self, key: str) -> Entry:
        """Return an entry from the first store that has it; raises as that store's `read`."""
        return self._holder(key).read(key)

    def write(self, key: str, kind: str, recipe: Mapping[str, Any]) -> AbstractContextManager[EntryWriter]:
        """Write an entry to the first store."""
        return self.stores[0].write(key, kind, recipe)

    def keys(self, kind: str | None = None) -> list[str]:
        """Return the keys of all stores, sorted; of one kind where it is given."""
        return sorted({key for store in self.stores for key in store.keys(kind)})

    def write_job(self, key: str, job: Mapping[str, Any]) -> None:
        """Write a job to the first store."""
        self.stores[0].write_job(key, job)

    def read_job(self, key: str) -> dict[str, Any]:
        """Return a job of the first store."""
        return self.stores[0].read_job(key)

    def remove_job(self, key: str) -> None:
        """Remove a job from the first store."""
        self.stores[0].remove_job(key)

    def scratch(self, key: str) -> Scratch | None:
        """Return where the first store's job of this key notes how far it is."""
        return self.stores[0].scratch(key)

    def _holder(self, key: str) -> EntryStore:
        return next((store for store in self.stores if store.has(key)), self.stores[0])


class MemoryWriter(EntryWriter):
    """Collects the parts of one entry; writers that need a path get one, until the stack is closed."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._folder = Path()
        self._contents: dict[str, _Content | None] = {}

    def array(self, name: str, values: Any) -> None:
        claim(f"{name}.npy", self._contents)
        kept = plain_array(values, name).copy(order="C")
        kept.flags.writeable = False
        self._contents[f"{name}.npy"] = kept

    def pieces(self, name: str, shape: tuple[int, ...], dtype: Any, pieces: Iterable[np.ndarray]) -> None:
        claim(f"{name}.npy", self._contents)
        kept = np.concatenate([*pieces, np.empty((0, *shape[1:]), dtype)]).astype(
            dtype, order="C", copy=False
        )
        kept.flags.writeable = False
        self._contents[f"{name}.npy"] = kept

    def bytes(self, name: str, data: builtins.bytes) -> None:
        claim(name, self._contents)
        self._contents[name] = builtins.bytes(data)

    def file(self, name: str) -> Path:
        claim(name, self._contents)
        if not any(content is None for content in self._contents.values()):
            self._folder = Path(self._stack.enter_context(TemporaryFolder()))
        self._contents[name] = None
        return self._folder / safe_name(name)

    def finish(self) -> dict[str, _Content]:
        """Return all parts by full file name."""
        return {
            name: (self._folder / safe_name(name)).read_bytes() if content is None else content
            for name, content in self._contents.items()
        }


class MemoryEntry(Entry):
    """One entry held in memory; files are written to a temporary folder when asked for."""

    def __init__(self, key: str, manifest: dict[str, Any], contents: dict[str, _Content]) -> None:
        super().__init__(key, Path(f"memory:{key}"), manifest)
        self._contents = contents
        self._folder: TemporaryFolder | None = None

    def array(self, name: str, *, mmap: bool = False) -> np.ndarray:
        content = self._content(f"{name}.npy")
        if not isinstance(content, np.ndarray):
            content = parse_npy(content, f"{name}.npy")
        return content if mmap else content.copy()

    def bytes(self, name: str) -> builtins.bytes:
        content = self._content(name)
        if isinstance(content, bytes):
            return content
        buffer = io.BytesIO()
        np.save(buffer, content, allow_pickle=False)
        return buffer.getvalue()

    def file(self, name: str) -> Path:
        data = self.bytes(name)
        self._folder = self._folder or TemporaryFolder()
        path = Path(self._folder.name) / safe_name(name)
        path.unlink(missing_ok=True)
        write_file(path, data, synced=False)
        return path

    def refuse(self, fault: str) -> NoReturn:
        raise DamagedEntryError(f"entry {self.key} must be as it was written; got {fault}; compute it again")

    def _content(self, name: str) -> _Content:
        self._listed(name)
        return self._contents[name]


def _size(content: _Content) -> int:
    return content.nbytes if isinstance(content, np.ndarray) else len(content)
