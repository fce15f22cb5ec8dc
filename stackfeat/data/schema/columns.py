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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from stackfeat.data.files.cells import Cells, TextCells, column_cells, parsed_cells, text_cells
from stackfeat.data.files.parsing import parsing
from stackfeat.data.messages import name_rows, name_values
from stackfeat.data.options import DataOptions
from stackfeat.errors import DataError, DataWarning
from stackfeat.registry.resolve import quoted, suggest
from stackfeat.registry.wildcards import matching
from stackfeat.structure import must, structured
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    from stackfeat.data.schema.arrays import ArraySchema
    # own

DATE_PARTS = ("year", "month", "day", "weekday", "hour", "days")

_SHARE_OF_DATES = 0.9

_SHARE_UNIQUE = 0.5

_LONG_TEXT = 30

_LARGEST = float(np.finfo(np.float32).max)

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
        """Return int32 codes of shape (n_rows,) if categorical, else float64 of shape (n_rows, n_parts)."""
        return self.codes(values) if self.type == "categorical" else self.numbers(values, where)

    def numbers(self, values: Cells, where: str) -> np.ndarray:
        """Return float64 of shape (n_rows, len(numeric_names)); NaN where missing."""
        if self.type == "date":
            parts = date_parts(to_dates(values))
            return np.column_stack([np.zeros((len(values), 0)), *(parts[part] for part in self.parts)])
        return to_numbers(values, where, booleans=self.type == "boolean").reshape(-1, 1)

    def codes(self, values: Cells) -> np.ndarray:
        """Return int32 of shape (n_rows,): index into `levels`, -1 missing, -2 not a level."""
        cells = text_cells(values)
        place_of = {level: place for place, level in enumerate(self.levels)}
        return cells.looked_up([place_of.get(text, -2) for text in cells.texts], -1).astype(np.int32)


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
            raise DataError(
                f"{where}: every cell must be {what}; got {quoted(cells.series[wrong].iloc[0])} in "
                f"{name_rows(wrong)}; repair the cells, or set the column's type in data.types"
            )
    elif isinstance(cells.dtype, np.dtype) and cells.dtype.kind in "biuf":
        parsed = np.array(cells, dtype=np.float64)
    else:
        with parsing(where, "every cell must be a number", "set the column's type in data.types"):
            parsed = pd.to_numeric(cells).to_numpy(dtype=np.float64, na_value=np.nan)
    beyond = np.abs(parsed) > _LARGEST
    if beyond.any():
        raise DataError(
            f"{where}: numbers must be finite and below 3.4e38; got {parsed[beyond][0]} in "
            f"{name_rows(beyond)}; replace them, or leave the cells empty"
        )
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
    missing = np.isnat(dates)
    years, months, whole_days = (dates.astype(f"datetime64[{unit}]") for unit in "YMD")
    parts = {
        "year": years.astype(np.int64) + 1970,
        "month": (months - years).astype(np.int64) + 1,
        "day": (whole_days - months).astype(np.int64) + 1,
        "weekday": (whole_days.astype(np.int64) + 3) % 7,
        "hour": (dates.astype("datetime64[h]") - whole_days).astype(np.int64),
        "days": days_since_1970(dates),
    }
    return {part: np.where(missing, np.nan, values) for part, values in parts.items()}


def days_since_1970(dates: np.ndarray) -> np.ndarray:
    """Return float64, NaN where there is no date."""
    days: np.ndarray = (dates - np.datetime64(0, "D")) / np.timedelta64(1, "D")
    return days


def guess_type(values: Cells) -> Type:
    """Return the type of a training column that nobody declared."""
    if isinstance(values, pd.Series):
        if pd.api.types.is_bool_dtype(values):
            return "boolean"
        if pd.api.types.is_datetime64_any_dtype(values):
            return "date"
    cells = parsed_cells(values)
    if not isinstance(cells, TextCells) or cells.is_numeric:
        return "numeric"
    block, distinct = cells.block, cells.distinct
    if block.is_boolean[distinct].all():
        return "boolean"
    if (
        block.is_date[distinct].mean() > _SHARE_OF_DATES
        and np.mean(~np.isnat(cells.distinct_dates)) > _SHARE_OF_DATES
    ):
        return "date"
    return "text" if _reads_as_text(cells) else "categorical"


def _reads_as_text(cells: TextCells) -> bool:
    """Whether a column is prose or a name per row, not categories."""
    distinct, n_present = cells.distinct, len(cells) - int(cells.is_missing.sum())
    if n_present < 20 or len(distinct) <= _SHARE_UNIQUE * n_present:
        return False
    return bool(
        len(distinct) == n_present
        or cells.block.has_space[distinct].mean() > _SHARE_UNIQUE
        or cells.block.lengths[distinct].mean() > _LONG_TEXT
    )


def describe_column(name: str, values: Cells, type_: Type, where: str) -> Column:
    """Return the typed column, with levels or date parts from the training file."""
    if type_ == "categorical":
        return Column(name, type_, levels=tuple(sorted(text_cells(values).texts)))
    if type_ == "date":
        return Column(name, type_, parts=_parts_that_vary(name, values, where))
    return Column(name, type_)


def _parts_that_vary(name: str, values: Cells, where: str) -> tuple[str, ...]:
    dates = to_dates(values)
    if np.isnat(dates).all():
        raise DataError(
            f"{where}: a date column must hold dates such as 2024-01-31; got none; change its type in "
            "data.types"
        )
    parts = date_parts(dates[~np.isnat(dates)])
    return tuple(part for part in DATE_PARTS if np.any(parts[part] != parts[part][0]))


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
        from stackfeat.data.schema.arrays import ArraySchema
        # own

        schema = structured(cls, values, where, {"ArraySchema": ArraySchema, "Column": Column})
        schema.task.check(f"{where}.task")
        known = {column.name for column in schema.columns}
        for name, columns in schema.inputs.items():
            absent = [column for column in columns if column not in known]
            must(not absent, f"{where}.inputs[{name!r}]", "name columns that are read", absent[:1])
        return schema
