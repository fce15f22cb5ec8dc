"""Columns: which are read, what type each has, and how its cells become numbers or codes.

In:  columns of the training file (text, numbers, dates) and their declared types, if any.
Out: a `Column` for each, which turns the same column of any later file into floats or category codes; the
     `Schema`, which is all that must be known of the training file to read later files the same way.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from stackfeat.data.files.cells import Cells, TextCells, column_cells, parsed_cells, text_cells
from stackfeat.data.files.parsing import name_rows, parsing, read_each, refuse_rows, unknown_name
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import ArraySchema
from stackfeat.errors import DataError, DataWarning
from stackfeat.registry.patterns import matching
from stackfeat.registry.resolve import name_values, quoted
from stackfeat.structure import must, structured
from stackfeat.tasks.task import Task

DATE_PARTS = ("year", "month", "day", "weekday", "hour", "days")
_SHARE_OF_DATES = 0.9
_SHARE_UNIQUE = 0.5
_LONG_TEXT = 30
_LARGEST = float(np.finfo(np.float32).max)
_MOST = 0.9
_DISGUISES = (
    ("numbers with a decimal comma", "write them with a point", r"[+-]?\d+,\d+"),
    ("dates that are not ISO (2026-11-21)", "write them so", r"\d{1,2}[./]\d{1,2}[./]\d{2,4}.*"),
)

Type = Literal["numeric", "boolean", "categorical", "date", "text"]


@dataclass(frozen=True)
class Column:
    """One typed column of the training file.

    Attributes
    ----------
    name : str
    type : {"numeric", "boolean", "categorical", "date"}
    levels : tuple of str
        Categorical: the texts in the training file, sorted.
    parts : tuple of str
        Date: which of year, month, day, weekday, hour, days (since 1970) are read.
    """

    name: str
    type: Type
    levels: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def numeric_names(self) -> tuple[str, ...]:
        if self.type == "date":
            return tuple(f"{self.name}.{part}" for part in self.parts)
        return () if self.type == "categorical" else (self.name,)

    def read(self, values: Cells, where: str) -> np.ndarray:
        """Return what a learner reads of a column.

        Categorical: int32 of shape (n_rows,), an index into `levels`, -1 where missing, -2 where it is no level.
        Else float64 of shape (n_rows, len(numeric_names)), NaN where missing.
        """
        if self.type == "categorical":
            cells = text_cells(values)
            place_of = {level: place for place, level in enumerate(self.levels)}
            return cells.looked_up([place_of.get(text, -2) for text in cells.texts], -1).astype(np.int32)
        if self.type == "date":
            parts = date_parts(to_dates(values))
            return np.column_stack([np.zeros((len(values), 0)), *(parts[part] for part in self.parts)])
        return to_numbers(values, where, booleans=self.type == "boolean").reshape(-1, 1)


def to_numbers(values: Cells, where: str, booleans: bool = False) -> np.ndarray:
    """Return cells as float64, NaN where missing.

    Raises
    ------
    DataError
        If a cell is not a number, or is infinite or beyond the range of float32; names the rows.
    """
    cells = parsed_cells(values)
    if isinstance(cells, TextCells):
        parsed = cells.booleans() if booleans else cells.numbers()
        wrong = np.isnan(parsed) & ~cells.is_missing
        if wrong.any():
            what = "True or False" if booleans else "a number"
            first = cells.block.texts[cells.codes[wrong][0]]
            raise DataError(
                f"{where}: every cell must be {what}; got {quoted(first)} in {name_rows(wrong)}; repair the cells, "
                "or set the column's type in data.types"
            )
    else:
        with parsing(where, "every cell must be a number", "set the column's type in data.types"):
            parsed = pd.to_numeric(cells).to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    must = f"{where}: numbers must be finite and below 3.4e38"
    refuse_rows(np.abs(parsed) > _LARGEST, must, "replace them, or leave the cells empty", parsed)
    return parsed


def to_dates(values: Cells) -> np.ndarray:
    """Return cells as UTC times without a zone, datetime64, NaT where missing or unreadable."""
    if isinstance(values, pd.Series) and isinstance(values.dtype, pd.DatetimeTZDtype):
        return values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    if isinstance(values, pd.Series) and pd.api.types.is_datetime64_any_dtype(values):
        return values.to_numpy(dtype=None if isinstance(values.dtype, np.dtype) else "datetime64[ns]")
    return text_cells(values).dates()


def date_parts(dates: np.ndarray) -> dict[str, np.ndarray]:
    """Return year, month, day, weekday, hour and days since 1970, float64, NaN where there is no date."""
    index = pd.DatetimeIndex(dates)
    fields = {part: "day_of_week" if part == "weekday" else part for part in DATE_PARTS[:-1]}
    parts = {part: np.asarray(getattr(index, name), dtype=np.float64) for part, name in fields.items()}
    return {**parts, "days": (dates - np.datetime64(0, "D")) / np.timedelta64(1, "D")}


def infer_type(values: Cells) -> Type:
    """Return the type of a training column that nobody declared."""
    if isinstance(values, pd.Series) and pd.api.types.is_bool_dtype(values):
        return "boolean"
    if isinstance(values, pd.Series) and pd.api.types.is_datetime64_any_dtype(values):
        return "date"
    cells = parsed_cells(values)
    if not isinstance(cells, TextCells) or cells.block.is_numeric[cells.place]:
        return "numeric"
    block, distinct = cells.block, cells.distinct
    if block.is_boolean[distinct].all():
        return "boolean"
    is_date = block.is_date[distinct].mean() > _SHARE_OF_DATES
    if is_date and np.mean(~np.isnat(cells.distinct_dates)) > _SHARE_OF_DATES:
        return "date"
    n_present = len(cells) - int(cells.is_missing.sum())
    if n_present < 20 or len(distinct) <= _SHARE_UNIQUE * n_present:
        return "categorical"
    is_prose = block.has_space[distinct].mean() > _SHARE_UNIQUE or block.lengths[distinct].mean() > _LONG_TEXT
    return "text" if is_prose or len(distinct) == n_present else "categorical"


def describe_column(name: str, values: Cells, type_: Type, where: str) -> Column:
    """Return the typed column, with levels or date parts from the training file."""
    if type_ == "categorical":
        return Column(name, type_, levels=tuple(sorted(text_cells(values).texts)))
    if type_ != "date":
        return Column(name, type_)
    dates = to_dates(values)
    present = ~np.isnat(dates)
    if not present.any():
        raise DataError(
            f"{where}: a date column must hold dates such as 2024-01-31; got none; change its type in data.types"
        )
    parts = date_parts(dates[present])
    varying = tuple(part for part in DATE_PARTS if np.any(parts[part] != parts[part][0]))
    return Column(name, type_, parts=varying)


def check_roles(frame: pd.DataFrame, options: DataOptions, where: str) -> None:
    """Every named column exists, and none has two roles."""
    named = [(f"data.{role}", name) for role, name in options.roles.items()]
    for key, name in [*named, *(("data.types", name) for name in options.types)]:
        if name not in frame.columns:
            listed = f"; columns are {name_values(frame.columns)}"
            raise unknown_name(f"{where}: {key} must be a column of the file", name, frame.columns, listed)
    names = list(options.roles.values())
    for key, name in named:
        if names.count(name) > 1:
            raise DataError(
                f"{where}: a column has one role; got {quoted(name)} as {key} and another; name different columns"
            )


def input_columns(frame: pd.DataFrame, options: DataOptions, where: str) -> dict[str, list[str]]:
    """Return the column names of each input that is made of columns, in the order of the file.

    Columns with a role, and dropped ones, belong to an input only where it names them without a wildcard.
    """
    kept_out = set(options.roles.values())
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
            raise DataError(f"data.inputs.{name}: the target {options.target!r} cannot be an input; drop it")
        inputs[name] = [column for column in frame.columns if column in chosen]
    return inputs


def _match(pattern: str, names: Iterable[str], key: str, where: str) -> list[str]:
    """Return the names a pattern matches; only ``*`` and ``?`` are special."""
    listed = list(names)
    matched = matching(pattern, listed)
    if not matched:
        raise unknown_name(f"{where}: {key} must match a column", pattern, listed)
    return matched


def type_columns(
    frame: pd.DataFrame, names: Sequence[str], options: DataOptions, where: str
) -> tuple[dict[str, tuple[Column, np.ndarray]], dict[str, str]]:
    """Type the columns and read their values; all columns that cannot be read are named in one error.

    Returns
    -------
    dict of str to (Column, ndarray)
        Columns that can be learnt from, and what they hold.
    dict of str to str
        Why others are left out.

    Warns
    -----
    DataWarning
        If a column of free text is left out, or numbers or dates look like categories.
    """
    found = read_each(
        column_cells(frame, names), lambda name, cells: _typed_column(name, cells, options, where)
    )
    left_out = {name: column for name, column in found.items() if isinstance(column, str)}
    columns = {name: column for name, column in found.items() if not isinstance(column, str)}
    texts = [name for name, reason in left_out.items() if reason != "constant"]
    if texts:
        said = f"{where}: free text and row names are left out: {name_values(texts)}; to use one"
        warnings.warn(f"{said}, set its type in data.types to categorical", DataWarning, stacklevel=4)
    for what, remedy, expression in _DISGUISES:
        named = [name for name, (column, _) in columns.items() if _most_match(column.levels, expression)]
        if named:
            said = f"{where}: {what} are read as categories, one for each text: {name_values(named)}"
            warnings.warn(f"{said}; {remedy}", DataWarning, stacklevel=4)
    if not columns and (names or options.inputs is None):
        raise DataError(
            f"{where}: there must be a column to learn from; got none but {name_values(names) or 'roles'}; add one"
        )
    return columns, left_out


def _most_match(levels: Sequence[str], expression: str) -> bool:
    return sum(re.fullmatch(expression, level.strip()) is not None for level in levels) > _MOST * len(levels)


def _typed_column(
    name: str, cells: Cells, options: DataOptions, where: str
) -> tuple[Column, np.ndarray] | str:
    """Return the typed column and its values, or why it is left out."""
    place, declared = f"{where}: column {quoted(name)}", options.types.get(name)
    if declared == "text":
        raise DataError(
            f"{place}: type text is not built yet; set data.types to categorical, or drop it: data.drop: [{name}]"
        )
    if (cells.is_missing if isinstance(cells, TextCells) else cells.isna()).all():
        raise DataError(f"{place}: a column must have values; got none; leave it out: data.drop: [{name}]")
    if declared is None and name.startswith("Unnamed: "):
        return "row numbers without a name"
    type_ = declared or infer_type(cells)
    if type_ == "text":
        return "free text"
    column = describe_column(name, cells, type_, place)
    read = column.read(cells, place)
    return "constant" if np.all(read == read[0]) else (column, read)


LabelType = Literal["int", "float", "bool", "str"]


@dataclass(frozen=True)
class Schema:
    """How a file of this kind is read.

    Attributes
    ----------
    task : Task
        With the label classes.
    label_type : {"int", "float", "bool", "str"}
        Type of the labels in the training file; "float" for regression.
    id : str or None
        Column that names rows; None where rows are numbered.
    target : str
    roles : dict of str to str
        Columns of group, time, weight and fold, where given.
    columns : tuple of Column
        Typed columns that are read.
    inputs : dict of str to tuple of str
        Names of the columns of each input.
    left_out : dict of str to str
        Columns that are not read, and why.
    arrays : dict of str to ArraySchema
        How each input that is an array or made of image files is read.
    """

    task: Task
    label_type: LabelType
    id: str | None
    target: str
    roles: dict[str, str]
    columns: tuple[Column, ...]
    inputs: dict[str, tuple[str, ...]]
    left_out: dict[str, str]
    arrays: dict[str, ArraySchema] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "task": self.task.to_json()}

    @classmethod
    def from_json(cls, values: object, where: str = "schema") -> Schema:
        """Return the schema that `to_json` described; StructureError if it is not made so."""
        schema = structured(cls, values, where)
        schema.task.check(f"{where}.task")
        known = {column.name for column in schema.columns}
        for name, columns in schema.inputs.items():
            absent = [column for column in columns if column not in known]
            must(not absent, f"{where}.inputs[{name!r}]", "name columns that are read", absent[:1])
        return schema
