"""The file that --output names: refused where writing it would destroy what no command of its kind has written.

In:  its path, what the command reads, and how a file of its kind is known.
Out: nothing; or a UsageError that says what stands there and what to do.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from stackfeat.data.files.packing import unpacked_name
from stackfeat.errors import UsageError
from stackfeat.output.run_file import FILE, is_of_run

_LONGEST_HEADER = 1 << 20
IsOurs = Callable[[Path], bool]
"""Whether a file is of the kind that a command writes, and so may be replaced by another of it."""


def refuse_place(
    output: Path,
    *,
    run: Path | None = None,
    data: Path | None = None,
    is_text: bool = True,
    option: str = "--output",
) -> None:
    """Refuse to replace what is read, what belongs to a run, and what is no file; and to pack text.

    Raises
    ------
    UsageError
    """
    place = output.resolve()
    what = ""
    if data is not None and place == data.resolve():
        what = "DATA itself"
    elif place.is_dir():
        what = "a folder"
    elif any(is_of_run(output, folder) for folder in (*_runs_around(place), *([run] if run else []))):
        what = "a place for files of a run"
    if what:
        raise UsageError(f"{option} must be a file of its own; got {output}, which is {what}; choose another")
    if is_text and unpacked_name(output) != output:
        raise UsageError(
            f"{option} is written as plain text; got {output}; name {unpacked_name(output)} and pack it"
        )
    if place.exists() and not place.is_file():
        # It would be replaced, as a file is: a device of the machine would be gone for everybody.
        raise UsageError(f"{option} must be a file; got {output}, which is a device or pipe; name another")


def refuse_foreign(output: Path, is_ours: IsOurs, *, force: bool, option: str = "--output") -> None:
    """Refuse to replace a file of another kind than the command writes, unless that is asked for.

    An empty file may be replaced: there is nothing in it to lose.

    Raises
    ------
    UsageError
    """
    place = output.resolve()
    if not force and place.is_file() and place.stat().st_size and not is_ours(place):
        raise UsageError(
            f"{option} must be a new file, or one that the same command wrote; got {output}, which holds something "
            "else; choose another, or replace it with --force"
        )


def refuse_output(output: Path, is_ours: IsOurs, *, force: bool, option: str = "--output") -> None:
    """Do both, for text that is made of no one run."""
    refuse_place(output, option=option)
    refuse_foreign(output, is_ours, force=force, option=option)


def has_columns(*headers: Sequence[str]) -> IsOurs:
    """Return whether a csv file has the columns of one of these headers, in their order, and no other."""
    return lambda path: _columns_of(path) in [list(names) for names in headers]


def has_packed(name: str) -> IsOurs:
    """Return whether a zip file holds a file of this name."""

    def is_ours(path: Path) -> bool:
        try:
            with zipfile.ZipFile(path) as archive:
                return name in archive.NameToInfo
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
            return False

    return is_ours


def _columns_of(path: Path) -> list[str]:
    """Return what the first line of a text file says, as cells of a csv file."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return next(csv.reader([file.readline(_LONGEST_HEADER)]), [])
    except (OSError, csv.Error):
        return []


def _runs_around(place: Path) -> list[Path]:
    """Return the run folders that a place is in."""
    return [folder for folder in place.parents if (folder / FILE).is_file()]
