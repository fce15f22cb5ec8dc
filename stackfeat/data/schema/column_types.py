"""Types of columns, told by their cells: numbers however they are written, truth values, dates, categories.

In:  columns of the training file; the types and notations that the config names.
Out: typed columns with what they hold; what was guessed of them, and what looks as if it should be told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd

from stackfeat.data.files.cells import EXACT, Cells, TextCells, column_cells
from stackfeat.data.files.notation import PLAIN, Look, Notation, notation_of
from stackfeat.data.files.parsing import read_each
from stackfeat.data.options import DataOptions
from stackfeat.data.schema.columns import Column, describe_column, infer_type, is_code, is_prose, to_numbers
from stackfeat.data.schema.guesses import Guess, counted, of_missing, option
from stackfeat.data.schema.number_texts import NO_NUMBERS, NumberTexts, Settled
from stackfeat.data.schema.roles import read_fold, read_group, read_time, read_weight
from stackfeat.errors import DataError, LackError
from stackfeat.registry.resolve import name_values, quoted
from stackfeat.tasks.task import Task

NO_VALUES, _FREE_TEXT = "no values", "free text"
_MOST, _FEW = 0.9, 5
_MOST_DOUBTS = _MOST_SHOWN = 20
_ROW_NAME = re.compile(r"(row[ _-]?)?(id|index|uuid|key)", re.IGNORECASE)
_LIKE_ROW_NAME = re.compile(r"(^|[ _-])([iI][dD]|index|uuid|key)$|[a-z]I[dD]$")
_TIME, _FEW_TIMES = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"), 24
_ZONE = re.compile(r":\d{2}(\.\d+)?[+-]\d{2}:?\d{2}$")
_OTHER_DATE = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2\d{2,4}(\D.*)?")
_REASONS = {
    "numeric": "read as numbers",
    "boolean": "read as true or false",
    "date": "read as dates",
    "categorical": "read as categories",
    "text": "read as text",
}


@dataclass
class TypedColumns:
    """Columns of the training file.

    Attributes
    ----------
    columns : dict of str to (Column, ndarray)
        Those that can be learnt from, and what they hold.
    left_out : dict of str to str
        Why others are left out.
    missing : dict of str to dict of str to int
        By column the texts that were taken for missing values, and in how many cells.
    settled : dict of str to Settled
        Columns of numbers in a notation of their own, and those that look so; those with a role once they were read.
    doubts : dict of str to Guess
        On other columns that are probably not meant as they are read.
    zoned : list of str
        Columns of times with a zone other than UTC's Z.
    is_part : bool
        Whether the file has more rows, which may say otherwise.
    """

    columns: dict[str, tuple[Column, np.ndarray]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    missing: dict[str, dict[str, int]] = field(default_factory=dict)
    settled: dict[str, Settled] = field(default_factory=dict)
    doubts: dict[str, Guess] = field(default_factory=dict)
    zoned: list[str] = field(default_factory=list)
    is_part: bool = False

    def guesses(self, options: DataOptions) -> Iterator[Guess]:
        """Yield what was guessed of the columns, the doubtful last."""
        yield from self._of_types(options)
        yield from self._of_notations()
        yield from of_missing(self.missing)
        yield from self._of_left_out()
        if options.id is None:
            yield from self._of_names()
        doubts = list(self.all_doubts())
        yield from doubts[:_MOST_DOUBTS]
        if len(doubts) > _MOST_DOUBTS:
            yield Guess(
                f"{len(doubts) - _MOST_DOUBTS} more columns are probably not read as they are meant", "", True
            )

    def all_doubts(self) -> Iterator[Guess]:
        """Yield what is said of single columns that are probably not meant as they are read."""
        yield from self.doubts.values()
        yield from (settled.guess for settled in self.settled.values() if settled.guess is not None)

    def _of_left_out(self) -> Iterator[Guess]:
        items = [f"{name} ({reason})" for name, reason in self.left_out.items()]
        if items:
            said = "left out, if all rows are like these" if self.is_part else "left out"
            yield Guess(f"{said}: {', '.join(items[:_MOST_SHOWN])}{_and_more(items)}")
        silent = ("constant", NO_VALUES)
        texts = [name for name, reason in self.left_out.items() if reason not in silent]
        texts = [name for name in texts if name not in self.settled and name not in self.doubts]
        if texts:
            said = f"free text and row names are left out: {name_values(texts)}"
            yield Guess(said, "to use one, set its type in data.types to text, or to categorical", True)
        empty = [name for name, reason in self.left_out.items() if reason == NO_VALUES]
        if empty:
            yield Guess(f"columns without any value are left out: {name_values(empty)}", "", True)

    def _of_names(self) -> Iterator[Guess]:
        """Yield what is said of each feature that is called like the names of rows."""
        for name, (_, values) in self.columns.items():
            is_name = _ROW_NAME.fullmatch(name) is not None
            if not is_name and not _LIKE_ROW_NAME.search(name):
                continue
            n_doubled = int((pd.Series(np.ravel(values)).value_counts() > 1).sum())
            said = f"{quoted(name)} is called like the names of rows, but is read as a feature"
            if n_doubled:
                said += f": {n_doubled} of its values stand in more than one row"
                # Names of customers and the like may well be learnt from.
                yield Guess(said, f"set data.group: {name}, or leave it out: data.drop: [{name}]", is_name)
            else:
                yield Guess(said, f"if it names rows: data.id: {name}", True)

    def _of_types(self, options: DataOptions) -> Iterator[Guess]:
        by_reason: dict[str, list[str]] = {}
        codes = []
        for name, (column, _) in self.columns.items():
            is_declared = name in options.types
            reason = _REASONS[column.type] + (" (data.types)" if is_declared else "")
            by_reason.setdefault(reason, []).append(name)
            if column.type == "categorical" and not is_declared and is_code(column.levels):
                codes.append(name)
        for reason, names in by_reason.items():
            yield Guess(f"{reason}: {name_values(names)}")
        if self.zoned:
            yield Guess(f"times with a zone are read in UTC, not at local hours: {name_values(self.zoned)}")
        if codes:
            example = quoted(self.columns[codes[0]][0].levels[0])
            said = (
                f"whole numbers with leading zeros, such as {example}, are categories: {name_values(codes)}"
            )
            yield Guess(said, f"if they are amounts: {option('types', codes[0], 'numeric')}")

    def _of_notations(self) -> Iterator[Guess]:
        by_notation: dict[str, list[str]] = {}
        for name, settled in self.settled.items():
            if settled.notation is not None and not settled.notation.is_plain:
                by_notation.setdefault(settled.notation.described(), []).append(name)
            if settled.words:
                said = (
                    f"among the numbers of {quoted(name)} these are read as missing: {counted(settled.words)}"
                )
                yield Guess(said, f"if they are values: {option('not_missing', name, settled.words)}")
        for described, names in by_notation.items():
            said = f"numbers are written with {described}: {name_values(names)}"
            yield Guess(said, f"if they are texts: {option('types', names[0], 'categorical')}")


ROLE_READERS: dict[str, Callable[[Cells, str], np.ndarray]] = {
    "query": partial(read_group, role="query"),
    "group": read_group,
    "time": read_time,
    "weight": read_weight,
    "fold": read_fold,
}
_NAMES = ("group", "query")
"""Roles whose cells are names, not amounts."""


class RoleCells:
    """Columns of the training file that are no features: the target, groups, weights, times, folds.

    Parameters
    ----------
    texts : NumberTexts
        Of the file; what these columns prove is remembered there.
    names, amounts : sequence of str
        Which columns, and which of them hold numbers or dates.
    where : str
        The file.
    """

    def __init__(self, texts: NumberTexts, names: Sequence[str], amounts: Sequence[str], where: str) -> None:
        self.texts, self.amounts, self.where = texts, amounts, where
        self.roles: Mapping[str, str] = {}
        notations = {name: notation_of(texts.options, name) for name in names}
        self._cells = dict(column_cells(texts.frame[list(notations)], notations))
        looks = {name: _look(name, self._cells[name], texts) for name in amounts}
        self._looks = {name: look for name, look in looks.items() if look is not None}

    @classmethod
    def of_roles(
        cls,
        texts: NumberTexts,
        targets: Sequence[str],
        roles: Mapping[str, str],
        task: Task | type[Task],
        where: str,
    ) -> RoleCells:
        """Return the cells of targets and of a column for each of `roles`; what is in them follows from the roles."""
        amounts = [name for role, name in roles.items() if role not in _NAMES]
        amounts += targets if task.has_amounts else []
        cells = cls(texts, [*targets, *roles.values()], amounts, where)
        cells.roles = roles
        return cells

    def read_roles(self, roles: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Return what the column of each role says of every row; `roles`: these alone."""
        return {role: self.read_role(role) for role in (self.roles if roles is None else roles)}

    def read_role(self, role: str) -> np.ndarray:
        """Return what the column of a role says of every row: numbers of groups and lists, times, weights, folds."""
        name = self.roles[role]
        return ROLE_READERS[role](self.read(name), f"{self.where}: column {quoted(name)}")

    def read(self, name: str) -> Cells:
        """Return the cells of a column in their notation; DataError where it is not clear which numbers they are."""
        cells, look = self._cells[name], self._looks.get(name)
        if look is None or not isinstance(cells, TextCells):
            if name in self.amounts and (doubt := self.texts.grouped(name)):
                self.texts.settled[name] = Settled(None, doubt)
            return cells
        settled = self.texts.settle(look)
        if not look.ways:
            # The reader of the role names the cells that are no numbers, and their rows.
            return cells.under(replace(look.nearest, missing=cells.block.notation.missing))
        if settled.notation is None:
            raise DataError(f"{self.where}: {str(settled.guess).replace(NO_NUMBERS, 'must hold numbers')}")
        return cells.under(settled.notation)


def read_numbers(
    frame: pd.DataFrame, names: Sequence[str], options: DataOptions, where: str
) -> dict[str, np.ndarray]:
    """Return columns of a file that is not the training file's kind as float64, NaN where missing.

    They are read as the options say, and where the cells are no numbers then, as they say themselves.
    """
    options = options.model_copy(update={"types": {}})
    cells = RoleCells(NumberTexts(frame, options, is_free=True), names, names, where)
    return {name: to_numbers(cells.read(name), f"{where}: column {quoted(name)}") for name in names}


def notation_told(frame: pd.DataFrame, name: str, options: DataOptions) -> Notation | None:
    """Return the notation of a column of text that holds numbers, but not as a program writes them; else None."""
    texts = NumberTexts(frame, options)
    cells = dict(column_cells(frame[[name]], {name: notation_of(options, name)}))[name]
    look = _look(name, cells, texts)
    return None if look is None else texts.settle(look).notation


def _and_more(items: Sequence[str]) -> str:
    return f" and {len(items) - _MOST_SHOWN} more" if len(items) > _MOST_SHOWN else ""


def type_columns(
    frame: pd.DataFrame, names: Sequence[str], options: DataOptions, where: str, texts: NumberTexts
) -> TypedColumns:
    """Type the columns and read their values; all columns that cannot be read are named in one error."""
    typed = TypedColumns(settled=texts.settled)
    waiting: dict[str, tuple[TextCells, Look]] = {}

    def first(name: str, cells: Cells) -> tuple[Column, np.ndarray] | str | None:
        _count_missing(typed, name, cells)
        look = _look(name, cells, texts)
        if look is not None and isinstance(cells, TextCells):
            waiting[name] = (cells, look)
            return None
        return _typed_column(name, cells, options, where, typed)

    def second(name: str, item: tuple[TextCells, Look]) -> tuple[Column, np.ndarray] | str:
        cells, look = item
        settled = texts.settle(look)
        if name in options.types and not look.ways:
            # The cells that are no numbers are named with their rows where they are read.
            cells = cells.under(replace(look.nearest, missing=cells.block.notation.missing))
        elif name in options.types and settled.guess is not None:
            raise DataError(f"{where}: {str(settled.guess).replace(NO_NUMBERS, 'must hold numbers')}")
        cells = cells if settled.notation is None else cells.under(settled.notation)
        return _typed_column(name, cells, options, where, typed)

    notations = {name: notation_of(options, name) for name in names}
    found = read_each(column_cells(frame, notations), first)
    found |= read_each(waiting.items(), second)
    for name, one in found.items():
        if isinstance(one, str):
            typed.left_out[name] = one
        elif one is not None:
            typed.columns[name] = (_with_comma(one[0], texts, typed), one[1])
    if not typed.columns and (names or options.inputs is None):
        doubts = "".join(f"\n{where}: {doubt}" for doubt in [*typed.all_doubts()][:_FEW])
        got = f"got none but {name_values(names) or 'roles'}"
        prose = [name for name, reason in typed.left_out.items() if reason == _FREE_TEXT]
        hint = f", or read texts: {option('types', prose[0], 'text')}" if prose else ""
        raise LackError(f"{where}: there must be a column to learn from; {got}; add one{hint}{doubts}")
    return typed


def prose_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns that are probably text to be read: of several words, mostly different, and no dates."""
    texts = [str(name) for name, kind in frame.dtypes.items() if isinstance(kind, pd.StringDtype)]
    found = column_cells(frame, dict.fromkeys(texts, PLAIN))
    return [
        name
        for name, cells in found
        if isinstance(cells, TextCells)
        and infer_type(cells) == "text"
        and is_prose(cells)
        and _doubt(name, cells, "text") is None
    ]


def _look(name: str, cells: Cells, texts: NumberTexts) -> Look | None:
    """Return what texts may be as numbers, where they are nothing better."""
    declared = texts.options.types.get(name)
    if not isinstance(cells, TextCells) or declared not in (None, "numeric") or cells.is_missing.all():
        return None
    if cells.block.is_numeric[cells.place] or (declared is None and infer_type(cells) in ("boolean", "date")):
        return None
    return texts.look(cells)


def _with_comma(column: Column, texts: NumberTexts, typed: TypedColumns) -> Column:
    """Return a column of whole numbers as one of a file with decimal commas, for later files that have fractions."""
    if column.type != "numeric" or not column.notation.is_plain:
        return column
    if doubt := texts.grouped(column.name):
        typed.doubts[column.name] = doubt
    if texts.proofs != {","}:
        return column
    cells = texts.frame[column.name]
    if not isinstance(cells.dtype, pd.StringDtype):
        return column
    has_point = cells.str.contains(".", regex=False).any()
    return column if has_point else replace(column, notation=replace(column.notation, decimal=","))


def _count_missing(typed: TypedColumns, name: str, cells: Cells) -> None:
    if isinstance(cells, TextCells):
        found = cells.missing_counts()
        if found:
            typed.missing[name] = found


def _typed_column(
    name: str, cells: Cells, options: DataOptions, where: str, typed: TypedColumns
) -> tuple[Column, np.ndarray] | str:
    """Return the typed column and its values, or why it is left out."""
    place, declared = f"{where}: column {quoted(name)}", options.types.get(name)
    if (cells.is_missing if isinstance(cells, TextCells) else cells.isna()).all():
        return NO_VALUES
    if declared is None and name.startswith("Unnamed: "):
        return "row numbers without a name"
    type_ = declared or infer_type(cells)
    if declared is None and (doubt := _doubt(name, cells, type_)):
        typed.doubts[name] = doubt
    ends = [] if type_ != "date" or not isinstance(cells, TextCells) else [cells.texts[0], cells.texts[-1]]
    if any(map(_ZONE.search, ends)):
        typed.zoned.append(name)
    if type_ == "text" and declared is None:
        return "dates or times that are not ISO" if name in typed.doubts else _FREE_TEXT
    column = describe_column(name, cells, type_, place, notation_of(options, name))
    read = column.read(cells, place)
    return "constant" if np.all(read == read[0]) else (column, read)


def _doubt(name: str, cells: Cells, type_: str) -> Guess | None:
    """Return what is probably not meant: dates read as categories, whole numbers that are rounded."""
    if type_ == "numeric":
        return _rounded(name, cells)
    if type_ == "date" and isinstance(cells, TextCells):
        return _undated(name, cells)
    if type_ not in ("categorical", "text") or not isinstance(cells, TextCells):
        return None
    texts = cells.texts
    what = "read as categories, one for each text" if type_ == "categorical" else "left out"
    if len(texts) > _FEW_TIMES and all(map(_TIME.fullmatch, texts)):
        said = f"times of day are {what}: {name} ({quoted(texts[0])})"
        return Guess(said, "write them as numbers, such as hours", True)
    if not _OTHER_DATE.fullmatch(texts[0]) and not _OTHER_DATE.fullmatch(texts[-1]):
        return None
    found = [match for text in texts if (match := _OTHER_DATE.fullmatch(text))]
    if len(found) <= _MOST * len(texts):
        return None
    first, second = (max(int(match[part]) for match in found) for part in (1, 3))
    order = (
        "day or month first" if first <= 12 and second <= 12 else "day first" if first > 12 else "month first"
    )
    said = f"dates that are not ISO (2026-11-21) are {what}: {name}"
    return Guess(f"{said} ({quoted(found[0][0])}, {order})", "write them so", True)


def _undated(name: str, cells: TextCells) -> Guess | None:
    """Say which cells among dates are none."""
    texts = [text for text, date in zip(cells.texts, cells.distinct_dates, strict=True) if np.isnat(date)]
    if not texts:
        return None
    counts = cells.counts()
    none = counted({text: counts[text] for text in texts})
    said = f"among the dates of {quoted(name)} these are read as missing: {none}"
    return Guess(said, f"repair them, or name them: {option('missing', name, texts[:_FEW])}", True)


def _rounded(name: str, cells: Cells) -> Guess | None:
    """Say that whole numbers are too long for a float."""
    if isinstance(cells, TextCells):
        if not cells.block.has_rounded:
            return None
        found = cells.block.texts[cells.distinct[cells.block.is_rounded[cells.distinct]]].tolist()
        n_left = len({float(text) for text in found})
    else:
        whole = cells.dropna()
        is_whole = pd.api.types.is_integer_dtype(whole.dtype)
        found = [str(one) for one in whole[whole.abs() >= EXACT].unique()] if is_whole else []
        n_left = len({float(text) for text in found})
    if not found or n_left == len(found):
        return None
    said = f"whole numbers of {quoted(name)} from 2**53 on are rounded: {len(found)} become {n_left}"
    return Guess(said, f"if they are names: {option('types', name, 'categorical')}", True)
