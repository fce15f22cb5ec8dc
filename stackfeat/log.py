"""The log of a run, and the streams of a terminal: nothing that came from files or names reaches either unescaped.

Lines logged inside a job, in whatever process, travel back with its outcome, so that one process writes the log
file. Text is escaped once, at the border: `visible_streams` stands between the program and its two streams,
`console` between rich and the terminal (whose own colours must get through), `LineFormatter` before a log.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any

from stackfeat.errors import continued, visible

if TYPE_CHECKING:
    from rich.console import Console


class LineFormatter(logging.Formatter):
    """Formats records of a log: no name can begin a line of it."""

    def format(self, record: logging.LogRecord) -> str:
        return continued(super().format(record).rstrip("\n"))


class VisibleStream:
    """A text stream that escapes all that is written to it; rich, which escapes by itself, goes past it."""

    def __init__(self, stream: IO[str]) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"a stream of text takes str; got {type(text).__name__}")
        self.rich_proxied_file.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        # Not the bytes below: what is written there would not be seen here.
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.rich_proxied_file, name)


@contextmanager
def visible_streams() -> Iterator[None]:
    """Escape all that is printed while the block lasts, warnings and last words of a log included.

    After an error that nobody caught it stays: Python then prints that error.
    """
    # What was closed before the start (`>&-`, daemons) is None, and nothing can be said there.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    before = sys.stdout, sys.stderr, warnings.formatwarning, logging.lastResort
    last_words = logging.StreamHandler()
    last_words.setLevel(logging.WARNING)
    last_words.setFormatter(LineFormatter("%(message)s"))
    last_words.stream = sys.stderr = VisibleStream(before[1])  # type: ignore[assignment]
    sys.stdout = VisibleStream(before[0])
    warnings.formatwarning = _warning_text
    logging.lastResort = last_words
    is_uncaught = False
    try:
        yield
    except Exception:
        is_uncaught = True
        raise
    finally:
        if not is_uncaught:
            sys.stdout, sys.stderr, warnings.formatwarning, logging.lastResort = before


def _warning_text(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    # As a run lists its own; what another library warns of keeps its name.
    is_own = category.__module__.partition(".")[0] == PACKAGE
    return f"{'warning' if is_own else category.__name__}: {continued(message)}\n"


@contextmanager
def noted_warnings() -> Iterator[list[str]]:
    """Keep the texts of warnings that are shown while the block lasts; they are shown as before."""
    texts: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Warning | str, *others: Any, **named: Any) -> None:
            texts.append(str(message))
            show(message, *others, **named)

        warnings.showwarning = note
        yield texts


def console(**options: Any) -> Console:
    """Return a rich console whose texts are escaped; its own colours and moves of the cursor are not."""
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.segment import Segment

    class _Visible:
        def __init__(self, renderable: Any) -> None:
            self.renderable = renderable

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for segment in console.render(self.renderable, options):
                yield segment if segment.control else Segment(visible(segment.text), segment.style)

    class _Escaping:
        def process_renderables(self, renderables: list[Any]) -> list[Any]:
            return [_Visible(renderable) for renderable in renderables]

    made = Console(**options)
    made.push_render_hook(_Escaping())  # type: ignore[arg-type]
    return made


def redraws(console: Console) -> bool:
    """Return whether a table or bar can change in place: on a terminal, and in notebooks that have widgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


PACKAGE = "stackfeat"
VERSION = "0.1.0"


class _Collector(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def collected_lines() -> Iterator[list[str]]:
    """Collect what the package logs inside the block instead of passing it on."""
    package = logging.getLogger(PACKAGE)
    before = package.handlers, package.level, package.propagate
    lines: list[str] = []
    package.handlers, package.propagate = [_Collector(lines)], False
    package.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        package.handlers, package.propagate = before[0], before[2]
        package.setLevel(before[1])
