"""Names by pattern: wildcards that mean several names, and placeholders in the names of files.

`*` is any text, `?` any one character, and everything else is itself. Matching does not backtrack: it takes the time
of pattern times name, whatever the pattern. In names of files ``best{fold}.pt`` stands for a file of each fold:
``{fold}`` counts from 0, ``{fold1}`` from 1; ``{repeat}`` and ``{seed}`` count from 0.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

from stackfeat.registry.resolve import suggest


def is_pattern(text: str) -> bool:
    """Whether `text` may mean several names."""
    return "*" in text or "?" in text


def matches(pattern: str, name: str) -> bool:
    """Whether the whole name matches.

    Examples
    --------
    >>> matches("lstm[0]*", "lstm[0]@aligned")
    True
    >>> matches("lstm[0]", "lstm0")
    False
    """
    return _compiled(pattern).matches(name)


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that match, in their order."""
    compiled = _compiled(pattern)
    return [name for name in names if compiled.matches(name)]


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> _Pattern:
    return _Pattern(pattern)


class _Pattern:
    """All positions in the pattern that a name may have come to, as the bits of one number."""

    def __init__(self, pattern: str) -> None:
        stars = next((place for place, letter in enumerate(pattern) if letter in "*?"), len(pattern))
        self.beginning, rest = pattern[:stars], pattern[stars:]
        self.places: dict[str, list[int]] = {}
        self.n = 0
        for place, letter in enumerate(rest):
            # Several stars in a row say no more than one.
            if letter != "*" or rest[place - 1 : place] != "*":
                self.places.setdefault(letter, []).append(self.n)
                self.n += 1
        self.stars = _bits(self.places.get("*", []), self.n)
        self.any = _bits(self.places.get("?", []), self.n)
        self.steps: dict[str, int] = {}

    def matches(self, name: str) -> bool:
        if not name.startswith(self.beginning):
            return False
        reached = self._with_empty_stars(1)
        for letter in name[len(self.beginning) :]:
            reached = self._with_empty_stars((reached & self.stars) | (reached & self._step(letter)) << 1)
            if not reached:
                return False
        return bool(reached >> self.n)

    def _with_empty_stars(self, reached: int) -> int:
        return reached | (reached & self.stars) << 1

    def _step(self, letter: str) -> int:
        """Return the positions that this letter of a name gets past."""
        if letter not in self.steps:
            known = [] if letter in "*?" else self.places.get(letter, [])
            self.steps[letter] = self.any | _bits(known, self.n)
        return self.steps[letter]


def _bits(places: Iterable[int], n: int) -> int:
    held = bytearray(n // 8 + 1)
    for place in places:
        held[place // 8] |= 1 << place % 8
    return int.from_bytes(held, "little")


PLACEHOLDERS = ("fold", "fold1", "repeat", "seed")
FOLD = ("fold", "fold1")
_NAME = re.compile(r"\{([^{}]*)\}")


def placeholders(pattern: str) -> tuple[str, ...]:
    """Return the names in braces, each once, in order.

    Examples
    --------
    >>> placeholders("r{repeat}/best{fold1}.pt")
    ('repeat', 'fold1')
    """
    return tuple(dict.fromkeys(_NAME.findall(pattern)))


def has_fold(pattern: str) -> bool:
    """Whether there is a file for each fold."""
    return any(name in FOLD for name in placeholders(pattern))


def fill(pattern: str, *, fold: int = 0, repeat: int = 0, seed: int = 0) -> str:
    """Return the file's name.

    Examples
    --------
    >>> fill("best_model{fold1}.pt", fold=0)
    'best_model1.pt'
    """
    values = {"fold": fold, "fold1": fold + 1, "repeat": repeat, "seed": seed}
    return _NAME.sub(lambda found: str(values[found.group(1)]), pattern)


def placeholder_problem(pattern: str, allowed: Collection[str] = PLACEHOLDERS) -> str | None:
    """Say what is wrong with the placeholders of a name, or None."""
    for name in placeholders(pattern):
        if name not in allowed:
            legal = ", ".join(f"{{{item}}}" for item in allowed)
            return f"names of files may hold {legal}; got {{{name}}} in {pattern!r}.{suggest(name, allowed)}"
    if all(name in placeholders(pattern) for name in FOLD):
        return f"a name holds {{fold}} (from 0) or {{fold1}} (from 1); got both in {pattern!r}. Use one"
    return None
