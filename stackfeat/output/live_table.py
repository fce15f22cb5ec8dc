"""What a person sees while a run works: a live table on a terminal or in a notebook with widgets, else lines.

In:  the events of a run.
Out: on a terminal, what is done, what runs and the time left, in as many lines as there is room for; in a log
     one line for each member, or each job.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from stackfeat.errors import continued, one_line
from stackfeat.log import console as visible_console
from stackfeat.log import redraws
from stackfeat.output.digits import significant
from stackfeat.output.events import Event, JobDone, JobEnded, JobFailed, MemberDone, Planned
from stackfeat.output.run_state import MemberState, RunState

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table

Shown = Callable[[Event], None]
"""What is given every event of a run."""

MARKS = {"waiting": "·", "stored": "=", "done": "✓", "running": "▶", "failed": "✗", "left out": "-"}
LEGEND = "✓ done  = stored before  ▶ runs  · waits  ✗ failed  - left out"
CELLS = 16
"""Most jobs of a member that are shown one by one."""
MOST_ROWS = 24
POOL = 10
"""More members than this that one entry of a config makes are one row."""
A_SECOND = 1
"""How often the table is drawn: that takes some 10 ms."""


class LiveTable:
    """Shows the events of a run; a context manager.

    Parameters
    ----------
    console : Console, optional
        Default: standard error.
    quiet : bool
        Whether nothing is shown.
    each_job : bool
        Whether a log has a line for each job, where it otherwise has one for each member.
    """

    def __init__(
        self, console: Console | None = None, *, quiet: bool = False, each_job: bool = False
    ) -> None:
        self.console = console or visible_console(stderr=True)
        self.quiet = quiet
        self.each_job = each_job
        self.state = RunState()
        self._turn = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if redraws(self.console) and not self.quiet:
            from rich.live import Live

            self._live = Live(
                get_renderable=self.table, console=self.console, transient=True, refresh_per_second=A_SECOND
            )
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        with self._turn:
            lines = [] if self._live is not None or self.quiet else list(self._lines(event))
            self.state.take(event)
        for line in lines:
            self.console.print(continued(line), markup=False, highlight=False, soft_wrap=True)

    def table(self) -> RenderableType:
        """Return what the terminal shows now."""
        with self._turn:
            return state_table(self.state, time.time(), self.console.width, self.console.height)

    def _lines(self, event: Event) -> Iterator[str]:
        """Yield what a log says of an event, before it is taken in."""
        member = self.state.members.get(getattr(event, "member", ""))
        match event:
            case Planned() if not self.state.members:
                n_stored = sum(planned.stored == planned.jobs for planned in event.members)
                if n_stored:
                    yield f"stored already: {n_stored} of {len(event.members)} members"
            case JobDone() if self.each_job:
                yield f"{event.job}: {event.seconds:.1f} s"
            case JobFailed() if self.each_job or (member and member.failed is None):
                yield f"{event.job}: failed: {event.error}"
            case JobEnded() if self.each_job or (member and member.ended is None):
                yield f"{event.job}: {event.error}"
            case MemberDone() if member is not None and not self.each_job:
                yield f"{member.name}: {_work(member)}, {event.seconds:.1f} s{_score(member, self.state.metric)}"


@contextmanager
def shown(progress: bool | Shown) -> Iterator[Shown]:
    """Give what shows the events of a block: a `LiveTable`, the caller's own callable, or nothing."""
    if callable(progress):
        yield progress
        return
    with LiveTable(quiet=not progress) as table:
        yield table


def state_table(state: RunState, now: float, width: int, height: int) -> Table:
    """Return a run's state as a table of at most `width` columns, and of as few rows as leave the terminal some."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1), expand=False)
    table.add_column(width=width, no_wrap=True, overflow="ellipsis")
    for line in _head(state, now):
        table.add_row(Text(line))
    room = max(min(height - 6, MOST_ROWS), 4)
    rows = Table.grid(padding=(0, 1), expand=False)
    rows.add_column(width=1)
    rows.add_column(no_wrap=True, overflow="ellipsis", max_width=max(width - 52, 16))
    rows.add_column(no_wrap=True, max_width=CELLS)
    rows.add_column(no_wrap=True, overflow="ellipsis", max_width=14)
    rows.add_column(no_wrap=True, justify="right", width=8)
    rows.add_column(no_wrap=True, justify="right", width=8)
    shown, folded = _rows(list(_grouped(state)), room)
    for row in shown:
        rows.add_row(*(Text(cell) for cell in row.cells(now)))
    table.add_row(rows)
    for line in [*folded, LEGEND]:
        table.add_row(Text(line))
    return table


class _Row:
    """A member, or all members that one entry of a config made."""

    def __init__(self, name: str, members: Sequence[MemberState]) -> None:
        self.name = name
        self.members = members

    @property
    def state(self) -> str:
        """The state that most deserves to be seen."""
        states = {member.state for member in self.members}
        return next(
            state
            for state in ("running", "failed", "left out", "waiting", "done", "stored")
            if state in states
        )

    def cells(self, now: float) -> tuple[str, ...]:
        scores = [member.score for member in self.members if member.score is not None]
        score = significant(scores[0], 4) if len(self.members) == 1 and scores else ""
        seconds = sum(member.seconds for member in self.members)
        seconds += sum(
            max(now - job.since, 0.0) for member in self.members for job in member.running.values()
        )
        return (
            MARKS[self.state],
            one_line(self.name),
            self._jobs(),
            self._doing(),
            clock(seconds) if seconds else "",
            score,
        )

    def _jobs(self) -> str:
        n_jobs = sum(member.plan.jobs for member in self.members)
        counts = {
            "=": sum(member.n_stored for member in self.members),
            "✓": sum(member.n_done for member in self.members),
            "▶": sum(len(member.running) for member in self.members),
            "✗": sum(member.failed is not None for member in self.members),
        }
        if n_jobs > CELLS:
            return f"{counts['='] + counts['✓']}/{n_jobs}"
        marks = "".join(mark * n for mark, n in counts.items())
        rest = "-" if self.state in ("failed", "left out") else "·"
        return marks + rest * (n_jobs - len(marks))

    def _doing(self) -> str:
        epochs = [job for member in self.members for job in member.running.values() if job.epochs]
        if not epochs:
            return ""
        job = min(epochs, key=lambda one: one.epoch / one.epochs)
        return f"epoch {job.epoch}/{job.epochs}"


def _grouped(state: RunState) -> Iterator[_Row]:
    """Yield a row for each member, and one for many members of one entry of a config: ``base/mates:*``."""
    groups: dict[str, list[MemberState]] = {}
    for member in state.members.values():
        head, colon, _ = member.name.partition(":")
        groups.setdefault(head + colon, []).append(member)
    for name, members in groups.items():
        if len(members) > POOL:
            yield _Row(f"{name}* ({len(members)})", members)
        else:
            yield from (_Row(member.name, [member]) for member in members)


def _rows(rows: Sequence[_Row], room: int) -> tuple[list[_Row], list[str]]:
    """Return the rows that are shown, and lines for those that there is no room for."""
    if len(rows) <= room:
        return list(rows), []
    by_state: dict[str, list[_Row]] = {}
    for row in rows:
        by_state.setdefault(row.state, []).append(row)
    seen = [row for state in ("running", "failed") for row in by_state.get(state, [])]
    lines = [
        f"{MARKS[state]} {len(found)} members {words}: {', '.join(one_line(row.name) for row in found)}"
        for state, words in (
            ("done", "done"),
            ("stored", "stored before"),
            ("waiting", "wait"),
            ("left out", "left out"),
        )
        if (found := by_state.get(state, []))
    ]
    n_more = max(len(seen) - max(room - len(lines) - 1, 1), 0)
    more = [f"▶ and {n_more} more"] if n_more else []
    return seen[: len(seen) - n_more], [*more, *lines]


def _head(state: RunState, now: float) -> list[str]:
    members = state.members.values()
    n_jobs = sum(member.plan.jobs for member in members)
    n_done = sum(member.n_stored + member.n_done for member in members)
    name = "" if state.run is None else f"{one_line(state.run.name)}  "
    limit = "" if state.run is None or state.run.limit is None else f" of {clock(state.run.limit)}"
    first = f"{name}{state.percent(now):.0f} %  {clock(state.elapsed(now))}{limit}"
    if state.end is not None:
        first += ", done"
    elif members and all(member.state not in ("running", "waiting") for member in members):
        first += ", scoring and writing"
    elif (left := state.left(now)) is not None:
        first += f", about {clock(left)} left"
    best = state.best()
    second = "" if best is None else f"best so far: {one_line(best.name)}{_score(best, state.metric)}"
    return [f"{first}  ({n_done} of {n_jobs} jobs)", second]


def _work(member: MemberState) -> str:
    n_jobs, n_folds = member.plan.jobs, member.plan.folds
    done = f"{n_folds} folds" if n_jobs == n_folds else f"{n_jobs} jobs"
    return f"{done} ({member.n_stored} stored before)" if member.n_stored else done


def _score(member: MemberState, metric: str) -> str:
    if member.score is None:
        return ""
    return f", {metric} {significant(member.score, 4)}{'' if member.is_exact else ' before thresholds'}"


def clock(seconds: float) -> str:
    """Return a duration as people say it, in at most 8 characters."""
    if seconds < 100:
        return f"{seconds:.{int(seconds < 10)}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m"
