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

from stackfeat.data.files.cells import column_cells
from stackfeat.data.files.fingerprint import fingerprint as fingerprint
from stackfeat.data.files.tables import BUILTIN, Part, read_frame
from stackfeat.data.messages import name_values, quote_values
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import Samples
from stackfeat.data.schema.columns import Schema, check_roles, input_columns, role_columns, type_columns
from stackfeat.data.schema.inputs import array_options, combined, describe_arrays, read_arrays
from stackfeat.data.schema.roles import read_fold, read_group, read_ids, read_target, read_time, read_weight
from stackfeat.errors import DataError, DataWarning
from stackfeat.registry.resolve import quoted
from stackfeat.registry.wildcards import matches
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
    sample_submission : DataFrame or None
        As text where it is a csv file.
    """

    train: Samples
    test: Samples | None
    schema: Schema
    notes: tuple[str, ...]
    sample_submission: pd.DataFrame | None


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
        test = _read_rows(find_file(options.test, folder), schema, options, "test", folder)
        _warn_of_shared_ids(train, test, schema)
    sample = None
    if options.sample_submission is not None:
        path = find_file(options.sample_submission, folder)
        sample = read_frame(path, options, "test")
        if sample.shape[1] < 2:
            raise DataError(
                f"{path}: a sample submission must have an id and another column; got one column, "
                f"{quoted(sample.columns[0])}; if it holds several, set data.separator"
            )
    notes = _notes(train, test, schema)
    for note in notes:
        logger.info(note)
    return LoadedData(train=train, test=test, schema=schema, notes=notes, sample_submission=sample)


def find_file(name: str, folder: Path) -> Path | str:
    """Return a path relative to the folder; names of built-in sets stay as they are."""
    return name if name.startswith(BUILTIN) else Path(folder) / name


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
    return _read_rows(path, schema, options, "test", Path(path).parent if folder is None else folder)


def _load_train(options: DataOptions, folder: Path, task_kind: Kind, metric: str) -> tuple[Samples, Schema]:
    path = find_file(options.train, folder)
    frame = read_frame(path, options, "train")
    _check_width(frame, options, str(path))
    check_roles(frame, options, str(path))
    inputs = input_columns(frame, options, str(path))
    wanted = set().union(*inputs.values())
    names = [name for name in frame.columns if name in wanted]
    task, label_type, y = read_target(
        frame[options.target], options, task_kind, metric, f"{path}: column {options.target!r}"
    )
    typed = type_columns(frame, names, options, str(path))
    kept = {column.name for column in typed.columns}
    arrays, array_schemas = read_arrays(frame, options, path, folder)
    roles = {role: name for role, name in role_columns(options).items() if role in _ROLE_READERS}
    schema = Schema(
        task=task,
        label_type=label_type,
        id=options.id,
        target=options.target,
        roles=roles,
        columns=typed.columns,
        inputs={
            name: tuple(column for column in chosen if column in kept) for name, chosen in inputs.items()
        },
        left_out=typed.left_out,
        arrays=array_schemas,
    )
    given = {
        role: _ROLE_READERS[role](frame[name], f"{path}: column {quoted(name)}")
        for role, name in roles.items()
    }
    ids = read_ids(frame, options.id, str(path))
    read = combined(schema.inputs, schema.columns, typed.values, arrays, options, len(frame))
    return Samples(ids=ids, inputs=read, y=y, task=task, **given), schema


def _check_width(frame: pd.DataFrame, options: DataOptions, where: str) -> None:
    if frame.shape[1] < 2 and not array_options(options):
        raise DataError(
            f"{where}: training data must have a target and another column; got one column, "
            f"{quoted(frame.columns[0])}; "
            "if it holds several, set data.separator"
        )


def _read_rows(path: Path | str, schema: Schema, options: DataOptions, part: Part, folder: Path) -> Samples:
    frame = read_frame(path, options, part)
    _check_columns(frame, schema, options, str(path))
    values = {}
    problems = []
    columns = {column.name: column for column in schema.columns}
    for name, cells in column_cells(frame, list(columns)):
        try:
            values[name] = columns[name].read(cells, f"{path}: column {quoted(name)}")
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    ids = read_ids(frame, schema.id, str(path))
    arrays, _ = read_arrays(frame, options, path, folder, schema.arrays)
    inputs = combined(schema.inputs, schema.columns, values, arrays, options, len(frame))
    return Samples(ids=ids, inputs=inputs, y=None, task=schema.task)


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
        warnings.warn(
            f"{where}: columns that the training file has not are ignored: {name_values(extra)}",
            DataWarning,
            stacklevel=4,
        )


def _warn_of_shared_ids(train: Samples, test: Samples, schema: Schema) -> None:
    if schema.id is None:
        return
    shared = test.ids[np.isin(test.ids, train.ids)].tolist()
    if len(shared):
        warnings.warn(
            f"{len(shared)} ids are in both the training and the test file, such as "
            f"{quote_values(shared)}; "
            "if they are the same rows, test scores will look better than new data will be",
            DataWarning,
            stacklevel=3,
        )


def _notes(train: Samples, test: Samples | None, schema: Schema) -> tuple[str, ...]:
    counts = Counter(column.type for column in schema.columns)
    columns = ", ".join(f"{count} {type_}" for type_, count in sorted(counts.items()))
    rows = f"{train.n_rows} training rows" + (f", {test.n_rows} test rows" if test is not None else "")
    notes = [f"{rows}; columns: {columns}" if columns else rows, *describe_arrays(train.inputs)]
    if schema.left_out:
        notes.append(
            "left out: " + ", ".join(f"{name} ({reason})" for name, reason in schema.left_out.items())
        )
    if schema.task.takes_positive:
        notes.append(f"positive class: {quoted(schema.task.classes[schema.task.positive])}")
    if schema.task.transform != "none":
        notes.append(f"members learn {schema.task.transform} of the target")
    return tuple(notes)
