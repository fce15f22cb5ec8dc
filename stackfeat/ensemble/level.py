"""run_level: members side by side, each cross-fitted; the next level reads their blocks.

In:  a plan and the name of a level.
Out: what failed and what time did not allow. Results are in the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stackfeat.ensemble.budget import Deadlines, admit, first_folds
from stackfeat.ensemble.fit_info import FitInfo
from stackfeat.ensemble.options import VoteOptions
from stackfeat.ensemble.plan import Plan
from stackfeat.ensemble.units import Job
from stackfeat.executors import Executor
from stackfeat.features.crossfit import CrossFit, Progress, cross_fit, pending
from stackfeat.store import EntryStore


@dataclass
class Workshop:
    """Where and how jobs run."""

    store: EntryStore
    executor: Executor
    worker: Callable[[str], Sequence[str] | None]
    n_parallel: int
    progress: Progress | None = None
    deadlines: Deadlines = field(default_factory=Deadlines)


@dataclass
class LevelReport:
    """What became of a level.

    Attributes
    ----------
    computed : dict of str to float
        Job key to seconds.
    failed : dict of str to BaseException
        Member to its first error.
    left_out : list of str
        Members that time did not allow.
    """

    computed: dict[str, float] = field(default_factory=dict)
    failed: dict[str, BaseException] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(self, result: CrossFit) -> None:
        """Take in what one wave of jobs gave."""
        self.computed |= result.computed
        self.failed |= result.failed
        self.leave_out([job.member for job in result.left])

    def leave_out(self, members: Sequence[str]) -> None:
        """Note members as left out, each once."""
        self.left_out.extend(member for member in dict.fromkeys(members) if member not in self.left_out)

    @property
    def gone(self) -> set[str]:
        """Members without results."""
        return set(self.failed) | set(self.left_out)


def run_level(plan: Plan, level: str, place: Workshop) -> LevelReport:
    """Run a level's waves in order; a member that fails takes part in no later wave."""
    report = LevelReport()
    is_first = level == next(iter(plan.waves))
    for wave in plan.waves[level]:
        jobs = [job for job in wave if job.member not in report.gone]
        if is_first and place.deadlines.base is not None and jobs and jobs[0].what == "fit":
            _run_with_budget(jobs, place, report, place.deadlines.base)
        elif place.deadlines.later is not None:
            votes = [job for job in jobs if isinstance(plan.graph.node(job.member).options, VoteOptions)]
            fitted = [job for job in jobs if job not in votes]
            _run(fitted, place, report, place.deadlines.later)
            _run(votes, place, report, None)
        else:
            _run(jobs, place, report, None)
    return report


def _run(jobs: Sequence[Job], place: Workshop, report: LevelReport, deadline: float | None) -> None:
    if not jobs:
        return
    report.add(
        cross_fit(jobs, place.store, place.executor, place.worker, progress=place.progress, deadline=deadline)
    )


def _run_with_budget(jobs: Sequence[Job], place: Workshop, report: LevelReport, deadline: float) -> None:
    first = first_folds(jobs)
    _run(first, place, report, deadline)
    seconds = {
        job.member: FitInfo.of(place.store.read(job.key)).seconds for job in first if place.store.has(job.key)
    }
    todo = [job for job in jobs if job.member not in report.gone and pending([job], place.store)]
    admitted, left_out = admit(todo, seconds, place.n_parallel, deadline - time.monotonic())
    report.leave_out(left_out)
    _run(admitted, place, report, deadline)
