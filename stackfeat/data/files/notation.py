"""How the cells of a text column are written: which texts stand for a missing value, and how numbers look.

In:  `DataOptions`; the distinct texts of a column.
Out: a `Notation`, under which texts are numbers or missing; a `Look`: every notation that fits the texts, with the
     texts that it leaves over. What is taken from it is decided where the columns of a file are typed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeVar

from stackfeat.registry.patterns import matches

if TYPE_CHECKING:
    from stackfeat.data.options import DataOptions

MISSING = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NAN", "null", "NULL", "None", "?")
"""Texts that are missing values in every column, unless `data.not_missing` names them."""
_LIKELY_MISSING = """n/a na n.a. n.a nan none null nil - -- --- – — . .. ... ? ?? * missing unknown undefined n/k k.a.
#n/a #div/0! #value! #ref! #num! #name? #null! (null) (missing) (blank) (empty) <null> <na>"""
LIKELY_MISSING = {*_LIKELY_MISSING.split(), "not available", "no data", "#n/a n/a"}
"""In lower case: texts that stand for a missing value among numbers."""
PAIRS = ((".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"))
"""Decimal mark and mark between thousands of usual notations."""
_SPACES = "[ \u00a0\u2009\u202f]"
_MARKS = {" ": _SPACES, "'": "['\u2019]"}
_MINUS = str.maketrans("\u2212\u2013\uff0d", "---")
_CODES = ("EUR", "USD", "GBP", "CHF", "JPY", "CAD", "AUD", "SEK", "NOK", "DKK", "PLN", "CZK", "INR", "BRL")
_UNIT = re.compile(rf"(?:{'|'.join(_CODES)}|[%‰])|[^\w\s.,'()+\-]")
_WORD = r"(?![eE][0-9])[^\W\d_]{1,6}(?:/[^\W\d_]{1,4})?[23²³]?"
_WORD_UNIT = re.compile(rf"[+\-\u2212]?[0-9][0-9.,'\s]*?\s*({_WORD})")
"""A number with one word behind it; 12e3 has none."""
_LARGE_GROUPS = re.compile(r"[0-9]{2}[.,][0-9]{3}(?![0-9])")
"""Two digits before the last three: with a decimal mark between them an amount from ten on with three decimals."""
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_OF_NUMBERS = "0123456789eE+-"
_MOST_LOOKED_AT = 2_000
_MOST = 0.5

Given = TypeVar("Given")


@dataclass(frozen=True)
class Notation:
    """How the cells of one column are written.

    Attributes
    ----------
    decimal, thousands : str
        Marks within numbers; `thousands` is "" where there is none, " " for any kind of space.
    unit : str
        "%", the sign or code of a currency that stands before or after every number, or one word after all of them
        ("kg", "km/h").
    signs : bool
        Whether numbers may have a typographic minus, spaces around them, or parentheses where they are negative.
        Notations with other marks than a decimal point, or with a unit, may in any case.
    missing : tuple of str
        Texts that stand for a missing value.
    """

    decimal: str = "."
    thousands: str = ""
    unit: str = ""
    signs: bool = False
    missing: tuple[str, ...] = MISSING

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as in a program."""
        return self.has_plain_marks and not self.signs

    @property
    def has_plain_marks(self) -> bool:
        """Whether there is a decimal point, and nothing else within or at numbers."""
        return (self.decimal, self.thousands, self.unit) == (".", "", "")

    @cached_property
    def missing_numbers(self) -> tuple[float, ...]:
        """Numbers among the texts for a missing value, such as -999: they are meant however they are written."""
        texts = (text for text in self.missing if text not in MISSING and _NUMBER.fullmatch(text))
        return tuple(float(text) for text in texts)

    def plain_texts(self, texts: Iterable[str]) -> list[str | None]:
        """Return each number as one writes it in a program; None where a text is no number."""
        pattern = _pattern(self.decimal, self.thousands)
        return [self._plain_text(text, pattern) for text in texts]

    def _plain_text(self, text: str, pattern: re.Pattern[str]) -> str | None:
        text, sign = text.strip().translate(_MINUS), ""
        if text[:1] == "(" and text[-1:] == ")":
            text, sign = text[1:-1].strip(), "-"
        elif text[:1] in ("+", "-"):
            text, sign = text[1:].lstrip(), text[0]
        if self.unit:
            bare = text.removeprefix(self.unit)
            bare = text.removesuffix(self.unit) if bare == text else bare
            if bare == text and text != "0":
                return None
            text = bare.strip()
            if not sign and text[:1] in ("+", "-"):
                text, sign = text[1:].lstrip(), text[0]
        if pattern.fullmatch(text) is None:
            return None
        whole, point, rest = text.partition(self.decimal)
        if self.thousands:
            whole = "".join(one for one in whole if one in _OF_NUMBERS)
        return f"{sign}{whole}{point and '.'}{rest}"

    def described(self) -> str:
        """Say how numbers are written, for people."""
        said = ["a decimal comma"] if self.decimal == "," else []
        said += [f"{self.thousands!r} between thousands"] if self.thousands else []
        said += [f"{self.unit!r} at each number, which is left out"] if self.unit else []
        return " and ".join(said) or "typographic signs, spaces or parentheses for negative ones"


PLAIN = Notation()


@lru_cache(maxsize=64)
def _pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    """Return the expression of an unsigned number; one with groups has no exponent."""
    point = re.escape(decimal)
    plain = rf"(?:[0-9]+(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?"
    if not thousands:
        return re.compile(plain)
    mark = _MARKS.get(thousands, re.escape(thousands))
    # Groups of two, before the last of three, are those of India.
    grouped = f"[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{2,3}})*{mark}[0-9]{{3}}"
    return re.compile(rf"{grouped}(?:{point}[0-9]*)?|{plain}")


def notation_of(options: DataOptions, name: str) -> Notation:
    """Return how a config says that the cells of a column are written."""
    if not (options.decimal or options.thousands or options.missing or options.not_missing):
        return PLAIN
    decimal, thousands = _given(options.decimal, name), _given(options.thousands, name) or ""
    if decimal is None:
        decimal = "," if thousands == "." else "."
    absent = _listed(options.not_missing, name)
    missing = dict.fromkeys([*MISSING, *_listed(options.missing, name)])
    return Notation(decimal, thousands, missing=tuple(text for text in missing if text not in absent))


def _given(option: Given | Mapping[str, Given] | None, name: str) -> Given | None:
    """Return what an option says of a column; a name wins over a pattern."""
    if not isinstance(option, Mapping):
        return option
    if name in option:
        return option[name]
    return next((value for pattern, value in option.items() if matches(pattern, name)), None)


def _listed(option: Sequence[str] | Mapping[str, Sequence[str]], name: str) -> list[str]:
    """Return all texts that an option says of a column."""
    if not isinstance(option, Mapping):
        return list(option)
    fitting = (texts for pattern, texts in option.items() if pattern == name or matches(pattern, name))
    return [text for texts in fitting for text in texts]


@dataclass(frozen=True)
class Look:
    """What the texts of a column would be as numbers.

    Attributes
    ----------
    name : str
        Of the column.
    counts : mapping of str to int
        Its texts that are not missing, and in how many cells each stands.
    ways : tuple of Notation
        Notations under which every text is a number or a usual word for a missing value; of those that give the
        same numbers the simplest one.
    nearest : Notation
        Under which most cells are numbers.
    words : dict of str to int
        Usual words for a missing value that stand in the column, and in how many cells.
    odd : dict of str to int
        Other texts that are no numbers under `nearest`, and in how many cells.
    n_numbers : int
        How many cells are numbers under `nearest`.
    units : dict of str to int
        Signs of percentages and currencies that stand at some numbers and not at others, and at how many cells.
    """

    name: str
    counts: Mapping[str, int]
    ways: tuple[Notation, ...]
    nearest: Notation
    words: dict[str, int]
    odd: dict[str, int]
    n_numbers: int
    units: Mapping[str, int] = field(default_factory=dict)

    @property
    def numbers(self) -> list[str]:
        """The texts that are numbers under `nearest`."""
        return [text for text in self.counts if text not in self.words and text not in self.odd]


def look_at(counts: Mapping[str, int], options: DataOptions, name: str) -> Look | None:
    """Return what the texts of a column would be as numbers; None where most cells are none, words for missing apart.

    Parameters
    ----------
    counts : mapping of str to int
        The texts of the column that are not missing, and in how many cells each stands.
    options : DataOptions
        Marks that a config names are taken as they are.
    """
    base = notation_of(options, name)
    kept = _listed(options.not_missing, name)
    if not _is_promising(list(counts)):
        return None
    words = {text: n for text, n in counts.items() if text.casefold() in LIKELY_MISSING and text not in kept}
    rest = {text: n for text, n in counts.items() if text not in words}
    ways = list(_ways(replace(base, unit=_common_unit(list(rest))), options, name))
    look = _read(name, counts, words, {text: text for text in rest}, ways)
    units = Counter[str]()
    for text, n in rest.items():
        units.update(dict.fromkeys(filter(_is_unit, _UNIT.findall(text)), n))
    if look is not None or not units:
        return look
    bare = {text: _UNIT.sub("", text) for text in rest}
    look = _read(name, counts, words, bare, list(_ways(base, options, name)))
    return None if look is None else replace(look, ways=(), units=dict(units))


def _read(
    name: str,
    counts: Mapping[str, int],
    words: dict[str, int],
    rest: Mapping[str, str],
    ways: Sequence[Notation],
) -> Look | None:
    """Return what texts are under the ways; `rest` has for each the text that is read in its place."""
    texts = list(rest.values())
    some = texts[:: max(1, len(texts) // _MOST_LOOKED_AT)]
    n_some = {way: len(some) - way.plain_texts(some).count(None) for way in ways}
    read = {way: way.plain_texts(texts) for way in ways if n_some[way] > 0.2 * len(some)}
    if not read:
        return None
    n_numbers = {
        way: sum(counts[text] for text, number in zip(rest, numbers, strict=True) if number is not None)
        for way, numbers in read.items()
    }
    nearest = max(read, key=lambda way: n_numbers[way])
    if n_numbers[nearest] <= _MOST * sum(counts[text] for text in rest):
        return None
    odd = {text: counts[text] for text, number in zip(rest, read[nearest], strict=True) if number is None}
    fitting: dict[tuple[float, ...], Notation] = {}
    for way, numbers in read.items():
        if None not in numbers:
            fitting.setdefault(tuple(map(float, filter(None, numbers))), way)
    found = _of_money(texts, list(fitting.values()))
    return Look(name, counts, found, nearest, words, odd, n_numbers[nearest])


def _of_money(texts: Sequence[str], ways: Sequence[Notation]) -> tuple[Notation, ...]:
    """Return the ways that money may be meant in: `$21,992` is no 21.992, as three decimals are of small prices."""
    is_money = len(ways) > 1 and _is_currency(ways[0].unit) and any(map(_LARGE_GROUPS.search, texts))
    return tuple(way for way in ways if way.thousands) if is_money else tuple(ways)


def _is_promising(texts: Sequence[str]) -> bool:
    """Whether some of the texts may be numbers; of many texts only some are looked at."""
    step = max(1, len(texts) // _MOST_LOOKED_AT)
    some = texts[::step]
    like = sum(any(one in "0123456789" for one in text) and len(text) < 40 for text in some)
    return like > 0.2 * len(some)


def _ways(base: Notation, options: DataOptions, name: str) -> Iterator[Notation]:
    """Yield the notations that a column may have, the usual ones first, within what the config says."""
    decimal, thousands = _given(options.decimal, name), _given(options.thousands, name)
    marks = dict.fromkeys([*PAIRS, *((one, thousands or "") for one in (".", ",") if one != thousands)])
    for pair in marks:
        fits = decimal in (None, pair[0]) and (thousands is None or thousands == pair[1])
        if fits:
            way = replace(base, decimal=pair[0], thousands=pair[1])
            yield replace(way, signs=True) if way.is_plain else way


def _common_unit(texts: Sequence[str]) -> str:
    """Return the sign of a percentage or of a currency that most texts with digits have, a word behind all, or ""."""
    step = max(1, len(texts) // _MOST_LOOKED_AT)
    some = [text for text in texts[::step] if any(one in "0123456789" for one in text)]
    found = Counter(unit for text in some for unit in set(_UNIT.findall(text)) if _is_unit(unit))
    unit, n_found = max(found.items(), key=lambda item: item[1], default=("", 0))
    if n_found > _MOST * len(some):
        return unit
    words = {match[1] if (match := _WORD_UNIT.fullmatch(text)) else "" for text in some}
    has_codes = any(len(text) > 1 and text[0] == "0" and text[1] in "0123456789" for text in some)
    return words.pop() if len(words) == 1 and not has_codes else ""


def _is_unit(text: str) -> bool:
    return text in ("%", "‰") or _is_currency(text)


def _is_currency(text: str) -> bool:
    return text in _CODES or (len(text) == 1 and unicodedata.category(text) == "Sc")
