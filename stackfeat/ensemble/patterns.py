"""Patterns over block names: per segment, `*` and `?` are special, all else is literal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(letter, re.escape(letter)) for letter in pattern))


def match_segment(pattern: str, text: str) -> bool:
    """Whether one segment matches.

    Examples
    --------
    >>> match_segment("lstm[0]*", "lstm[0]@aligned")
    True
    >>> match_segment("lstm[0]", "lstm0")
    False
    """
    if _compiled(pattern).fullmatch(text) is not None:
        return True
    # A block of a tap pattern stands for blocks that are not known yet, and any of them may be meant.
    return ("*" in text or "?" in text) and _compiled(text).fullmatch(pattern) is not None


def match_block(pattern: str, blocks: Mapping[str, Any]) -> list[str]:
    """Return the blocks (``level/member/output``) that match, in their order.

    A pattern of two segments means the prediction outputs of those members.
    """
    segments = pattern.split("/")
    found = []
    for name in blocks:
        level, member, output = name.split("/", 2)
        if len(segments) == 2:
            if (
                output in ("proba", "prediction")
                and match_segment(segments[0], level)
                and match_segment(segments[1], member)
            ):
                found.append(name)
        elif len(segments) == 3 and all(
            match_segment(part, text) for part, text in zip(segments, (level, member, output), strict=True)
        ):
            found.append(name)
    return found
