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
    from stackfeat.pipeline.ledger import Ledger, LedgerRow

_WIDTH = 100


def comparison_text(found: Comparison, output: Path | None) -> str:
    """Return the runs, the pairs, what differs, how the numbers came about, and the verdict last."""
    from stackfeat.output.digits import places_worth

    digits = max(places_worth(pair.gap.se) for pair in found.pairs)
    head = f"{found.metric}, out of fold, {found.n_rows:,} rows"
    noted = [
        name for name in ("public", "private") if any(getattr(run, name) is not None for run in found.runs)
    ]
    runs = [
        (
            run.name,
            run.compared,
            f"{run.score:.{digits}f}",
            f"{run.se:.{digits}f}",
            f"{run.n_members}",
            f"{run.n_cached}",
            f"{run.n_fits}",
            seconds_text(run.seconds),
            *(scored_text(getattr(run, name)) for name in noted),
        )
        for run in found.runs
    ]
    titles = ("run", "member", "score", "se", "members", "cached", "fits", "seconds", *noted)
    parts = [table_text(head, titles, runs, words=(0, 1))]
    if len(found.runs) > 2:
        parts.append(_pairs(found, digits))
    if found.differences:
        rows = [(one.path, *one.values) for one in found.differences]
        parts.append(
            table_text(
                "what differs in the configs", ("option", *found.order), rows, words=range(len(rows[0]))
            )
        )
    parts += [continued(f"only in {run.name}: {', '.join(run.only)}") for run in found.runs if run.only]
    parts += [continued(f"note: {note}") for note in found.notes]
    if output is not None:
        parts.append(f"wrote {one_line(output)}")
    return "\n".join([*parts, continued(found.verdict)])


def seconds_text(seconds: float | None) -> str:
    """Return a compute time as it stands in a table."""
    return "" if seconds is None else f"{seconds:.{1 if seconds < 10 else 0}f}"


def scored_text(score: float | None) -> str:
    """Return a leaderboard's score with the digits that it was noted with."""
    return "" if score is None else f"{score:.10g}"


def _pairs(found: Comparison, digits: int) -> str:
    rows = [
        (
            pair.better,
            pair.worse,
            f"{pair.gap.value:.{digits}f}",
            f"{pair.gap.se:.{digits}f}",
            f"{pair.gap.low:.{digits}f} to {pair.gap.high:.{digits}f}",
            f"{pair.p_corrected:.2g}",
        )
        for pair in found.pairs
    ]
    return table_text("pairs", ("better", "worse", "gain", "±", "95 %", "p (Holm)"), rows, words=(0, 1))


def ledger_text(found: Ledger, written: Sequence[Path]) -> str:
    """Return a table for each group of runs, what they tell together, and what is wrong with others."""
    rows = {row.path: row for row in found.rows}
    parts = []
    for group in found.groups:
        listed = [row for row in found.rows if row.path in group.paths]
        count = "1 run" if len(listed) == 1 else f"{len(listed)} runs"
        head = f"{group.metric}, target {group.target} of {group.data}: {count}"
        parts.append(_runs(one_line(head), listed))
        parts += [continued(text) for text in group.sentences]
    problems = [row for row in found.rows if row.summary.problem]
    parts += [continued(f"problem: {row.path}: {row.summary.problem}") for row in problems]
    parts += [f"wrote {one_line(path)}" for path in written]
    return "\n".join(parts) if rows else f"no run folders in {one_line(found.folder)}"


def _runs(head: str, listed: Sequence[LedgerRow]) -> str:
    from stackfeat.output.digits import places_worth

    has_public = any(row.summary.public is not None for row in listed)
    errors = [row.summary.se for row in listed if row.summary.se]
    digits = max(map(places_worth, errors), default=4)
    rows = []
    for row in listed:
        own = row.summary
        numbers = [f"{value:.{digits}f}" if value is not None else "" for value in (own.score, own.se)]
        public = [scored_text(own.public)] if has_public else []
        changed = row.changed and f"{row.changed} (from {row.nearest})"
        told = "; ".join(filter(None, (changed, own.text)))
        dated = f"{own.date:%Y-%m-%d %H:%M}"
        rows.append(
            (row.path, dated, *numbers, str(len(own.members)), seconds_text(own.seconds), *public, told)
        )
    titles = (
        "run",
        "date",
        "score",
        "se",
        "members",
        "seconds",
        *(["public"] if has_public else []),
        "what changed",
    )
    if _width() >= _WIDTH:
        return table_text(head, titles, rows, words=(0, len(titles) - 1))
    # Names of options would be broken where there is no room for them: they stand below.
    below = [continued(f"{row[0]}: {row[-1]}") for row in rows if row[-1]]
    return "\n".join([table_text(head, titles[:-1], [row[:-1] for row in rows], words=(0,)), *below])


def notes_text(folder: Path, notes: Sequence[Note]) -> str:
    """Return a line for each note, oldest first."""
    lines = []
    for note in notes:
        scores = [f"public {scored_text(note.lb)}"] if note.lb is not None else []
        scores += [f"private {scored_text(note.private)}"] if note.private is not None else []
        lines.append(continued("  ".join([note.date[:16].replace("T", " "), *scores, note.text]).rstrip()))
    return "\n".join(lines) or f"no notes on {one_line(folder)}; add one with --lb, --private or --text"


def _width() -> int:
    """Return the columns of the terminal, or those of a file."""
    shown = console()
    return shown.width if shown.is_terminal else _WIDTH


def table_text(
    title: str, titles: Sequence[str], rows: Sequence[Sequence[str]], *, words: Sequence[int]
) -> str:
    """Return a table as lines; `words` says which columns hold words, the others hold numbers."""
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(titles):
        is_word = place in words
        table.add_column(
            one_line(name), justify="left" if is_word else "right", overflow="fold", no_wrap=not is_word
        )
    for row in rows:
        table.add_row(*map(one_line, row))
    text = StringIO()
    printer = console(file=text, width=_width())
    printer.print(table, markup=False, highlight=False)
    lines = text.getvalue().rstrip().split("\n")
    return "\n".join([title, *(line.rstrip() for line in lines)])
