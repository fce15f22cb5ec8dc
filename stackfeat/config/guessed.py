"""What a config leaves to be guessed of its files: members, task, metric, folds, roles of columns.

In:  the values of a config in which `levels` is left out, or the first level is ``auto``.
Out: the values with what `init` would write in their place, all that the config says itself untouched; and a line for
     each guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackfeat.config.data_checks import Allowed
from stackfeat.config.run_config import SHORT
from stackfeat.config.yaml_file import parse_yaml
from stackfeat.data.files.tables import BUILTIN
from stackfeat.errors import ConfigError, DataError, Problem, UsageError
from stackfeat.tasks.task import TASKS

AUTO = "auto"
_IN_CONFIG = {
    **{f"--{name}": f"data.{name}" for name in (*SHORT, "encoding")},
    **{"--task": "task", "--metric": "metric", "--limit": "limits.time"},
}

OF_INIT = {
    f"--{name}": f"--{name} of stackfeat init"
    for name in ("id", "group", "time", "encoding", "sample-submission")
}
"""What `init` can be told, and those cannot that guess a config and run it at once."""

_SAID = ("# left out, ", "# doubtful: ")


@dataclass(frozen=True)
class Completed:
    """The values of a config, complete, and what was guessed of them."""

    values: dict[str, Any]
    guesses: tuple[str, ...] = ()


def completed(values: Mapping[str, Any], allowed: Allowed) -> Completed:
    """Return values in which nothing is left out; as they are where nothing can be guessed of their files.

    Raises
    ------
    ConfigError
        If another level than the first is ``auto``.
    DataError
        If a file cannot be read, a named column is none of it, or the target cannot be learnt.
    """
    given = _with_data(values)
    levels: Any = given.get("levels", AUTO)
    levels = AUTO if levels is None else levels
    left_open = (
        [name for name, members in levels.items() if members == AUTO] if isinstance(levels, dict) else []
    )
    if levels != AUTO and not left_open:
        return Completed(given)
    if left_open and left_open != [next(iter(levels))]:
        place = f"levels.{left_open[-1]}"
        raise ConfigError(
            [Problem(place, "only the first level may be auto, which reads the columns; name its members")]
        )
    data = given.get("data")
    if not isinstance(data, dict) or not _can_be_read(given, data, allowed):
        # What keeps it from being read is found when the rest is checked.
        return Completed({name: one for name, one in given.items() if name != "levels"})
    found, guesses = _guessed(given, data, allowed.folder)
    whole = {name: one for name, one in found.items() if name in ("task", "metric", "folds")}
    base = found["levels"]["base"]
    members = {**levels, left_open[0]: base} if isinstance(levels, dict) else found["levels"]
    return Completed({**whole, **given, "data": {**found["data"], **data}, "levels": members}, guesses)


def guesses_of(text: str) -> tuple[str, ...]:
    """Return the lines of a first config on what was guessed, what is doubtful, and what was left out."""
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if "# guessed: " in line or line.startswith(_SAID)]
    return tuple(re.sub(r"\s+# guessed: ", ", guessed: ", line).removeprefix("# ") for line in found)


def _with_data(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values whose short options stand under `data`; one that stands in both places stays, as an error."""
    data = values.get("data", {})
    if not isinstance(data, dict):
        return dict(values)
    short = {name: values[name] for name in SHORT if name in values and name not in data}
    if not short:
        return dict(values)
    rest = {name: one for name, one in values.items() if name not in short}
    return {**rest, "data": {**short, **data}}


def _can_be_read(values: Mapping[str, Any], data: Mapping[str, Any], allowed: Allowed) -> bool:
    """Whether the files may be looked at, and what is said of them could be right."""
    named = [data.get(role) for role in ("train", "test", "sample_submission")]
    files = [name for name in named if name is not None]
    if named[0] is None or not _are_columns(data.get("target")) or values.get("task", "binary") not in TASKS:
        return False
    if not all(
        isinstance(data.get(role), str | None) for role in ("id", "group", "time", "query", "encoding")
    ):
        return False
    return all(
        isinstance(name, str) and (name.startswith(BUILTIN) or allowed.file_problem(name) is None)
        for name in files
    )


def _are_columns(target: object) -> bool:
    """Whether this is the name of a column, or a list of some."""
    names = target if isinstance(target, list) and target else [target]
    return all(isinstance(name, str) for name in names)


def _guessed(
    values: Mapping[str, Any], data: Mapping[str, Any], folder: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    from stackfeat.config.scaffold import Wishes, scaffold_config

    def path(role: str) -> Path | None:
        name = data.get(role)
        return None if name is None else Path(name) if name.startswith(BUILTIN) else folder / name

    limits = values.get("limits")
    limit = limits.get("time") if isinstance(limits, dict) else None
    wishes = Wishes(
        id=data.get("id"),
        group=data.get("group"),
        time=data.get("time"),
        task=values.get("task"),
        metric=values.get("metric"),
        encoding=data.get("encoding"),
        limit=None if limit is None else str(limit),
        query=data.get("query"),
        has_inputs=data.get("inputs") is not None,
    )
    train = path("train")
    assert train is not None
    target = tuple(data["target"]) if isinstance(data["target"], list) else str(data["target"])
    with naming(_IN_CONFIG):
        text = scaffold_config(train, target, path("test"), path("sample_submission"), wishes, folder=folder)
    found: dict[str, Any] = parse_yaml(text).values
    return found, guesses_of(text)


@contextmanager
def naming(options: Mapping[str, str]) -> Iterator[None]:
    """Name what messages call by options of the command line as the caller does."""
    try:
        yield
    except (DataError, UsageError) as error:
        text = re.sub(r"--[a-z]+(-[a-z]+)*", lambda found: options.get(found[0], found[0]), str(error))
        raise (DataError if isinstance(error, DataError) else UsageError)(text) from error
