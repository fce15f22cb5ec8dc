"""Names by pattern: `*` is any text, `?` any one character, and everything else is itself.

In:  a pattern of a config, a command or a tap, and names.
Out: which names it means. There is no backtracking: the time is that of pattern times name, whatever
     the pattern.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache


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
