"""Escaping: what a terminal obeys or does not show is written out, ours and honest writing stay."""

from __future__ import annotations

import io
import logging
import pickle
import sys
import unicodedata
import warnings

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
from stackfeat.log import LineFormatter, console, visible_streams

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


def test_nothing_in_a_name_begins_a_line_of_a_log() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s: done", ("a\n2026-01-01 INFO fake\x1b",), None)
    text = LineFormatter("%(levelname)s %(message)s").format(record)
    assert text == "INFO a\n    2026-01-01 INFO fake\\x1b: done"


def test_streams_escape_what_is_printed_warned_and_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(logging.getLogger("alone"), "propagate", True)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with visible_streams():
        print("a\x1bb\udc80")
        said = warnings.formatwarning("w\x07\nforged", UserWarning, "here.py", 1)
        logging.getLogger("alone").warning("l\x9b\nforged")
        with pytest.raises(TypeError):
            sys.stdout.write(b"x")  # type: ignore[arg-type]
    assert sys.stdout is out and sys.stderr is err
    assert out.getvalue() == "a\\x1bb\\udc80\n"
    assert said == "UserWarning: w\\a\n    forged\n" and "l\\x9b\n    forged" in err.getvalue()


def test_rich_keeps_its_colours_and_escapes_texts() -> None:
    from rich.table import Table

    file = io.StringIO()
    made = console(file=file, force_terminal=True, color_system="standard", width=60)
    table = Table("name")
    table.add_row("evil\x1b]0;title\x07")
    made.print(table, markup=False)
    made.print("red\x1b[2J\x9b", style="red", markup=False, highlight=False)
    text = file.getvalue()
    assert "\x1b[31mred\\x1b[2J\\x9b" in text
    assert "evil\\x1b]0;title" in text and "\x1b]" not in text and "\x07" not in text


def test_streams_that_were_closed_before_the_start_take_what_is_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with visible_streams():
        print("nobody hears it")
        sys.stdout.flush()
        sys.stderr.write("nor that")
