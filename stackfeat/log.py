"""The log of a run: a line for each (member, fold), what fits say, and every warning.

Lines logged inside a job, in whatever process, travel back with its outcome, so that the
log file is written by one process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stackfeat.errors import StoreError
from stackfeat.escaping import LineFormatter

PACKAGE = "stackfeat"


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Append the package's log to a file for as long as the block lasts."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _RunLog(path, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"the run folder {path.parent} must be a place that can be written; got {error.strerror or error}. "
            "Choose another outputs.dir"
        ) from error
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s"))
    package = logging.getLogger(PACKAGE)
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        with suppress(OSError):
            handler.close()


class _RunLog(logging.FileHandler):
    """A log file; what a full disk does not take is lost, and neither ends a run nor is printed."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


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
