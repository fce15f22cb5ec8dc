"""Predictions that somebody else's model wrote into a file.

In:  csv, parquet or npy; the task, the name of the id column, where needed files of ids.
Out: `PredictionRows`: ids, and a column per class in the task's order (or one of values), matched
     by name. Nothing is judged here but what makes the file unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from stackfeat.data.files.parsing import parsing, unknown_name
from stackfeat.data.files.plain_cells import PlainCells
from stackfeat.data.files.tables import format_of, read_frame, table_format
from stackfeat.data.options import DataOptions
from stackfeat.errors import DataError
from stackfeat.registry.resolve import name_values, quote_values, quoted, suggest
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd

Known = TypeVar("Known")

PREDICTION = "prediction"
_ROLE_WORDS = (PREDICTION, "proba", "pred")


@dataclass(frozen=True)
class PredictionRows:
    """Rows of one file.

    Attributes
    ----------
    ids : ndarray of shape (n_rows,), str
    values : ndarray of shape (n_rows, n_outputs), float64
        As in the file; NaN where a cell is empty. Regression: on the scale of the target.
    ignored : tuple of str
        Columns that are neither the id nor a class.
    by_name : bool
        Whether columns were matched by name; otherwise their order was taken on trust.
    """

    ids: np.ndarray
    values: np.ndarray
    ignored: tuple[str, ...]
    by_name: bool


def read_predictions(
    path: Path,
    task: Task,
    id_name: str,
    *,
    target: str = "",
    ids: Path | None = None,
    classes: Sequence[object] | None = None,
    text: DataOptions | None = None,
) -> PredictionRows:
    """Read one file of predictions.

    Parameters
    ----------
    path : Path
        csv (tsv, txt), parquet or feather: an id and a column per class, or one called ``prediction``
        (regression; binary: the probability of the positive class). npy: a column per class, or a
        structured array with named columns.
    id_name : str
        Column of the ids: this name, or ``id``.
    target : str
        Binary and regression: a column of the target's name is read as the prediction too.
    ids : Path, optional
        npy without names: a file with an id per row, in the same order (npy, or csv).
    classes : sequence, optional
        npy without names: the order of its columns; the sorted order without it.
    text : DataOptions, optional
        Of the run: how its files write numbers and missing values. A file of its own notation is read in that.

    Raises
    ------
    DataError
        If the file cannot be read, ids are missing or not unique, or columns do not fit.
    """
    from stackfeat.data.schema.column_types import read_numbers

    array, plain = _array_in(path), None
    if array is None:
        plain = _plain_in(path) if ids is None and classes is None else None
        found = None if plain is None else _beside_known_ids(path, plain, task, id_name, target, text)
        if found is not None:
            return found
        frame = read_frame(path, DataOptions(train=str(path)))
    elif array.dtype.names is None:
        return _from_array(path, array, task, id_name, ids, classes)
    else:
        frame = _frame_of(path, {name: array[name] for name in array.dtype.names})
    if ids is not None or classes is not None:
        given = "ids of its own" if ids is not None else "classes"
        raise DataError(
            f"{path}: {given} belong to npy files without names; this file has columns with names; remove them"
        )
    column = _id_column(path, [*frame.columns], id_name)
    names = _value_columns(path, [name for name in frame.columns if name != column], task, target)
    numbers = read_numbers(frame, names, text or DataOptions(train=str(path)), str(path))
    values = np.column_stack([numbers[name] for name in names])
    ignored = tuple(name for name in frame.columns if name not in (column, *names))
    found_ids = _ids_of(frame, column, str(path))
    if plain is not None and plain.header[0] == column:
        _remember(_KNOWN_CELLS, (plain.first_column, found_ids))
    return PredictionRows(found_ids, task.whole(values), ignored, by_name=True)


def read_id_file(path: Path, id_name: str) -> np.ndarray:
    """Return the ids in an npy file (one dimension) or in the id column of a table, as text."""
    from stackfeat.data.schema.roles import read_ids

    array = _array_in(path)
    if array is None:
        frame = read_frame(path, DataOptions(train=str(path)))
        return read_ids(frame, _id_column(path, [*frame.columns], id_name), str(path))
    if array.ndim != 1:
        raise DataError(f"{path}: ids must be one-dimensional; got shape {array.shape}; write one per row")
    return read_ids(_frame_of(path, {id_name: array}), id_name, str(path))


_KNOWN_IDS: list[tuple[pd.Series, np.ndarray]] = []
_KNOWN_CELLS: list[tuple[bytes, np.ndarray]] = []
"""Columns of ids by their cells in files of plain text, with their ids."""
_MOST_KNOWN = 4
"""Columns of ids that are remembered: the files of a pool have two of them."""


def _remember(known: list[Known], one: Known) -> None:
    known.append(one)
    del known[:-_MOST_KNOWN]


def _plain_in(path: Path) -> PlainCells | None:
    try:
        return table_format(path).plain(path)
    except DataError:
        # The usual reader says what is wrong.
        return None


def _beside_known_ids(
    path: Path, plain: PlainCells, task: Task, id_name: str, target: str, text: DataOptions | None
) -> PredictionRows | None:
    """Return the rows of a file with plain numbers beside ids that were read before; None of another one."""
    ids = next((ids for cells, ids in _KNOWN_CELLS if cells == plain.first_column), None)
    is_told = text is not None and (text.decimal or text.thousands or text.missing or text.not_missing)
    if ids is None or is_told or plain.header[0] != _id_column(path, plain.header, id_name):
        return None
    names = _value_columns(path, plain.header[1:], task, target)
    numbers = plain.numbers(names)
    if numbers is None:
        return None
    ignored = tuple(name for name in plain.header[1:] if name not in names)
    return PredictionRows(ids, task.whole(numbers), ignored, by_name=True)


def _ids_of(frame: pd.DataFrame, column: str, where: str) -> np.ndarray:
    """Return the ids of a file, read-only; those of an equal column before it are the very same array."""
    from stackfeat.data.schema.roles import read_ids

    cells = frame[column]
    for known, ids in _KNOWN_IDS:
        if known.dtype == cells.dtype and known.equals(cells):
            return ids
    ids = read_ids(frame, column, where)
    ids.flags.writeable = False
    _remember(_KNOWN_IDS, (cells, ids))
    return ids


def _array_in(path: Path) -> np.ndarray | None:
    """Return the array of a file that holds one; None of a table."""
    format_ = format_of(path)
    if format_ is None or format_.holds != "array":
        return None
    return format_.array(path, "", str(path), mapped=False)


def _frame_of(path: Path, columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    import pandas as pd

    with parsing(path, "must hold a number or text for each row and column", "write plain columns"):
        return pd.DataFrame(dict(columns))


def _from_array(
    path: Path,
    array: np.ndarray,
    task: Task,
    id_name: str,
    ids: Path | None,
    classes: Sequence[object] | None,
) -> PredictionRows:
    """Return the rows of an array without names, whose ids stand in another file."""
    if ids is None:
        raise DataError(
            f"{path}: an npy file has no ids, and rows are never aligned by position; name a file with an id "
            "per row (predictions.oof_ids, predictions.test_ids), or write a csv file with an id column"
        )
    found = read_id_file(ids, id_name)
    values = array[:, None] if array.ndim == 1 else array
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: must be numbers of shape (n_rows, n_columns); got shape {array.shape}, {array.dtype}"
        )
    if len(found) != len(values):
        raise DataError(
            f"{path}: there must be an id for each row; got {len(values)} rows and {len(found)} ids in "
            f"{ids.name}; give the ids of this very file"
        )
    if values.shape[1] not in task.widths:
        raise DataError(
            f"{path}: must have {' or '.join(map(str, sorted(task.widths)))} columns for this {task.kind} task; "
            f"got {values.shape[1]}; write a column per class"
        )
    values = values.astype(np.float64)
    if values.shape[1] == len(task.classes):
        values = values[:, class_order(classes, task, str(path))]
    return PredictionRows(found, task.whole(values), (), by_name=classes is not None)


def class_order(classes: Sequence[object] | None, task: Task, where: str) -> list[int]:
    """Return which column of somebody else's order, without one the sorted order, holds each class of the task.

    Raises
    ------
    DataError
        If `classes` are not the task's classes in another order.
    """
    classes = np.unique(np.asarray(task.classes)).tolist() if classes is None else classes
    given, wanted = [str(label) for label in classes], [str(label) for label in task.classes]
    unknown = [label for label in given if label not in wanted]
    if unknown:
        must = f"{where}: classes must be those of the target ({name_values(wanted)})"
        raise unknown_name(must, unknown[0], wanted)
    if sorted(given) != sorted(wanted):
        missing = [label for label in wanted if label not in given]
        what = f"without {name_values(missing)}" if missing else "with one more than once"
        raise DataError(f"{where}: classes must name each class once; got {name_values(given)} {what}")
    return [given.index(label) for label in wanted]


def _id_column(path: Path, names: Sequence[str], id_name: str) -> str:
    for name in (id_name, "id"):
        if name in names:
            return name
    raise DataError(
        f"{path}: must have the id column {quoted(id_name)} (or 'id'); got columns {quote_values(names)}."
        f"{suggest(id_name, names)}"
    )


def _value_columns(path: Path, names: Sequence[str], task: Task, target: str) -> list[str]:
    """Return the columns that hold predictions, in the task's order."""
    wanted = [*task.columns]
    if all(label in names for label in wanted):
        return wanted
    if 1 in task.widths:
        counted = [wanted[place] for place in task.counted_classes]
        alone = [name for name in (*_ROLE_WORDS, target, *counted) if name in names]
        if alone:
            return alone[:1]
        if len(names) == 1:
            legal = " or ".join(map(quoted, dict.fromkeys([PREDICTION, *counted])))
            raise DataError(f"{path}: the column must be called {legal}; got {quoted(names[0])}; rename it")
    missing = [label for label in wanted if label not in names]
    must = f"a column {quoted(PREDICTION)}"
    if len(wanted) > 1:
        what = ("class", "classes") if task.classes else ("target", "targets")  # words alone
        must = f"a column per {what[0]}, called as the {what[1]} are ({name_values(wanted)})"
        must += f"; missing: {name_values(missing)}"
    raise DataError(f"{path}: must have {must}; got {quote_values(names)}.{suggest(missing[0], names)}")
