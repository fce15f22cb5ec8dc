"""What `compare`, `runs` and `note` print: tables that fit a terminal, and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from stackfeat.errors import continued, one_line
from stackfeat.log import console

if TYPE_CHECKING:
    from stackfeat.output.run_notes import Note
    from stackfeat.pipeline.compare import Comparison

_WIDTH = 100


def comparison_text(found: Comparison, output: Path | None) -> str:
    """Return the runs, the pairs, what differs, how the numbers came about, and the verdict last."""
    from stackfeat.pipeline.compare import places_worth

    digits = max(places_worth(pair.gap.se) for pair in found.pairs)
    head = f"{found.metric}, out of fold, {found.n_rows:,} rows"
    runs = [
        (
            run.name,
            run.compared,
            f"{run.score:.{digits}f}",
            f"{run.se:.{digits}f}",
            str(run.n_members),
            f"{run.n_fits}",
            "" if run.seconds is None else f"{run.seconds:.1f}",
            *(["" if run.public is None else f"{run.public:g}"] if _has_public(found) else []),
        )
        for run in found.runs
    ]
    titles = ("run", "member", "score", "se", "members", "fits", "seconds")
    parts = [table_text(head, (*titles, *(["public"] if _has_public(found) else [])), runs, n_words=2)]
    if len(found.runs) > 2:
        parts.append(_pairs(found, digits))
    if found.differences:
        rows = [(one.path, *one.values) for one in found.differences]
        parts.append(table_text("what differs in the configs", ("option", *found.order), rows, n_words=99))
    parts += [continued(f"only in {run.name}: {', '.join(run.only)}") for run in found.runs if run.only]
    parts += [continued(f"note: {note}") for note in found.notes]
    if output is not None:
        parts.append(f"wrote {one_line(output)}")
    return "\n".join([*parts, continued(found.verdict)])


def _has_public(found: Comparison) -> bool:
    return any(run.public is not None for run in found.runs)


def _pairs(found: Comparison, digits: int) -> str:
    rows = [
        (
            pair.better,
            pair.worse,
            f"{pair.gap.value:.{digits}f}",
            f"{pair.gap.se:.{digits}f}",
            f"{pair.gap.low:.{digits}f} to {pair.gap.high:.{digits}f}",
            f"{pair.p:.2g}",
        )
        for pair in found.pairs
    ]
    return table_text("pairs", ("better", "worse", "gain", "±", "95 %", "p (Holm)"), rows, n_words=2)


def notes_text(folder: Path, notes: Sequence[Note]) -> str:
    """Return a line for each note, oldest first."""
    lines = []
    for note in notes:
        scores = [f"public {note.lb:g}"] if note.lb is not None else []
        scores += [f"private {note.private:g}"] if note.private is not None else []
        lines.append(continued("  ".join([note.date[:16].replace("T", " "), *scores, note.text]).rstrip()))
    return "\n".join(lines) or f"no notes on {one_line(folder)}; add one with --lb, --private or --text"


def table_text(title: str, titles: Sequence[str], rows: Sequence[Sequence[str]], *, n_words: int) -> str:
    """Return a table as lines; the first `n_words` columns are words, the others numbers."""
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(titles):
        is_word = place < n_words
        table.add_column(
            one_line(name), justify="left" if is_word else "right", overflow="fold", no_wrap=not is_word
        )
    for row in rows:
        table.add_row(*map(one_line, row))
    text = StringIO()
    shown = console()
    printer = console(file=text, width=shown.width if shown.is_terminal else _WIDTH)
    printer.print(table, markup=False, highlight=False)
    lines = text.getvalue().rstrip().split("\n")
    return "\n".join([title, *(line.rstrip() for line in lines)])
