"""Write the first config of a project from its training file, for `init`.

In:  a training file and its target; the other files, roles and wishes that the command line names.
Out: commented YAML that runs as it is and warns of nothing that it could have avoided. What was guessed (task,
     metric, id, group, what is left out) is said in a comment beside it, as is what was seen and not decided.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stackfeat.config.portfolio import (
    DATE,
    DATED,
    N_FOLDS,
    Portfolio,
    Table,
    folds_worth_their_time,
    plain_member,
    read_by_meta,
    stacked_member,
    written_members,
)
from stackfeat.config.run_config import parse_seconds
from stackfeat.config.scaffold_arrays import ArrayInputs
from stackfeat.config.scaffold_target import (
    check_task,
    guess_task,
    guess_task_of_several,
    skewness,
    target_texts,
)
from stackfeat.config.wishes import Wishes as Wishes
from stackfeat.data.files.packing import unpacked_name
from stackfeat.data.files.tables import BUILTIN, read_frame, table_format
from stackfeat.data.options import ColumnType, DataOptions
from stackfeat.errors import DataError, UsageError, in_quotes, one_line
from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.registry import check_decides, check_metric
from stackfeat.registry.resolve import name_values, quoted, suggest
from stackfeat.tasks.task import TASKS, task_class

if TYPE_CHECKING:
    import pandas as pd

    from stackfeat.data.schema.column_types import TypedColumns
    from stackfeat.data.schema.columns import Column


FEW_ROWS = 500
WIDE = 100
REDUCED = 16
RARE = 0.1
SKEWED, STRAIGHT = 2.0, 1.0
_MOST_SAID = 12
_ID_NAME = re.compile(r"(^|[_ -])(id|Id|ID|key|index|uuid)$|[a-z]I[dD]$")
_ROW_NAME = re.compile(r"(row[ _-]?)?(id|index|uuid|key)", re.IGNORECASE)
_GROUPS = (
    "group|patient|subject|person|user|customer|client|owner|household|family|site|student|pupil|query|session|"
    "hospital|school"
)
# "households" without more counts them.
_GROUP_NAME = re.compile(rf"(^|_)({_GROUPS})(s?_?(id|no|number|code|key))?$", re.IGNORECASE)
TIME_FOLDS, TIME_FOLDS_IN_ALL, LEAST_FOR_TIME_FOLD = 6, 20, 100
"""Folds along time: so many of the last parts, of so many, are predicted; the fewest rows that a part has."""
MOST_OWN = 0.9
"""Largest share of values to rows in a group; with more of them they name rows."""
_DULL_NAMES = ("train", "training", "data")


@dataclass
class _Draft:
    """What goes into the config; each with what is said beside it."""

    task: str
    task_reason: str
    metric: str
    n_rows: int
    metric_reason: str = "the usual one of this task; docs/config.md lists the others"
    id: str | None = None
    group: str | None = None
    group_reason: str = ""
    time: str | None = None
    time_reason: str = ""
    time_doubts: dict[str, str] = field(default_factory=dict)
    is_dated: bool = False
    dates: tuple[str, ...] = ()
    arrays: ArrayInputs | None = None
    columns: tuple[str, ...] = ()
    transform_reason: str = ""
    transform: str | None = None
    not_missing: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    texts: dict[str, ColumnType] = field(default_factory=dict)
    n_folds: int = N_FOLDS
    n_rows_a_fold: int | None = None
    fold_reason: str = "auto: by time, group, class, whichever the data have"
    n_columns: int = 0
    n_own: int = 0
    n_classes: int = 0
    n_rarest: int = 0
    n_categories: int = 0

    @property
    def drop(self) -> list[str]:
        """Columns that are left out."""
        return [name for names in self.dropped.values() for name in names]

    def leave_out(self, reason: str, name: str) -> None:
        """Leave a column out, once."""
        if name not in self.drop:
            self.dropped.setdefault(reason, []).append(name)


def scaffold_config(
    train: Path,
    target: str | tuple[str, ...],
    test: Path | None = None,
    sample_submission: Path | None = None,
    wishes: Wishes | None = None,
    *,
    folder: Path | None = None,
) -> str:
    """Return a commented config that loads without problems.

    Parameters
    ----------
    train : Path
        Training file, or ``sklearn:NAME``.
    target : str or tuple of str
        Column to predict, or several; a text may name them with commas between.
    test, sample_submission : Path or None
        Written into the config as given.
    wishes : Wishes, optional
        What else the command line says.
    folder : Path or None
        Where the config will stand, and its paths start from; the training file's folder if None.

    Raises
    ------
    DataError
        If a file cannot be read, a named column is none of it, or the target cannot be learnt.
    UsageError, ConfigError
        If task, metric or limit do not fit.
    """
    wishes = wishes or Wishes()
    _check_limit(wishes.limit)
    targets = _named(target)
    # A built-in name arrives from a command line as Path("sklearn:digits").
    arrays = None if str(train).startswith(BUILTIN) else ArrayInputs.of(train, targets[0])
    inputs = None if arrays is None else arrays.options
    options = DataOptions(
        train=str(train), target=targets, id=wishes.id, encoding=wishes.encoding, inputs=inputs
    )
    try:
        frame = read_frame(str(train), options)
    except DataError as error:
        # Here the option is one of the command line.
        raise DataError(str(error).replace("set data.encoding,", "set --encoding,")) from error
    if target in frame.columns:
        # A column's own name may have commas in it.
        targets = (str(target),)
        options = options.model_copy(update={"target": targets[0]})
    _check_columns(frame, train, targets, wishes)
    wishes = wishes.with_lists(frame, targets)
    for path in (test, sample_submission):
        if path is not None and not str(path).startswith(BUILTIN):
            table_format(path)
    draft = _draft(frame, targets, wishes, train)
    draft.arrays = arrays
    draft.id = wishes.id or _guess_id(frame, targets, sample_submission)
    _look_at_columns(draft, frame, options, wishes)
    if test is not None:
        _look_at_test(draft, test, frame, options, wishes)
    draft.is_dated = not wishes.has_inputs and _may_read_time(draft, frame, options, test)
    _judge_folds(draft, wishes)
    start = (folder or train.parent).absolute()
    paths = {"train": train, "test": test, "sample_submission": sample_submission}
    files = {role: _relative(path, start) for role, path in paths.items() if path is not None}
    stem = unpacked_name(train).stem
    name = start.name if stem.lower() in _DULL_NAMES else stem
    return _text(re.sub(r"[^A-Za-z0-9._-]+", "-", name) or "run", targets, files, draft, wishes)


def _named(target: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns that a text names, with commas between, or that are given."""
    if isinstance(target, tuple):
        return target
    return tuple(part for part in map(str.strip, target.split(",")) if part) or (target,)


def folders_outside(files: Iterable[Path | None], folder: Path) -> list[Path]:
    """Return the folders of files that a config in `folder` may name with --data-root alone."""
    here = folder.resolve()
    own = [file for file in files if file is not None and not str(file).startswith(BUILTIN)]
    places = (Path(os.path.relpath(file.resolve().parent)) for file in own)
    return [place for place in dict.fromkeys(places) if not place.resolve().is_relative_to(here)]


def _check_limit(limit: str | None) -> None:
    if limit is None:
        return
    try:
        is_time = parse_seconds(limit) > 0
    except ValueError:
        is_time = False
    if not is_time:
        raise UsageError(f"--limit must be a time such as 10m, 90s or 8h30m; got {limit!r}")


def _check_columns(frame: pd.DataFrame, train: Path, targets: Sequence[str], wishes: Wishes) -> None:
    """Every column that the command line names is one of the file, and none is named twice."""
    columns = [str(column) for column in frame.columns]
    named: list[tuple[str, str | None]] = [("--target", target) for target in targets]
    named += [("--id", wishes.id), ("--group", wishes.group), ("--time", wishes.time)]
    named += [("--query", wishes.query)]
    given = [(option, name) for option, name in named if name is not None]
    for place, (option, name) in enumerate(given):
        if name not in columns:
            shown = name_values(columns, _MOST_SAID)
            raise DataError(
                f"{option}: {train} must have the column {name!r}; it has {shown}.{suggest(name, columns)}"
            )
        others = [other for at, (other, one) in enumerate(given) if one == name and at != place]
        if others:
            raise UsageError(
                f"{option} must name a column of its own; got {name!r}, which is {others[0]} too"
            )


def _draft(frame: pd.DataFrame, targets: Sequence[str], wishes: Wishes, train: Path) -> _Draft:
    """Return the task and the metric, and how they were told."""
    read = [target_texts(frame, target, train) for target in targets]
    values, classes = read[0]
    task, reason = guess_task(values) if len(read) == 1 else guess_task_of_several([one for one, _ in read])
    fitting = [
        kind for kind in TASKS if wishes.metric in METRICS and kind in METRICS[str(wishes.metric)].tasks
    ]
    if (ranking := wishes.ranking()) is not None:
        task, reason = ranking, "as told" if wishes.query_reason else "told by --query"
    elif wishes.task is not None:
        task, reason = wishes.task, f"as told; {reason}"
    elif fitting and task not in fitting:
        task, reason = fitting[0], f"told by the metric; {reason}"
    wishes.check_lists(task)
    if len(targets) > 1 and not task_class(task).takes_targets:
        raise DataError(
            f"--target must name one column in task {task}; got {', '.join(targets)}; name one, or choose "
            "another --task"
        )
    for target, (texts, _) in zip(targets, read, strict=True):
        check_task(task, texts, f"{train}: column {quoted(target)}")
    n_columns = frame.shape[1] - len(targets)
    draft = _Draft(task, reason, task_class(task).default_metric, len(frame), n_columns=n_columns)
    draft.not_missing = classes
    if task_class(task).most_classes:
        draft.n_classes, draft.n_rarest = values.nunique(), int(values.value_counts().min())
    if wishes.metric is not None:
        check_metric(wishes.metric, task)
        check_decides(wishes.metric, task)
        draft.metric, draft.metric_reason = wishes.metric, "as told"
    elif task_class(task).most_classes:
        _judge_balance(draft, values)
    elif "log1p" in task_class(task).transforms:
        _judge_skew(draft, {target: texts for target, (texts, _) in zip(targets, read, strict=True)})
    draft.group, draft.group_reason = (wishes.groups, "as told") if wishes.groups else (None, "")
    draft.time, draft.time_reason = (wishes.time, "as told") if wishes.time else (None, "")
    return draft


def _judge_balance(draft: _Draft, values: pd.Series) -> None:
    """Choose the metric by the rarest class."""
    counts = values.value_counts()
    share = counts.min() / len(values)
    if share < RARE and len(counts) == 2:
        draft.metric = "roc_auc"
        said = f"{100 * share:.2g} % of the rows are {quoted(counts.index[-1])}: this metric ranks them"
        draft.metric_reason = f"{said}; log_loss if probabilities count"
    elif share < RARE / len(counts):
        draft.metric_reason = f"{draft.metric_reason}; classes are uneven: f1_macro counts them alike"


def _judge_folds(draft: _Draft, wishes: Wishes) -> None:
    """Choose the folds by time, by the rarest class, and by how much there is to learn."""
    if draft.time is not None and draft.n_rows >= TIME_FOLDS * LEAST_FOR_TIME_FOLD * 2:
        n_rows = max(LEAST_FOR_TIME_FOLD, draft.n_rows // TIME_FOLDS_IN_ALL)
        draft.n_folds, draft.n_rows_a_fold = TIME_FOLDS, n_rows
        draft.fold_reason = "the latest rows, part by part: models for later ones saw nearly all rows"
    elif draft.n_classes and draft.n_rarest < N_FOLDS:
        draft.n_folds = max(2, draft.n_rarest)
        draft.fold_reason = f"the rarest class has {draft.n_rarest} rows"
    else:
        limit = None if wishes.limit is None else parse_seconds(wishes.limit)
        n_folds = folds_worth_their_time(wishes.preset, _table(draft), limit)
        if N_FOLDS < n_folds <= draft.n_rarest:
            draft.n_folds, draft.fold_reason = n_folds, "more rows for each fit"


def _judge_skew(draft: _Draft, targets: Mapping[str, pd.Series]) -> None:
    """Let members learn the logarithm of targets with a long tail."""
    found: dict[str, str] = {}
    for target, values in targets.items():
        y = values.astype(float).to_numpy()
        if y.min() < 0 or len(y) < 30:
            continue
        before, after = skewness(y), skewness(np.log1p(y))
        if before > SKEWED and abs(after) < STRAIGHT:
            found[target] = f"skewness {before:.1f}, its log1p {after:.1f}"
    if not found:
        return
    of_one = len(targets) == 1
    draft.transform = "log1p" if of_one else f"{{{', '.join(f'{_quoted(name)}: log1p' for name in found)}}}"
    said = "; ".join(found.values() if of_one else (f"{name}: {one}" for name, one in found.items()))
    draft.transform_reason = f"{'the target has' if of_one else 'targets have'} a long tail ({said})"
    draft.metric_reason += "; rmsle where relative errors count"


def _look_at_columns(draft: _Draft, frame: pd.DataFrame, options: DataOptions, wishes: Wishes) -> None:
    """Leave out what cannot be learnt from, find groups, dates and names of rows."""
    from stackfeat.data.schema.column_types import RoleCells, prose_columns, type_columns
    from stackfeat.data.schema.number_texts import NumberTexts

    train = options.train
    named = (*options.targets, draft.id, wishes.groups, wishes.query, wishes.time)
    told = {name for name in named if name is not None}
    names = [str(name) for name in frame.columns if str(name) not in told]
    if draft.arrays is not None:
        names = [name for name in names if frame[name].nunique() > 1]
    elif not names:
        raise DataError(f"{train}: there must be columns to learn from besides the target; got none")
    draft.texts = {name: _kind_of_text(frame[name]) for name in prose_columns(frame[names])}
    options = options.model_copy(update={"types": draft.texts})
    texts = NumberTexts(frame, options)
    # A target of $21,992 says what the comma is in other columns, here as when the file is loaded.
    RoleCells.of_roles(texts, options.targets, {}, task_class(draft.task), str(train))
    typed = type_columns(frame, names, options, train, texts)
    for name, reason in typed.left_out.items():
        draft.leave_out(_REASONS.get(reason, reason), name)
    columns = {name: column for name, (column, _) in typed.columns.items()}
    if draft.group is None:
        draft.group, draft.group_reason = _guess_group(frame, list(columns))
    for name in columns:
        is_called_so = name not in (draft.id, draft.group) and _ID_NAME.search(name)
        if is_called_so and _names_rows(frame[name]):
            draft.leave_out("names of rows", name)
        elif is_called_so and _ROW_NAME.fullmatch(name):
            draft.leave_out("called like the names of rows, but some stand in several", name)
    _settle(draft, typed)
    draft.dates = tuple(name for name, column in columns.items() if column.type == "date")
    draft.columns = tuple(columns)
    draft.n_categories = sum(columns[name].type == "categorical" for name in {*columns} - {*draft.drop})
    kept = [column for name, column in columns.items() if name not in draft.drop]
    draft.n_columns = sum(map(_width, kept))
    draft.n_own = sum(1 if column.type == "categorical" else _width(column) for column in kept)


FREE_TEXT = "free text"
_REASONS = {"no values": "empty", FREE_TEXT: "names of rows"}


def _settle(draft: _Draft, typed: TypedColumns) -> None:
    """Decide what looks like something else, so that no run has to warn of it."""
    doubtful = [name for name, settled in typed.settled.items() if settled.guess is not None]
    for name in (*doubtful, *typed.doubts):
        column = typed.columns.get(name, (None, None))[0]
        if name in typed.doubts and (column is None or column.type == "categorical"):
            texts = draft.dropped.get(_REASONS[FREE_TEXT], [])
            draft.dropped[_REASONS[FREE_TEXT]] = [one for one in texts if one != name]
            draft.leave_out("dates or times that are not written like 2026-11-21", name)
        elif column is not None and name not in draft.drop:
            draft.types[name] = "categorical"
    draft.dropped = {reason: names for reason, names in draft.dropped.items() if names}


def _kind_of_text(texts: pd.Series) -> ColumnType:
    from stackfeat.data.prepare.texts import are_names

    return "words" if are_names(texts.dropna().astype(str)) else "text"


def _width(column: Column) -> int:
    if column.type == "text":
        from stackfeat.data.prepare.texts import MOST_FREQUENT, WIDTH

        return MOST_FREQUENT if column.by_words else WIDTH
    return len(column.levels) if column.type == "categorical" else len(column.numeric_names)


def _names_rows(values: pd.Series) -> bool:
    """Whether nearly every row has a value of its own."""
    return bool(values.astype(str).nunique() > MOST_OWN * len(values))


def _look_at_test(draft: _Draft, test: Path, frame: pd.DataFrame, train: DataOptions, wishes: Wishes) -> None:
    """Leave out what the rows to predict do not have."""
    options = train.model_copy(update={"train": str(test)})
    if str(test).startswith(BUILTIN):
        return
    there = set(table_format(test).names(test, options))
    if wishes.id is not None and wishes.id not in there:
        raise DataError(f"{test} must have the id column {wishes.id!r} too; add it, or choose another --id")
    if draft.id not in there:
        draft.id = None
    _compare_rows(draft, there, test, frame, options, wishes)
    roles = {*train.targets, draft.id, draft.group, draft.time}
    for name in map(str, frame.columns):
        if name not in there and name not in roles and name not in draft.drop:
            draft.leave_out(f"not in {test.name}", name)
    left = [name for name in map(str, frame.columns) if name not in {*roles, *draft.drop}]
    if not left and draft.arrays is None:
        raise DataError(
            f"{test} must have columns of {frame.columns[0]!r} and the others of training; got none of them"
        )


def _compare_rows(
    draft: _Draft, there: set[str], test: Path, frame: pd.DataFrame, options: DataOptions, wishes: Wishes
) -> None:
    """See by the rows to predict whether folds should keep groups together, and follow time."""
    group = None if wishes.groups else draft.group
    dates = () if wishes.time else tuple(name for name in draft.dates if name in there)
    if not dates and group not in there:
        return
    rows = read_frame(test, options)
    if group in there:
        known = float(rows[group].astype(str).isin(frame[group].astype(str)).mean())
        if known >= 0.5:
            said = f"{quoted(group)} looks like it, but {100 * known:.0f} % of the rows of {test.name} have values of"
            draft.group, draft.group_reason = None, f"{said} training, so rows to predict are of no new ones"
        else:
            draft.group_reason += f", {100 * known:.0f} % of the rows of {test.name} are of known ones"
    for name in dates:
        if draft.time is None:
            _compare_dates(draft, name, rows[name], frame[name], _comment(test.name))


def _compare_dates(draft: _Draft, name: str, rows: pd.Series, known: pd.Series, file: str) -> None:
    """Take a column as time where the rows to predict are later as a whole; say so where they only may be."""
    from stackfeat.data.schema.columns import count_later

    found = count_later(rows, known)
    if found is None:
        return
    n_unread = found.n_rows - found.n_read
    unread = f"{n_unread} of {found.n_rows} cells of it in {file} cannot be read as dates"
    if found.is_whole:
        those = f"those of {file} that can be read" if n_unread else f"rows of {file}"
        draft.time, draft.time_reason = name, f"all {those} are later than those of training"
        draft.time_reason += f"; {unread}" if n_unread else ""
    elif not found.is_readable:
        draft.time_doubts[name] = (
            f"{unread}, so nobody knows whether they are later than those of training; first write both files' dates "
            "like 2026-11-21, as members that read the date cannot place rows without one"
        )
    elif found.is_partly:
        said = f"{found.n_later} of {found.n_read} dates of {file} are later than all of training, the others not"
        draft.time_doubts[name] = f"{said}; {unread}" if n_unread else said


def _may_read_time(draft: _Draft, frame: pd.DataFrame, options: DataOptions, test: Path | None) -> bool:
    """Whether members can learn from the column that folds follow: dates or numbers, which rows to predict have too.

    The rows of a list have one time, so it orders none of them.
    """
    from stackfeat.data.schema.column_types import type_columns
    from stackfeat.data.schema.number_texts import NumberTexts

    if draft.time is None or draft.arrays is not None or task_class(draft.task).has_lists:
        return False
    typed = type_columns(frame, [draft.time], options, options.train, NumberTexts(frame, options))
    is_amount = any(column.type in ("date", "numeric") for column, _ in typed.columns.values())
    if test is None or str(test).startswith(BUILTIN):
        return is_amount
    return is_amount and draft.time in table_format(test).names(test, options)


def _guess_id(frame: pd.DataFrame, targets: Sequence[str], sample_submission: Path | None) -> str | None:
    """Return the sample submission's first column, else a column called id with a value for each row."""
    if sample_submission is not None:
        options = DataOptions(train=str(sample_submission))
        first = table_format(sample_submission).names(sample_submission, options)[0]
        if first in frame.columns:
            return first
    for column in map(str, frame.columns):
        if column not in targets and _ID_NAME.search(column) and frame[column].astype(str).is_unique:
            return column
    return None


def _guess_group(frame: pd.DataFrame, columns: Iterable[str]) -> tuple[str | None, str]:
    """Return a column named like a group whose values repeat but are many."""
    for column in columns:
        n_distinct = int(frame[column].astype(str).nunique())
        if _GROUP_NAME.search(column) and 10 <= n_distinct <= MOST_OWN * len(frame):
            return column, f"{n_distinct} distinct values in {len(frame)} rows"
    return None, ""


def _relative(path: Path, start: Path) -> str:
    if str(path).startswith(BUILTIN):
        return str(path)
    return Path(os.path.relpath(path.absolute(), start)).as_posix()


def _text(name: str, targets: Sequence[str], files: dict[str, str], draft: _Draft, wishes: Wishes) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    environment.globals |= {"DATE": DATE, "DATED": DATED}
    environment.filters |= {"quoted": _quoted, "comment": _comment}
    limit = None if wishes.limit is None else parse_seconds(wishes.limit)
    template = Path(__file__).with_name("first_config.yaml.jinja").read_text("utf-8")
    task, table = task_class(draft.task), _table(draft)
    # What nets of arrays cost is not known, so a limit buys no more assignments of folds.
    choice = Portfolio.load().chosen(wishes.preset, table, limit if draft.arrays is None else None)
    return environment.from_string(template).render(
        name=name,
        targets=targets,
        files=files,
        draft=draft,
        wishes=wishes,
        task=task,
        plain=plain_member(table),
        arrays=draft.arrays,
        columns=[
            name for name in draft.columns if name not in {draft.id, draft.group, draft.time, *draft.drop}
        ],
        members=list(written_members(wishes.preset, table, choice)),
        read=read_by_meta(table, choice),
        stacked=stacked_member(wishes.preset, table),
        repeats=choice.n_repeats,
        emit=_emitted(task.output, draft.n_columns > WIDE or draft.n_rows < FEW_ROWS),
    )


def _table(draft: _Draft) -> Table:
    names = ("n_rows", "n_columns", "n_classes", "task", "n_folds", "n_categories", "n_own")
    values = {name: getattr(draft, name) for name in names}
    return Table(**values, in_time=draft.time is not None, is_dated=draft.is_dated)


def _emitted(output: str, in_few_directions: bool) -> str:
    """Return what nets pass on; in wide nets, or on few rows, fold spaces agree on few directions only."""
    if in_few_directions:
        said = "predictions, and the main directions of the last hidden layer's features"
        return f"emit: [{output}, {{tap: penultimate, reduce: {REDUCED}}}]   # {said}"
    return f"emit: [{output}, penultimate]   # predictions, and features of the last hidden layer"


def _quoted(text: str) -> str:
    """Return the text as YAML, quoted where a plain word could be read otherwise."""
    is_word = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", text) is not None
    return text if is_word and text.lower() not in ("true", "false", "null") else in_quotes(text)


def _comment(text: str) -> str:
    return one_line(" ".join(text.split())[:120])
