"""Write the first config of a project from its training file, for `init`.

In:  a training file and its target; the test file, sample submission and id column if there are any.
Out: commented YAML that runs as it is: two nets, trees, meta-learners, votes. What was guessed
     (task, metric, id, group) is said in a comment beside it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stackfeat.data.files.tables import BUILTIN, read_frame, table_format
from stackfeat.data.options import DataOptions
from stackfeat.errors import DataError, in_quotes, one_line
from stackfeat.registry.resolve import suggest
from stackfeat.tasks.task import task_class

if TYPE_CHECKING:
    import pandas as pd

MAX_CLASSES = 30
LEAST_FOR_REALMLP = 10_000
_ID_NAME = re.compile(r"(^|[_ -])(id|Id|ID|key|index|uuid)$|[a-z]I[dD]$")
_GROUPS = "group|patient|subject|person|user|customer|client|owner|household|family|site"
_GROUP_NAME = re.compile(rf"(^|_)({_GROUPS})s?(_?(id|no|number|code|key))?$", re.IGNORECASE)
_DULL_NAMES = ("train", "training", "data")


@dataclass(frozen=True)
class _Guess:
    """What the files tell, each with the reason that goes into a comment."""

    task: str
    task_reason: str
    id: str | None
    group: str | None
    group_reason: str
    n_rows: int


def scaffold_config(
    train: Path,
    target: str,
    test: Path | None = None,
    sample_submission: Path | None = None,
    id: str | None = None,
    *,
    folder: Path | None = None,
) -> str:
    """Return a commented config that loads without problems.

    Parameters
    ----------
    train : Path
        Training file, or ``sklearn:NAME``.
    target : str
        Column to predict.
    test, sample_submission : Path or None
        Written into the config as given.
    id : str or None
        Column that names rows; guessed if None.
    folder : Path or None
        Where the config will stand, and its paths start from; the training file's folder if None.

    Raises
    ------
    DataError
        If the file cannot be read, or `target` or `id` is no column of it.
    """
    # A built-in name arrives from a command line as Path("sklearn:digits").
    source = str(train)
    frame = read_frame(source, DataOptions(train=source, target=target, id=id))
    for name in (target, id):
        if name is not None and name not in frame.columns:
            columns = [str(column) for column in frame.columns]
            hint = suggest(name, columns)
            raise DataError(f"{train} must have the column {name!r}; it has {', '.join(columns[:20])}.{hint}")
    guess = _guess(frame, target, id, sample_submission)
    start = (folder or train.parent).absolute()
    paths = {"train": train, "test": test, "sample_submission": sample_submission}
    files = {role: _relative(path, start) for role, path in paths.items() if path is not None}
    name = start.name if train.stem.lower() in _DULL_NAMES else train.stem
    return _text(re.sub(r"[^A-Za-z0-9._-]+", "-", name) or "run", target, files, guess)


def _relative(path: Path, start: Path) -> str:
    if str(path).startswith(BUILTIN):
        return str(path)
    return Path(os.path.relpath(path.absolute(), start)).as_posix()


def _guess(frame: pd.DataFrame, target: str, id: str | None, sample_submission: Path | None) -> _Guess:
    task, reason = _guess_task(frame[target])
    id = id or _guess_id(frame, target, sample_submission)
    others = [str(column) for column in frame.columns if column not in (target, id)]
    group, group_reason = _guess_group(frame, others)
    return _Guess(task, reason, id, group, group_reason, len(frame))


def _guess_task(column: pd.Series) -> tuple[str, str]:
    """Guess from the distinct values: few or text means classes."""
    from stackfeat.data.files.notation import MISSING

    values = [str(value) for value in column.tolist() if str(value) not in MISSING]
    distinct = set(values)
    n_distinct = len(distinct)
    if n_distinct == 2:
        return "binary", f"two values: {' and '.join(sorted(distinct))}"
    is_number = all(_is_number(value) for value in distinct)
    is_whole = is_number and all(float(value).is_integer() for value in distinct)
    if not is_number or (is_whole and n_distinct <= MAX_CLASSES and n_distinct * 10 <= len(values)):
        return "multiclass", f"{n_distinct} classes"
    return "regression", f"numbers, {n_distinct} distinct values"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _guess_id(frame: pd.DataFrame, target: str, sample_submission: Path | None) -> str | None:
    """Return the sample submission's first column, else a column called id with a value for each row."""
    if sample_submission is not None:
        options = DataOptions(train=str(sample_submission), target=target)
        first = table_format(sample_submission).names(sample_submission, options)[0]
        if first in frame.columns:
            return first
    for column in map(str, frame.columns):
        if column != target and _ID_NAME.search(column) and frame[column].astype(str).is_unique:
            return column
    return None


def _guess_group(frame: pd.DataFrame, columns: list[str]) -> tuple[str | None, str]:
    """Return a column named like a group whose values repeat but are many."""
    for column in columns:
        n_distinct = int(frame[column].astype(str).nunique())
        if _GROUP_NAME.search(column) and 10 <= n_distinct <= len(frame) / 2:
            return column, f"{n_distinct} distinct values in {len(frame)} rows"
    return None, ""


# Texts of a first config, which no other room needs.
_STARTS = {
    "classification": ("sklearn.linear_model.LogisticRegression", "hard", "each casts a vote for a class"),
    "regression": ("sklearn.linear_model.Ridge", "weighted", "weights fitted in every fold"),
}
"""A linear meta-learner, a vote and what it does."""


def _text(name: str, target: str, files: dict[str, str], guess: _Guess) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    environment.filters |= {"quoted": _quoted, "comment": _comment}
    template = Path(__file__).with_name("first_config.yaml.jinja").read_text("utf-8")
    task = task_class(guess.task)
    plain, vote, vote_does = _STARTS[task.family]
    return environment.from_string(template).render(
        name=name,
        target=target,
        files=files,
        guess=guess,
        task=task,
        least_for_realmlp=LEAST_FOR_REALMLP,
        plain=plain,
        vote=vote,
        vote_does=vote_does,
    )


def _quoted(text: str) -> str:
    """Return the text as YAML, quoted where a plain word could be read otherwise."""
    is_word = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", text) is not None
    return text if is_word and text.lower() not in ("true", "false", "null") else in_quotes(text)


def _comment(text: str) -> str:
    return one_line(" ".join(text.split())[:80])
