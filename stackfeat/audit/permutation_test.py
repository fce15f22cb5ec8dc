"""The permutation test: the stack of a run, on a budget of seconds, on labels that mean nothing.

In:  a config, the training rows of its run, how many reruns.
Out: for every member whether it is better than chance. What is: labels leaked. All of it happens in
     a temporary store; the run's own is not touched.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stackfeat.audit.above_chance import Skill, Verdict, judge, measure_skill
from stackfeat.config import LoadedConfig
from stackfeat.config.planner import Planner, open_context, open_executor
from stackfeat.config.run_config import MOST_JOBS, RunConfig
from stackfeat.data.options import FoldOptions
from stackfeat.data.samples import Samples, save_samples
from stackfeat.data.splits.folds import Folds, load_folds, make_folds, save_folds
from stackfeat.data.splits.holdout import inner_split
from stackfeat.data.splits.splitters import make_splitter
from stackfeat.engine.crossfit import Progress
from stackfeat.engine.jobs import Averaging, Job
from stackfeat.engine.plan import Plan
from stackfeat.engine.recipes import Recipe
from stackfeat.engine.rows import RowRecipes
from stackfeat.engine.schedule import RunContext, run_levels
from stackfeat.engine.scoring import oof_prediction, test_prediction, view_places, widening_of
from stackfeat.errors import DataError, UsageError
from stackfeat.executors import resolve_jobs
from stackfeat.executors.watching import Epoch
from stackfeat.output.provenance import Index
from stackfeat.registry.resolve import resolve
from stackfeat.seeds import check_seed, derive_seed
from stackfeat.store import Store
from stackfeat.store.disk import TemporaryFolder

HELD_OUT = 1 / 3
"""Share of the rows that take no part in a rerun, as test rows."""

MOST_FOLDS = 5
FEWEST_ROWS = 50


def reduced_config(config: RunConfig, jobs: int | None = None) -> RunConfig:
    """Return the config with small budgets; time folds keep their number, which levels may need.

    `jobs` are worker processes, as for `run_permutation_test`.
    """
    levels = {
        level: {name: options.reduced() for name, options in members.items()}
        for level, members in config.levels.items()
    }
    is_time = config.data.time is not None or config.folds.kind == "time"
    n_folds = config.folds.n if is_time else min(config.folds.n, MOST_FOLDS)
    folds = config.folds.model_copy(update={"n": n_folds, "repeats": 1, "repeats_as": "stacks"})
    options = config.executor
    n_jobs = resolve_jobs(options.jobs if jobs is None else jobs, options.threads_per_job)
    kind = "inline" if n_jobs == 1 else options.kind if jobs is None else "loky"
    executor = options.model_copy(update={"kind": kind, "jobs": n_jobs})
    return config.model_copy(update={"levels": levels, "folds": folds, "executor": executor})


def draw_rows(samples: Samples, kind: str, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows to train on and rows to hold out, drawn as the folds split: stratified, by group, the latest."""
    n_wanted = round(rows / (1 - HELD_OUT))
    chosen = np.arange(samples.n_rows)
    if n_wanted < samples.n_rows:
        _, chosen = inner_split(samples, chosen, kind, n_wanted / samples.n_rows, seed)
    return inner_split(samples, chosen, kind, HELD_OUT, seed)


def made_elsewhere(config: RunConfig) -> dict[str, str]:
    """Return members that no rerun can fit on permuted labels, and why."""
    return {
        f"{level}/{name}": "it is made from files, which do not know the permuted labels"
        for level, members in config.levels.items()
        for name, options in members.items()
        if options.is_foreign or options.checkpoints is not None
    }


@dataclass(frozen=True)
class PermutationTest:
    """What reruns on permuted labels showed.

    Attributes
    ----------
    n_reruns, n_train, n_held_out : int
    verdicts : list of Verdict
    failed : dict of str to str
        Members that could not be judged, and why.
    """

    n_reruns: int
    n_train: int
    n_held_out: int
    verdicts: list[Verdict] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def above(self) -> list[str]:
        """Members better than chance by some measure."""
        found = [verdict.member for verdict in self.verdicts if verdict.verdict == "above chance"]
        return list(dict.fromkeys(found))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "above_chance": self.above}


@dataclass(frozen=True)
class Rerun:
    """One permutation: what plans on its rows in the temporary store, and the labels they were given."""

    planner: Planner
    folds: Folds
    train: Samples
    held_out_y: np.ndarray
    seed: int


@dataclass(frozen=True, kw_only=True)
class PermutedRows(Recipe, stage="samples", version=2):
    """Rows with permuted labels; `origin` says which rows were drawn from what, `permuted` is the seed."""

    permuted: int
    origin: Mapping[str, Any]
    part: str


@dataclass(frozen=True, kw_only=True)
class PermutedFolds(Recipe, stage="folds", version=1):
    """Folds of such rows."""

    permuted: int
    origin: Mapping[str, Any]


@dataclass(frozen=True)
class Reruns:
    """How many reruns, on how many rows at most, in how many processes (None: as the config says), the seed."""

    permutations: int
    rows: int
    jobs: int | None
    seed: int

    def check(self) -> None:
        """Raise UsageError unless all are in range."""
        least = {"permutations": 1, "rows": FEWEST_ROWS, "jobs": 1}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise UsageError(
                    f"{name} must be at least {smallest}; got {name}={value}; give a larger number"
                )
        if self.jobs is not None and self.jobs > MOST_JOBS:
            raise UsageError(f"jobs must be at most {MOST_JOBS}; got jobs={self.jobs}; give a smaller number")
        check_seed(self.seed)


class _DoneOnly:
    """Passes on finished jobs; what there is to do was said once, for all waves."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress

    def plan(self, jobs: Sequence[Job], pending: Sequence[Job]) -> None:
        pass

    def started(self, job: Job) -> None:
        pass

    def epoch(self, job: Job, epoch: Epoch) -> None:
        pass

    def done(self, job: Job, seconds: float, error: BaseException | None) -> None:
        if self.progress is not None:
            self.progress.done(job, seconds, error)


def run_permutation_test(
    loaded: LoadedConfig,
    samples: Samples,
    folds: Folds,
    index: Index,
    options: Reruns,
    progress: Progress | None = None,
) -> PermutationTest:
    """Rerun a small form of a run's stack on permuted labels, all reruns side by side.

    Parameters
    ----------
    loaded : LoadedConfig
        Of the run; epochs, trees, seeds and repeats are cut down.
    samples : Samples
        All training rows of the run; some of them train, half as many are held out.
    folds : Folds
        Of the run: rows are drawn the way it splits them (by group, by time).
    index : Index
        Of the run: how it averages, and the key of its rows, which what is derived from them is named after.

    Raises
    ------
    DataError
        If there are too few rows to split.
    """
    small, rows = reduced_config(loaded.config, options.jobs), options.rows
    parts = draw_rows(samples, folds.kind, rows, options.seed)
    drawn = {"of": index.samples, "rows": rows, "drawn": folds.kind}
    origin = {**drawn, "folds": small.folds.model_dump(mode="json")}
    loaded = replace(loaded, config=small)
    with TemporaryFolder("stackfeat-audit-") as place:
        store = Store(Path(place) / "store")
        seeds = [derive_seed(options.seed, "permutation", n) for n in range(options.permutations)]
        reruns = [_prepare(loaded, store, samples, parts, one, origin) for one in seeds]
        with open_executor(small.executor, loaded.code) as executor:
            context = open_context(store, executor, loaded.code, _DoneOnly(progress))
            plans, failed = _run(reruns, context, progress)
        verdicts = _judge(store, reruns, plans, index.averaging)
    return PermutationTest(options.permutations, len(parts[0]), len(parts[1]), verdicts, failed)


def _prepare(
    loaded: LoadedConfig,
    store: Store,
    samples: Samples,
    parts: tuple[np.ndarray, np.ndarray],
    seed: int,
    origin: dict[str, Any],
) -> Rerun:
    """Permute the labels of all rows drawn, and put the rows and their folds into the store.

    Keys name contents (`origin` and `seed` say all of them): rows are remembered by key alone.
    """
    drawn = np.concatenate(parts)
    labels = samples.task.shuffled(samples.labels[drawn], np.random.default_rng(seed))
    train = replace(samples.take(parts[0]), y=labels[: len(parts[0])])
    held_out = replace(samples.take(parts[1]), y=None)
    made = _make_folds(loaded, train, len(train.ids) / samples.n_rows, seed)
    recipes = RowRecipes(
        samples=PermutedRows(permuted=seed, origin=origin, part="train"),
        test=PermutedRows(permuted=seed, origin=origin, part="test"),
        folds=PermutedFolds(permuted=seed, origin=origin),
        kind=made.kind,
        is_time=made.is_time,
    )
    for recipe, rows in ((recipes.samples, train), (recipes.test, held_out)):
        assert recipe is not None
        with recipe.write(store) as writer:
            save_samples(rows, writer)
            writer.json("n_rows", rows.n_rows)
    with recipes.folds.write(store) as writer:
        save_folds(made, writer)
        writer.json("shape", {"n_folds": made.n_folds, "n_repeats": made.n_repeats})
    folds = load_folds(store.read(recipes.folds.key))
    options = loaded.config.folds.model_copy(update={"n": folds.n_folds})
    config = loaded.config.model_copy(update={"seed": seed, "folds": options})
    planner = Planner(replace(loaded, config=config), store, recipes, loaded.code.is_trusted)
    return Rerun(planner, folds, train, labels[len(parts[0]) :], seed)


def _make_folds(loaded: LoadedConfig, train: Samples, share: float, seed: int) -> Folds:
    """Split as the run did; classes too rare for stratified folds at this size are left to chance."""
    options, splitter = loaded.config.folds.model_copy(update={"seed": seed % 2**31}), None
    sizes: dict[str, int | None] = {"gap": round(options.gap * share)}
    for name in ("test_size", "max_train_size"):
        value = getattr(options, name)
        sizes[name] = None if value is None else max(round(value * share), 1)
    options = options.model_copy(update=sizes)
    if ":" in options.kind:
        trust_code, folder = loaded.code.is_trusted, loaded.folder
        found = resolve(options.kind, {}, "splitter", packages=(), trust_code=trust_code, search_path=folder)
        splitter = make_splitter(found, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return make_folds(options, train, splitter)
        except DataError:
            plain = "group" if train.group is not None else "kfold"
            if train.time is not None or train.fold is not None or splitter is not None:
                raise
            return make_folds(FoldOptions(kind=plain, n=options.n, seed=options.seed), train)


def _run(
    reruns: Sequence[Rerun], context: RunContext, progress: Progress | None
) -> tuple[Sequence[Plan], dict[str, str]]:
    """Work off the waves of all reruns together; a member that fails in one is left out of all."""
    elsewhere = made_elsewhere(reruns[0].planner.config)

    def plans_without(gone: Collection[str]) -> list[Plan]:
        return [rerun.planner.plan(excluded={*elsewhere, *gone}) for rerun in reruns]

    plans: Sequence[Plan] = plans_without(())
    if progress is not None:
        everything = [job for plan in plans for job in plan.jobs()]
        progress.plan(everything, everything)
    plans, report = run_levels(plans, context, plans_without)
    return plans, elsewhere | {name: str(error) for name, error in report.failed.items()}


def _judge(
    store: Store, reruns: Sequence[Rerun], plans: Sequence[Plan], averaging: Averaging
) -> list[Verdict]:
    metric = reruns[0].planner.metric()
    found: dict[tuple[str, str], list[tuple[Skill, Skill]]] = {}
    for rerun, plan in zip(reruns, plans, strict=True):
        task = rerun.train.task
        for node in plan.graph.nodes:
            if node.prediction is None:
                continue
            places = [plan.oof_places(node.prediction, 0)]
            oof, covered = oof_prediction(store, places, rerun.folds, task, averaging.average)
            views = view_places(plan, node.prediction, averaging)
            widening = widening_of(store, plan, node, averaging)
            test = test_prediction(store, views, task, averaging.average, widening)
            inside = measure_skill(rerun.train.labels[covered], oof[covered], metric, task, rerun.seed)
            outside = measure_skill(rerun.held_out_y, test, metric, task, rerun.seed)
            for measure in [name for name in inside if name in outside]:
                pair = inside[measure], outside[measure]
                found.setdefault((node.full_name, measure), []).append(pair)
    return judge(found, {node.full_name for plan in plans for node in plan.graph.nodes if node.is_base})
