"""What a person sees when a run ends, and when imported predictions were checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from stackfeat.errors import continued, one_line
from stackfeat.log import console as visible_console
from stackfeat.output.digits import places_worth

if TYPE_CHECKING:
    from stackfeat.output.gates import GateVerdict
    from stackfeat.output.run_result import RunResult
    from stackfeat.pipeline.import_checks import CheckedImport

_GATE_LINES = 10


def print_result(
    result: RunResult, console: Console, *, quiet: bool = False, said: Collection[str] = ()
) -> None:
    """Print the leaderboard, what was guessed of the data (unless `quiet`, or `said` before), and where files are."""
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
        places = places_worth(row["se"])
        shown = [row[name] for name in ("score", "se", *held)]
        values = ["" if value is None or math.isnan(value) else f"{value:.{places}f}" for value in shown]
        values.append(f"{row['seconds']:.1f}")
        table.add_row(one_line(row["level"]), one_line(row["member"]), *values, note)
    console.print(table, markup=False)
    calibrated = [f"calibration: {one.text}" for one in result.calibrations]
    measured = [] if result.interval is None else [result.interval.sentence]
    told = [result.verdict, result.why, *measured, *_gate_lines(result.gates), *calibrated]
    notes = [] if quiet else [f"data: {note}" for note in result.notes if note not in said]
    for text in [*told, *notes]:
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


def result_values(result: RunResult) -> dict[str, Any]:
    """Return all that `print_result` says, and what it leaves out, as JSON has it."""
    return {
        "run": result.folder,
        "submitted": result.submitted,
        "metric": result.leaderboard["metric"].iloc[0],
        "score": result.score,
        "se": result.se,
        "optimism": result.optimism,
        "holdout": result.holdout,
        "interval": None if result.interval is None else asdict(result.interval),
        "verdict": result.verdict,
        "why": result.why,
        "gates": list(map(asdict, result.gates)),
        "calibrations": list(map(asdict, result.calibrations)),
        "leaderboard": result.leaderboard.to_dict("records"),
        "notes": result.notes,
        "warnings": result.warnings,
        "failed": result.failed,
        "left_out": result.left_out,
        "computed": result.n_computed,
        "cached": result.n_cached,
        "files": result.files,
    }


def _gate_lines(verdicts: Sequence[GateVerdict]) -> list[str]:
    """Return what gates let in, the largest gain first, and what they refused, as far as there is room."""
    in_order = sorted(verdicts, key=lambda one: (-one.n_entered / one.n_fits, -(one.gain or 0.0)))
    lines = [f"gate: {one.text}" for one in in_order[:_GATE_LINES]]
    n_more = len(verdicts) - len(lines)
    return [*lines, f"gate: {n_more} more blocks judged; scores.json has them all"] if n_more else lines


def print_checks(found: Mapping[str, CheckedImport]) -> None:
    """Print a table of checks for each member, and what a run would make of it."""
    printer = visible_console(soft_wrap=False)
    for member, one in found.items():
        table = Table(
            "check", "", "found", title=one_line(member), title_justify="left", box=None, pad_edge=False
        )
        for check in one.checks:
            mark = check.state.upper() if check.state in ("warning", "failed") else check.state
            table.add_row(check.name, mark, one_line(check.text))
        printer.print(table, markup=False)
        printer.print(f"{one.verdict}\n", markup=False, highlight=False)
