"""From a config to a plan with all keys, and to where its jobs run; nothing is computed here.

In:  a loaded config and its store.
Out: a Plan; `check` prints it, `run` carries it out once the data files have been read.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stackfeat.config.load import LoadedConfig, run_settings
from stackfeat.config.run_config import ExecutorOptions, RunConfig
from stackfeat.data.splits.splitters import make_splitter
from stackfeat.engine.blocks import folds_of, samples_of
from stackfeat.engine.crossfit import Progress
from stackfeat.engine.external.checkpoints import (
    CheckpointRows,
    MemberFiles,
    ensure_checkpoints,
)
from stackfeat.engine.external.pool_verdicts import Pool, PoolVerdicts
from stackfeat.engine.graph import Graph, build_graph
from stackfeat.engine.jobs import Averaging, Sources
from stackfeat.engine.plan import Plan, make_plan
from stackfeat.engine.recipes import ExtraReference, PoolRecipe
from stackfeat.engine.rows import RowRecipes, ensure_rows, n_folds
from stackfeat.executors import Executor, make_executor
from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.metric import Metric
from stackfeat.metrics.registry import get_metric
from stackfeat.registry.resolve import code_hash, resolve
from stackfeat.registry.user_code import Code
from stackfeat.seeds import derive_seed
from stackfeat.store import EntryStore, Store

if TYPE_CHECKING:
    from stackfeat.engine.external.predictions import RunRows
    from stackfeat.engine.schedule import RunContext


@dataclass(frozen=True)
class Planner:
    """Makes plans for one config; a plan without some members is made when they fail.

    Attributes
    ----------
    recipes : RowRecipes
        Of the rows and folds.
    trust_code : bool
        Whether the user's own splitter and metric may be imported.
    hashes : Path or None
        A file that remembers the hashes of data files.
    """

    loaded: LoadedConfig
    store: EntryStore
    recipes: RowRecipes
    trust_code: bool = False
    hashes: Path | None = None

    @property
    def config(self) -> RunConfig:
        return self.loaded.config

    def graph(self, excluded: Collection[str] = ()) -> Graph:
        """Return the graph of members, less the excluded ones, what reads nothing else, and what pools leave out."""
        judged = self.pool_verdicts()
        graph = self._graph({*excluded, *(member for _, found in judged for member in found.left_out)})
        for pool, found in judged:
            for member, twins in found.twins.items():
                if member in graph.options:
                    options = graph.options[member]
                    graph.options[member] = options.with_twins([pool.members[twin] for twin in twins])
        return graph

    def _graph(self, excluded: Container[str] = ()) -> Graph:
        inputs = tuple(self.config.data.inputs or ("table",))
        return build_graph(self.config.levels, self.config.task, inputs, excluded=excluded)

    def pool_verdicts(self) -> list[tuple[Pool, PoolVerdicts]]:
        """Return the pools whose files have been judged, and what was found; it is stored."""
        found = [(pool, pool.stored(self.pool_recipe(pool), self.store)) for pool in pools_of(self.config)]
        return [(pool, verdicts) for pool, verdicts in found if verdicts is not None]

    def pool_recipe(self, pool: Pool) -> PoolRecipe:
        """Return the recipe of the verdicts of a pool."""
        recipes, metric = self.recipes, self.config.metric
        return pool.recipe(
            self.files(),
            test=None if recipes.test is None else recipes.test.key,
            holdout=None if recipes.holdout is None else recipes.holdout.key,
            metric=metric,
            metric_code=None if metric in METRICS else code_hash(metric, self.loaded.folder),
            seed=derive_seed(self.config.seed, "import"),
        )

    def plan(self, excluded: Collection[str] = ()) -> Plan:
        """Return a plan with every key."""
        return make_plan(self.graph(excluded), self._sources())

    def _sources(self) -> Sources:
        config = self.config
        blocks = config.folds.repeats_as == "blocks"
        return Sources(
            samples=self.recipes.samples.key,
            test=None if self.recipes.test is None else self.recipes.test.key,
            folds=self.recipes.folds.key,
            n_folds=n_folds(self.recipes, config.folds, self.store),
            n_repeats=1 if blocks else config.folds.repeats,
            is_time=self.recipes.is_time,
            seed=config.seed,
            settings=run_settings(self.loaded),
            source_hash=self.loaded.source_hash,
            n_rows=self._n_rows(),
            averaging=config.stack.averaging,
            holdout=None if self.recipes.holdout is None else self.recipes.holdout.key,
            extra=self._extra(),
            files=self.files().sources,
        )

    def _extra(self) -> ExtraReference | None:
        """Return the rows that only train, and their weight."""
        given, recipe = self.config.data.extra, self.recipes.extra
        if given is None or recipe is None:
            return None
        return ExtraReference(recipe.key, None if given.factor == "auto" else given.factor)

    def files(self) -> MemberFiles:
        """Return where files of predictions and checkpoints are, and how they are named in keys."""
        data = self.config.data
        return MemberFiles(
            folder=self.loaded.folder,
            memory=self.hashes,
            samples=self.recipes.samples.key,
            folds=self.recipes.folds.key,
            id_name=data.id or "id",
            target=data.target_name,
            text=data,
        )

    def _n_rows(self) -> int | None:
        """Training rows; None before the files have been read."""
        key = self.recipes.samples.key
        return int(self.store.read(key).structure("n_rows", int)) if self.store.has(key) else None

    def metric(self) -> Metric:
        """Return the metric, which may be code of the user's own."""
        config, folder = self.config, self.loaded.folder
        return get_metric(config.metric, config.task, trust_code=self.trust_code, search_path=folder)

    def averaging(self) -> Averaging:
        """Return how pipelines are averaged, ``views: auto`` resolved."""
        stack = self.config.stack
        last = stack.views == "last" or (stack.views == "auto" and self.recipes.is_time)
        if stack.averaging != "late":
            return Averaging(stack.average, "all", False, stack.averaging)
        return Averaging(stack.average, stack.meta_fit, last)

    def read_rows(self) -> list[str]:
        """Put rows, folds and what members are made of into the store; return the notes on them."""
        return [*self.read_own_rows(), *self._read_files()]

    def read_own_rows(self) -> list[str]:
        """Put rows and folds into the store; return the notes on them."""
        config, folder = self.config, self.loaded.folder
        splitter = None
        if self.recipes.kind == "custom":
            kind = config.folds.kind
            found = resolve(kind, {}, "splitter", packages=(), trust_code=self.trust_code, search_path=folder)
            splitter = make_splitter(found, config.folds)
        folds = config.folds.model_copy(update={"repeats": self._sources().n_repeats})
        return ensure_rows(
            self.recipes, config.data, folds, folder, config.task, config.metric, self.store, splitter
        )

    def _read_files(self) -> list[str]:
        options, pools = self._graph().options, pools_of(self.config)
        checkpoints = {name: own.checkpoints for name, own in options.items() if own.checkpoints}
        in_pools = {member for pool in pools for member in pool.members}
        files = {name: own.files for name, own in options.items() if own.files and name not in in_pools}
        notes = []
        if checkpoints:
            notes = ensure_checkpoints(checkpoints, self.files(), self._checkpoint_rows(), self.store)
        if not files and not pools:
            return notes
        # Checking takes scikit-learn, which a plan does without.
        from stackfeat.engine.external.pool import ensure_pool
        from stackfeat.engine.external.predictions import ensure_imported

        rows = self.run_rows()
        notes += ensure_imported(files, self.files(), rows, self.store)
        for pool in pools:
            notes += ensure_pool(pool, self.pool_recipe(pool), self.files(), rows, self.store).notes()
        return notes

    def _checkpoint_rows(self) -> CheckpointRows:
        recipes = self.recipes
        train, folds = samples_of(self.store, recipes.samples.key), folds_of(self.store, recipes.folds.key)
        n_held = 0 if recipes.holdout is None else samples_of(self.store, recipes.holdout.key).n_rows
        return CheckpointRows(train, folds, n_held)

    def run_rows(self) -> RunRows:
        """Return the rows and folds, which must be in the store, as imported predictions are checked by."""
        from stackfeat.engine.external.predictions import RunRows

        metric, recipes = self.config.metric, self.recipes
        test, held = (None if recipe is None else recipe.key for recipe in (recipes.test, recipes.holdout))
        return RunRows(
            train=samples_of(self.store, recipes.samples.key),
            test=None if test is None else samples_of(self.store, test),
            held=None if held is None else samples_of(self.store, held),
            folds=folds_of(self.store, recipes.folds.key),
            metric=self.metric(),
            metric_code=None if metric in METRICS else code_hash(metric, self.loaded.folder),
            test_key=test,
            held_key=held,
            seed=derive_seed(self.config.seed, "import"),
        )


def pools_of(config: RunConfig) -> list[Pool]:
    """Return the members of a config that stand for many files."""
    items = [
        item
        for members in config.levels.values()
        for options in members.values()
        for item in (*(options.reads or ()), options.each_block or "")
    ]
    named = {"/".join(item.split("/")[:2]) for item in items}
    found = []
    for level, members in config.levels.items():
        for name, options in members.items():
            parts = {own: part.files for own, part in options.entries(name) if own != name and part.files}
            full = {f"{level}/{own}": files for own, files in parts.items()}
            if full:
                named |= {f"{level}/{own}" for own in parts if config.submit in (own, f"{level}/{own}")}
                found.append(Pool(f"{level}/{name}", full, named & full.keys()))
    return found


def open_context(
    store: Store, executor: Executor, code: Code, progress: Progress | None = None
) -> RunContext:
    """Return where the jobs of a config run, without a limit of time."""
    from stackfeat.engine.schedule import RunContext
    from stackfeat.engine.worker import Worker

    return RunContext(store, executor, Worker.of(store, code.is_trusted), progress)


def open_executor(options: ExecutorOptions, code: Code, *, can_end: bool = False) -> Executor:
    """Return what carries out jobs; with `can_end` those that run can be ended."""
    return make_executor(
        options.kind,
        options.jobs,
        options.threads_per_job,
        options.retries,
        timeout=options.timeout_seconds,
        can_end=can_end,
        code=code,
    )
