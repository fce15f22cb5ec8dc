"""The command `audit`: a progress bar while it reruns, then two tables and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from stackfeat.engine.jobs import Job
from stackfeat.errors import continued, one_line
from stackfeat.executors.watching import Epoch
from stackfeat.log import console as visible_console

if TYPE_CHECKING:
    from stackfeat.audit.above_chance import Interval, Verdict
    from stackfeat.audit.audit import Audit
    from stackfeat.audit.leakage_check import Violation
    from stackfeat.audit.permutation_test import PermutationTest

_PROOF = (
    "block",
    "rows",
    "no fit on own label, group, time",
    "indirectly (no fault: permuted labels judge it)",
)
MOST_FAULTS = 20
FILE_WIDTH = 160


class AuditProgress(Progress):
    """A bar over all jobs of all reruns; a context manager."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        console = console or visible_console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        is_shown = console.is_terminal and not quiet
        super().__init__(*columns, console=console, transient=True, disable=not is_shown)
        self.units = self.add_task("permuted labels", total=None, visible=False)

    def plan(self, jobs: Sequence[Job], pending: Sequence[Job]) -> None:
        """Take note of all jobs there are."""
        self.update(self.units, total=len(jobs), visible=True)

    def started(self, job: Job) -> None:
        """What runs is not shown."""

    def epoch(self, job: Job, epoch: Epoch) -> None:
        """Nor how far it is."""

    def done(self, job: Job, seconds: float, error: BaseException | None) -> None:
        """Move on by one unit."""
        self.advance(self.units)


def print_audit(found: Audit, console: Console | None = None) -> None:
    """Print what was proven, what the reruns showed, every fault, and the verdict."""
    console = console or _console()
    say = partial(console.print, markup=False, soft_wrap=True)
    console.print(_proof_table(found), markup=False)
    if found.null is not None:
        console.print(_null_table(found.null), markup=False)
        for name, reason in found.null.failed.items():
            say(continued(f"not judged: {name}: {reason}"), style="yellow")
    faults = found.provenance.faults
    for fault in faults[:MOST_FAULTS]:
        say(one_line(f"fault: {describe_fault(fault)}"), style="red")
    if len(faults) > MOST_FAULTS:
        say(f"and {len(faults) - MOST_FAULTS} faults more, in audit.json", style="red")
    say(one_line(verdict_line(found)), style="green" if found.passed else "red")


def _console() -> Console:
    """Return a console as wide as the terminal, or wide enough for whole lines in a file."""
    found = visible_console()
    return found if found.is_terminal else visible_console(width=FILE_WIDTH)


def _proof_table(found: Audit) -> Table:
    proof = found.provenance
    title = f"from the store: {proof.n_rows} rows, {proof.n_fits} fits, {proof.n_noted} with their own note of rows"
    table = _table(title, _PROOF, ("rows",))
    for block in proof.blocks:
        ways = "; ".join(block.indirect) or "nothing else"
        state = "not provable" if block.is_elsewhere and not block.faults else _state(block.faults)
        table.add_row(one_line(block.name), str(block.n_rows), state, one_line(ways))
    if proof.n_held is not None:
        table.add_row("held-out rows", str(proof.n_held), _state(proof.held_faults), "in no fit of any level")
    return table


def _state(faults: Sequence[Violation]) -> str:
    return f"{len(faults)} {'fault' if len(faults) == 1 else 'faults'}" if faults else "proven"


def _null_table(null: PermutationTest) -> Table:
    title = (
        f"on permuted labels ({null.n_reruns} reruns, {null.n_train} rows, {null.n_held_out} held out): score less "
        "chance ± 95 %, above 0 is better"
    )
    numbers = ("out of fold", "held out", "difference")
    table = _table(title, ("member", "measure", *numbers, "verdict"), numbers)
    for verdict in worst_of_each(null.verdicts):
        parts = [_interval(part) for part in (verdict.oof, verdict.held_out, verdict.gap)]
        table.add_row(one_line(verdict.member), verdict.measure, *parts, _word(verdict))
    return table


def _table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=None, title=title, title_justify="left")
    for place, name in enumerate(names):
        # The first column names what a line is about: folded where there is no room, never cut.
        table.add_column(
            name, justify="right" if name in numbers else "left", overflow="fold", no_wrap=place == 0
        )
    return table


def worst_of_each(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return each member's verdict by the measure that is furthest towards (or past) its limit."""
    worst: dict[str, Verdict] = {}
    for verdict in verdicts:
        worst[verdict.member] = max(worst.get(verdict.member, verdict), verdict, key=_excess)
    return list(worst.values())


def _excess(verdict: Verdict) -> float:
    return max(part.z / part.limit for part in (verdict.oof, verdict.held_out))


def _interval(part: Interval) -> str:
    return f"{part.mean:+.4f} ± {part.high - part.mean:.4f}"


def _word(verdict: Verdict) -> str:
    if verdict.verdict == "at chance":
        return verdict.verdict
    part = max((verdict.oof, verdict.held_out), key=lambda part: part.z / part.limit)
    return f"above chance ({part.z:.1f} se, limit {part.limit:.1f})"


def describe_fault(fault: Violation) -> str:
    """Return a fault as one line."""
    where = f"{fault.member} {fault.fold}, {fault.where}" if fault.member else fault.where
    if not fault.is_leak:
        return f"{where}: {fault.kind}: {fault.detail}"
    seen = {"own label": "their own labels", "group": "rows of their group"}.get(fault.kind, fault.kind)
    ids = ", ".join([*fault.ids, *(["..."] if fault.n_rows > len(fault.ids) else [])])
    whose = fault.detail or "that it emits out of fold"
    return f"{where}: {fault.n_rows} rows {whose} were fitted on {seen}: ids {ids}"


def verdict_line(found: Audit) -> str:
    """Return the verdict as one sentence."""
    proof, null = found.provenance, found.null
    if found.passed:
        elsewhere = [block.name for block in proof.blocks if block.is_elsewhere]
        checked = f"{len(proof.blocks) - len(elsewhere)} blocks are proven from what is stored"
        checked += f"; made elsewhere and not provable: {', '.join(elsewhere)}" if elsewhere else ""
        judged = "not rerun" if null is None else "no member is better than chance"
        return f"pass: {checked}; {judged} on permuted labels"
    parts = []
    leaks = sum(fault.is_leak for fault in proof.faults)
    if leaks:
        parts.append(f"{leaks} fits saw what the rows they emit must not come from")
    if len(proof.faults) > leaks:
        parts.append(f"{len(proof.faults) - leaks} entries or files cannot be proven")
    if null is not None and null.above:
        parts.append(f"better than chance on permuted labels: {', '.join(null.above)}")
    return f"fail: {'; '.join(parts)}"
