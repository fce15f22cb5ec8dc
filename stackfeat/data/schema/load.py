"""Load: from the paths in a config to training and test `Samples`.

In:  `DataOptions`, the folder its paths are relative to, the task and the metric.
Out: `LoadedData`; or, for later files, `Samples` read the way the training file was.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stackfeat.data.files.cells import column_cells, text_cells
from stackfeat.data.files.parsing import read_each
from stackfeat.data.files.tables import find_file, read_frame
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import ArrayInput, Samples
from stackfeat.data.schema.columns import Schema, check_roles, input_columns, type_columns
from stackfeat.data.schema.inputs import all_inputs, read_arrays
from stackfeat.data.schema.roles import read_fold, read_group, read_ids, read_target, read_time, read_weight
from stackfeat.errors import DataError, DataWarning
from stackfeat.registry.patterns import matches
from stackfeat.registry.resolve import name_values, quote_values, quoted
from stackfeat.tasks.task import Kind

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_ROLE_READERS = {"group": read_group, "time": read_time, "weight": read_weight, "fold": read_fold}


@dataclass(frozen=True)
class LoadedData:
    """All that the data files of a config hold.

    Attributes
    ----------
    train : Samples
    test : Samples or None
        Without y, group, time, weight and fold.
    schema : Schema
    notes : tuple of str
        What a person should know of how the files were read, a line each.
    """

    train: Samples
    test: Samples | None
    schema: Schema
    notes: tuple[str, ...]


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
        If free text is left out, ids are both in train and test, or test has columns that train has not.
    """
    train, schema = _load_train(options, folder, task_kind, metric)
    test = None
    if options.test is not None:
        test = load_rows(find_file(options.test, folder), schema, options, folder)
        shared = test.ids[np.isin(test.ids, train.ids)].tolist() if schema.id is not None else []
        if shared:
            warnings.warn(
                f"{len(shared)} ids are in both the training and the test file, such as {quote_values(shared)}; "
                "if they are the same rows, test scores will look better than new data will be",
                DataWarning,
                stacklevel=2,
            )
    notes = _notes(train, test, schema)
    for note in notes:
        logger.info(note)
    return LoadedData(train=train, test=test, schema=schema, notes=notes)


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


def load_rows(path: Path | str, schema: Schema, options: DataOptions, folder: Path | None = None) -> Samples:
    """Read later data the way the training file was read; a target column is ignored.

    Parameters
    ----------
    path : Path or str
    schema : Schema
        Of the training file.
    options : DataOptions
    folder : Path, optional
        What `root` of image files is relative to; by default the folder of `path`.

    Raises
    ------
    DataError
        If a column is missing, or holds what it did not hold in training.
    """
    frame = read_frame(path, options, "test")
    _check_columns(frame, schema, options, str(path))
    columns = {column.name: column for column in schema.columns}
    values = read_each(
        column_cells(frame, list(columns)),
        lambda name, cells: columns[name].read(cells, f"{path}: column {quoted(name)}"),
    )
    ids = read_ids(frame, schema.id, str(path))
    arrays = read_arrays(frame, options, path, Path(path).parent if folder is None else folder, schema.arrays)
    inputs = all_inputs(schema, values, arrays, options, len(frame))
    return Samples(ids=ids, inputs=inputs, y=None, task=schema.task)


def _load_train(options: DataOptions, folder: Path, task_kind: Kind, metric: str) -> tuple[Samples, Schema]:
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
    task, label_type, y = read_target(
        frame[options.target], options, task_kind, metric, f"{where}: column {options.target!r}"
    )
    columns, left_out = type_columns(frame, names, options, where)
    arrays = read_arrays(frame, options, path, folder)
    roles = {role: name for role, name in options.roles.items() if role in _ROLE_READERS}
    schema = Schema(
        task=task,
        label_type=label_type,
        id=options.id,
        target=options.target,
        roles=roles,
        columns=tuple(column for column, _ in columns.values()),
        inputs={name: tuple(one for one in chosen if one in columns) for name, chosen in inputs.items()},
        left_out=left_out,
        arrays={name: array for name, (_, array) in arrays.items()},
    )
    given = {
        role: _ROLE_READERS[role](frame[name], f"{where}: column {quoted(name)}")
        for role, name in roles.items()
    }
    ids = read_ids(frame, options.id, where)
    values = {name: read for name, (_, read) in columns.items()}
    read = all_inputs(schema, values, arrays, options, len(frame))
    unread = _number_unread(frame, schema, options)
    return Samples(ids=ids, inputs=read, y=y, task=task, unread=unread, **given), schema


def _number_unread(frame: pd.DataFrame, schema: Schema, options: DataOptions) -> np.ndarray:
    """Return a number for what each row holds in the columns that nothing reads, int64.

    A column without a name, and one of numbers that all differ, number the rows: that is no difference.
    """
    used = {*(column.name for column in schema.columns), *options.roles.values()}
    for given in options.array_inputs.values():
        used.update(name for name in (given.column, given.lengths) if name is not None)
    named = [name for name in frame.columns if name not in used and not name.startswith("Unnamed: ")]
    numbers = np.zeros(len(frame), dtype=np.int64)
    for _, cells in column_cells(frame, named):
        text = text_cells(cells)
        if len(text.distinct) == len(frame) and text.block.is_numeric[text.place]:
            continue
        numbers = np.unique(numbers * (len(text.block.texts) + 1) + text.codes + 1, return_inverse=True)[1]
    return numbers


def _check_columns(frame: pd.DataFrame, schema: Schema, options: DataOptions, where: str) -> None:
    needed = [column.name for column in schema.columns] + ([schema.id] if schema.id is not None else [])
    missing = [name for name in needed if name not in frame.columns]
    known = {*needed, schema.target, *schema.roles.values(), *schema.left_out}
    extra = [name for name in frame.columns if name not in known]
    if missing:
        unexpected = [name for name in extra if not any(matches(pattern, name) for pattern in options.drop)]
        only = quoted(frame.columns[0])
        hint = f"; set data.separator if {only} holds several columns" if frame.shape[1] == 1 else ""
        raise DataError(
            f"{where}: columns must be those of the training file; missing here: {name_values(missing)}; "
            f"only here: {name_values(unexpected) or 'none'}{hint}; rename or add them"
        )
    if extra and options.inputs is None and not options.drop:
        message = f"{where}: columns that the training file has not are ignored: {name_values(extra)}"
        warnings.warn(message, DataWarning, stacklevel=4)


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
    if schema.left_out:
        notes.append(
            "left out: " + ", ".join(f"{name} ({reason})" for name, reason in schema.left_out.items())
        )
    if schema.task.takes_positive:
        notes.append(f"positive class: {quoted(schema.task.classes[schema.task.positive])}")
    if schema.task.transform != "none":
        notes.append(f"members learn {schema.task.transform} of the target")
    return tuple(notes)
