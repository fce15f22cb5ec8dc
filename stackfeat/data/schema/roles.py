"""Roles of columns: the target as labels or numbers, and the rows of a file as `Samples`.

In:  the columns of a file, the kind of task, `positive`, the transform of the target.
Out: a `Task` with its classes and `y`; `Samples` with ids, roles and tables, checked value by value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stackfeat.data.files.cells import BOOLEANS, as_str, is_text, to_text
from stackfeat.data.files.parsing import name_rows, refuse_rows, unknown_name
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import Table
from stackfeat.data.schema.columns import Column, LabelType, infer_type, to_dates, to_numbers
from stackfeat.errors import DataError
from stackfeat.metrics.registry import declared
from stackfeat.registry.resolve import name_values, quote_values, quoted
from stackfeat.tasks.task import Kind, Task, task_class

_INTEGER = r"-?(0|[1-9]\d{0,17})"
_FLOAT = r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?"
_LABEL_TYPES: dict[str, LabelType] = {"b": "bool", "f": "float"}
_MOST_CLASSES = 50


def read_target(
    values: pd.Series, options: DataOptions, task_kind: Kind, metric: str, where: str
) -> tuple[Task, LabelType, np.ndarray]:
    """Return the task, the type of its labels, and y (int64 codes, or float64 on the scale to learn).

    Raises
    ------
    DataError
        If values are missing, constant, of the wrong kind, or negative where the metric forbids it.
    """
    missing = to_text(values).isna().to_numpy()
    refuse_rows(missing, f"{where}: every training row must have a target", "remove these rows")
    if options.positive is not None and not task_class(task_kind).takes_positive:
        raise DataError(
            f"data.positive is for binary tasks; got positive={options.positive!r}, task={task_kind}; remove it"
        )
    if not task_class(task_kind).most_classes:
        return _read_numbers(values, options, task_kind, metric, where)
    classes, codes, label_type = _read_labels(values)
    _check_classes(classes, len(values), task_kind, where)
    texts = [str(label) for label in classes]
    positive = texts[1] if options.positive is None else str(options.positive)
    if positive not in texts:
        legal = quote_values(classes)
        raise unknown_name(f"{where}: data.positive must be one of {legal}", options.positive, texts)
    return Task(kind=task_kind, classes=classes, positive=texts.index(positive)), label_type, codes


def _read_numbers(
    values: pd.Series, options: DataOptions, task_kind: Kind, metric: str, where: str
) -> tuple[Task, LabelType, np.ndarray]:
    y = to_numbers(values, where)
    if y.min() == y.max():
        raise DataError(f"{where}: target values must differ; got {y[0]} in every row; check data.target")
    of_metric = declared(metric).target_transform
    transform = of_metric if options.target_transform == "auto" else options.target_transform
    if "log1p" in (transform, of_metric):
        reason = f"metric {metric}" if of_metric == "log1p" else "target_transform: log1p"
        refuse_rows(y < 0, f"{where}: {reason} needs a target of at least 0", "use rmse", y)
    return Task(kind=task_kind, transform=transform), "float", np.log1p(y) if transform == "log1p" else y


def _read_labels(values: pd.Series) -> tuple[tuple[Any, ...], np.ndarray, LabelType]:
    """Return the classes in ``np.unique`` order, int64 codes, and the type of the labels."""
    if is_text(values) or values.dtype.kind not in "biuf":
        codes, unique = pd.factorize(to_text(values))
        labels, label_type = _type_labels([str(label) for label in unique])
    else:
        codes, unique = pd.factorize(values)
        labels, label_type = np.array(unique.tolist()), _LABEL_TYPES.get(values.dtype.kind, "int")
    # Two texts may be one number ("1.0" and "1.00"), so codes go through the typed labels.
    classes, rank = np.unique(labels, return_inverse=True)
    return tuple(classes.tolist()), rank[codes].astype(np.int64), label_type


def _type_labels(texts: list[str]) -> tuple[np.ndarray, LabelType]:
    """Return labels with the type all of them can be written in without loss; ``007`` stays text."""
    series = pd.Series(texts, dtype="str")
    if series.str.fullmatch(_INTEGER).all():
        return np.array([int(text) for text in texts], dtype=np.int64), "int"
    if series.str.fullmatch(_FLOAT).all():
        return np.array([float(text) for text in texts]), "float"
    if series.isin(BOOLEANS).all():
        return np.array([BOOLEANS[text] == 1.0 for text in texts]), "bool"
    return np.array(texts), "str"


def _check_classes(classes: tuple[Any, ...], n_rows: int, task_kind: Kind, where: str) -> None:
    shown = quote_values(classes)
    if len(classes) == 1:
        raise DataError(
            f"{where}: the target must have at least 2 classes; got {shown} in every row; check data.target"
        )
    most = task_class(task_kind).most_classes
    if len(classes) > most:
        raise DataError(
            f"{where}: task {task_kind} needs exactly {most} classes; got {len(classes)}: {shown}; "
            "use task: multiclass"
        )
    if len(classes) > max(_MOST_CLASSES, n_rows // 2):
        raise DataError(
            f"{where}: a class must have many rows; got {len(classes)} classes in {n_rows} rows; "
            "use task: regression, or check data.target"
        )


def build_table(columns: Sequence[Column], values: Mapping[str, np.ndarray], n_rows: int) -> Table:
    """Put read columns together, numbers first."""
    numeric = [column for column in columns if column.type != "categorical"]
    coded = [column for column in columns if column.type == "categorical"]
    return Table(
        numeric=np.hstack([np.zeros((n_rows, 0)), *(values[column.name] for column in numeric)]),
        numeric_names=tuple(name for column in numeric for name in column.numeric_names),
        codes=np.column_stack(
            [np.zeros((n_rows, 0), dtype=np.int32), *(values[column.name] for column in coded)]
        ),
        code_names=tuple(column.name for column in coded),
        levels=tuple(column.levels for column in coded),
    )


def read_ids(frame: pd.DataFrame, column: str | None, where: str) -> np.ndarray:
    """Return ids exactly as in the file, str of shape (n_rows,); row numbers from 0 without a column.

    Raises
    ------
    DataError
        If ids are missing or not unique.
    """
    if column is None:
        return np.arange(len(frame)).astype(str)
    values = frame[column]
    text = as_str(values) if is_text(values) else to_text(values)
    missing = (text.isna() | (text.str.strip() == "")).to_numpy()
    refuse_rows(missing, f"{where}: every row must have an id in {quoted(column)}", "fill them in")
    doubled = text.duplicated(keep=False)
    if doubled.any():
        raise DataError(
            f"{where}: ids in {quoted(column)} must be unique; got {quote_values(text[doubled].unique())} more than "
            f"once, in {name_rows(doubled.to_numpy())}; remove the duplicates, or name another column as data.id"
        )
    return text.to_numpy(dtype=object).astype(np.str_)


def read_group(values: pd.Series, where: str) -> np.ndarray:
    """Return int64 numbers of the groups, in the sorted order of their texts."""
    text = to_text(values)
    _refuse_missing(text.isna().to_numpy(), where, "group")
    return pd.factorize(text, sort=True)[0].astype(np.int64)


def read_time(values: pd.Series, where: str) -> np.ndarray:
    """Return float64 that increases with time: the numbers, or seconds since 1970."""
    type_ = infer_type(values)
    if type_ == "date":
        dates = to_dates(values)
        _refuse_missing(np.isnat(dates), where, "time")
        seconds: np.ndarray = (dates - np.datetime64(0, "s")) / np.timedelta64(1, "s")
        return seconds
    if type_ != "numeric":
        example = quoted(str(values.iloc[0]))
        raise DataError(
            f"{where}: time must be numbers or dates such as 2024-01-31; got {example}; convert the column"
        )
    time = to_numbers(values, where)
    _refuse_missing(np.isnan(time), where, "time")
    return time


def read_weight(values: pd.Series, where: str) -> np.ndarray:
    """Return float64 weights, at least 0."""
    weight = to_numbers(values, where)
    refuse_rows(~(weight >= 0), f"{where}: weights must be at least 0", "repair them", weight)
    if not weight.any():
        raise DataError(f"{where}: some weight must be above 0; got 0 in every row; remove data.weight")
    return weight


def read_fold(values: pd.Series, where: str) -> np.ndarray:
    """Return int64 fold numbers 0, 1, ...; a column that counts from 1 is shifted. -1 is held out."""
    fold = to_numbers(values, where)
    _refuse_missing(np.isnan(fold), where, "fold")
    held_out = fold == -1
    present = np.unique(fold[~held_out])
    first = present[0] if len(present) else -1.0
    expected = first + np.arange(len(present))
    if first not in (0.0, 1.0) or len(present) < 2 or not np.array_equal(present, expected):
        raise DataError(
            f"{where}: folds must be numbered 0, 1, ... without gaps, at least two; "
            f"got {name_values(f'{value:g}' for value in np.unique(fold))}; number them anew"
        )
    return np.where(held_out, -1, fold - first).astype(np.int64)


def _refuse_missing(missing: np.ndarray, where: str, role: str) -> None:
    refuse_rows(missing, f"{where}: every row must have a {role}", "fill the cells in")
