r"""Text that came from files or names, made safe for a terminal and for a log.

In:  texts with whatever was in a file, a name or an error of a library.
Out: the same, with every character that a terminal obeys, or that is not seen, written out: ``\x1b``.

A name in a file can hold the escape sequences that move the cursor, recolour, retitle or rewrite what a
terminal has shown, a carriage return that hides the line before it, marks that turn the direction of
writing, or half a surrogate pair, which no terminal can encode. So everything is escaped at the border,
once: `visible_streams` stands between the program and its two streams, `console` between rich and the
terminal (whose own colours must get through), `LineFormatter` before a log. Escaping twice changes nothing.

Line breaks are different: ours must stay, those of a name must not look like the start of a message. At
the border nobody can tell them apart, so they are dealt with where text enters: a name is put on `one_line`;
of an error or a warning, which may have several lines, all but the first are indented (`continued`), so
nothing but a message of ours begins at the margin.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

INDENT = "    "
_HIDDEN = re.compile(
    # Controls (C0 but tab and line feed, delete, C1), soft hyphen, Arabic letter mark, Mongolian separator,
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e"
    # spaces without width, marks of direction, separators of lines and paragraphs, invisible operators,
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    # half surrogate pairs, musical controls, tags and variation selectors. Joiners of scripts and emoji stay.
    "\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    r"""Write out what a terminal would obey or not show; line breaks and tabs stay.

    Examples
    --------
    >>> print(visible("a\x1b[2Jb\rc"))
    a\x1b[2Jb\rc
    >>> visible("naïve 特徴 👩‍💻") == "naïve 特徴 👩‍💻"
    True
    """
    return text if text.isascii() and text.isprintable() else _HIDDEN.sub(_written, text)


def one_line(text: object) -> str:
    r"""Return a name as it may stand in a line of ours: as `visible`, its line breaks and tabs written out too.

    Examples
    --------
    >>> print(one_line("price\n1 error"))
    price\n1 error
    """
    return visible(str(text)).replace("\n", "\\n").replace("\t", "\\t")


def continued(text: object) -> str:
    """Return a message that may have several lines, all but the first indented."""
    return visible(str(text)).replace("\n", f"\n{INDENT}")


def in_quotes(text: str) -> str:
    r"""Return a text in double quotes, as JSON and YAML read it back, with nothing in it that is not seen.

    Examples
    --------
    >>> print(in_quotes('a\x1b"b'))
    "a\u001b\"b"
    """
    return _HIDDEN.sub(_quoted, json.dumps(text, ensure_ascii=False))


def _quoted(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def _written(found: re.Match[str]) -> str:
    code = ord(found.group())
    short = {7: "\\a", 8: "\\b", 11: "\\v", 12: "\\f", 13: "\\r"}.get(code)
    return short or (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


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
    try:
        yield
    except Exception:
        raise
    except BaseException:
        _restore(*before)
        raise
    else:
        _restore(*before)


def _restore(out: Any, error: Any, format_warning: Any, last_resort: Any) -> None:
    sys.stdout, sys.stderr = out, error
    warnings.formatwarning, logging.lastResort = format_warning, last_resort


def _warning_text(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"{category.__name__}: {continued(message)}\n"


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
