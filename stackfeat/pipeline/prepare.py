"""Prepare: everything before the first job of a run: the store, the data files, the layers that taps mean.

In:  a loaded config.
Out: a planner whose rows and folds are in the store, and what was found out on the way.

A tap may be a pattern such as ``encoder.layers.*.dropout2``. Which layers it means is known once the net has been
built, untrained; it is stored, so that `check` can say it without torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from stackfeat.config import LoadedConfig
from stackfeat.config.planner import Planner
from stackfeat.engine.blocks import samples_of
from stackfeat.engine.graph import graph_problems
from stackfeat.engine.recipes import LayersRecipe
from stackfeat.engine.rows import row_recipes
from stackfeat.errors import ConfigError
from stackfeat.members.options import MemberOptions
from stackfeat.metrics.built_in import METRICS
from stackfeat.output.submission import Form, check_sample
from stackfeat.registry.user_code import first_on_path
from stackfeat.store import EntryStore, Store
from stackfeat.store.entry import reading

if TYPE_CHECKING:
    import pandas as pd

    from stackfeat.data.samples import Samples
    from stackfeat.data.schema.columns import Schema
    from stackfeat.members.net import NetMember
    from stackfeat.meta.columns import Rows

logger = logging.getLogger(__name__)

N_ROWS = 64
"""The first training rows: which layers run does not depend on more."""


@dataclass(frozen=True)
class DataFiles:
    """What was found out while the data files were read.

    Attributes
    ----------
    notes : list of str
        On rows, folds and members made from files.
    metric_warnings : list of str
        On a metric of one's own, and on classes without the order that a metric needs.
    sample : DataFrame or None
        The sample submission.
    """

    notes: list[str]
    metric_warnings: list[str]
    sample: pd.DataFrame | None


def read_data(planner: Planner) -> DataFiles:
    """Read the data files, try a metric of one's own on them, and see that the sample submission fits.

    Raises
    ------
    DataError
        If a file cannot be used.
    UsageError
        If the metric gives no number for guesses.
    """
    from stackfeat.data.schema.load import read_sample
    from stackfeat.data.schema.roles import of_order

    config, recipes = planner.config, planner.recipes
    notes, warnings = [*planner.loaded.guesses, *planner.read_rows()], list[str]()
    if config.metric not in METRICS:
        train = samples_of(planner.store, recipes.samples.key)
        y = train.task.to_target_scale(train.labels)
        warnings = planner.metric().tried_on(y, train.task, train.weight)
    schema = stored_schema(planner)
    warnings += map(str, of_order(schema.task, schema.has_order, config.metric))
    options = config.data
    sample = read_sample(options, planner.loaded.folder)
    if sample is not None and recipes.test is not None:
        check_sample(sample, samples_of(planner.store, recipes.test.key), Form.of(options, sample))
    return DataFiles(notes, warnings, sample)


def stored_schema(planner: Planner) -> Schema:
    """Return how the training file was read, from the store."""
    from stackfeat.data.schema.columns import Schema

    entry = planner.store.read(planner.recipes.samples.key)
    with reading(entry):
        return Schema.from_json(entry.json("schema"))


def make_planner(loaded: LoadedConfig, store: Store, trust_code: bool = False) -> Planner:
    """Hash the data files and return the planner."""
    config, folds = loaded.config, loaded.config.folds
    if folds.repeats_as == "blocks":
        folds = folds.model_copy(update={"repeats": 1})
    # Where no run has been yet, nothing is written that would remember hashes.
    hashes = store.root / "file-hashes.json" if store.root.is_dir() else None
    recipes = row_recipes(
        config.data,
        folds,
        loaded.folder,
        config.task,
        config.metric,
        memory=hashes,
        source_hash=loaded.source_hash,
        holdout=config.stack.holdout,
    )
    return Planner(with_layers(loaded, store, recipes.samples.key), store, recipes, trust_code, hashes)


def open_store(loaded: LoadedConfig) -> Store:
    """Open the store that a config names."""
    return Store(loaded.folder / loaded.config.store, loaded.config.cache)


def with_layers(loaded: LoadedConfig, store: EntryStore, samples: str) -> LoadedConfig:
    """Replace patterns by layers where these are stored already; other patterns stay.

    Parameters
    ----------
    samples : str
        Key of the training rows.
    """
    levels = {level: dict(members) for level, members in loaded.config.levels.items()}
    for level, name, options in _with_patterns(loaded):
        key = _recipe(options, samples, loaded.source_hash).key
        if store.has(key):
            layers = store.read(key).structure("layers", dict[str, tuple[str, ...]])
            levels[level][name] = options.with_layers(layers)
    config = loaded.config.model_copy(update={"levels": levels})
    return replace(loaded, config=config)


def find_tapped_layers(planner: Planner) -> Planner:
    """Return the planner with every tap pattern replaced by layers; nets whose layers are not stored are built.

    Raises
    ------
    LayerNotFoundError
        If a pattern means no layer.
    ConfigError
        If the blocks that there are now are not those that other members read.
    """
    loaded, store, samples = planner.loaded, planner.store, planner.recipes.samples.key
    for _, name, options in _with_patterns(loaded):
        recipe = _recipe(options, samples, loaded.source_hash)
        if store.has(recipe.key):
            continue
        train = samples_of(store, samples)
        with first_on_path(loaded.folder if planner.trust_code else None):
            net = cast("NetMember", options.member(planner.trust_code))
            layers = net.layers_of_patterns(first_rows(train, options), train.task, loaded.config.seed)
        for tap, names in layers.items():
            logger.info("%s: tap %s means %s", name, tap, ", ".join(names))
        with recipe.write(store) as writer:
            writer.json("layers", layers)
    found = with_layers(loaded, store, samples)
    if problems := graph_problems(found.config):
        raise ConfigError("; ".join(f"{path}: {message}" for path, message in problems))
    return replace(planner, loaded=found)


def first_rows(train: Samples, options: MemberOptions) -> Rows:
    """Return the first training rows as a member reads them."""
    from stackfeat.meta.columns import Rows

    few = train.take(np.arange(min(N_ROWS, train.n_rows)))
    wanted = [item for item in options.reads or () if item in few.inputs] or list(few.inputs)
    return Rows(few.n_rows, {item: few.inputs[item] for item in wanted})


def _with_patterns(loaded: LoadedConfig) -> Iterator[tuple[str, str, MemberOptions]]:
    for level, members in loaded.config.levels.items():
        for name, options in members.items():
            if options.open_taps():
                yield level, name, options


def _recipe(options: MemberOptions, samples: str, source_hash: Callable[[str], str | None]) -> LayersRecipe:
    values: dict[str, Any] = options.to_json()
    return LayersRecipe(
        net={name: values[name] for name in ("net", "params", "inputs", "output")},
        taps=tuple(tap.tap for tap in options.open_taps()),
        samples=samples,
        libraries=options.libraries(),
        code=source_hash(values["net"]),
    )
