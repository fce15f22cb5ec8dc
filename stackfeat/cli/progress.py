"""What a person sees while a run works and when it ends.

On a terminal: a table of members and folds that fills up, with the time left. Elsewhere:
one plain line for each finished job, so logs stay readable.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from stackfeat.engine.jobs import Job
from stackfeat.errors import DataError, JobEnded, continued, one_line
from stackfeat.log import console as visible_console

if TYPE_CHECKING:
    from stackfeat.engine.external.predictions import Check
    from stackfeat.output.completed_run import RunResult
    from stackfeat.output.gates import GateVerdict

_MARKS = {"waiting": "·", "cached": "=", "done": "✓", "failed": "✗", "ended": "-"}
_GATE_LINES = 10


class TerminalProgress:
    """Shows jobs as they finish; a context manager."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or visible_console(stderr=True)
        self.quiet = quiet
        self.states: dict[str, dict[str, str]] = {}
        self.started = time.monotonic()
        self.n_done = 0
        self.n_left = 0
        self.live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.quiet:
            self.live = Live(get_renderable=self.table, console=self.console, transient=True)
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def plan(self, jobs: Sequence[Job], pending: Sequence[Job]) -> None:
        """Take note of a wave of jobs before it starts."""
        waiting = {job.key for job in pending}
        for job in jobs:
            units = self.states.setdefault(job.member, {})
            units[job.label] = "waiting" if job.key in waiting else units.get(job.label, "cached")
        self.n_left = len(waiting)

    def done(self, job: Job, seconds: float, error: BaseException | None) -> None:
        """Take note of a finished job."""
        ended = isinstance(error, JobEnded)
        state = "done" if error is None else "ended" if ended else "failed"
        self.states.setdefault(job.member, {})[job.label] = state
        self.n_done += 1
        self.n_left -= 1
        if self.live is None and not self.quiet:
            outcome = f"{seconds:.1f} s" if error is None else str(error) if ended else f"failed: {error}"
            self.console.print(continued(f"{job.label}: {outcome}"), markup=False, highlight=False)

    def table(self) -> Table:
        """Return the table of members and their jobs."""
        table = Table("member", "jobs", box=None, title_justify="left", title=self._title())
        for member, units in self.states.items():
            table.add_row(one_line(member), " ".join(_MARKS[state] for state in units.values()))
        return table

    def _title(self) -> str:
        elapsed, left = time.monotonic() - self.started, ""
        if self.n_done and self.n_left:
            left = f", about {elapsed / self.n_done * self.n_left:.0f} s left in this step"
        return f"{elapsed:.0f} s{left}   (✓ computed  = cached  · waiting  - no time left)"


def print_result(result: RunResult, console: Console, *, quiet: bool = False) -> None:
    """Print the leaderboard, unless `quiet` what was guessed of the data, and where the files are."""
    table = Table(
        box=None,
        title=f"leaderboard ({result.leaderboard['metric'].iloc[0]}, out of fold)",
        title_justify="left",
    )
    held = ("holdout", "holdout_se") if "holdout" in result.leaderboard else ()
    numbers = ("score", "se", *held, "seconds")
    for name in ("level", "member", *numbers, ""):
        table.add_column(name, justify="right" if name in numbers else "left")
    for row in result.leaderboard.to_dict("records"):
        full_name = f"{row['level']}/{row['member']}"
        note = "submitted" if full_name == result.submitted else "cached" if row["cached"] else ""
        places = _places_worth(row["se"])
        shown = [row[name] for name in ("score", "se", *held)]
        values = ["" if value is None or math.isnan(value) else f"{value:.{places}f}" for value in shown]
        values.append(f"{row['seconds']:.1f}")
        table.add_row(one_line(row["level"]), one_line(row["member"]), *values, note)
    console.print(table, markup=False)
    said = [result.verdict, result.why, *_gate_lines(result.gates)]
    for text in said if quiet else [*said, *(f"data: {note}" for note in result.notes)]:
        console.print(continued(text), markup=False, highlight=False, soft_wrap=True)
    for text in result.warnings:
        console.print(continued(f"warning: {text}"), style="yellow", markup=False, soft_wrap=True)
    for name, reason in result.failed.items():
        console.print(continued(f"failed: {name}: {reason}"), style="red", markup=False, soft_wrap=True)
    for name in result.left_out:
        console.print(one_line(f"left out for lack of time: {name}"), style="yellow", markup=False)
    console.print(f"jobs computed: {result.n_computed}, cached: {result.n_cached}", markup=False)
    files = {} if result.submission is None else {"submission": result.submission}
    files |= {"leaderboard": result.folder / "leaderboard.csv", "report": result.report}
    files |= {"OOF": result.folder / "oof", "predictor": result.folder / "predictor"}
    for name, path in files.items():
        console.print(f"{name + ':':<13}{one_line(path)}", markup=False, highlight=False, soft_wrap=True)


def _gate_lines(verdicts: Sequence[GateVerdict]) -> list[str]:
    """Return what gates let in, the largest gain first, and what they refused, as far as there is room."""
    in_order = sorted(verdicts, key=lambda one: (-one.n_entered / one.n_fits, -(one.gain or 0.0)))
    lines = [f"gate: {one.text}" for one in in_order[:_GATE_LINES]]
    n_more = len(verdicts) - len(lines)
    return [*lines, f"gate: {n_more} more blocks judged; scores.json has them all"] if n_more else lines


def _places_worth(error: float) -> int:
    """Return how many decimals show three digits of a standard error."""
    return 4 if not error > 0 else min(max(2 - math.floor(math.log10(error)), 0), 8)


def print_checks(found: Mapping[str, Sequence[Check]]) -> int:
    """Print a table of checks for each member; return the exit code: that of wrong data where one failed."""
    printer = visible_console(soft_wrap=False)
    for member, checks in found.items():
        table = Table(
            "check", "", "found", title=one_line(member), title_justify="left", box=None, pad_edge=False
        )
        for check in checks:
            mark = check.state.upper() if check.state in ("warning", "failed") else check.state
            table.add_row(check.name, mark, one_line(check.text))
        printer.print(table, markup=False)
        states = [check.state for check in checks]
        n_failed, n_warned = states.count("failed"), states.count("warning")
        verdict = f"refused: {n_failed} failed" if n_failed else f"accepted, {n_warned} warnings"
        printer.print(f"{verdict}\n", markup=False, highlight=False)
    has_failed = any(check.state == "failed" for checks in found.values() for check in checks)
    return DataError.exit_code if has_failed else 0
