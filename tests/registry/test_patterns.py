"""Patterns: what they mean, and that none of them takes long."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stackfeat.registry.patterns import is_pattern, matches, matching

LETTERS = st.text(alphabet="ab*?[].\n", max_size=8)


def matches_simply(pattern: str, name: str) -> bool:
    """The definition, by trying every length that a star may stand for."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(matches_simply(pattern[1:], name[length:]) for length in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and matches_simply(pattern[1:], name[1:])


@settings(max_examples=1000)
@given(LETTERS, LETTERS)
@example("a*b*a", "aba")
@example("*?", "")
@example("?*", "*")
def test_a_pattern_means_what_trying_every_length_finds(pattern: str, name: str) -> None:
    assert matches(pattern, name) == matches_simply(pattern, name)


@given(st.text(max_size=20))
def test_a_star_matches_any_text_and_a_text_itself(text: str) -> None:
    assert matches("*", text)
    assert matches(text, text)
    assert is_pattern(text) or not matches(text, text + "x")


def test_names_keep_their_order() -> None:
    assert matching("num_*", ["num_b", "cat_a", "num_a"]) == ["num_b", "num_a"]


@pytest.mark.parametrize(
    "pattern",
    ["*" * 100_000, "*a" * 50_000, "?" * 100_000, "*?" * 50_000, "*a" * 1_000 + "b", "a*" * 1_000 + "b"],
)
def test_no_pattern_takes_long(pattern: str) -> None:
    # With backtracking the sun goes out first; the limit is for the slowest machine.
    started = time.process_time()
    assert matches(pattern, "a" * 2_000) == (set(pattern) == {"*"})
    assert time.process_time() - started < 10
