"""The bar of rows: on a terminal only, and only when asked for."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from stackfeat.layers.extraction.batch import progress_bar
from stackfeat.layers.extraction.extract import extract


class Terminal(io.StringIO):
    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


def screen(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool = True) -> Terminal:
    stream = Terminal(is_terminal=is_terminal)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def plain(stream: Terminal) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_a_bar_counts_rows_up_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = screen(monkeypatch)
    extract(nn.Linear(3, 2), torch.randn(100, 3), ":output", batch_size=16, progress=True)
    assert "100/100" in plain(stream)


@pytest.mark.parametrize(("progress", "is_terminal"), [(True, False), (False, True), (False, False)])
def test_nothing_is_written_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], progress: bool, is_terminal: bool
) -> None:
    stream = screen(monkeypatch, is_terminal=is_terminal)
    extract(nn.Linear(3, 2), torch.randn(100, 3), ":output", progress=progress)
    assert stream.getvalue() == ""
    assert capsys.readouterr().out == ""


def test_without_a_terminal_rich_is_not_even_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    screen(monkeypatch, is_terminal=False)
    monkeypatch.setitem(__import__("sys").modules, "rich.progress", None)
    with progress_bar(10, 0, shown=True) as advance:
        advance(10)


def test_rows_of_an_earlier_call_count(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = screen(monkeypatch)
    with progress_bar(500, 300, shown=True) as advance:
        advance(0)
    assert "300/500" in plain(stream)


def test_a_stream_of_unknown_length_is_counted_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[torch.Tensor]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(torch.randn(50, 3))

    stream = screen(monkeypatch)
    extract(nn.Linear(3, 2), Stream(), ":output", batch_size=16, out=tmp_path, progress=True)
    assert re.search(r"50/\?", plain(stream))


def test_the_bar_ends_also_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = screen(monkeypatch)
    with pytest.raises(KeyError), progress_bar(10, 0, shown=True) as advance:
        advance(3)
        raise KeyError
    assert stream.getvalue().endswith("\x1b[2K") or "\x1b[?25h" in stream.getvalue(), "the cursor is back"
