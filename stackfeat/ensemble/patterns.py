"""Patterns over block names: per segment, `*` and `?` are special, all else is literal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from stackfeat.registry.wildcards import is_pattern, matches


@lru_cache(maxsize=2**16)
def match_segment(pattern: str, text: str) -> bool:
    """Whether one segment matches.

    Examples
    --------
    >>> match_segment("lstm[0]*", "lstm[0]@aligned")
    True
    >>> match_segment("lstm[0]", "lstm0")
    False
    """
    # A block of a tap pattern stands for blocks that are not known yet, and any of them may be meant.
    return matches(pattern, text) or (is_pattern(text) and matches(text, pattern))


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
