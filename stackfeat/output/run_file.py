"""run.json: the mark of a run folder, and the list of what a run has written there.

In:  a run folder.
Out: `RunFile`: which run, whether its files are whole, the SHA-256 of each. What is not listed is somebody
     else's, and what has another hash than the listed one was changed by somebody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from stackfeat.errors import DataError, StructureError, UsageError
from stackfeat.options import FOLDERS
from stackfeat.registry.resolve import suggest
from stackfeat.store import hash_recipe
from stackfeat.store.disk import hash_file
from stackfeat.store.manifest import read_sealed, seal
from stackfeat.structure import must, structured

FILE = "run.json"
FORMAT = 1
LOGS = ("run.log", "audit.log", "events.jsonl")
NOTES = "notes.json"
AUDIT = "audit.json"
EXPLANATION = "explain.json"
REFRESH = "refresh.json"
SUBMISSION = "submission.csv"
PROVENANCE = "provenance.json"
FILES = frozenset(
    {"config.yaml", "folds.csv", "leaderboard.csv", "scores.json", "report.html", "report.json", "pool.csv"}
    | {SUBMISSION, PROVENANCE, AUDIT, NOTES, EXPLANATION, REFRESH, *LOGS}
)
"""Files of a run folder that runs write; nothing else there is ever touched."""
_MOST_NAMED = 5
REMEDY = (
    "move the folder away or choose another outputs.dir, and run the config again: finished folds are stored"
)


@dataclass(frozen=True)
class WrittenFile:
    """A file as it was written; `made_of` is the hash of the recipe of what takes long to write."""

    sha256: str
    made_of: str = ""


@dataclass(frozen=True)
class RunFile:
    """What ``run.json`` holds.

    Attributes
    ----------
    id : str
        Of the run that wrote the files.
    state : {"writing", "whole"}
        ``writing``: some files may be those of `before`, or be missing.
    files : dict of str to WrittenFile
    before : dict of str to str
        While files are replaced, the hashes of those that the run found.
    logs : tuple of str
        Files that are added to, and have no hash: logs, and notes. Runs keep them.
    source : str
        The config (or the training file that was run without one) whose results these are, seen from the run folder;
        "" where it is not known.
    """

    id: str
    version: str
    state: Literal["writing", "whole"]
    files: Mapping[str, WrittenFile] = field(default_factory=dict)
    before: Mapping[str, str] = field(default_factory=dict)
    logs: Sequence[str] = ()
    source: str = ""
    format: int = FORMAT

    @property
    def names(self) -> set[str]:
        """All files that runs have written."""
        return {*self.files, *self.before, *self.logs}

    def is_unchanged(self, name: str, sha256: str) -> bool:
        """Return whether a file of this hash is one that a run wrote under this name."""
        return self.before.get(name) == sha256 or (name in self.files and self.files[name].sha256 == sha256)

    def below(self, name: str) -> dict[str, WrittenFile]:
        """Return a file, or all files of a folder."""
        return {key: file for key, file in self.files.items() if key == name or key.startswith(f"{name}/")}

    def is_current(self, folder: Path, name: str, made_of: Any) -> bool:
        """Return whether a file, or all files of a folder, are there as this recipe gave them."""
        wanted = hash_recipe({"made_of": made_of})
        found = self.below(name)
        return bool(found) and all(
            file.made_of == wanted and hash_of(folder / key) == file.sha256 for key, file in found.items()
        )

    def sealed(self) -> bytes:
        """Return the text of the file."""
        return seal(asdict(self))


def find_run_file(folder: Path) -> RunFile | None:
    """Return what ``run.json`` of a folder says; None where there is none.

    Raises
    ------
    DataError
        If it is damaged, or not made as a run makes it.
    """
    path = folder / FILE
    try:
        if path.is_symlink():
            raise DataError(f"{path} must be a file that a run wrote; got a link; {REMEDY}")
        found = structured(RunFile, read_sealed(path, FORMAT, REMEDY), str(path))
        for name in found.names:
            must(is_own_name(name), str(path), "list files of a run", name)
    except FileNotFoundError:
        return None
    except StructureError as error:
        raise DataError(f"{error}; {REMEDY}") from error
    return found


def is_own_name(name: str) -> bool:
    """Return whether runs write files of this name, relative to the run folder."""
    path = PurePosixPath(name)
    if str(path) != name or "\\" in name or "\0" in name or {".", ".."} & set(path.parts):
        return False
    return name in FILES or (len(path.parts) > 1 and path.parts[0] in FOLDERS)


def is_of_run(path: Path, run_folder: Path) -> bool:
    """Return whether a path is that of a file which runs write into this folder, links followed."""
    place, folder = path.resolve(), run_folder.resolve()
    name = place.relative_to(folder).as_posix() if place.is_relative_to(folder) else ""
    return name == FILE or (bool(name) and is_own_name(name))


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file; "" where it cannot be read or is a link."""
    try:
        return "" if path.is_symlink() else hash_file(path)
    except OSError:
        return ""


def no_run(folder: Path, needs: str, remedy: str = "") -> UsageError:
    """Return the error for a folder that is no finished run's; where nothing is there, with a run that is nearby."""
    if os.path.lexists(folder):
        more = f"; {remedy}" if remedy else ""
        return UsageError(f"RUN must be the folder of a finished run, with {needs}; got {folder}{more}")
    return UsageError(
        f"RUN must be the folder of a finished run; got {folder}, which is not there{runs_near(folder)}"
    )


def runs_near(folder: Path) -> str:
    """Return what to say where no run is: which one may be meant, or which there are beside it; or nothing."""
    try:
        others = sorted(path.name for path in folder.parent.iterdir() if (path / FILE).is_file())
    except OSError:
        others = []
    listed = ", ".join([*others[:_MOST_NAMED], *(["..."] if len(others) > _MOST_NAMED else [])])
    near = suggest(folder.name, others) or (listed and f" Runs beside it: {listed}")
    return f".{near}" if near else ""


@contextmanager
def whole_run(folder: Path) -> Iterator[RunFile | None]:
    """See that the files of a run folder are those of one run, from the first one read to the last.

    A folder without ``run.json``, such as a `predictor/` that was copied alone, says nothing of it.

    Raises
    ------
    UsageError
        If files are being written, or a run that wrote them was killed.
    DataError
        If ``run.json`` is damaged.
    """
    before = _refuse_half(folder)
    yield before
    after = _refuse_half(folder)
    if (before and before.id) != (after and after.id):
        raise UsageError(f"{folder} must be one run's while it is read; got a new one; do it again")


def _refuse_half(folder: Path) -> RunFile | None:
    found = find_run_file(folder)
    if found is not None and found.state != "whole":
        raise UsageError(
            f"RUN must be the folder of a finished run; got {folder}, whose {FILE} says state=writing: a run "
            "works on it, or was killed. Wait for it, or run its config again: finished folds are stored"
        )
    return found


def foreign_files(folder: Path, listed: set[str]) -> list[str]:
    """Return what stands under names that runs write, and is none of the listed files.

    Links are never ours, nor is what lies behind them.
    """
    found = [name for name in sorted(FILES) if os.path.lexists(folder / name)]
    found = [name for name in found if name not in listed or not _is_plain_file(folder / name)]
    for name in FOLDERS:
        place = folder / name
        if place.is_symlink() or (os.path.lexists(place) and not place.is_dir()):
            found.append(name)
        elif place.is_dir():
            found += _foreign_below(folder, name, listed)
    return found


_DESKTOP = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""What file managers leave wherever they are; it stays, and is in nobody's way."""


def _foreign_below(folder: Path, name: str, listed: set[str]) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder / name, onerror=fail):
        paths = {one: (Path(place) / one).relative_to(folder).as_posix() for one in (*folders, *files)}
        yield from [paths[one] for one in folders if (folder / paths[one]).is_symlink()]
        for one in files:
            is_known = paths[one] in listed or one in _DESKTOP
            if not is_known or not _is_plain_file(folder / paths[one]):
                yield paths[one]


def _is_plain_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
