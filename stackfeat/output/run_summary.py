"""A run in a line: what a run folder says of itself, read from its small files alone.

In:  a run folder, whole or damaged, of this version or another.
Out: `RunSummary`. Nothing is computed or verified against a store, no code is run, and what cannot be read is said.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from stackfeat.config.yaml_file import read_yaml
from stackfeat.errors import ConfigError, DataError, one_line
from stackfeat.output.events import EVENTS, EventsReader
from stackfeat.output.run_file import FILE as MARK
from stackfeat.output.run_file import LOGS, find_run_file
from stackfeat.output.run_notes import Note, latest_scores, read_notes
from stackfeat.output.run_state import RunState
from stackfeat.registry.resolve import cut
from stackfeat.store.disk import read_text_file, refuse_no_file
from stackfeat.structure import must, parse_json

_DATED = re.compile(rb"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:,\d{3})?)", re.MULTILINE)
_TAIL = 1 << 16
_LONGEST = 200


@dataclass(frozen=True)
class RunSummary:
    """What is known of a run folder.

    Attributes
    ----------
    name : str
        Of the config, else of the folder.
    date : datetime
        Of the last dated line in ``run.log``; without one, when ``run.json`` was written. Local time.
    config : mapping
        The options of ``config.yaml`` as they stand there; empty where it cannot be read.
    score, se : float or None
        What to expect of the submission: of ``submit: auto`` the cross-fitted score of its choices.
    greater_is_better : bool
    members : tuple of str
    seconds : float or None
        Compute time of all fits of the members on the leaderboard, whenever they were computed.
    n_cached : int
        Members that the last run found in the store.
    problem : str
        What is wrong with the folder; empty where nothing is.
    """

    folder: Path
    name: str
    date: datetime
    problem: str = ""
    version: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    metric: str = ""
    greater_is_better: bool = False
    submitted: str = ""
    score: float | None = None
    se: float | None = None
    members: tuple[str, ...] = ()
    seconds: float | None = None
    n_cached: int = 0
    choices: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    @property
    def public(self) -> float | None:
        """The score on the public leaderboard that was noted last."""
        return latest_scores(self.notes)[0]

    @property
    def private(self) -> float | None:
        """The score on the private leaderboard that was noted last."""
        return latest_scores(self.notes)[1]

    @property
    def text(self) -> str:
        """The words that were noted last."""
        return next((note.text for note in reversed(self.notes) if note.text), "")


def summarise(folder: Path) -> RunSummary:
    """Return what a run folder says of itself; never raises for what is written in it."""
    faults, values = list[str](), dict[str, Any]()
    readers = (_of_mark, _of_config, _of_scores, _of_leaderboard, _of_notes)
    for reader in readers:
        try:
            values |= reader(folder)
        except FileNotFoundError as error:
            faults.append(f"no {Path(str(error.filename)).name}")
        except (OSError, ValueError, LookupError, TypeError, RecursionError, csv.Error) as error:
            # A DataError, too, is a ValueError; whatever a stranger wrote there, the list goes on.
            faults.append(cut(one_line(error), _LONGEST))
    name = values.get("config", {}).get("name")
    named = name if isinstance(name, str) and name else folder.resolve().name
    return RunSummary(folder, named, _date(folder), "; ".join(faults[:1]), **values)


def find_runs(place: Path, most_levels: int, most_folders: int) -> Iterator[Path]:
    """Yield run folders at and below a folder, in the order of their names; links and hidden folders are passed over.

    Parameters
    ----------
    most_levels : int
        How far below `place` is looked.
    most_folders : int
        How many folders are looked at, so that a whole disk takes no hour.
    """
    waiting, n_seen = [(place, 0)], 0
    while waiting and n_seen < most_folders:
        folder, level = waiting.pop()
        n_seen += 1
        if os.path.lexists(folder / MARK):
            yield folder
            continue
        if level == most_levels:
            continue
        try:
            with os.scandir(folder) as entries:
                below = sorted(
                    entry.name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
                )
        except OSError:
            continue
        waiting += [(folder / name, level + 1) for name in reversed(below)]


def _of_mark(folder: Path) -> dict[str, Any]:
    marked = find_run_file(folder)
    if marked is None:
        raise FileNotFoundError(2, "no such file", MARK)
    if marked.state != "whole":
        end = _cut_short(folder) or "a run works on it, or was killed"
        raise DataError(f"{MARK} says state=writing: {end}")
    return {"version": cut(marked.version, 40)}


def _cut_short(folder: Path) -> str:
    """Return what its events say of a run that did not end by itself; "" where it did, or nothing is known."""
    state = RunState()
    for event in EventsReader(folder / EVENTS).read_last_run():
        state.take(event)
    return "" if state.run is None else state.cut_short()


def _of_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    path.stat()
    values = read_yaml(path).values
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path} must hold options; got {type(values).__name__}")
    return {"config": values}


def _of_scores(folder: Path) -> dict[str, Any]:
    where = "scores.json"
    scores = _mapping(parse_json(read_text_file(folder / where), where), "all of it")
    members, auto = _mapping(scores["members"], "members"), _mapping(scores.get("auto") or {}, "auto")
    submitted, metric, choices = (
        scores["submitted"],
        scores["metric"],
        _mapping(auto.get("choices", {}), "choices"),
    )
    names = (submitted, metric, *choices.values())
    must(all(isinstance(name, str) for name in names), where, "name members and metric by texts", names)
    counted = auto or _mapping(members[submitted], "a member")
    return {
        "metric": metric,
        "greater_is_better": scores["greater_is_better"] is True,
        "submitted": submitted,
        "score": _number(counted["score"]),
        "se": _number(counted["se"]),
        "members": tuple(members),
        "choices": dict(choices),
    }


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    must(isinstance(value, Mapping), f"scores.json: {name}", "be an object", value)
    found: Mapping[str, Any] = value
    return found


def _of_leaderboard(folder: Path) -> dict[str, Any]:
    text = read_text_file(folder / "leaderboard.csv").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    seconds = [_number(float(row["seconds"])) or 0.0 for row in rows]
    return {"seconds": math.fsum(seconds), "n_cached": sum(row["cached"] == "True" for row in rows)}


def _of_notes(folder: Path) -> dict[str, Any]:
    return {"notes": read_notes(folder)}


def _number(value: object) -> float | None:
    """Return a finite number; None of anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e300 else None  # type: ignore[arg-type]


def _date(folder: Path) -> datetime:
    """Return when a run last wrote here; a copied folder keeps the dates of its log."""
    try:
        path = folder / LOGS[0]
        refuse_no_file(path.stat(), path)
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
            dates = _DATED.findall(log.read(_TAIL))
        return datetime.fromisoformat(dates[-1].decode())
    except (OSError, ValueError, IndexError):
        pass
    try:
        return datetime.fromtimestamp(int((folder / MARK).lstat().st_mtime))
    except (OSError, ValueError, OverflowError):
        return datetime.fromtimestamp(0)
