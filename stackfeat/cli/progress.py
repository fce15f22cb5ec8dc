"""What a person sees when a run ends, and when imported predictions were checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from stackfeat.errors import DataError, continued, one_line
from stackfeat.log import console as visible_console

if TYPE_CHECKING:
    from stackfeat.engine.external.predictions import Check
    from stackfeat.output.completed_run import RunResult
    from stackfeat.output.gates import GateVerdict

_GATE_LINES = 10


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
    calibrated = [f"calibration: {one.text}" for one in result.calibrations]
    said = [result.verdict, result.why, *_gate_lines(result.gates), *calibrated]
    for text in said if quiet else [*said, *(f"data: {note}" for note in result.notes)]:
        console.print(continued(text), markup=False, highlight=False, soft_wrap=True)
    for text in result.warnings:
        console.print(continued(f"warning: {text}"), style="yellow", markup=False, soft_wrap=True)
    for name, reason in result.failed.items():
        console.print(continued(f"failed: {name}: {reason}"), style="red", markup=False, soft_wrap=True)
    for name in result.left_out:
        console.print(one_line(f"left out for lack of time: {name}"), style="yellow", markup=False)
    console.print(f"jobs computed: {result.n_computed}, cached: {result.n_cached}", markup=False)
    for name, path in result.files.items():
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
