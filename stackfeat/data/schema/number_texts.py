"""Columns of text that hold numbers, but not as one writes them in a program: '1.234,5', '12 %', '(3)', 'n/a'.

In:  the columns of one file, one after the other.
Out: for each the notation that it is read in, or a doubt that names the option which would say it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from stackfeat.data.files.cells import TextCells
from stackfeat.data.files.csv_file import SEPARATOR
from stackfeat.data.files.notation import Look, Notation, look_at, notation_of
from stackfeat.data.options import DataOptions
from stackfeat.data.schema.guesses import Guess, counted, option
from stackfeat.registry.resolve import quoted

_SURE_NUMBER = re.compile(r"[(+\-\u2212]|0,|\d+,\d{5,}")
_PLAIN_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_GROUP = r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}"
_FEWEST_GROUPS = 20
_MOST_POINTS = 0.45
_FEW = 5
NO_NUMBERS = "is not read as numbers"


@dataclass(frozen=True)
class Settled:
    """How a column of text is read that holds numbers in a notation of its own, or why it is not."""

    notation: Notation | None
    guess: Guess | None = None
    words: Mapping[str, int] = field(default_factory=dict)


@dataclass
class NumberTexts:
    """Columns of one file whose cells are numbers, but not as one writes them in a program.

    A column of texts such as '1,234' may be two things. Columns of the file that can be one thing only tell then.
    With `is_free` the marks of the options are only what is tried first.
    """

    frame: pd.DataFrame
    options: DataOptions
    is_free: bool = False
    proofs: set[str] = field(default_factory=set)
    settled: dict[str, Settled] = field(default_factory=dict)

    def look(self, cells: TextCells) -> Look | None:
        """Return what the texts may be as numbers, and remember which decimal mark they prove."""
        counts = cells.counts()
        look = look_at(counts, self.options, cells.name)
        if look is None and (self.options.decimal or self.options.thousands):
            free = self.options.model_copy(update={"decimal": None, "thousands": None})
            look = look_at(counts, free, cells.name)
            if look is not None and not self.is_free:
                return replace(look, ways=())
        if look is not None and len(look.ways) == 1 and self._other_meaning(look, look.ways[0]) is None:
            self.proofs.add(look.ways[0].decimal)
        return look

    def settle(self, look: Look) -> Settled:
        """Return how a column is read, once all columns have been looked at, and remember it."""
        self.settled[look.name] = found = self._settled(look)
        return found

    def _settled(self, look: Look) -> Settled:
        way = self._chosen(look)
        if way is None:
            return Settled(None, _ambiguous(look) if look.ways else _mixed(look))
        doubt = self._other_meaning(look, way)
        if doubt is not None:
            return Settled(None, doubt)
        if way.has_plain_marks and all(_PLAIN_NUMBER.fullmatch(text) for text in look.numbers):
            way = replace(way, signs=False)
        missing = dict.fromkeys([*notation_of(self.options, look.name).missing, *look.words])
        return Settled(replace(way, missing=tuple(missing)), None, look.words)

    def _chosen(self, look: Look) -> Notation | None:
        plain = [way for way in look.ways if (way.decimal, way.thousands) == (".", "")]
        if plain or len(look.ways) < 2:
            return next(iter(plain or look.ways), None)
        if self._has_points():
            self.proofs.add(".")
        proven = [way for way in look.ways if way.decimal in self.proofs]
        return proven[0] if len(proven) == 1 else None

    def _has_points(self) -> bool:
        """Whether a column of the file holds numbers with a decimal point."""
        for name, dtype in self.frame.dtypes.items():
            if isinstance(dtype, pd.StringDtype):
                texts = self.frame[name]
                if texts.str.fullmatch(r"\s*[+-]?\d*\.\d+\s*").mean() > _MOST_POINTS:
                    return True
        return False

    def grouped(self, name: str) -> Guess | None:
        """Return a doubt where every point of a column of numbers may stand between thousands.

        So it may in files with decimal commas, and in those with semicolons where nothing says what the comma is.
        """
        is_likely = self.proofs == {","} or (not self.proofs and self.frame.attrs.get(SEPARATOR) == ";")
        if not is_likely or self.options.decimal:
            return None
        texts = self.frame[name]
        if not isinstance(texts.dtype, pd.StringDtype):
            return None
        with_point = texts[texts.str.contains(".", regex=False)].str.strip().unique()
        if len(with_point) == 0 or not pd.Series(with_point).str.fullmatch(_GROUP).all():
            return None
        if self.proofs or len(with_point) >= _FEWEST_GROUPS:
            said = f"{quoted(name)} is read with a decimal point: {quoted(with_point[0])}"
            return Guess(
                said, f"if the point stands between thousands: {option('thousands', name, '.')}", True
            )
        return None

    def _other_meaning(self, look: Look, way: Notation) -> Guess | None:
        """Return a doubt where numbers may be lists of two as well, or codes in groups."""
        texts, said = look.numbers, f"{quoted(look.name)} {NO_NUMBERS}: {quoted(look.numbers[0])} may be"
        is_list = way.decimal == "," and not (way.thousands or way.unit or self.options.decimal)
        is_list = is_list and self.frame.attrs.get(SEPARATOR) in (",", None)
        if is_list and not any(_SURE_NUMBER.match(text) for text in texts):
            key = option("decimal", look.name, ",")
            return Guess(f"{said} a number or a list of two", _if_number(key), True)
        is_group = way.thousands in (" ", ".") and not (way.unit or self.options.thousands)
        if is_group and len(set(map(len, texts))) == 1 and not any(way.decimal in text for text in texts):
            key = option("thousands", look.name, way.thousands)
            return Guess(f"{said} a number or a code in groups", _if_number(key), True)
        return None


def _if_number(key: str) -> str:
    return f"if it is a number: {key}"


def _ambiguous(look: Look) -> Guess:
    """Say that texts are one number with a decimal comma, and another with a comma between thousands."""
    example = next(
        text for text in look.numbers if len({way.plain_texts([text])[0] for way in look.ways}) > 1
    )
    meanings = []
    for way in look.ways[:2]:
        mark = ("thousands", way.thousands) if way.thousands else ("decimal", way.decimal)
        meanings.append(f"{way.plain_texts([example])[0]} ({option(mark[0], look.name, mark[1])})")
    said = f"{quoted(look.name)} {NO_NUMBERS}: {quoted(example)} may be {' or '.join(meanings)}"
    return Guess(said, "set one of them", True)


def _mixed(look: Look) -> Guess:
    """Say that most cells are numbers, which are not, and which option makes the column one of numbers."""
    if look.units:
        at = ", ".join(f"{quoted(unit)} at {n}" for unit, n in look.units.items())
        said = f"{quoted(look.name)} {NO_NUMBERS}: of {sum(look.counts.values())} cells there is {at}"
        return Guess(said, "write all numbers of a column in one unit", True)
    n_cells, odd = sum(look.counts.values()), dict(look.odd)
    way, keys = look.nearest, []
    if way.decimal == ",":
        keys.append(option("decimal", look.name, ","))
    elif not odd and way.has_plain_marks:
        keys.append(option("decimal", look.name, "."))
    if way.thousands:
        keys.append(option("thousands", look.name, way.thousands))
    said = f"{quoted(look.name)} {NO_NUMBERS}, although {look.n_numbers} of {n_cells} cells are numbers"
    said += "" if way.has_plain_marks else f" with {way.described()}"
    others = {**look.words, **odd}
    if others:
        said += f"; the others: {counted(others)}"
    if others and len(others) <= _FEW:
        keys.append(option("missing", look.name, others))
    elif others:
        keys.append("repair the others")
    keys.append(f"or, if they are categories, {option('types', look.name, 'categorical')}")
    return Guess(said, ", ".join(keys), True)
