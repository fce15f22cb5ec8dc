"""Patterns match per segment; only * and ? are special."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackfeat.engine.graph import match_block, match_segment

BLOCKS = dict.fromkeys(
    [
        "base/mlp/proba",
        "base/mlp/penultimate@geometry",
        "base/gbm/proba",
        "meta/per:mlp.penultimate@geometry/proba",
        "meta/logit/proba",
    ]
)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("base/*/proba", ["base/mlp/proba", "base/gbm/proba"]),
        ("base/*/*@*", ["base/mlp/penultimate@geometry"]),
        ("meta/*", ["meta/per:mlp.penultimate@geometry/proba", "meta/logit/proba"]),
        ("base/mlp", ["base/mlp/proba"]),
        ("meta/per:*/*", ["meta/per:mlp.penultimate@geometry/proba"]),
        ("*/???/proba", ["base/mlp/proba", "base/gbm/proba"]),
        ("base/mlp/proba/more", []),
        ("base", []),
    ],
)
def test_patterns_select_blocks_segment_by_segment(pattern: str, found: list[str]) -> None:
    assert match_block(pattern, BLOCKS) == found


def test_brackets_are_literal() -> None:
    assert match_segment("lstm[0]@*", "lstm[0]@raw")
    assert not match_segment("lstm[0]", "lstm0")


@given(st.text(alphabet="ab.[](+|^$\\@#", max_size=8))
def test_text_without_wildcards_matches_itself_alone(text: str) -> None:
    assert match_segment(text, text)
    assert not match_segment(text, text + "x")
    assert match_segment("*", text)
