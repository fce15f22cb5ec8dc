"""Load: from the paths in a config to training and test `Samples`.

In:  `DataOptions`, the folder its paths are relative to, the task and the metric.
Out: `LoadedData`; or, for later files, `Samples` read the way the training file was.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stackfeat.data.files.cells import Cells, column_cells, text_cells, to_text
from stackfeat.data.files.notation import PLAIN
from stackfeat.data.files.parsing import read_each
from stackfeat.data.files.tables import find_file, read_frame
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import ArrayInput, Samples
from stackfeat.data.schema.column_types import ROLE_READERS, RoleCells, type_columns
from stackfeat.data.schema.columns import Schema, check_roles, input_columns
from stackfeat.data.schema.drift import ColumnDrift, TrainingSummary, drift_lines, warn_of_drift
from stackfeat.data.schema.given_rows import GivenRows
from stackfeat.data.schema.guesses import Guess
from stackfeat.data.schema.inputs import all_inputs, read_arrays
from stackfeat.data.schema.label_sets import of_label_sets_found
from stackfeat.data.schema.number_texts import NumberTexts
from stackfeat.data.schema.roles import (
    group_names,
    holds_dates,
    of_classes,
    query_names,
    read_group,
    read_ids,
    read_known_group,
    read_known_targets,
    read_known_time,
    read_targets,
    training_lists,
)
from stackfeat.data.schema.suspicions import of_copies, of_group, of_unseen
from stackfeat.errors import DataError, DataWarning, MissingColumnsError
from stackfeat.registry.patterns import matches
from stackfeat.registry.resolve import name_values, quote_values, quoted, suggest
from stackfeat.tasks.task import Kind, task_class

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LoadedData:
    """All that the data files of a config hold.

    Attributes
    ----------
    train : Samples
    test : Samples or None
        Without y, group, time, weight and fold.
    schema : Schema
    summary : TrainingSummary
        What new rows are compared with.
    guesses : tuple of Guess
        What was decided that no option says: types, notations, missing values, classes, what is left out.
    notes : tuple of str
        What a person should know of how the files were read, a line each; guesses that are not doubtful among them.
    drift : tuple of str
        What is off about the columns of the test file, a line for each.
    extra : Samples or None
        Rows that only train, with all roles that decide which fold may have them.
    extra_drift : tuple of str
        As `drift`, of the file of extra rows.
    """

    train: Samples
    test: Samples | None
    schema: Schema
    summary: TrainingSummary
    guesses: tuple[Guess, ...]
    notes: tuple[str, ...]
    drift: tuple[str, ...] = ()
    extra: Samples | None = None
    extra_drift: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownRoles:
    """What rows of another file must know of the training file's roles.

    Attributes
    ----------
    groups, queries : sequence of str
        Texts of groups, and of lists, in the order of their numbers.
    has_dates : bool
        Whether times are dates, not numbers.
    """

    groups: Sequence[str] = ()
    has_dates: bool = False
    queries: Sequence[str] = ()

    @classmethod
    def of(cls, options: DataOptions, read: Callable[[str], Cells]) -> KnownRoles:
        """Return what `read` tells of the columns of a training file."""
        groups, queries = (
            group_names(read(name)) if name is not None else () for name in (options.group, options.query)
        )
        return cls(groups, options.time is not None and holds_dates(read(options.time)), queries)


def load(options: DataOptions, folder: Path, task_kind: Kind, metric: str) -> LoadedData:
    """Read the files of a config.

    Parameters
    ----------
    options : DataOptions
    folder : Path
        What the paths in `options` are relative to.
    task_kind : {"binary", "multiclass", "regression"}
    metric : str
        ``rmsle`` makes members learn ``log1p`` of the target.

    Returns
    -------
    LoadedData

    Raises
    ------
    DataError
        If a file cannot be used; names the file, columns and rows.

    Warns
    -----
    DataWarning
        Of every doubtful guess, and of ids that are both in train and test.
    """
    train, schema, summary, guesses, known = _load_train(options, folder, task_kind, metric)
    for guess in guesses:
        if guess.is_doubtful:
            warnings.warn(f"{find_file(options.train, folder)}: {guess}", DataWarning, stacklevel=2)
    test, drift = None, list[str]()
    if options.test is not None:
        path = find_file(options.test, folder)
        test, found = compare_rows(path, schema, options, folder, summary)
        drift = [f"{path}: {line}" for line in drift_lines(found)]
        shared = test.ids[np.isin(test.ids, train.ids)].tolist() if schema.id is not None else []
        if shared:
            warnings.warn(
                f"{len(shared)} ids are in both the training and the test file, such as {quote_values(shared)}; "
                "if they are the same rows, test scores will look better than new data will be",
                DataWarning,
                stacklevel=2,
            )
    notes = (*_notes(train, test, schema), *(str(guess) for guess in guesses if not guess.is_doubtful))
    extra, extra_drift = None, list[str]()
    if options.extra is not None:
        extra, found = read_extra(schema, options, folder, summary, known)
        extra_drift = [f"{options.extra.train}: {line}" for line in drift_lines(found)]
    return LoadedData(train, test, schema, summary, guesses, notes, tuple(drift), extra, tuple(extra_drift))


def read_extra(
    schema: Schema,
    options: DataOptions,
    folder: Path,
    summary: TrainingSummary,
    known: KnownRoles,
    most_bytes: int | None = None,
) -> tuple[Samples, list[ColumnDrift]]:
    """Read the rows that only train, as the training file was read, and compare every column with it.

    Parameters
    ----------
    known : KnownRoles
        Of the training file.
    most_bytes : int, optional
        Of a larger file the first rows are enough.

    Raises
    ------
    DataError
        If a column is missing, or holds what it may not; a target that is no class of the training file included.
    """
    assert options.extra is not None
    path = find_file(options.extra.train, folder)
    where, frame = str(path), read_frame(path, options, "train", most_bytes)
    roles = {role: name for role, name in schema.roles.items() if role != "fold"}
    needed = [*(column.name for column in schema.columns), *schema.targets, *roles.values()]
    check_columns(frame, needed, schema, options, where)
    values, drift = _read_columns(frame, schema, where, summary)
    cells = RoleCells.of_roles(NumberTexts(frame, options), schema.targets, roles, schema.task, where)
    y = read_known_targets(cells.read, schema.task, options, where)
    given = cells.read_roles(role for role in roles if role not in ("group", "query", "time"))
    for role, names in (("group", known.groups), ("query", known.queries)):
        if role in roles:
            given[role] = read_known_group(
                cells.read(roles[role]), names, f"{where}: column {quoted(roles[role])}", role
            )
    if "time" in roles:
        given["time"] = read_known_time(
            cells.read(roles["time"]), known.has_dates, f"{where}: column {quoted(roles['time'])}"
        )
    has_ids = schema.id is not None and schema.id in frame.columns
    ids = read_ids(frame, schema.id if has_ids else None, where)
    # Numbers of rows are no ids that rows of two files could share.
    ids = ids if has_ids else np.array([f"extra row {number}" for number in ids])
    inputs = all_inputs(schema, values, {}, options, len(frame))
    return Samples(ids=ids, inputs=inputs, y=y, task=schema.task, **given).with_lists(where), drift


def read_sample(options: DataOptions, folder: Path) -> pd.DataFrame | None:
    """Return the sample submission, where there is one; as text where it is a csv file."""
    if options.sample_submission is None:
        return None
    path = find_file(options.sample_submission, folder)
    sample = read_frame(path, options, "test")
    if sample.shape[1] < 2:
        raise DataError(
            f"{path}: a sample submission must have an id and another column; got one column, "
            f"{quoted(sample.columns[0])}; if it holds several, set data.separator"
        )
    return sample


def load_rows(
    path: Path | str,
    schema: Schema,
    options: DataOptions,
    folder: Path | None = None,
    summary: TrainingSummary | None = None,
) -> Samples:
    """Read new data the way the training file was read; a target column is ignored.

    Parameters
    ----------
    path : Path or str
    schema : Schema
        Of the training file.
    options : DataOptions
    folder : Path, optional
        What `root` of image files is relative to; by default the folder of `path`.
    summary : TrainingSummary, optional
        Of the training file.

    Raises
    ------
    DataError
        If a column is missing, or holds what it did not hold in training.

    Warns
    -----
    DataWarning
        Of each column that is unlike that of `summary`.
    """
    samples, drift = compare_rows(path, schema, options, folder, summary)
    warn_of_drift(drift, str(path))
    return samples


def compare_rows(
    path: Path | str,
    schema: Schema,
    options: DataOptions,
    folder: Path | None = None,
    summary: TrainingSummary | None = None,
) -> tuple[Samples, list[ColumnDrift]]:
    """Read new data as `load_rows` does, and compare every column with the training file's."""
    return compare_given(GivenRows.of_file(path, options, folder), schema, options, summary)


def compare_given(
    rows: GivenRows,
    schema: Schema,
    options: DataOptions,
    summary: TrainingSummary | None = None,
    *,
    needs_ids: bool = True,
    fills: bool = False,
) -> tuple[Samples, list[ColumnDrift]]:
    """Read rows of any form as the training file was, and compare every column with it where there is a summary.

    Parameters
    ----------
    needs_ids : bool
        Whether a column of ids must be there; else rows are numbered.
    fills : bool
        Whether a column that is not there counts as one without values; else it is an error.
    """
    where = str(rows.path)
    read = [column.name for column in schema.columns]
    query = schema.roles.get("query")
    if fills:
        rows = rows.filled([name for name in read if name not in rows.frame.columns])
    frame = rows.frame
    needed = [
        *read,
        *([schema.id] if needs_ids and schema.id is not None else []),
        *([query] if query else []),
    ]
    check_columns(frame, needed, schema, options, where)
    for target in schema.targets if summary is not None else ():
        if target in frame.columns:
            for text in of_unseen(schema.task, target, labels_in(frame, target)):
                warnings.warn(f"{where}: {text}", DataWarning, stacklevel=4)
    values, drift = _read_columns(frame, schema, where, summary)
    ids = read_ids(frame, schema.id if needs_ids else None, where)
    arrays = read_arrays(rows, options, schema.arrays)
    inputs = all_inputs(schema, values, arrays, options, len(frame))
    if summary is not None and len(frame):
        drift += summary.of_arrays({name: array for name, (array, _) in arrays.items()})
        named = [
            name for name in frame.columns if not any(matches(pattern, name) for pattern in options.drop)
        ]
        drift += summary.of_names(named, {*schema.targets, *schema.roles.values()})
    samples = Samples(ids=ids, inputs=inputs, y=None, task=schema.task)
    return (samples if query is None else _in_lists(samples, frame, query, options, where)), drift


def _in_lists(samples: Samples, frame: pd.DataFrame, query: str, options: DataOptions, where: str) -> Samples:
    """Return rows to predict that know their lists, and what these are called where they are written so."""
    cells = RoleCells(NumberTexts(frame, options), [query], [], where).read(query)
    lists = read_group(cells, f"{where}: column {quoted(query)}", "query")
    names = None if options.label_separator is None else query_names(cells)
    return replace(samples, query=lists, query_names=names)


def _read_columns(
    frame: pd.DataFrame, schema: Schema, where: str, summary: TrainingSummary | None
) -> tuple[dict[str, np.ndarray], list[ColumnDrift]]:
    """Read the columns of the schema, and compare each with the training file's."""
    columns = {column.name: column for column in schema.columns}
    drift: list[ColumnDrift] = []

    def read(name: str, cells: Cells) -> np.ndarray:
        values = columns[name].read(cells, f"{where}: column {quoted(name)}")
        if summary is not None and len(frame):
            is_time = name == schema.roles.get("time")
            drift.append(summary.of_column(columns[name], values, cells, is_time=is_time))
        return values

    notations = {name: column.notation for name, column in columns.items()}
    return read_each(column_cells(frame, notations), read), drift


def _load_train(
    options: DataOptions, folder: Path, task_kind: Kind, metric: str
) -> tuple[Samples, Schema, TrainingSummary, tuple[Guess, ...], KnownRoles]:
    path = find_file(options.train, folder)
    where = str(path)
    frame = read_frame(path, options, "train")
    if frame.shape[1] < 2 and not options.array_inputs:
        raise DataError(
            f"{where}: training data must have a target and another column; got one column, "
            f"{quoted(frame.columns[0])}; if it holds several, set data.separator"
        )
    check_roles(frame, options, where)
    inputs = input_columns(frame, options, where)
    wanted = set().union(*inputs.values())
    names = [name for name in frame.columns if name in wanted]
    roles = {role: name for role, name in options.roles.items() if role in ROLE_READERS}
    texts = NumberTexts(frame, options)
    has_classes = bool(task_class(task_kind).most_classes)
    cells = RoleCells.of_roles(texts, options.targets, roles, task_class(task_kind), where)
    typed = type_columns(frame, names, options, where, texts)
    order = category_order(frame[options.targets[0]])
    task, label_type, y = read_targets(cells.read, options, task_kind, metric, where, order)
    arrays = read_arrays(GivenRows(frame, path, folder), options)
    schema = Schema(
        task=task,
        label_type=label_type,
        id=options.id,
        target=options.target,
        roles=roles,
        columns=tuple(column for column, _ in typed.columns.values()),
        inputs={
            name: tuple(one for one in chosen if one in typed.columns) for name, chosen in inputs.items()
        },
        left_out=typed.left_out,
        arrays={name: array for name, (_, array) in arrays.items()},
        has_order=has_classes and (order is not None or options.class_order is not None),
    )
    given = cells.read_roles()
    ids = read_ids(frame, options.id, where)
    values = {name: read for name, (_, read) in typed.columns.items()}
    read = all_inputs(schema, values, arrays, options, len(frame))
    for text in (
        *of_copies(typed.columns, y),
        *of_group(options.group, given.get("group")),
    ):
        warnings.warn(text, DataWarning, stacklevel=3)
    guesses = (
        *typed.guesses(options),
        *of_classes(task, options, order is not None),
        *of_label_sets_found(task, y, options),
    )
    unread = _number_unread(frame, schema, options)
    samples = Samples(ids=ids, inputs=read, y=y, task=task, unread=unread, **given)
    samples = training_lists(samples, where)
    summary = TrainingSummary.of(
        list(frame.columns), typed.columns, {name: array for name, (array, _) in arrays.items()}
    )
    known = KnownRoles() if options.extra is None else KnownRoles.of(options, cells.read)
    return samples, schema, summary, guesses, known


def labels_in(frame: pd.DataFrame, target: str) -> list[str]:
    """Return the different labels that a column holds, as texts."""
    return [str(label) for label in to_text(frame[target]).dropna().unique()]


def category_order(values: pd.Series) -> list[str] | None:
    """Return the categories of a column that a file keeps in an order, as texts."""
    import pandas as pd

    if not isinstance(values.dtype, pd.CategoricalDtype) or not values.dtype.ordered:
        return None
    return [str(category).strip() for category in values.dtype.categories]


def _number_unread(frame: pd.DataFrame, schema: Schema, options: DataOptions) -> np.ndarray:
    """Return a number for what each row holds in the columns that nothing reads, int64.

    A column without a name, and one of numbers that all differ, number the rows: that is no difference.
    """
    used = {*(column.name for column in schema.columns), *options.roles.values()}
    for given in options.array_inputs.values():
        used.update(name for name in (given.column, given.lengths) if name is not None)
    named = [name for name in frame.columns if name not in used and not name.startswith("Unnamed: ")]
    numbers = np.zeros(len(frame), dtype=np.int64)
    for _, cells in column_cells(frame, dict.fromkeys(named, PLAIN)):
        text = text_cells(cells)
        if len(text.distinct) == len(frame) and text.block.is_numeric[text.place]:
            continue
        numbers = np.unique(numbers * (len(text.block.texts) + 1) + text.codes + 1, return_inverse=True)[1]
    return numbers


def check_columns(
    frame: pd.DataFrame, needed: Sequence[str], schema: Schema, options: DataOptions, where: str
) -> None:
    """Refuse a file without a column that is read; which of its own may be that one is said beside it."""
    absent = [name for name in needed if name not in frame.columns]
    if not absent:
        return
    known = {*needed, schema.id, *schema.targets, *schema.roles.values(), *schema.left_out}
    extra = [name for name in frame.columns if name not in known]
    unexpected = [name for name in extra if not any(matches(pattern, name) for pattern in options.drop)]
    hint = ""
    if frame.shape[1] == 1:
        hint = f"; set data.separator if {quoted(frame.columns[0])} holds several columns"
    query = schema.roles.get("query")
    if query in absent:
        hint += f"; {quoted(query)} is needed, as rows are ranked within its lists"
    near = "".join(suggest(name, unexpected) for name in absent[:1])
    raise MissingColumnsError(
        f"{where}: columns must be those of the training file; missing here: {name_values(absent)}; "
        f"only here: {name_values(unexpected) or 'none'}{hint}; rename or add them.{near}".removesuffix("."),
        () if query in absent else tuple(name for name in absent if name != schema.id),
    )


def _notes(train: Samples, test: Samples | None, schema: Schema) -> tuple[str, ...]:
    counts = Counter(column.type for column in schema.columns)
    columns = ", ".join(f"{count} {type_}" for type_, count in sorted(counts.items()))
    rows = f"{train.n_rows} training rows" + (f", {test.n_rows} test rows" if test is not None else "")
    notes = [f"{rows}; columns: {columns}" if columns else rows]
    for name, values in train.inputs.items():
        if isinstance(values, ArrayInput):
            shape = " x ".join(map(str, values.shape[1:]))
            padded = ", padded" if values.lengths is not None else ""
            tokens = f", {values.n_tokens} tokens" if values.kind == "tokens" else ""
            place = ", left on disk" if values.is_lazy else ""
            notes.append(f"input {name}: {values.kind} {shape}, {values.dtype}{padded}{tokens}{place}")
    if schema.task.transform != "none":
        transforms = zip(schema.targets, schema.task.transforms_by_target, strict=True)
        logged = [quoted(name) for name, one in transforms if one != "none"]
        of = "the target" if len(schema.targets) == 1 else name_values(logged)
        notes.append(f"members learn log1p of {of}")
    return tuple(notes)
