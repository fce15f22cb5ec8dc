"""Kinds of parameters: what may stand in a parameter of a known class without ``--trust-code``.

In:  a Kind (of numbers, of texts, of names) and a value of a config.
Out: what is wrong with the value, in words, each with its place inside the value.

A kind says what is let in; everything else is refused. There is no list of bad values. Which parameter has which
kind is written in ``parameters.toml``.
"""

from __future__ import annotations

import itertools
import math
import numbers
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

COUNT = 1e7
AMOUNT = 1e100
MOST_VALUES = 100_000
MOST_WEIGHTS = 1e8
_DEEPEST = 8
_LONGEST_NAME = 256
_LONGEST_TEXT = 2_000
# What names of columns and classes never look like, and what could name a file or an address does.
_PLACE = re.compile(r"^[/~\\]|^[A-Za-z]:[\\/]|://|(^|[\\/])\.\.([\\/]|$)|[\x00-\x1f\x7f]")

Key = str | int


@dataclass(frozen=True)
class Kind:
    """What a parameter takes. None, true and false are always taken, and lists of what is taken alone.

    Attributes
    ----------
    most : float
        The largest absolute value of a number.
    most_item : float or None
        The same for numbers in lists and mappings; as `most` where None.
    words : frozenset of str
        Texts.
    pattern : str
        A grammar of further texts; the whole text must match.
    commas : bool
        Whether a text may hold several of `words`, separated by commas.
    free : frozenset of {"text", "items", "keys"}
        Where names of columns and classes may stand: alone, in lists, as keys of a mapping.
    odd : bool
        Whether nan and infinity are numbers here.
    nests : bool
        Whether an allowed class may stand here.
    is_true : bool
        Whether true may be given.
    widths : bool
        Whether it is a list of layer widths, of which every two neighbours take memory for their product.
    """

    most: float = COUNT
    most_item: float | None = None
    words: frozenset[str] = frozenset()
    pattern: str = ""
    commas: bool = False
    free: frozenset[str] = frozenset()
    odd: bool = False
    nests: bool = False
    is_true: bool = True
    widths: bool = False


def problems(kind: Kind, value: Any, place: tuple[Key, ...] = ()) -> Iterator[tuple[tuple[Key, ...], str]]:
    """Yield (place, message) for everything in a value that its kind does not take."""
    if value is None or value is False:
        return
    if len(place) > _DEEPEST:
        yield place, f"must not be nested deeper than {_DEEPEST} lists"
    elif isinstance(value, list | tuple):
        if kind.widths:
            yield from _width_problems(value)
        for i, item in enumerate(value):
            yield from problems(kind, item, (*place, i))
    elif isinstance(value, Mapping) and "keys" in kind.free and not nested_estimator(value):
        for key, item in value.items():
            if isinstance(key, str) and not is_name(key):
                yield place, f"must be a mapping from names; got {_shown(key)}"
            else:
                yield from problems(kind, item, (*place, key if isinstance(key, str) else str(key)))
    else:
        message = _scalar_problem(kind, value, is_item=bool(place))
        if message:
            yield place, message


def nested_estimator(value: Any) -> bool:
    """Whether a value stands for an estimator that is to be built: {estimator: ..., params: ...}."""
    is_pair = isinstance(value, Mapping) and set(value) <= {"estimator", "params"}
    return is_pair and isinstance(value.get("estimator"), str)


def is_name(text: str) -> bool:
    """Whether a text may be the name of a column or class: short, and no path or address."""
    return len(text) <= _LONGEST_NAME and not _PLACE.search(text)


def _scalar_problem(kind: Kind, value: Any, *, is_item: bool) -> str | None:
    if value is True:
        return None if kind.is_true else "must be false; got true"
    number = _number(value)
    if number is not None:
        most = kind.most_item if is_item and kind.most_item is not None else kind.most
        if isinstance(number, float) and not math.isfinite(number):
            return None if kind.odd else f"must be a finite number; got {number}"
        return None if abs(number) <= most else f"must be a number of at most {most:g}; got {_shown(number)}"
    if isinstance(value, str):
        return _text_problem(kind, value, is_item=is_item)
    return f"must be {_wanted(kind)}; got {_shown(value)}"


def _number(value: Any) -> int | float | None:
    if isinstance(value, int | float):
        return value
    return float(value) if isinstance(value, numbers.Real) else None


def _text_problem(kind: Kind, text: str, *, is_item: bool) -> str | None:
    parts = text.split(",") if kind.commas else [text]
    if all(part in kind.words for part in parts):
        return None
    if len(text) <= _LONGEST_TEXT and kind.pattern and _compiled(kind.pattern).fullmatch(text):
        return None
    if ("items" if is_item else "text") in kind.free and is_name(text):
        return None
    return f"must be {_wanted(kind)}; got {_shown(text)}"


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


def _width_problems(widths: list[Any] | tuple[Any, ...]) -> Iterator[tuple[tuple[Key, ...], str]]:
    sizes = [size for size in map(_number, widths) if size is not None]
    n_weights = sum(first * second for first, second in itertools.pairwise(sizes))
    if n_weights > MOST_WEIGHTS:
        message = f"must be layers with at most {MOST_WEIGHTS:g} weights between them"
        yield (), f"{message}; got {_shown(list(widths))}"


def _wanted(kind: Kind) -> str:
    wanted = ["a number"]
    if kind.words and len(kind.words) <= 12:
        wanted.append(" or ".join(sorted(kind.words)))
    elif kind.words:
        wanted.append("one of the documented words")
    if kind.pattern:
        wanted.append("a text as documented")
    if kind.free:
        wanted.append("names of columns or classes")
    if kind.nests:
        wanted.append("an allowed class as {estimator: ..., params: ...}")
    return wanted[0] if len(wanted) == 1 else f"{', '.join(wanted[:-1])} or {wanted[-1]}"


def _shown(value: Any) -> str:
    is_long = isinstance(value, int) and abs(value) > AMOUNT
    text = "a number of very many digits" if is_long else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_TABLES: dict[str, Any] = tomllib.loads(Path(__file__).with_name("parameters.toml").read_text("utf-8"))


def _table(name: str) -> dict[str, Kind]:
    """Return what each parameter of a table takes."""
    kinds: dict[str, Kind] = {}
    for row in _TABLES[name]:
        fields = row | {"pattern": "".join(row.get("pattern", ""))}
        for field in ("words", "free"):
            fields[field] = frozenset(row.get(field, "").format_map(_TABLES["lists"]).split())
        kinds |= dict.fromkeys(fields.pop("names").split(), Kind(**fields))
    return kinds


SKLEARN = _table("sklearn")
"""Parameters of scikit-learn's classes, by name, whatever the class."""

BOOSTERS = {library: _table(library) for library in ("lightgbm", "xgboost", "catboost")}
"""Parameters by package and name."""

NETS = _table("nets")
"""Parameters of the registry's nets, but for those that take a number."""

FAMILIES = {library: _table(library) for library in ("timm", "torchvision")}
"""The same of nets of other libraries, by what stands before the colon."""

REFUSED: dict[str, dict[str, str]] = _TABLES["refused"]
"""What is known of boosters and left out, by library and reason: for messages."""

RANGES: dict[str, dict[str, str]] = {
    library: {name: range_ for range_, names in rows.items() for name in names.split()}
    for library, rows in _TABLES["ranges"].items()
}
"""Ranges of numbers, such as ``"> 0, <= 1"``, by library (or ``nets``) and parameter."""

NOT_GIVEN = {name: mark for mark, names in _TABLES["not_given"].items() for name in names.split()}
"""Defaults by which scikit-learn, from 1.6 on, marks parameters that are not given."""

SCORE_FUNCTIONS = sorted(SKLEARN["score_func"].words)
"""Functions of sklearn.feature_selection that score columns, do nothing else, and may be named as `score_func`."""

MEMBER_LISTS = ("estimators", "steps", "transformer_list", "transformers")
"""Parameters that are lists of [name, class] and, for columns, [name, class, columns]."""

GRIDS = ("param_distributions", "param_grid")
"""Parameters that hold values of other parameters, by name."""

TUPLES = ("feature_range", "ngram_range", "patch_size", "quantile_range")
"""Parameters that must be tuples, which YAML cannot write."""
