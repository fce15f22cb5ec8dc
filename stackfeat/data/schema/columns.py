"""Columns: which are read, what type each has, and how its cells become numbers or codes.

In:  columns of the training file (text, numbers, dates) and their declared types, if any.
Out: a `Column` for each, which turns the same column of any later file into floats or category codes; the
     `Schema`, which is all that must be known of the training file to read later files the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from stackfeat.data.files.cells import Cells, TextCells, parsed_cells, text_cells
from stackfeat.data.files.notation import LIKELY_MISSING, PLAIN, Notation
from stackfeat.data.files.parsing import name_rows, parsing, refuse_rows, unknown_name
from stackfeat.data.samples import ArraySchema
from stackfeat.data.schema.guesses import option
from stackfeat.errors import DataError, LackError
from stackfeat.registry.patterns import matching
from stackfeat.registry.resolve import name_values, quoted
from stackfeat.structure import must, plain, structured
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    from stackfeat.data.options import ColumnType, DataOptions

_MARKS = {".": "point", ",": "comma"}
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
    type : {"numeric", "boolean", "categorical", "date", "text"}
    levels : tuple of str
        Categorical: the texts in the training file, sorted.
    parts : tuple of str
        Date: which of year, month, day, weekday, hour, days (since 1970) are read.
    notation : Notation
        How its cells are written, where they are text.
    by_words : bool
        Text: whether its frequent words are told apart, and nothing else.
    """

    name: str
    type: Type
    levels: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    notation: Notation = PLAIN
    by_words: bool = False

    @property
    def numeric_names(self) -> tuple[str, ...]:
        if self.type == "date":
            return tuple(f"{self.name}.{part}" for part in self.parts)
        return (self.name,) if self.type in ("numeric", "boolean") else ()

    def measured(self, read: np.ndarray) -> np.ndarray:
        """Return a number for each cell that was read, float64, NaN where missing.

        Of a date that is days since 1970, of a text its characters.
        """
        if self.type == "text":
            return np.array([len(text) if text else np.nan for text in read], dtype=np.float64)
        place = self.parts.index("days") if self.type == "date" else 0
        return np.asarray(read[:, place], dtype=np.float64)

    def written(self, number: float) -> str:
        """Return a number of `measured` as a person would write it."""
        if self.type == "text":
            return f"{number:.0f} characters"
        if self.type != "date":
            return f"{number:.6g}"
        text = str(np.datetime64(round(number * 86_400), "s"))
        return text.removesuffix("T00:00:00")

    def read(self, values: Cells, where: str) -> np.ndarray:
        """Return what a learner reads of a column.

        Categorical: int32 of shape (n_rows,), an index into `levels`, -1 where missing, -2 where it is no level.
        Text: object of shape (n_rows,), a str, "" where missing.
        Else float64 of shape (n_rows, len(numeric_names)), NaN where missing.
        """
        if self.type == "text":
            cells = text_cells(values, self.notation)
            # A place for "" behind the texts: what is missing is what has no words.
            texts = np.array([*cells.texts, ""], dtype=object)
            return np.asarray(texts[cells.looked_up(range(len(cells.distinct)), -1).astype(np.int64)])
        if self.type == "categorical":
            cells = text_cells(values, self.notation)
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
                f"{where}: every cell must be {what}; got {quoted(first)} in {name_rows(wrong)}; "
                f"{_remedy(cells, wrong, booleans)}"
            )
    else:
        if pd.api.types.is_datetime64_any_dtype(cells) or pd.api.types.is_complex_dtype(cells):
            raise DataError(f"{where}: every cell must be a number; got {cells.dtype}; convert the column")
        with parsing(where, "every cell must be a number", "set the column's type in data.types"):
            parsed = pd.to_numeric(cells).to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    must = f"{where}: numbers must be finite and below 3.4e38"
    remedy = "replace them, leave the cells empty, or name their texts in data.missing"
    refuse_rows(np.abs(parsed) > _LARGEST, must, remedy, parsed)
    return parsed


def _remedy(cells: TextCells, wrong: np.ndarray, booleans: bool) -> str:
    """Return what to do about texts that are no numbers in the notation of their column."""
    general = "repair the cells, or set the column's type in data.types"
    texts = list(dict.fromkeys(cells.block.texts[cells.codes[wrong]]))
    if booleans:
        return general
    if all(text.casefold() in LIKELY_MISSING for text in texts):
        return f"if it stands for a missing value: {option('missing', cells.name, texts[:5])}; else {general}"
    own = cells.block.notation
    for decimal in {".", ","} - {own.decimal}:
        other = replace(own, decimal=decimal, thousands="", signs=True)
        if None not in other.plain_texts(texts):
            marks = f"the column has decimal {_MARKS[own.decimal]}s, these cells have {_MARKS[decimal]}s"
            return f"{marks}: write training, test and later files in one way, and name it in data.decimal"
    return general


def to_dates(values: Cells) -> np.ndarray:
    """Return cells as UTC times without a zone, datetime64, NaT where missing or unreadable."""
    if isinstance(values, pd.Series) and isinstance(values.dtype, pd.DatetimeTZDtype):
        return values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    if isinstance(values, pd.Series) and pd.api.types.is_datetime64_any_dtype(values):
        return values.to_numpy(dtype=None if isinstance(values.dtype, np.dtype) else "datetime64[ns]")
    return text_cells(values).dates()


@dataclass(frozen=True)
class Later:
    """How many dates of a column are later than all of another."""

    n_rows: int
    n_read: int
    n_later: int

    @property
    def is_readable(self) -> bool:
        """Whether so many cells are dates that they speak for the others."""
        return 10 * self.n_read >= 9 * self.n_rows

    @property
    def is_whole(self) -> bool:
        """Whether the column is later as a whole, by the dates that can be read."""
        return self.is_readable and self.n_later == self.n_read

    @property
    def is_partly(self) -> bool:
        """Whether more dates are later than chance puts there: the latest of all may stand in either file."""
        return 10 * self.n_later >= self.n_read


def count_later(values: Cells, than: Cells) -> Later | None:
    """Count dates later than all of another column; None where there are none, or it misses some or has only one."""
    new, known = to_dates(values), to_dates(than)
    if not len(new) or np.isnat(known).any() or not known.max() > known.min():
        return None
    # NaT is later than nothing.
    return Later(len(new), int((~np.isnat(new)).sum()), int((new > known.max()).sum()))


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
    if not isinstance(cells, TextCells):
        return "numeric"
    block = cells.block
    if block.is_numeric[cells.place] and not (block.has_padded and is_code(cells.texts)):
        return "numeric"
    distinct = cells.distinct
    if block.is_boolean[distinct].all():
        return "boolean"
    is_date = block.is_date[distinct].mean() > _SHARE_OF_DATES
    if is_date and np.mean(~np.isnat(cells.distinct_dates)) > _SHARE_OF_DATES:
        return "date"
    n_present = len(cells) - int(cells.is_missing.sum())
    if n_present < 20 or len(distinct) <= _SHARE_UNIQUE * n_present:
        return "categorical"
    return "text" if is_prose(cells) or len(distinct) == n_present else "categorical"


def is_prose(cells: TextCells) -> bool:
    """Whether texts are of several words, or long: not just names."""
    block, distinct = cells.block, cells.distinct
    has_words = block.has_space[distinct].mean() > _SHARE_UNIQUE
    return bool(has_words or block.lengths[distinct].mean() > _LONG_TEXT)


def is_code(texts: Sequence[str]) -> bool:
    """Whether texts are names made of digits, such as postcodes: all of one length, some with leading zeros."""
    is_padded = any(len(text) > 2 and text[0] == "0" for text in texts)
    return is_padded and len({len(text) for text in texts}) == 1 and all(text.isdecimal() for text in texts)


def describe_column(
    name: str, values: Cells, type_: ColumnType, where: str, notation: Notation = PLAIN
) -> Column:
    """Return the typed column, with levels or date parts from the training file; `notation`: where it is no text."""
    notation = values.block.notation if isinstance(values, TextCells) else notation
    if type_ == "categorical":
        levels = tuple(sorted(text_cells(values, notation).texts))
        return Column(name, type_, levels=levels, notation=notation)
    if type_ == "words":
        return Column(name, "text", notation=notation, by_words=True)
    if type_ != "date":
        return Column(name, type_, notation=notation)
    dates = to_dates(values)
    present = ~np.isnat(dates)
    if not present.any():
        raise LackError(
            f"{where}: a date column must hold dates such as 2024-01-31; got none; change its type in data.types"
        )
    parts = date_parts(dates[present])
    varying = tuple(part for part in DATE_PARTS if np.any(parts[part] != parts[part][0]))
    return Column(name, type_, parts=varying, notation=notation)


def check_roles(frame: pd.DataFrame, options: DataOptions, where: str) -> None:
    """Every named column exists, and none has two roles."""
    named = [(f"data.{role}", name) for role, name in options.roles.items()]
    for key, name in [*named, *(("data.types", name) for name in options.types)]:
        if name not in frame.columns:
            listed = f"; columns are {name_values(frame.columns)}"
            raise unknown_name(f"{where}: {key} must be a column of the file", name, frame.columns, listed)
    for key, patterns in options.by_column.items():
        for pattern in patterns:
            if pattern not in frame.columns:
                _match(pattern, frame.columns, f"data.{key}", where)
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
        for target in options.targets:
            if target in chosen:
                raise DataError(f"data.inputs.{name}: the target {target!r} cannot be an input; drop it")
        inputs[name] = [column for column in frame.columns if column in chosen]
    return inputs


def _match(pattern: str, names: Iterable[str], key: str, where: str) -> list[str]:
    """Return the names a pattern matches; only ``*`` and ``?`` are special."""
    listed = list(names)
    matched = matching(pattern, listed)
    if not matched:
        raise unknown_name(f"{where}: {key} must match a column", pattern, listed)
    return matched


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
    target : str or tuple of str
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
    has_order : bool
        Whether the order of the classes was told, by the config or by the file.
    """

    task: Task
    label_type: LabelType
    id: str | None
    target: str | tuple[str, ...]
    roles: dict[str, str]
    columns: tuple[Column, ...]
    inputs: dict[str, tuple[str, ...]]
    left_out: dict[str, str]
    arrays: dict[str, ArraySchema] = field(default_factory=dict)
    has_order: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns of targets."""
        return self.target if isinstance(self.target, tuple) else (self.target,)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; what came later is left out where it is the default."""
        columns = [{**asdict(column), "notation": plain(column.notation)} for column in self.columns]
        for column in columns:
            if not column["notation"]:
                column.pop("notation")
            if not column["by_words"]:
                column.pop("by_words")
        values = {**asdict(self), "columns": columns, "task": self.task.to_json()}
        return (
            values if self.has_order else {name: one for name, one in values.items() if name != "has_order"}
        )

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
