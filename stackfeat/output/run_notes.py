"""Notes of a run: what somebody wrote down of it, such as its score on a leaderboard.

In:  a run folder.
Out: ``notes.json`` there. Notes are added, never changed or removed, and runs keep the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from stackfeat.errors import UsageError
from stackfeat.output.files import json_bytes, write_bytes
from stackfeat.output.run_file import FILE as MARK
from stackfeat.output.run_file import NOTES, RunFile, no_run, whole_run
from stackfeat.output.run_folder import RunFolder
from stackfeat.store.manifest import read_written
from stackfeat.structure import must, parse_json, structured

FORMAT = 1
MOST_NOTES = 10_000
LONGEST = 4_000
_REMEDY = "move the file away; the run itself is whole"


@dataclass(frozen=True)
class Note:
    """One note.

    Attributes
    ----------
    date : str
        When it was written, in UTC: ``2026-05-01T12:00:00+00:00``.
    lb, private : float or None
        The score on the public and on the private leaderboard.
    text : str
    """

    date: str
    lb: float | None = None
    private: float | None = None
    text: str = ""


@dataclass(frozen=True)
class _File:
    notes: tuple[Note, ...]
    format: int = FORMAT


def read_notes(folder: Path) -> tuple[Note, ...]:
    """Return the notes of a run, oldest first; none where there is no file.

    Raises
    ------
    DataError
        If the file is not as `add_note` wrote it.
    """
    path = folder / NOTES
    must(not path.is_symlink(), str(path), "be a file that `stackfeat note` wrote", "a link")
    try:
        found = structured(_File, parse_json(read_written(path, _REMEDY), str(path), finite=True), str(path))
    except FileNotFoundError:
        return ()
    must(found.format == FORMAT, f"{path}: format", f"be {FORMAT}", found.format)
    return found.notes


def add_note(
    folder: Path, *, lb: float | None = None, private: float | None = None, text: str = ""
) -> tuple[Note, ...]:
    """Add a note to those of a finished run; return all of them.

    Raises
    ------
    UsageError
        If there is nothing to note, a score is no number, the folder is no finished run's, a run is using it, or a
        ``notes.json`` of somebody else stands there.
    DataError
        If the notes that are there are damaged.
    """
    _check(lb, private, text)
    marked = marked_run(folder)
    if (folder / NOTES).exists() and NOTES not in marked.names:
        raise UsageError(
            f"{NOTES} must be a file that `stackfeat note` wrote; got {folder / NOTES}, which {MARK} does not list; "
            "move it away"
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    note = Note(now, lb if lb is None else float(lb), private if private is None else float(private), text)
    with RunFolder(folder, marked.id).claimed(NOTES):
        notes = (*read_notes(folder), note)
        if len(notes) > MOST_NOTES:
            raise UsageError(f"a run must have at most {MOST_NOTES:,} notes; got one more; it was not added")
        write_bytes(folder / NOTES, json_bytes(asdict(_File(notes))))
    return notes


def marked_run(folder: Path) -> RunFile:
    """Return what ``run.json`` of a finished run says; UsageError where the folder is none."""
    with whole_run(folder) as marked:
        if marked is None:
            raise no_run(folder, MARK)
        return marked


def latest_scores(notes: Sequence[Note]) -> tuple[float | None, float | None]:
    """Return the public and the private score that were noted last."""
    scores = ([one.lb for one in notes], [one.private for one in notes])
    public, private = ([value for value in column if value is not None] for column in scores)
    return (public[-1] if public else None), (private[-1] if private else None)


def _check(lb: float | None, private: float | None, text: str) -> None:
    if lb is None and private is None and not text:
        raise UsageError("a note must hold a score or a text; got nothing; give lb, private or text")
    for name, value in (("lb", lb), ("private", private)):
        if value is not None and not math.isfinite(value):
            raise UsageError(
                f"{name} must be a finite number; got {value}; give the score as the leaderboard shows it"
            )
    if len(text) > LONGEST:
        raise UsageError(f"text must have at most {LONGEST:,} characters; got {len(text):,}; shorten it")
