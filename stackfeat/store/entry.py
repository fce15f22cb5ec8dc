"""Entries: the named arrays, JSON values and files of one finished result.

`Entry` reads and `EntryWriter` writes; how the bytes are kept (folder or memory) is up to their
subclasses. `EntryStore` is what code that needs any store may rely on.
"""

from __future__ import annotations

import builtins
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from stackfeat.errors import StoreError, StructureError, as_written
from stackfeat.store.run_files import Scratch
from stackfeat.structure import checked, parse_json


class Entry(ABC):
    """One finished entry, read-only.

    Attributes
    ----------
    key : str
        Hash of the recipe.
    path : Path
        Its folder; for an entry in memory a name that is not on disk.
    manifest : dict
        ``key``, ``kind``, ``recipe``, ``created`` (UTC, ISO 8601) and ``files``, which maps full
        file names (``proba.npy``) to ``size`` and ``sha256`` (in memory: ``size`` only).
    """

    def __init__(self, key: str, path: Path, manifest: dict[str, Any]) -> None:
        self.key = key
        self.path = path
        self.manifest = manifest

    @property
    def kind(self) -> str:
        """What the entry is, such as ``block`` or ``samples``."""
        return str(self.manifest["kind"])

    @property
    def recipe(self) -> dict[str, Any]:
        """What it was made from."""
        recipe: dict[str, Any] = self.manifest["recipe"]
        return recipe

    @property
    def files(self) -> list[str]:
        """Full names of its files."""
        return list(self.manifest["files"])

    def has(self, name: str) -> bool:
        """Return whether there is a file of this full name, such as ``proba.npy``."""
        return name in self.manifest["files"]

    def json(self, name: str) -> Any:
        """Return the value of the file ``NAME.json``."""
        return self.structure(name, Any)

    def structure(self, name: str, kind: Any) -> Any:
        """Return the value of the file ``NAME.json``, built as an annotation says: a dataclass, a list of them.

        Raises
        ------
        DamagedEntryError
            If it is not made so; the entry has been put aside.
        """
        where, text = f"{name}.json", self.bytes(f"{name}.json")
        try:
            return checked(kind, parse_json(text, where), where)
        except StructureError as error:
            self.refuse(str(error))

    @abstractmethod
    def refuse(self, fault: str) -> NoReturn:
        """Put the entry aside, because something in it cannot be what was written.

        Raises
        ------
        DamagedEntryError
            Always.
        """

    @abstractmethod
    def array(self, name: str, *, mmap: bool = False) -> np.ndarray:
        """Return the array of the file ``NAME.npy``, verified before it is parsed.

        Parameters
        ----------
        name : str
            As given to `EntryWriter.array`.
        mmap : bool
            Give a read-only view that needs no memory instead of a writable copy.

        Raises
        ------
        StoreError
            If the entry has no such file, or it cannot be read.
        DamagedEntryError
            If its bytes are not those that were written; the entry has been put aside.
        """

    @abstractmethod
    def bytes(self, name: str) -> builtins.bytes:
        """Return the bytes of the file of this full name; raises as `array`."""

    @abstractmethod
    def file(self, name: str) -> Path:
        """Return the path of a verified file, for readers that want one; raises as `array`."""

    def _listed(self, name: str) -> dict[str, Any]:
        files: dict[str, dict[str, Any]] = self.manifest["files"]
        if name not in files:
            raise StoreError(
                f"entry {self.key} ({self.kind}) must have the file {name!r}; got the files "
                f"{', '.join(sorted(files)) or '(none)'}; ask for one of them"
            )
        return files[name]


@contextmanager
def reading(entry: Entry) -> Iterator[None]:
    """Put an entry aside whatever fails over what it holds: it is not what was written.

    Raises
    ------
    DamagedEntryError
        In the place of any error that is not one of ours already.
    """
    try:
        with as_written("it", "compute it again"):
            yield
    except StructureError as error:
        entry.refuse(str(error))


class EntryWriter(ABC):
    """Takes the parts of one entry; nothing can be read until the ``with`` block has ended well."""

    def json(self, name: str, value: object) -> None:
        """Write a JSON value as ``NAME.json``; tuples become lists."""
        self.bytes(f"{name}.json", json.dumps(value).encode())

    @abstractmethod
    def array(self, name: str, values: Any) -> None:
        """Write an array as ``NAME.npy``, in C order.

        Raises
        ------
        TypeError
            If the values are Python objects, which could only be stored as code (pickle).
        """

    @abstractmethod
    def pieces(self, name: str, shape: tuple[int, ...], dtype: Any, pieces: Iterable[np.ndarray]) -> None:
        """Write an array of this shape as ``NAME.npy``, of which only a piece of rows is in memory at once."""

    @abstractmethod
    def bytes(self, name: str, data: builtins.bytes) -> None:
        """Write bytes as the file of exactly this name."""

    @abstractmethod
    def file(self, name: str) -> Path:
        """Return a path to write to, for libraries that write their own files."""


class EntryStore(Protocol):
    """What every store can do: `Store`, `MemoryStore`, `LayeredStore`."""

    def has(self, key: str) -> bool: ...
    def read(self, key: str) -> Entry: ...
    def write(
        self, key: str, kind: str, recipe: Mapping[str, Any]
    ) -> AbstractContextManager[EntryWriter]: ...
    def keys(self, kind: str | None = None) -> list[str]: ...
    def write_job(self, key: str, job: Mapping[str, Any]) -> None: ...
    def read_job(self, key: str) -> dict[str, Any]: ...
    def remove_job(self, key: str) -> None: ...
    def scratch(self, key: str) -> Scratch | None: ...

    def manifest(self, key: str) -> dict[str, Any]:
        """Return what an entry was made of; raises as `read`."""
        return self.read(key).manifest


def plain_array(values: Any, name: str) -> np.ndarray:
    """Return values as an array in C order, the only order that is stored.

    Matrix products depend on the order of memory in their last bits; with one order, results are
    the same whether an array comes from disk or from memory.
    """
    array = np.asarray(values, order="C")
    if array.dtype.hasobject:
        raise TypeError(
            f"array {name!r} must hold numbers, booleans or fixed-width text; got dtype={array.dtype}; "
            "convert it (text: .astype(str)) or write it with json()"
        )
    return array


def claim(name: str, taken: Mapping[str, object]) -> None:
    """Refuse a second file of one name in an entry."""
    if name in taken:
        raise ValueError(f"file names in an entry must differ; got {name!r} a second time; use another name")
