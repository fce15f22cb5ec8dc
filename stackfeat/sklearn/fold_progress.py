"""What `verbose` of the fold ensembles shows while they fit.

In:  their jobs, as they begin and end.
Out: on standard error a bar on a terminal and in a notebook, elsewhere a line for each estimator.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from stackfeat.errors import one_line
from stackfeat.executors.watching import Epoch
from stackfeat.log import console as visible_console
from stackfeat.log import redraws

if TYPE_CHECKING:
    from rich.console import Console

    from stackfeat.engine.jobs import Job


class FoldProgress:
    """A `Progress` of `cross_fit`; a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = console or visible_console(stderr=True)
        self._is_drawn = redraws(self.console)
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=self.console, transient=True, disable=not self._is_drawn)
        self._fits = self._bar.add_task("", total=None)
        self._left: Counter[str] = Counter()
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def plan(self, jobs: Sequence[Job], pending: Sequence[Job]) -> None:
        """Take note of all fits."""
        self._left = Counter(job.member for job in jobs)
        self._bar.update(self._fits, total=len(jobs))

    def started(self, job: Job) -> None:
        """Show what runs."""
        self._show(job.label)

    def epoch(self, job: Job, epoch: Epoch) -> None:
        """Show how far a net is."""
        self._show(f"{job.label}, epoch {epoch.number}/{epoch.total}")

    def done(self, job: Job, seconds: float, error: BaseException | None) -> None:
        """Move on by one fit."""
        name = job.member
        self._left[name] -= 1
        self._seconds[name].append(seconds)
        self._bar.advance(self._fits)
        if not self._is_drawn and not self._left[name]:
            text = one_line(f"{name}: {len(self._seconds[name])} fits, {sum(self._seconds[name]):.1f} s")
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show(self, text: str) -> None:
        from rich.markup import escape

        self._bar.update(self._fits, description=escape(one_line(text)))
