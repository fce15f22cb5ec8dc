"""How far an extraction is, for a person at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stackfeat.escaping import console


@contextmanager
def row_bar(n_rows: int | None, n_done: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar of rows; nothing where standard error is no terminal."""
    if not shown or not sys.stderr.isatty():
        yield lambda n_new: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True, refresh_per_second=4) as bar:
        task = bar.add_task("rows", total=n_rows, completed=n_done)
        yield lambda n_new: bar.advance(task, n_new)
