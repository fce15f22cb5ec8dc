"""Telling: what a run does, as events for whoever wants to know, and quick scores of members as they are done.

In:  plans, and what becomes of their jobs.
Out: events, given to a display and to ``events.jsonl``. Nothing that is told is used or stored elsewhere.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from stackfeat.config.planner import Planner
from stackfeat.data.samples import Samples, load_samples
from stackfeat.data.splits.folds import Folds, load_folds
from stackfeat.engine.jobs import Job
from stackfeat.engine.plan import Plan
from stackfeat.engine.scoring import quick_score, score_recipe
from stackfeat.errors import INTERRUPTED
from stackfeat.errors import JobEnded as TimeIsUp
from stackfeat.executors import Executor
from stackfeat.executors.signals import LAST_WORDS
from stackfeat.executors.watching import Epoch
from stackfeat.log import PACKAGE, VERSION
from stackfeat.output.events import (
    Event,
    EventsFile,
    JobDone,
    JobEnded,
    JobEpoch,
    JobFailed,
    JobStarted,
    LevelDone,
    MemberDone,
    MemberScored,
    Planned,
    PlannedMember,
    RunDone,
    RunStarted,
    Warned,
)

if TYPE_CHECKING:
    from stackfeat.output.run_result import RunResult

FREE_SECONDS, SHARE = 0.02, 0.005
"""CPU that quick scores may take: this, and a part of the time that the run has worked."""
MOST_ROWS = 2_000_000
"""Rows times repeats of a member that is still scored."""

logger = logging.getLogger(__name__)


class RunTeller:
    """Turns what happens in a run into events; a `Progress` of `cross_fit`.

    Parameters
    ----------
    run : str
        Id of the run.
    planner : Planner
    shown : sequence of callable
        Each is given every event.
    started : float
        `time.monotonic()` when the command began.
    """

    def __init__(
        self, run: str, planner: Planner, shown: Sequence[Callable[[Event], None]], started: float
    ) -> None:
        self._run = run
        self._planner = planner
        self._shown = shown
        self._started = started
        self._members: dict[str, PlannedMember] = {}
        self._left: Counter[str] = Counter()
        self._folds_left: Counter[str] = Counter()
        self._n_done: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._level, self._level_began = "", started
        self._scores = QuickScores(planner)

    def tell(self, event: Event) -> None:
        """Give an event to all who want to know."""
        for show in self._shown:
            show(event)

    @contextmanager
    def telling(self, executor: Executor) -> Iterator[Self]:
        """Tell, in the block, that a run works, what it warns of, and how it ended if not well."""
        self._begin(executor)
        handler = _Warnings(self.tell)
        package = logging.getLogger(PACKAGE)
        package.addHandler(handler)
        try:
            yield self
        except BaseException as error:
            code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
            said = "interrupted" if code == INTERRUPTED else type(error).__name__
            self.tell(RunDone(code, self._elapsed(), error=str(error) or said))
            raise
        finally:
            package.removeHandler(handler)

    @contextmanager
    def last_words(self, events: EventsFile) -> Iterator[None]:
        """Let the file tell, in the block, of a signal that ends the process at once."""

        def say(name: str) -> None:
            events.last(RunDone(INTERRUPTED, self._elapsed(), error=f"interrupted by {name}"))

        LAST_WORDS.append(say)
        try:
            yield
        finally:
            LAST_WORDS.remove(say)

    def _begin(self, executor: Executor) -> None:
        config, metric = self._planner.config, self._planner.metric()
        self.tell(
            RunStarted(
                run=self._run,
                name=config.name,
                version=VERSION,
                pid=os.getpid(),
                host=socket.gethostname(),
                jobs=executor.n_jobs,
                metric=metric.name,
                greater_is_better=metric.greater_is_better,
                limit=config.limits.seconds,
                seconds=self._elapsed(),
            )
        )

    def planned(self, plan: Plan, todo: Sequence[Job]) -> None:
        """Take note of a plan, and of its jobs that are not stored."""
        jobs, options = list(plan.jobs()), plan.graph.options
        self._left = Counter(job.member for job in todo)
        self._folds_left = Counter(job.member for job in todo if _is_of_fold(job))
        counts = Counter(job.member for job in jobs)
        folds = Counter(job.member for job in jobs if _is_of_fold(job))
        self._members = {
            node.full_name: PlannedMember(
                member=node.full_name,
                level=node.level,
                jobs=counts[node.full_name],
                stored=max(
                    counts[node.full_name] - self._left[node.full_name] - self._n_done[node.full_name], 0
                ),
                folds=folds[node.full_name],
                cost=options[node.full_name].cost,
            )
            for node in plan.graph.nodes
        }
        self.tell(Planned(tuple(self._members.values())))
        self._scores.plan = plan
        if todo:
            # A run that has nothing to compute is over before anybody looks.
            self._score([name for name in self._members if not self._folds_left[name]])

    def plan(self, jobs: Sequence[Job], pending: Sequence[Job]) -> None:
        """Take note of a wave of jobs."""
        level = self._members[jobs[0].member].level if jobs and jobs[0].member in self._members else ""
        if level and level != self._level:
            self._end_level()
            self._level, self._level_began = level, time.monotonic()

    def started(self, job: Job) -> None:
        """Say that a job runs."""
        self.tell(JobStarted(job.member, job.label))

    def epoch(self, job: Job, epoch: Epoch) -> None:
        """Say how far a training is."""
        self.tell(JobEpoch(job.member, job.label, epoch.number, epoch.total))

    def done(self, job: Job, seconds: float, error: BaseException | None) -> None:
        """Say what became of a job, and of its member where that was the last one."""
        name, seconds = job.member, round(seconds, 3)
        if error is not None:
            kind = JobEnded if isinstance(error, TimeIsUp) else JobFailed
            self.tell(kind(name, job.label, seconds, str(error)))
            return
        self.tell(JobDone(name, job.label, seconds))
        self._seconds[name] += seconds
        self._n_done[name] += 1
        self._left[name] -= 1
        self._folds_left[name] -= _is_of_fold(job)
        self._score([name] if _is_of_fold(job) and self._folds_left[name] == 0 else [])
        if self._left[name] == 0:
            self.tell(MemberDone(name, round(self._seconds[name], 3)))

    def finished(self, result: RunResult) -> None:
        """Say what the run gave."""
        files = {name: path.relative_to(result.folder).as_posix() for name, path in result.files.items()}
        score, se = (value if math.isfinite(value) else None for value in (result.score, result.se))
        self.tell(RunDone(result.exit_code, self._elapsed(), result.submitted, score, se, files))

    def levels_done(self) -> None:
        """Say that no job is left."""
        self._end_level()
        self._level = ""

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._started, 3)

    def _end_level(self) -> None:
        if self._level:
            self.tell(LevelDone(self._level, round(time.monotonic() - self._level_began, 3)))

    def _score(self, names: Sequence[str]) -> None:
        for event in self._scores.of(names, time.monotonic() - self._started):
            self.tell(event)


class QuickScores:
    """Scores members as they are done, as long as that costs next to nothing.

    Parameters
    ----------
    planner : Planner

    Attributes
    ----------
    plan : Plan or None
        Where rows of members stand, as things are.
    """

    def __init__(self, planner: Planner) -> None:
        self.plan: Plan | None = None
        self._planner = planner
        self._scored: set[str] = set()
        self._waiting: deque[str] = deque()
        self._spent = 0.0
        self._rows: tuple[Samples, Folds] | None = None

    def of(self, names: Sequence[str], elapsed: float) -> Iterator[MemberScored]:
        """Yield the scores of these members, and of others that waited, as far as there is time for them."""
        self._waiting.extend(name for name in names if name not in self._scored)
        while self._waiting and self._spent <= FREE_SECONDS + SHARE * elapsed:
            began = time.thread_time()
            name = self._waiting.popleft()
            self._scored.add(name)
            score = self._score(name)
            self._spent += time.thread_time() - began
            if score is not None:
                yield MemberScored(name, score, self._is_exact())

    def _score(self, name: str) -> float | None:
        config, plan, store = self._planner.config, self.plan, self._planner.store
        if plan is None or name not in plan.graph.options:
            return None
        node = plan.graph.node(name)
        if node.prediction is None or plan.sources.n_known_rows * plan.sources.n_repeats > MOST_ROWS:
            return None
        recipe = score_recipe(plan, node, config.metric, config.decision_rule, self._planner.averaging())
        try:
            if self._rows is None:
                self._rows = load_samples(store.read(recipe.samples)), load_folds(store.read(recipe.folds))
            return quick_score(store, recipe, *self._rows)
        except Exception as error:
            # Whatever is wrong, the job that scores it in earnest says so.
            logger.debug("%s is not scored yet: %s", name, error)
            return None

    def _is_exact(self) -> bool:
        """Whether no rule is fitted that turns predictions into labels."""
        metric, decision = self._planner.metric(), self._planner.config.decision
        return metric.needs != "label" or metric.decision == "plain" or decision == "argmax"


class _Warnings(logging.Handler):
    """Tells of warnings of the package."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:
            self._tell(Warned(record.getMessage()))


def _is_of_fold(job: Job) -> bool:
    """Whether a job fits the model of one fold, which predicts its rows."""
    return job.what == "fit" and isinstance(job.fold, int)
