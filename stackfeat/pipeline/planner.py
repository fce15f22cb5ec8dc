"""Planning: from a config to a plan with all keys, without computing or importing anything heavy.

In:  a loaded config and its store.
Out: a Plan; `check` prints it, `run` carries it out.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stackfeat.config import LoadedConfig
from stackfeat.config.load import run_settings
from stackfeat.config.run_config import RunConfig
from stackfeat.data.splits.splitters import make_splitter
from stackfeat.engine.blocks import folds_of, samples_of
from stackfeat.engine.external.checkpoints import (
    CheckpointRows,
    MemberFiles,
    checkpoint_nodes,
    ensure_checkpoints,
)
from stackfeat.engine.graph import Graph, build_graph
from stackfeat.engine.jobs import Averaging, Sources
from stackfeat.engine.plan import Plan, make_plan
from stackfeat.engine.recipes import key_of
from stackfeat.engine.rows import RowRecipes, ensure_rows, n_folds, row_recipes
from stackfeat.members.options import PredictionsOptions
from stackfeat.metrics.metric import METRICS, get_metric
from stackfeat.pipeline.tap_patterns import find_layers, with_layers
from stackfeat.registry.resolve import code_hash, resolve
from stackfeat.seeds import derive_seed
from stackfeat.store import Store

if TYPE_CHECKING:
    from stackfeat.engine.external.stored import RunRows


@dataclass(frozen=True)
class Planner:
    """Makes plans for one config; a plan without some members is made when they fail."""

    loaded: LoadedConfig
    store: Store
    recipes: RowRecipes

    @property
    def config(self) -> RunConfig:
        return self.loaded.config

    def graph(self, excluded: Container[str] = ()) -> Graph:
        """Return the graph of members, less the excluded ones and what reads nothing else."""
        inputs = tuple(self.config.data.inputs) if self.config.data.inputs else ("table",)
        return build_graph(self.config.levels, self.config.task, inputs, excluded=excluded)

    def plan(self, excluded: Container[str] = ()) -> Plan:
        """Return a plan with every key."""
        return make_plan(self.graph(excluded), self._sources())

    def _sources(self) -> Sources:
        config = self.config
        blocks = config.folds.repeats_as == "blocks"
        return Sources(
            samples=key_of(self.recipes.samples),
            test=None if self.recipes.test is None else key_of(self.recipes.test),
            folds=key_of(self.recipes.folds),
            n_folds=n_folds(self.recipes, config.folds, self.store),
            n_repeats=1 if blocks else config.folds.repeats,
            is_time=self.recipes.is_time,
            seed=config.seed,
            settings=run_settings(self.loaded),
            source_hash=lambda name: code_hash(name, self.loaded.folder),
            n_rows=self._n_rows(),
            averaging=config.stack.averaging,
            holdout=None if self.recipes.holdout is None else key_of(self.recipes.holdout),
            files=self.files().sources,
        )

    def files(self) -> MemberFiles:
        """Return where files of predictions and checkpoints are, and how they are named in keys."""
        data = self.config.data
        return MemberFiles(
            folder=self.loaded.folder,
            memory=_hash_memory(self.store),
            samples=key_of(self.recipes.samples),
            folds=key_of(self.recipes.folds),
            id_name=data.id or "id",
            target=data.target,
        )

    def _n_rows(self) -> int | None:
        """Training rows; None before the files have been read."""
        key = key_of(self.recipes.samples)
        return int(self.store.read(key).structure("n_rows", int)) if self.store.has(key) else None

    def read_rows(self, trust_code: bool) -> list[str]:
        """Put rows, folds and what members are made of into the store; return the notes on them."""
        return [*self.read_own_rows(trust_code), *self._read_files(trust_code)]

    def read_own_rows(self, trust_code: bool) -> list[str]:
        """Put rows and folds into the store; return the notes on them."""
        config = self.config
        splitter = None
        if self.recipes.kind == "custom":
            folder = self.loaded.folder
            found = resolve(
                config.folds.kind, {}, "splitter", packages=(), trust_code=trust_code, search_path=folder
            )
            splitter = make_splitter(found, config.folds)
        folds = config.folds.model_copy(update={"repeats": self._sources().n_repeats})
        return ensure_rows(
            self.recipes,
            config.data,
            folds,
            self.loaded.folder,
            config.task,
            config.metric,
            self.store,
            splitter,
        )

    def _read_files(self, trust_code: bool) -> list[str]:
        nodes = self.graph().nodes
        notes = (
            ensure_checkpoints(nodes, self.files(), self._checkpoint_rows(), self.store)
            if checkpoint_nodes(nodes)
            else []
        )
        if not any(isinstance(node.options, PredictionsOptions) for node in nodes):
            return notes
        # Checking takes scikit-learn, which a plan does without.
        from stackfeat.engine.external.stored import ensure_imported

        return notes + ensure_imported(nodes, self.files(), self.run_rows(trust_code), self.store)

    def _checkpoint_rows(self) -> CheckpointRows:
        recipes = self.recipes
        held = None if recipes.holdout is None else samples_of(self.store, key_of(recipes.holdout))
        train, folds = (
            samples_of(self.store, key_of(recipes.samples)),
            folds_of(self.store, key_of(recipes.folds)),
        )
        return CheckpointRows(train, folds, 0 if held is None else held.n_rows)

    def run_rows(self, trust_code: bool) -> RunRows:
        """Return the rows and folds, which must be in the store, as imported predictions are checked by."""
        from stackfeat.engine.external.stored import RunRows

        metric, recipes = self.config.metric, self.recipes
        test, held = (
            None if recipe is None else key_of(recipe) for recipe in (recipes.test, recipes.holdout)
        )
        return RunRows(
            train=samples_of(self.store, key_of(recipes.samples)),
            test=None if test is None else samples_of(self.store, test),
            held=None if held is None else samples_of(self.store, held),
            folds=folds_of(self.store, key_of(recipes.folds)),
            metric=get_metric(
                metric, self.config.task, trust_code=trust_code, search_path=self.loaded.folder
            ),
            metric_code=None if metric in METRICS else code_hash(metric, self.loaded.folder),
            test_key=test,
            held_key=held,
            seed=derive_seed(self.config.seed, "import"),
        )


def make_planner(loaded: LoadedConfig, store: Store) -> Planner:
    """Hash the data files and return the planner."""
    config = loaded.config
    folds = config.folds
    if folds.repeats_as == "blocks":
        folds = folds.model_copy(update={"repeats": 1})

    def hashed(name: str) -> str | None:
        return code_hash(name, loaded.folder)

    recipes = row_recipes(
        config.data,
        folds,
        loaded.folder,
        config.task,
        config.metric,
        memory=_hash_memory(store),
        source_hash=hashed,
        holdout=config.stack.holdout,
    )
    return Planner(with_layers(loaded, store, key_of(recipes.samples), hashed), store, recipes)


def find_tapped_layers(planner: Planner, trust_code: bool) -> Planner:
    """Return the planner with every tap pattern replaced by the layers that it means in the net."""
    loaded, store, samples = planner.loaded, planner.store, key_of(planner.recipes.samples)

    def hashed(name: str) -> str | None:
        return code_hash(name, loaded.folder)

    find_layers(loaded, store, samples, hashed, trust_code=trust_code)
    return replace(planner, loaded=with_layers(loaded, store, samples, hashed))


def _hash_memory(store: Store) -> Path | None:
    # A dry run keeps its entries in memory, which has no folder.
    root: Path | None = getattr(store, "root", None)
    return root / "file-hashes.json" if root is not None and root.is_dir() else None


def open_store(loaded: LoadedConfig, cache: str | None = None) -> Store:
    """Open the store that a config names."""
    return Store(loaded.folder / loaded.config.store, cast(Any, cache or loaded.config.cache))


def averaging_of(loaded: LoadedConfig, recipes: RowRecipes) -> Averaging:
    """Return how pipelines are averaged, ``views: auto`` resolved."""
    stack = loaded.config.stack
    last = stack.views == "last" or (stack.views == "auto" and recipes.is_time)
    if stack.averaging != "late":
        return Averaging(stack.average, "all", False, stack.averaging)
    return Averaging(stack.average, stack.meta_fit, last)
