"""The run folder: one run at a time writes it, and only what runs have written there is replaced or removed.

In:  a folder and a run's id.
Out: files of one run, and ``run.json`` that says whose they are. New files are prepared in a folder of their
     own beside the old ones; then ``run.json`` says that it is being written, they are put in place, and it
     says that it is whole. A kill at any moment leaves the old results or such a mark.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from stackfeat.errors import DataError, UsageError
from stackfeat.log import PACKAGE, VERSION, LineFormatter
from stackfeat.output.files import explained, write_bytes
from stackfeat.output.run_file import (
    AUDIT,
    EXPLANATION,
    FILE,
    PROVENANCE,
    SUBMISSION,
    RunFile,
    WrittenFile,
    find_run_file,
    foreign_files,
    hash_of,
    is_own_name,
)
from stackfeat.store import hash_recipe
from stackfeat.store.disk import sync
from stackfeat.store.lock import FileLock, read_note

logger = logging.getLogger(__name__)

LOCK = ".run.lock"
EDITED = "edited"
_STAGED = ".writing-"
_SHOWN = 5


class RunFolder:
    """A run folder as one run sees it.

    Parameters
    ----------
    folder : Path
        It may be missing.
    run : str
        Id of the run.
    source : Path, optional
        The config, or the training file without one, whose results are to be here: those of another that is still
        there are not replaced.
    """

    def __init__(self, folder: Path, run: str, source: Path | None = None) -> None:
        self.folder = folder
        self.run = run
        self.source = source
        self._staged = folder / f"{_STAGED}{run}"

    def refuse_foreign(self) -> None:
        """Refuse a folder with files of somebody else under the names of ours, or that a run is using.

        Nothing is written.

        Raises
        ------
        UsageError
        """
        with _explained(self.folder):
            there = next(path for path in (self.folder, *self.folder.parents) if os.path.lexists(path))
            if not there.is_dir():
                raise UsageError(
                    f"outputs.dir must be a folder, or a place for a new one; got {self.folder}, but {there} is "
                    "none; choose another outputs.dir"
                )
            if there == self.folder:
                self.listed()
                if (self.folder / LOCK).exists():
                    self._take_lock().release()

    @contextmanager
    def claimed(self, *logs: str) -> Iterator[None]:
        """Keep other runs out for the block; `logs` are the files that are added to.

        Raises
        ------
        UsageError
            As `refuse_foreign`.
        StoreError
            If the folder cannot be written.
        """
        self.refuse_foreign()
        with _explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = self._take_lock()
        try:
            with _explained(self.folder):
                self._begin(logs, may_clean=lock.is_proof)
            yield
        finally:
            shutil.rmtree(self._staged, ignore_errors=True)
            lock.release()

    @contextmanager
    def rewriting(self) -> Iterator[Draft]:
        """Give a draft to write to; when the block ends well, its files are the run folder's.

        Raises
        ------
        UsageError
            If somebody has put files of his own in the way; everything is as before then.
        StoreError
            If the folder cannot be written.
        """
        place = self._staged / "new"
        draft = Draft(self.folder, place, self.listed())
        try:
            yield draft
            with _explained(self.folder):
                self._publish(draft)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def add(self, name: str, data: bytes) -> None:
        """Add one file to those of a whole run, or replace it."""
        found = self.listed()
        new = self._staged / "added"
        write_bytes(new, data)
        with _explained(self.folder):
            before = hash_of(self.folder / name)
            if before and not found.is_unchanged(name, before):
                self._set_aside(name)
            files = {**found.files, name: WrittenFile(hash_of(new))}
            self._save(replace(found, files=files, before={**found.before, name: before} if before else {}))
            new.replace(self.folder / name)

    def listed(self) -> RunFile:
        """Return what runs have written here; UsageError where there is more in our places, or another config's."""
        try:
            found = find_run_file(self.folder)
        except DataError as error:
            raise UsageError(f"outputs.dir must be a folder of its own; {error}") from error
        listed = self._own(found or RunFile(self.run, VERSION, "writing"))
        foreign = foreign_files(self.folder, listed.names)
        if os.path.lexists(self.folder / LOCK) and not _is_lock(self.folder / LOCK):
            foreign.append(LOCK)
        if foreign:
            raise UsageError(_refusal(self.folder, foreign))
        return listed

    def _own(self, found: RunFile) -> RunFile:
        """Return what is here as results of our source; UsageError where they are those of another."""
        if self.source is None:
            return found
        folder, source = self.folder.resolve(), self.source.resolve()
        other = (folder / found.source).resolve()
        if found.source and other != source and other.is_file():
            raise UsageError(
                f"a run folder must be of one config or training file; got {self.folder}, with results of {other}, "
                f"for {source}; give it a name of its own (name, or --set name=NAME), or work in another folder"
            )
        return replace(found, source=Path(os.path.relpath(source, folder)).as_posix())

    def _take_lock(self) -> FileLock:
        lock = FileLock(self.folder / LOCK)
        if not lock.acquire():
            raise UsageError(
                f"a run folder must be written by one run at a time; got {self.folder}, which "
                f"{_holder(self.folder / LOCK)} is using; wait until it has ended, or choose another outputs.dir"
            )
        lock.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "run": self.run}))
        return lock

    def _begin(self, logs: Sequence[str], *, may_clean: bool) -> None:
        found = self.listed()
        if may_clean:
            for path in self.folder.glob(f"{_STAGED}*"):
                _remove_staged(path)
        self._staged.mkdir()
        # Whose folder this is, if we are killed: see `_remove_staged`.
        write_bytes(self._staged / FILE, RunFile(self.run, VERSION, "writing").sealed())
        if new := [log for log in logs if log not in found.logs]:
            self._save(replace(found, logs=(*found.logs, *new)))

    def _publish(self, draft: Draft) -> None:
        found, new = self.listed(), draft.listed()
        if in_the_way := [name for name in sorted(new) if (self.folder / name).is_dir()]:
            raise UsageError(_refusal(self.folder, in_the_way))
        before, now = found.files.get(PROVENANCE), new.get(PROVENANCE)
        if before and now and before.sha256 == now.sha256:
            new |= {name: found.files[name] for name in (AUDIT, EXPLANATION) if name in found.files}
        there = {name: draft.hash_of(name) for name in sorted({*found.files, *found.before, *new})}
        there = {name: sha256 for name, sha256 in there.items() if sha256}
        edited = [
            name
            for name, sha256 in there.items()
            if not found.is_unchanged(name, sha256) and not (name in new and new[name].sha256 == sha256)
        ]
        kept = {name: sha256 for name, sha256 in there.items() if name not in edited}
        half = RunFile(self.run, VERSION, "writing", new, kept, found.logs, found.source)
        self._save(half)
        for name in edited:
            draft.set_aside.append(self._set_aside(name))
        changed = [name for name in new if there.get(name) != new[name].sha256 or name in edited]
        stale = [name for name in kept if name not in new]
        # First of all, so that an old one never stands beside newer scores; and last of all.
        for name in sorted({*stale, *({SUBMISSION} & set(changed))}, key=lambda one: one != SUBMISSION):
            self._remove(name)
        for name in sorted(changed, key=lambda one: one == SUBMISSION):
            place = self.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            (draft.place / name).replace(place)
        for folder in {(self.folder / name).parent for name in changed}:
            sync(folder)
        self._save(replace(half, state="whole", before={}))

    def _remove(self, name: str) -> None:
        """Remove one of our files, and the folders below ours that are empty without it."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        with suppress(OSError):
            while path.parent != self.folder:
                path = path.parent
                path.rmdir()

    def _set_aside(self, name: str) -> str:
        """Move a file that somebody has edited out of the way."""
        place = self.folder / EDITED / self.run[:12] / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).replace(place)
        text = f"{name} was changed after a run had written it: what it was is now {place}"
        logger.warning(text)
        return text

    def _save(self, run_file: RunFile) -> None:
        temporary = self._staged / f"{FILE}.new"
        write_bytes(temporary, run_file.sealed())
        temporary.replace(self.folder / FILE)
        sync(self.folder)


class Draft:
    """New files of a run folder, before they are in place.

    Parameters
    ----------
    folder, place : Path
        The run folder, and where new files are prepared.
    found : RunFile
        What is in the run folder.
    """

    def __init__(self, folder: Path, place: Path, found: RunFile) -> None:
        self.folder = folder
        self.place = place
        self.set_aside: list[str] = []
        self._found = found
        self._kept: dict[str, WrittenFile] = {}
        self._made_of: dict[str, str] = {}
        self._hashes: dict[str, str] = {}

    def keeps(self, name: str, made_of: Any) -> bool:
        """Return whether a file, or a folder of files, is there as this recipe gives it; then it stays."""
        if not self._found.is_current(self.folder, name, made_of):
            return False
        kept = self._found.below(name)
        self._kept |= kept
        self._hashes |= {key: file.sha256 for key, file in kept.items()}
        return True

    def path(self, name: str, made_of: Any = None) -> Path:
        """Return where to write a file, or a folder of files."""
        if made_of is not None:
            self._made_of[name] = hash_recipe({"made_of": made_of})
        return self.place / name

    def listed(self) -> dict[str, WrittenFile]:
        """Return the files that the run folder is to have."""
        files = dict(self._kept)
        for path in sorted(self.place.rglob("*")):
            if path.is_file():
                name = path.relative_to(self.place).as_posix()
                assert is_own_name(name), f"{name} must be among FILES or FOLDERS of output.run_file"
                made_of = self._made_of.get(name) or self._made_of.get(name.partition("/")[0], "")
                files[name] = WrittenFile(hash_of(path), made_of)
        return files

    def hash_of(self, name: str) -> str:
        """Return the hash of a file of the run folder; "" where there is none."""
        if name not in self._hashes:
            self._hashes[name] = hash_of(self.folder / name)
        return self._hashes[name]


def _refusal(folder: Path, foreign: list[str]) -> str:
    shown, earlier = ", ".join(foreign[:_SHOWN]) + (", ..." if len(foreign) > _SHOWN else ""), ""
    if (folder / ".written.json").exists():
        earlier = " (an earlier version of stackfeat, which wrote .written.json, kept no list of its files)"
    return (
        f"outputs.dir must hold no files of yours under the names that a run writes; got {folder} with {shown}, "
        f"which no run has written{earlier}; choose another outputs.dir, or move them away"
    )


def _is_lock(path: Path) -> bool:
    """Return whether a file is one that `FileLock.write` wrote, or was about to."""
    try:
        text = read_note(path) if path.is_file() and not path.is_symlink() else b"?"
    except OSError:
        return False
    return not text or text.startswith(b'{"pid":')


def _holder(path: Path) -> str:
    try:
        who = json.loads(read_note(path))
        return f"process {int(who['pid'])} on {str(who['host'])[:60]!r}"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "another run"


def _remove_staged(path: Path) -> None:
    """Remove what a killed run had prepared, if its mark is there."""
    with suppress(DataError, OSError):
        mark = None if path.is_symlink() else find_run_file(path)
        if mark is not None and path.name == f"{_STAGED}{mark.id}":
            shutil.rmtree(path)
        elif mark is None and not path.is_symlink():
            # Killed before its mark was there: nothing but the mark's temporary can be in it.
            for temporary in path.glob(".*~*~*.tmp"):
                temporary.unlink()
            path.rmdir()


def _explained(folder: Path) -> AbstractContextManager[None]:
    """Turn every OSError of a block into a StoreError about the run folder."""
    must = f"the run folder {folder} must be a place that can be written"
    return explained(must, "Free some space, or choose another outputs.dir")


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Append the package's log to a file for as long as the block lasts."""
    with _explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _RunLog(path, encoding="utf-8")
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s"))
    package = logging.getLogger(PACKAGE)
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        with suppress(OSError):
            handler.close()


class _RunLog(logging.FileHandler):
    """A log file; what a full disk does not take is lost, and neither ends a run nor is printed."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass
