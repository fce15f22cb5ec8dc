"""Names and patterns of layers, whatever wraps the net."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stackfeat.layers.taps.layers import (
    match_pattern,
)

names = st.from_regex(r"[a-z_][a-z0-9_]{0,4}(\.[a-z0-9_]{1,4}){0,2}", fullmatch=True)


@given(st.lists(names, min_size=1, max_size=12, unique=True))
def test_two_stars_match_every_name_and_a_name_matches_itself(given_names: list[str]) -> None:
    assert match_pattern("**", given_names) == given_names
    for name in given_names:
        assert match_pattern(name, given_names) == [name]
        stars = ".".join("*" for _ in name.split("."))
        assert match_pattern(stars, given_names) == [
            other for other in given_names if other.count(".") == name.count(".")
        ]


def test_many_stars_between_dots_end_at_once() -> None:
    assert match_pattern(".".join(["**", "*"] * 20), ["a." * 30 + "a", "a"]) == ["a." * 30 + "a"]
    assert match_pattern(".".join(["**"] * 50_000), ["a.b", "c"]) == ["a.b", "c"]
    assert match_pattern("**.*a*a*a*a*a*a*a*a*a*a*a*b", ["a" * 3_000]) == []
