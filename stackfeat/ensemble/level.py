"""run_level: members side by side, each cross-fitted; the next level reads their blocks.

In:  a plan and the name of a level.
Out: what failed and what time did not allow. Results are in the store.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from stackfeat.ensemble.budget import GRACE_SECONDS, Deadlines, Progressed, Schedule, cost_rank
from stackfeat.ensemble.fit_info import FitInfo
from stackfeat.ensemble.options import VoteOptions
from stackfeat.ensemble.plan import Plan
from stackfeat.ensemble.units import Job
from stackfeat.executors import Executor
from stackfeat.features.crossfit import CrossFit, JobLike, Progress, cross_fit
from stackfeat.store import EntryStore


@dataclass
class Workshop:
    """Where and how jobs run; with a timeout of jobs, a member that met it gets no others."""

    store: EntryStore
    executor: Executor
    worker: Callable[[str], Sequence[str] | None]
    n_parallel: int
    progress: Progress | None = None
    deadlines: Deadlines = field(default_factory=Deadlines)
    has_timeout: bool = False


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
    notes : list of str
        What else the limit of time made of the run.
    """

    computed: dict[str, float] = field(default_factory=dict)
    failed: dict[str, BaseException] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, result: CrossFit) -> None:
        """Take in what one wave of jobs gave."""
        self.computed |= result.computed
        self.failed |= result.failed
        self.leave_out([job.member for job in result.left if job.member not in self.failed])

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
        if is_first and jobs and jobs[0].what == "fit":
            _run(jobs, plan, place, report, place.deadlines.base, urgent=place.deadlines.later)
            continue
        votes = [job for job in jobs if isinstance(plan.graph.node(job.member).options, VoteOptions)]
        _run([job for job in jobs if job not in votes], plan, place, report, place.deadlines.later)
        _run(votes, plan, place, report, at_least_grace(place.deadlines.final))
    return report


def at_least_grace(deadline: float | None) -> float | None:
    """Return a deadline for short jobs, which are tried even by a run that is late."""
    return None if deadline is None else max(deadline, time.monotonic() + GRACE_SECONDS)


def _run(
    jobs: Sequence[Job],
    plan: Plan,
    place: Workshop,
    report: LevelReport,
    deadline: float | None,
    *,
    urgent: float | None = None,
) -> None:
    if not jobs:
        return
    schedules: list[Schedule] = []
    is_ranked = deadline is not None and jobs[0].what == "fit"

    def scheduled(todo: Sequence[JobLike]) -> Schedule:
        schedule = Schedule(
            todo,
            place.n_parallel,
            math.inf if deadline is None else deadline,
            urgent=urgent,
            rank=lambda member: cost_rank(plan.graph.node(member).options) if is_ranked else 0,
            seconds=_seconds_of(jobs, todo, place.store),
            stored=None if urgent is None else _stored(jobs, todo),
        )
        schedules.append(schedule)
        return schedule

    order = scheduled if deadline is not None or place.has_timeout else None
    report.add(
        cross_fit(jobs, place.store, place.executor, place.worker, progress=place.progress, order=order)
    )
    report.notes += [text for schedule in schedules for text in schedule.notes]


def _seconds_of(jobs: Sequence[Job], todo: Sequence[JobLike], store: EntryStore) -> dict[str, float]:
    """Return what stored fits took, for the members that have others to do."""
    waiting = {job.member for job in todo}
    seconds: dict[str, list[float]] = {}
    for job in jobs:
        if job.what == "fit" and job.member in waiting and store.has(job.key):
            seconds.setdefault(job.member, []).append(FitInfo.of(store.read(job.key)).seconds)
    return {member: fmean(values) for member, values in seconds.items()}


def _stored(jobs: Sequence[Job], todo: Sequence[JobLike]) -> Progressed:
    return Progressed(
        len(todo) < len(jobs), len({job.member for job in todo}) < len({j.member for j in jobs})
    )
