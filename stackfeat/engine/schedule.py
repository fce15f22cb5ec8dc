"""run_levels: members side by side, each cross-fitted; the next level reads their blocks.

In:  plans, and where jobs run until when.
Out: what failed and what time did not allow. Results are in the store.

`Schedule` says what to compute first when time is limited, what to leave out, and what to end.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from statistics import fmean

from stackfeat.engine.crossfit import CrossFit, Progress, cross_fit
from stackfeat.engine.graph import Graph
from stackfeat.engine.jobs import Job
from stackfeat.engine.plan import Plan
from stackfeat.errors import DamagedEntryError
from stackfeat.executors import Executor
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.store import EntryStore

logger = logging.getLogger(__name__)

RESERVE_SHARE = 0.15

RESERVE_SECONDS = 30.0

GRACE_SECONDS = 5.0
"""What running jobs get when the time is over."""

OVERRUN_SHARE, OVERRUN_SECONDS = 0.05, 10.0
"""A run ends at most this long after its limit."""

FAR_LONGER = 5.0
"""Times the mean of its member's other folds after which a job is taken to hang."""

START_SECONDS = 10.0
"""What a job may take in any case as long as none is done, up to half of the time: a worker must start for it."""

CHEAP = 2


@dataclass(frozen=True)
class Deadlines:
    """When to stop starting jobs, in `time.monotonic()` seconds; None is never.

    Attributes
    ----------
    base : float or None
        For the first level: 15 % of the limit, at least 30 s, is kept for what comes after.
    later : float or None
        For fitted members above it.
    final : float or None
        For votes and scores, which are short: the limit, and a part of what a run may be late.
    """

    base: float | None = None
    later: float | None = None
    final: float | None = None

    @classmethod
    def starting_at(cls, start: float, limit: float | None) -> Deadlines:
        """Share out a limit in seconds."""
        if limit is None:
            return cls()
        reserve = limit - cls.seconds_of_base(limit)
        overrun = max(OVERRUN_SECONDS, OVERRUN_SHARE * limit)
        return cls(start + limit - reserve, start + limit - reserve / 3, start + limit + 0.2 * overrun)

    @staticmethod
    def seconds_of_base(limit: float) -> float:
        """Return how much of a limit the first level has."""
        return limit - max(RESERVE_SHARE * limit, min(RESERVE_SECONDS, 0.5 * limit))


@dataclass
class _Member:
    """What is known of a member's jobs: keys to be begun, keys to when they began, seconds of those done."""

    rank: int
    waiting: deque[str] = field(default_factory=deque)
    running: dict[str, float] = field(default_factory=dict)
    measured: list[float] = field(default_factory=list)
    is_admitted: bool = False
    is_out: bool = False

    @property
    def seconds(self) -> float:
        return fmean(self.measured)

    def rest(self, now: float) -> float:
        """Seconds that its jobs would still take, one after the other."""
        begun = sum(max(0.0, self.seconds - (now - start)) for start in self.running.values())
        return self.seconds * len(self.waiting) + begun


@dataclass
class Progressed:
    """What the store held before: whether any job of the wave, whether all jobs of a member."""

    any_job: bool = True
    any_member: bool = True


class Schedule:
    """An order of jobs for a limited time.

    Parameters
    ----------
    jobs : sequence
        Not yet done, in the order of the config.
    n_parallel : int
        Jobs that run side by side.
    deadline : float
        `time.monotonic()` seconds after which no job begins; running ones get `GRACE_SECONDS` more.
    urgent : float, optional
        The deadline for as long as no member is whole: without one there is nothing to keep time for.
    rank : callable
        Member to how costly it is likely to be: `MemberOptions.cost`.
    seconds : mapping, optional
        Member to what a fold took in an earlier run.
    stored : Progressed, optional
        Where nothing at all is stored, the first job to end is waited for, however long it takes.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        n_parallel: int,
        deadline: float,
        *,
        urgent: float | None = None,
        rank: Callable[[str], int] = lambda member: 0,
        seconds: Mapping[str, float] | None = None,
        stored: Progressed | None = None,
    ) -> None:
        members: dict[str, _Member] = {}
        self._of: dict[str, _Member] = {}
        for job in jobs:
            member = self._of[job.key] = members.setdefault(job.member, _Member(rank(job.member)))
            member.waiting.append(job.key)
        for name, value in (seconds or {}).items():
            members[name].measured.append(value)
        self._members = sorted(members.values(), key=lambda member: member.rank)
        self._n_parallel = n_parallel
        self._whole_deadline, self._urgent = deadline, deadline if urgent is None else urgent
        self._stored = stored or Progressed()
        self._n_begun = 0
        self._awaited: str | None = None
        self._given_up: _Member | None = None
        self.notes: list[str] = []

    @property
    def deadline(self) -> float:
        """When jobs stop beginning, as things stand."""
        return self._whole_deadline if self._stored.any_member else self._urgent

    def take(self) -> str | None:
        """Return the key to begin now, or None."""
        now = time.monotonic()
        is_late = now >= self.deadline
        member = self._last_resort() if is_late else self._next(now)
        if member is None:
            return None
        key = member.waiting.popleft()
        if is_late:
            self._note_overrun()
            self._awaited = key
        member.running[key] = now
        self._n_begun += 1
        return key

    def put_back(self, key: str) -> None:
        """Take back a key whose worker died."""
        member = self._of[key]
        member.running.pop(key, None)
        member.waiting.appendleft(key)

    def ended(self, key: str, seconds: float, *, well: bool) -> None:
        """Note what became of a job; a member with a job that did not end well needs no others."""
        member = self._of[key]
        member.running.pop(key, None)
        if not well:
            member.is_out = True
            member.waiting.clear()
            return
        member.measured.append(seconds)
        whole = not member.is_out and not member.waiting and not member.running
        self._stored = Progressed(True, self._stored.any_member or whole)

    def overdue(self) -> Sequence[str]:
        """Return the running keys whose jobs must be ended now."""
        now = time.monotonic()
        if now < self.deadline:
            return self._in_the_way(now)
        if not self._stored.any_job:
            self._note_overrun()
            return ()
        late = [key for _, key, began in self._running() if now >= max(self.deadline, began) + GRACE_SECONDS]
        return [key for key in late if key != self._awaited]

    def _running(self) -> Iterator[tuple[_Member, str, float]]:
        for member in self._members:
            for key, began in member.running.items():
                yield member, key, began

    def _next(self, now: float, *, besides: _Member | None = None) -> _Member | None:
        for member in self._members:
            if member is not besides and member.waiting and self._may_begin(member, now):
                return member
        return self._for_the_next_run()

    def _may_begin(self, member: _Member, now: float) -> bool:
        if member.is_out or member.is_admitted:
            return member.is_admitted and not member.is_out
        if member.measured:
            member.is_admitted = self._fits(member, now)
            member.is_out = not member.is_admitted
            return member.is_admitted
        return member.rank <= CHEAP or not member.running

    def _fits(self, member: _Member, now: float) -> bool:
        """Whether a member's other jobs are expected to end in time, beside those of members let in before."""
        admitted = [other for other in self._members if other.is_admitted and not other.is_out]
        work = sum(other.rest(now) for other in [*admitted, member]) / self._n_parallel
        rounds = math.ceil(len(member.waiting) / self._n_parallel)
        return now + max(work, rounds * member.seconds) <= self.deadline

    def _for_the_next_run(self) -> _Member | None:
        """Return the cheapest member that does not fit, in a run that would otherwise have nothing to show."""
        refused = [member for member in self._members if member.is_out and member.waiting]
        is_idle = not self._n_begun or not self._stored.any_member
        if not is_idle or not refused or any(True for _ in self._running()):
            return None
        member = min(refused, key=lambda one: one.seconds * len(one.waiting))
        member.is_admitted, member.is_out = True, False
        return member

    def _last_resort(self) -> _Member | None:
        """Return a member to begin although time is over: without it there would be no progress at all."""
        is_needed = not self._stored.any_job or (not self._stored.any_member and not self._n_begun)
        if not is_needed or any(True for _ in self._running()):
            return None
        return next((member for member in self._members if member.waiting and not member.is_out), None)

    def _in_the_way(self, now: float) -> Sequence[str]:
        """Return a job that hangs, or whose member cannot be done in time, where others wait for its context.

        As long as no job is done, a machine that is slow to start looks the same: jobs then get `START_SECONDS`, and
        one member alone is given up. Another would have to start anew in the little that is left.
        """
        running = list(self._running())
        if len(running) < self._n_parallel:
            return ()
        knows_pace = any(member.measured for member in self._members)
        for member, key, began in running:
            window = self.deadline - began
            allowed = window / (1 + max(1.0, len(member.waiting) / self._n_parallel))
            if member.measured:
                allowed = max(allowed, FAR_LONGER * member.seconds)
            if not knows_pace:
                is_first = self._given_up in (None, member)
                allowed = max(allowed, min(START_SECONDS, window / 2)) if is_first else math.inf
            if now - began > allowed and self._next(now, besides=member) is not None:
                self._given_up = self._given_up or member
                return (key,)
        return ()

    def _note_overrun(self) -> None:
        text = "no member was finished when limits.time was over: the first job runs to its end all the same"
        if text not in self.notes:
            self.notes.append(text)
            logger.warning(text)


@dataclass
class RunContext:
    """Where and how jobs run.

    Attributes
    ----------
    computed : dict of str to float
        Job key to seconds of what was computed, in tries that a damaged entry ended, too.
    """

    store: EntryStore
    executor: Executor
    worker: Callable[[str], Sequence[str] | None]
    progress: Progress | None = None
    deadlines: Deadlines = field(default_factory=Deadlines)
    computed: dict[str, float] = field(default_factory=dict)

    def cross_fit(self, jobs: Sequence[Job], order: Callable[[Sequence[Job]], Schedule] | None) -> CrossFit:
        """Run the jobs whose results are not stored yet."""
        return cross_fit(jobs, self.store, self.executor, self.worker, progress=self.progress, order=order)


@dataclass
class LevelReport:
    """What became of levels.

    Attributes
    ----------
    failed : dict of str to BaseException
        Member to its first error.
    left_out : list of str
        Members that time did not allow.
    notes : list of str
        What else the limit of time made of the run.
    """

    failed: dict[str, BaseException] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, result: CrossFit) -> None:
        """Take in what one wave of jobs gave."""
        self.failed |= result.failed
        self.leave_out([job.member for job in result.left if job.member not in self.failed])

    def leave_out(self, members: Sequence[str]) -> None:
        """Note members as left out, each once."""
        self.left_out.extend(member for member in dict.fromkeys(members) if member not in self.left_out)

    @property
    def gone(self) -> set[str]:
        """Members without results."""
        return set(self.failed) | set(self.left_out)


def run_levels(
    plans: Sequence[Plan],
    context: RunContext,
    replan: Callable[[set[str]], Sequence[Plan]],
) -> tuple[Sequence[Plan], LevelReport]:
    """Run level after level of plans that have one graph, side by side.

    Members that fail, or do not fit the time, leave all plans, and so does what needs them.

    Parameters
    ----------
    replan : callable
        From the full names of members without results to the plans without them.

    Returns
    -------
    plans : sequence of Plan
        As they were carried out. Where no member with predictions is left, levels that follow are not begun.
    report : LevelReport

    Raises
    ------
    DamagedEntryError
        If an entry was damaged; it has been put aside, and the same call makes it again.
    """
    report = LevelReport()
    for level in list(plans[0].waves):
        n_gone = len(report.gone)
        _run_level(plans, level, context, report)
        raise_damaged(report.failed)
        if len(report.gone) > n_gone:
            plans = replan(report.gone)
        if not any(node.prediction for node in plans[0].graph.nodes):
            break
    return plans, report


def _run_level(plans: Sequence[Plan], level: str, context: RunContext, report: LevelReport) -> None:
    """Run a level's waves in order; a member that fails takes part in no later wave."""
    graph = plans[0].graph
    is_first = level == next(iter(plans[0].waves), None)
    for waves in zip_longest(*(plan.waves.get(level, []) for plan in plans), fillvalue=[]):
        jobs = [job for wave in waves for job in wave if job.member not in report.gone]
        if is_first and jobs and jobs[0].what == "fit":
            _run(jobs, graph, context, report, context.deadlines.base, urgent=context.deadlines.later)
            continue
        votes = [job for job in jobs if graph.options[job.member].is_short]
        _run([job for job in jobs if job not in votes], graph, context, report, context.deadlines.later)
        _run(votes, graph, context, report, at_least_grace(context.deadlines.final))


def raise_damaged(failed: Mapping[str, BaseException]) -> None:
    """Raise the first error that says of an entry that it was damaged."""
    for error in failed.values():
        if isinstance(error, DamagedEntryError):
            raise error


def run_scores(jobs: Sequence[Job], context: RunContext) -> CrossFit:
    """Run jobs that score or diagnose members, which are short; DamagedEntryError as `run_levels`."""
    deadline = at_least_grace(context.deadlines.final)

    def scheduled(todo: Sequence[Job]) -> Schedule:
        # Each for itself: a diagnosis that fails takes no score with it.
        alone = [replace(job, member=job.key) for job in todo]
        return Schedule(alone, context.executor.n_jobs, math.inf if deadline is None else deadline)

    order = None if deadline is None else scheduled
    outcome = replace(context, progress=None).cross_fit(jobs, order)
    raise_damaged(outcome.failed)
    return outcome


def at_least_grace(deadline: float | None) -> float | None:
    """Return a deadline for short jobs, which are tried even by a run that is late."""
    return None if deadline is None else max(deadline, time.monotonic() + GRACE_SECONDS)


def _run(
    jobs: Sequence[Job],
    graph: Graph,
    context: RunContext,
    report: LevelReport,
    deadline: float | None,
    *,
    urgent: float | None = None,
) -> None:
    if not jobs:
        return
    schedules: list[Schedule] = []
    is_ranked = deadline is not None and jobs[0].what == "fit"

    def scheduled(todo: Sequence[Job]) -> Schedule:
        whole = {job.member for job in jobs} - {job.member for job in todo}
        schedule = Schedule(
            todo,
            context.executor.n_jobs,
            math.inf if deadline is None else deadline,
            urgent=urgent,
            rank=lambda member: graph.options[member].cost if is_ranked else 0,
            seconds=_seconds_of(jobs, todo, context.store),
            stored=None if urgent is None else Progressed(len(todo) < len(jobs), bool(whole)),
        )
        schedules.append(schedule)
        return schedule

    # With a timeout too: a member that met it gets no other jobs.
    order = scheduled if deadline is not None or context.executor.timeout is not None else None
    result = context.cross_fit(jobs, order)
    context.computed |= result.computed
    report.add(result)
    report.notes += [text for schedule in schedules for text in schedule.notes]


def _seconds_of(jobs: Sequence[Job], todo: Sequence[Job], store: EntryStore) -> dict[str, float]:
    """Return what stored fits took, for the members that have others to do."""
    waiting = {job.member for job in todo}
    seconds: dict[str, list[float]] = {}
    for job in jobs:
        if job.what == "fit" and job.member in waiting and store.has(job.key):
            seconds.setdefault(job.member, []).append(FitInfo.of(store.read(job.key)).seconds)
    return {member: fmean(values) for member, values in seconds.items()}
