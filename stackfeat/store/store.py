"""The store on disk: finished results by key, complete or not there at all.

In:  a key, what it is a key of, and files written inside a ``with`` block.
Out: entries that other processes and later runs read. An entry is written under a temporary name,
synced, and renamed, so a crash leaves nothing half done; what is damaged later is put aside.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
import uuid
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from stackfeat.errors import DamagedEntryError, StoreError
from stackfeat.store.cleaning import CleanReport, clean_dead, clean_entries, clean_leftovers, unique_name
from stackfeat.store.disk import DONE, MANIFEST, explained, hash_file, is_about, make_folder, store_error
from stackfeat.store.entry import Entry, EntryStore, EntryWriter
from stackfeat.store.folder import FolderEntry, FolderWriter, publish, put_aside, read_manifest
from stackfeat.store.recipe import canonical_json, differences
from stackfeat.store.run_files import PARTIAL, Jobs, Scratch

logger = logging.getLogger(__name__)

Cache = Literal["auto", "refresh", "readonly"]
_TRIES = 20
_PAUSE_SECONDS = 0.01
_KEY = re.compile(r"[0-9a-z_-]{3,128}")


class Store(EntryStore):
    """Entries in a folder, shared by processes and runs.

    Parameters
    ----------
    root : Path or str
        The store's folder; created (for this user alone) by the first write.
    cache : {"auto", "refresh", "readonly"}
        ``refresh``: entries older than this object do not count, and are replaced.
        ``readonly``: nothing is written, put aside or cleaned.
    started : str, optional
        ``refresh``: since when entries count, the `started` of another Store. Worker processes
        need the one of their parent.
    run : str, optional
        Id of the run that jobs belong to, by default a new one. Worker processes need the one of
        their parent.

    Raises
    ------
    StoreError
        If everybody may write to the folder: then anybody could plant results.
    """

    def __init__(
        self,
        root: Path | str,
        cache: Cache = "auto",
        *,
        started: str | None = None,
        run: str | None = None,
    ) -> None:
        self.root = Path(root)
        self.cache = cache
        self.started = started or now()
        self.run = run or uuid.uuid4().hex
        self.fresh: set[str] = set()
        self._is_running = False
        self._jobs = Jobs(self.root, self.run, self._new_temporary)
        self._refuse_world_writable()

    def has(self, key: str) -> bool:
        """Return whether there is a finished entry (``refresh``: a new one)."""
        marker = self._folder(key) / DONE
        with explained(marker):
            finished = marker.is_file()
        if not finished or self.cache != "refresh" or key in self.fresh:
            return finished
        manifest = self._manifest_or_none(key)
        return manifest is not None and manifest["created"] >= self.started

    def read(self, key: str) -> Entry:
        """Return a finished entry; its files are verified when they are asked for.

        Raises
        ------
        StoreError
            If there is no such entry, or it cannot be read.
        DamagedEntryError
            If its manifest is damaged: the entry has been put aside. Or if it is gone while a run works
            that others share the store with: they have put it aside, or are replacing it.
        """
        manifest = self._patiently(key)
        if manifest is None:
            message = f"entry {key} must be in the store {self.root}; got none; compute it first"
            raise DamagedEntryError(message) if self._is_in_use() else StoreError(message)
        if isinstance(manifest, str):
            self._put_aside(key, manifest, manifest)
        return FolderEntry(key, self._folder(key), manifest, self._put_aside, self._newer)

    @contextmanager
    def write(self, key: str, kind: str, recipe: Mapping[str, Any]) -> Iterator[EntryWriter]:
        """Write an entry: it exists when the block ends well, and leaves nothing when it does not.

        Two writers of one key both end well; the first one's entry stays.

        Raises
        ------
        StoreError
            If the disk is full, read-only or not allowed, or the store is ``readonly``.
        TypeError, ValueError
            If the recipe is not plain JSON.
        """
        head = {"key": key, "kind": kind, "recipe": json.loads(canonical_json(recipe)), "created": ""}
        self._folder(key)
        folder = self._new_temporary()
        try:
            with explained(folder):
                folder.mkdir(mode=0o775)
            writer = FolderWriter(folder)
            try:
                yield writer
            except OSError as error:
                if is_about(error, folder):
                    raise store_error(error, folder) from error
                raise
            writer.finish({**head, "created": now()})
            with explained(self._folder(key)):
                if publish(folder, self._folder(key), lambda: self.has(key)):
                    self.fresh.add(key)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keys(self, kind: str | None = None) -> list[str]:
        """Return the keys of all finished entries, sorted; of one kind where it is given."""
        names = (path.parent.name for path in (self.root / "entries").glob(f"*/*/{DONE}"))
        keys = sorted(name for name in names if _KEY.fullmatch(name))
        if kind is None:
            return keys
        manifests = {key: self._manifest_or_none(key) for key in keys}
        return [key for key, manifest in manifests.items() if manifest and manifest["kind"] == kind]

    def nearest(self, recipe: Mapping[str, Any], kind: str) -> tuple[str, list[str]] | None:
        """Return the other entry of a kind whose recipe differs least, and what differs.

        Returns
        -------
        tuple of (str, list of str) or None
            Its key, and lines such as ``member.train.lr: 0.001 -> 0.01`` (stored -> given).
            An entry of exactly this recipe does not count. None: there is no other entry.
        """
        wanted = json.loads(canonical_json(recipe))
        found: list[tuple[int, str, list[str]]] = []
        for key in self.keys():
            manifest = self._manifest_or_none(key)
            if manifest and manifest["kind"] == kind and manifest["recipe"] != wanted:
                changes = differences(manifest["recipe"], wanted)
                found.append((len(changes), key, changes))
        if not found:
            return None
        _, key, changes = min(found)
        return key, changes

    def clean(self, *, older_than_days: float | None = None, keep: Container[str] = ()) -> CleanReport:
        """Remove what dead writers left, damaged entries, and entries past an age.

        Parameters
        ----------
        older_than_days : float, optional
            Entries created longer ago are removed; without it none is.
        keep : container of str
            Keys that stay whatever their age.
        """
        self._refuse_readonly()
        with explained(self.root):
            report = clean_leftovers(self.root, self.has)
            if older_than_days is None:
                return report
            manifests = {key: self._manifest_or_none(key) for key in self.keys() if key not in keep}
            created = {
                self._folder(key): manifest["created"] for key, manifest in manifests.items() if manifest
            }
            n_entries, n_bytes = clean_entries(self.root, created, older_than_days)
            return replace(report, entries=n_entries, bytes=report.bytes + n_bytes)

    def write_job(self, key: str, job: Mapping[str, Any]) -> None:
        """Write what a worker of this run needs to know to compute a key; replaces an older job."""
        self._jobs.write(key, job)

    def read_job(self, key: str) -> dict[str, Any]:
        """Return a job of this run; StoreError if there is none."""
        return self._jobs.read(key)

    def remove_job(self, key: str) -> None:
        """Remove a job of this run; no error if there is none."""
        self._refuse_readonly()
        self._jobs.remove(key)

    def sweep(self) -> None:
        """Remove what provably dead runs and writers have left; nothing in a store that is only read."""
        if self.cache != "readonly":
            with suppress(StoreError), explained(self.root):
                clean_dead(self.root)

    def end_run(self) -> None:
        """Remove all jobs of this run: it needs no worker any more."""
        self._jobs.end()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Tidy up after dead runs at first, and after this one in the end."""
        self.sweep()
        self._is_running = True
        try:
            yield
        finally:
            self._is_running = False
            self.end_run()

    def scratch(self, key: str) -> Scratch | None:
        """Return where the job of this key notes how far it is; None in a store that is only read."""
        if self.cache == "readonly":
            return None
        self._folder(key)
        since = self.started if self.cache == "refresh" else None
        return Scratch(self.root / PARTIAL / key, self._new_temporary, since)

    def _folder(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"a key must be 3 to 128 of 0-9 a-z _ -; got key={key!r}; use hash_recipe")
        return self.root / "entries" / key[:2] / key

    def _manifest_or_none(self, key: str) -> dict[str, Any] | None:
        """Return a manifest, or None where the entry is gone, damaged or not readable."""
        try:
            manifest = read_manifest(self._folder(key), key)
        except OSError:
            return None
        return manifest if isinstance(manifest, dict) else None

    def _new_temporary(self) -> Path:
        self._refuse_readonly()
        with explained(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._refuse_world_writable()
            make_folder(self.root / "tmp")
        return self.root / "tmp" / unique_name()

    def _patiently(self, key: str) -> dict[str, Any] | str | None:
        """Return what `read_manifest` does, or None: between two renames of a writer there is no entry."""
        folder = self._folder(key)
        with explained(folder):
            for _ in range(_TRIES if self._is_in_use() else 1):
                try:
                    return read_manifest(folder, key)
                except (FileNotFoundError, NotADirectoryError):
                    time.sleep(_PAUSE_SECONDS)
        return None

    def _is_in_use(self) -> bool:
        """Return whether this object works for a run, and its store has not been removed meanwhile."""
        if self._jobs.is_claimed or not self._is_running:
            return self._jobs.folder.is_dir()
        return (self.root / "entries").is_dir()

    def _newer(self, key: str, seen: dict[str, Any]) -> dict[str, Any] | None:
        """Return the manifest of another entry that has taken the place of the one that was seen."""
        found = self._patiently(key)
        return found if isinstance(found, dict) and found != seen else None

    def _put_aside(self, key: str, fault: str, seen: Any) -> NoReturn:
        """Move a damaged entry to quarantine, so that it is computed again, and raise."""

        def is_damaged(aside: Path) -> bool:
            try:
                return bool(read_manifest(aside, key) == seen)
            except OSError:
                return True

        self.fresh.discard(key)
        if self.cache == "readonly":
            outcome = "it stays, because the store is readonly; use cache: auto to compute it anew"
        else:
            outcome = put_aside(self._folder(key), self.root / "quarantine", is_damaged)
        message = f"a stored entry must be as it was written; got damage in {key}: {fault}; {outcome}"
        logger.warning(message)
        raise DamagedEntryError(message)

    def _refuse_readonly(self) -> None:
        if self.cache == "readonly":
            raise StoreError(
                f"cache: readonly must only read the store {self.root}; got a write; "
                "use cache: auto, or run what is missing on a store that can be written"
            )

    def _refuse_world_writable(self) -> None:
        with explained(self.root):
            if not self.root.exists():
                return
            mode = self.root.stat().st_mode
        if mode & 0o002:
            raise StoreError(
                f"the store {self.root} must not be writable by everybody, who could plant results in it; "
                f"got mode={mode & 0o7777:04o}; run chmod o-w {self.root}"
            )


class PinnedStore(Store):
    """A store that was packed up and is only read: every byte hangs on the hashes of its manifests.

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


def now() -> str:
    """Return the time as text that sorts by time."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
