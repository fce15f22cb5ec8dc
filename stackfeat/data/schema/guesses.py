"""Guesses: what was decided about the data that no option says, each in a line that names the option.

In:  what was found while columns were typed and roles read.
Out: `Guess`es, of which some are doubtful; `check`, `run` and the report show them as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from stackfeat.errors import in_quotes
from stackfeat.registry.resolve import name_values, quoted

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_YAML_WORDS = ("true", "false", "null", "yes", "no", "on", "off")


@dataclass(frozen=True)
class Guess:
    """Something that was decided about the data.

    Attributes
    ----------
    text : str
        What was decided, and what it was told by.
    remedy : str
        Which option decides otherwise, written as in a config.
    is_doubtful : bool
        Whether it is probably not what is meant: a warning, no note.
    """

    text: str
    remedy: str = ""
    is_doubtful: bool = False

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


def option(key: str, name: str, value: str | Iterable[str]) -> str:
    """Return an option of a column as one writes it in a config.

    Examples
    --------
    >>> option("missing", "width", ["n/a", "-"])
    "data.missing: {width: ['n/a', '-']}"
    """
    text = _scalar(value) if isinstance(value, str) else f"[{', '.join(map(_scalar, value))}]"
    return f"data.{key}: {{{_scalar(name)}: {text}}}"


def in_list(key: str, values: Iterable[str]) -> str:
    """Return an option that is a list as one writes it in a config."""
    return f"data.{key}: [{', '.join(map(_scalar, values))}]"


def _scalar(text: str) -> str:
    if _WORD.fullmatch(text) and text.lower() not in _YAML_WORDS:
        return text
    return f"'{text}'" if "'" not in text and text.isprintable() else in_quotes(text)


def counted(texts: Mapping[str, int]) -> str:
    """Return texts with the number of cells that hold them, the most frequent first.

    Examples
    --------
    >>> counted({"n/a": 12, "-": 1})
    "'n/a' (12 cells), '-' (1 cell)"
    """
    by_number = sorted(texts.items(), key=lambda item: -item[1])
    return name_values(f"{quoted(text)} ({n} cell{'s' if n > 1 else ''})" for text, n in by_number)


def of_missing(found: Mapping[str, Mapping[str, int]]) -> Iterator[Guess]:
    """Yield what was read as missing: by column texts, and in how many cells they stand."""
    by_text: dict[str, list[str]] = {}
    for name, texts in found.items():
        for text, n in texts.items():
            by_text.setdefault(text, []).append(f"{name} ({n})")
    for text, places in by_text.items():
        name = places[0].rpartition(" (")[0]
        yield Guess(
            f"{quoted(text)} is read as missing, in {name_values(places)}",
            f"if it is a value: {option('not_missing', name, [text])}",
        )
