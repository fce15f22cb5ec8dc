"""Errors: whose fault each is, and that no text in them moves a cursor or begins a line."""

from __future__ import annotations

import pickle
import sys
import unicodedata

import pytest

from stackfeat.errors import (
    ConfigError,
    DataError,
    LayerNotFoundError,
    MissingExtraError,
    Problem,
    StoreError,
    continued,
    in_quotes,
    one_line,
    visible,
)

VISIBLE_MARKS = {0x110BD, 0x110CD, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, *range(0x600, 0x606)}
"""Signs that Unicode counts among the invisible, though they are written."""


LAYOUT = {*range(0x13430, 0x13440), *range(0x1BCA0, 0x1BCA4)}
"""Controls of hieroglyphs and shorthand, which no terminal obeys."""


def test_everything_that_is_not_seen_is_written_out() -> None:
    kept = {
        code
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and visible(chr(code)) == chr(code)
    }
    assert kept <= {0x09, 0x0A, 0x200C, 0x200D} | VISIBLE_MARKS | LAYOUT


@pytest.mark.parametrize(
    "text", ["straße", "特徴量", "مرحبا", "עברית", "नमस्ते", "👩‍💻 ❤️", "a\tb\nc", "x²±½", "ﬁ", " "]
)
def test_honest_writing_stays(text: str) -> None:
    assert visible(text) == text


def test_escaping_twice_changes_nothing() -> None:
    text = "".join(map(chr, range(0x3000))) + "\ud800\U000e0041"
    for escape in (visible, one_line, continued):
        assert visible(escape(text)) == escape(text)
        escape(text).encode()
    assert "\n" not in one_line(text) and "\r" not in visible(text)


def test_quoted_texts_are_read_back() -> None:
    from stackfeat.config.yaml_file import parse_yaml

    for text in ('a"b\\c', "a\x1b[31m\x9b\u202e\u2028\x85\x7f", "tab\tline\n", "\U000e0041 é 特"):
        quoted = in_quotes(text)
        assert quoted == visible(quoted) and "\n" not in quoted
        assert parse_yaml(f"x: {quoted}").values == {"x": text}


@pytest.mark.parametrize("kind", [ConfigError, DataError, StoreError, LayerNotFoundError, MissingExtraError])
def test_errors_say_names_in_a_visible_way(kind: type[Exception]) -> None:
    error = kind("got 'a\x1b[2J\rb'\nerror: all is well\u202e")
    assert str(error) == "got 'a\\x1b[2J\\rb'\n    error: all is well\\u202e"
    assert str(pickle.loads(pickle.dumps(error))).startswith("got 'a\\x1b[2J\\rb'\n    ")


def test_problems_keep_a_line_each() -> None:
    error = ConfigError([Problem("a\nb", "x\r"), Problem("c", "y", "f\x1b.yaml", 3)])
    assert str(error) == "a\n    b: x\\r\nf\\x1b.yaml:3: c: y"
