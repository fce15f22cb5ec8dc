"""Tap patterns: one block for every layer that a tap such as ``encoder.layers.*.dropout2`` means.

In:  a config whose taps may be patterns without `last`; the rows of its run.
Out: the config with each such tap replaced by the layers it means. Which these are is known once the
     net has been built, untrained; it is stored, so that `check` can say it without torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from stackfeat.config import LoadedConfig
from stackfeat.engine.blocks import samples_of
from stackfeat.engine.graph import graph_problems
from stackfeat.engine.recipes import LayersRecipe
from stackfeat.errors import ConfigError
from stackfeat.members.options import MemberOptions
from stackfeat.registry.user_code import first_on_path
from stackfeat.store import EntryStore

if TYPE_CHECKING:
    from stackfeat.members.net import NetMember

logger = logging.getLogger(__name__)

N_ROWS = 64
"""The first training rows: which layers run does not depend on more."""


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


def find_layers(loaded: LoadedConfig, store: EntryStore, samples: str, *, trust_code: bool) -> None:
    """Build each net whose taps are patterns, and store which layers these mean.

    Raises
    ------
    LayerNotFoundError
        If a pattern means no layer.
    ConfigError
        If the blocks that there are now are not those that other members read.
    """
    for _, name, options in _with_patterns(loaded):
        recipe = _recipe(options, samples, loaded.source_hash)
        if store.has(recipe.key):
            continue
        from stackfeat.meta.columns import Rows

        train = samples_of(store, samples)
        few = train.take(np.arange(min(N_ROWS, train.n_rows)))
        wanted = [item for item in options.reads or () if item in few.inputs] or list(few.inputs)
        rows = Rows(few.n_rows, {item: few.inputs[item] for item in wanted})
        with first_on_path(loaded.folder if trust_code else None):
            net = cast("NetMember", options.member(trust_code))
            layers = net.layers_of_patterns(rows, train.task, loaded.config.seed)
        for tap, names in layers.items():
            logger.info("%s: tap %s means %s", name, tap, ", ".join(names))
        with recipe.write(store) as writer:
            writer.json("layers", layers)
    problems = graph_problems(with_layers(loaded, store, samples).config)
    if problems:
        raise ConfigError("; ".join(f"{path}: {message}" for path, message in problems))


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
