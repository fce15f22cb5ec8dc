"""Which columns of the training file are read, and with what type.

In:  the training frame and `DataOptions`.
Out: names of the columns of every input, typed columns with their values, and what is left out.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stackfeat.data.cells import Cells, TextCells, column_cells
from stackfeat.data.columns import Column, describe_column, guess_type
from stackfeat.data.options import DataOptions
from stackfeat.data.phrases import name_values, quoted
from stackfeat.errors import DataError, DataWarning
from stackfeat.registry.resolve import suggest
from stackfeat.registry.wildcards import matching

ROLES = ("id", "target", "group", "time", "weight", "fold")


_MOST = 0.9
_DISGUISES = (
    ("numbers with a decimal comma", "write them with a point", r"[+-]?\d+,\d+"),
    ("dates that are not ISO (2026-11-21)", "write them so", r"\d{1,2}[./]\d{1,2}[./]\d{2,4}.*"),
)


@dataclass(frozen=True)
class TypedColumns:
    """Columns of the training file that are read, their values, and why others are not."""

    columns: tuple[Column, ...]
    values: dict[str, np.ndarray]
    left_out: dict[str, str]


def role_columns(options: DataOptions) -> dict[str, str]:
    """Return the columns that have a role, by role."""
    return {role: name for role in ROLES if (name := getattr(options, role)) is not None}


def check_roles(frame: pd.DataFrame, options: DataOptions, where: str) -> None:
    """Every named column exists, and none has two roles."""
    named = [("data." + role, name) for role, name in role_columns(options).items()]
    for key, name in [*named, *(("data.types", name) for name in options.types)]:
        if name not in frame.columns:
            raise DataError(
                f"{where}: {key} must be a column of the file; got {quoted(name)}; columns are "
                f"{name_values(frame.columns)}.{suggest(name, frame.columns)}"
            )
    names = [name for _, name in named]
    for key, name in named:
        if names.count(name) > 1:
            raise DataError(
                f"{where}: a column has one role; got {quoted(name)} as {key} and another; name different columns"
            )


def input_columns(frame: pd.DataFrame, options: DataOptions, where: str) -> dict[str, list[str]]:
    """Return the column names of each input that is made of columns, in the order of the file.

    Columns with a role, and dropped ones, belong to an input only where it names them without a wildcard.
    """
    kept_out = set(role_columns(options).values())
    # Paths of images and lengths of sequences are about another input; they are no features by a wildcard.
    for given in (options.inputs or {}).values():
        kept_out.update(name for name in (given.column, given.lengths) if name is not None)
    for pattern in options.drop:
        kept_out.update(_match(pattern, frame.columns, "data.drop", where))
    free = [name for name in frame.columns if name not in kept_out]
    if options.inputs is None:
        return {"table": free}
    inputs = {}
    for name, given in options.inputs.items():
        if given.columns is None:
            continue
        chosen: set[str] = set()
        for pattern in given.columns:
            literal = pattern in frame.columns
            chosen.update([pattern] if literal else _match(pattern, free, f"data.inputs.{name}", where))
        if options.target in chosen:
            raise DataError(
                f"data.inputs.{name}: the target {options.target!r} cannot be an input; remove it"
            )
        inputs[name] = [column for column in frame.columns if column in chosen]
    return inputs


def _match(pattern: str, names: Iterable[str], key: str, where: str) -> list[str]:
    """Return the names a pattern matches; only ``*`` and ``?`` are special."""
    listed = list(names)
    matched = matching(pattern, listed)
    if not matched:
        raise DataError(
            f"{where}: {key} must match a column; got {quoted(pattern)}, which matches "
            f"none.{suggest(pattern, listed)}"
        )
    return matched


def type_columns(frame: pd.DataFrame, names: Sequence[str], options: DataOptions, where: str) -> TypedColumns:
    """Type the columns and read their values; all columns that cannot be read are named in one error.

    Warns
    -----
    DataWarning
        If a column of free text is left out.
    """
    columns: list[Column] = []
    values: dict[str, np.ndarray] = {}
    left_out: dict[str, str] = {}
    problems = []
    for name, cells in column_cells(frame, names):
        place = f"{where}: column {quoted(name)}"
        try:
            column, reason = _type_column(cells, name, options, place)
            read = None if column is None else column.read(cells, place)
        except DataError as error:
            problems.append(str(error))
            continue
        if column is None or read is None or _is_constant(column, read):
            left_out[name] = reason or "constant"
            continue
        columns.append(column)
        values[name] = read
    if problems:
        raise DataError("\n".join(problems))
    texts = [name for name, reason in left_out.items() if reason != "constant"]
    if texts:
        warnings.warn(
            f"{where}: free text and row names are left out: {name_values(texts)}; "
            "to use one, set its type in data.types to categorical",
            DataWarning,
            stacklevel=4,
        )
    _warn_of_disguised(columns, where)
    if not columns and (names or options.inputs is None):
        raise DataError(
            f"{where}: there must be a column to learn from; got none but {name_values(names) or 'roles'}; "
            "add one"
        )
    return TypedColumns(tuple(columns), values, left_out)


def _warn_of_disguised(columns: Sequence[Column], where: str) -> None:
    """Warn of categories that look like numbers or dates written in another way."""
    for what, remedy, expression in _DISGUISES:
        named = [
            column.name for column in columns if column.levels and _most_match(column.levels, expression)
        ]
        if named:
            warnings.warn(
                f"{where}: {what} are read as categories, one for each text: {name_values(named)}; {remedy}",
                DataWarning,
                stacklevel=5,
            )


def _most_match(levels: Sequence[str], expression: str) -> bool:
    n_matching = sum(re.fullmatch(expression, level.strip()) is not None for level in levels)
    return n_matching > _MOST * len(levels)


def _type_column(values: Cells, name: str, options: DataOptions, place: str) -> tuple[Column | None, str]:
    """Return the typed column, or None and why it is left out."""
    declared = options.types.get(name)
    if declared == "text":
        raise DataError(
            f"{place}: type text is not built yet; set data.types to categorical, or drop it: data.drop: "
            f"[{name}]"
        )
    if _all_missing(values):
        raise DataError(
            f"{place}: a column must have values; got none in any row; leave it out: data.drop: [{name}]"
        )
    if declared is None and name.startswith("Unnamed: "):
        return None, "row numbers without a name"
    type_ = declared or guess_type(values)
    if type_ == "text":
        return None, "free text"
    return describe_column(name, values, type_, place), ""


def _all_missing(values: Cells) -> bool:
    return bool((values.is_missing if isinstance(values, TextCells) else values.isna()).all())


def _is_constant(column: Column, read: np.ndarray) -> bool:
    if column.type == "date":
        return bool(read.shape[1] == 0)
    return bool(np.all(read == read[0]))
