"""Escaping: what a terminal obeys or does not show is written out, ours and honest writing stay."""

from __future__ import annotations

import io
import logging
import sys
import warnings

import pytest

from stackfeat.errors import DataWarning
from stackfeat.log import LineFormatter, console, visible_streams


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
        own = warnings.formatwarning("n\x07", DataWarning, "here.py", 1)
        logging.getLogger("alone").warning("l\x9b\nforged")
        with pytest.raises(TypeError):
            sys.stdout.write(b"x")  # type: ignore[arg-type]
    assert sys.stdout is out and sys.stderr is err
    assert out.getvalue() == "a\\x1bb\\udc80\n"
    assert own == "warning: n\\a\n", "as a run lists its own"
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
