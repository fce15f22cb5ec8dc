"""Prepare: everything before the first job of a run: the store, the data files, the layers that taps mean.

In:  a loaded config.
Out: a planner whose rows and folds are in the store, and what was found out on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from stackfeat.config import LoadedConfig
from stackfeat.config.planner import Planner
from stackfeat.data.options import DataOptions
from stackfeat.engine.blocks import samples_of
from stackfeat.engine.rows import row_recipes
from stackfeat.metrics.built_in import METRICS
from stackfeat.pipeline.tap_patterns import find_layers, with_layers
from stackfeat.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from stackfeat.data.samples import Samples


@dataclass(frozen=True)
class DataFiles:
    """What was found out while the data files were read.

    Attributes
    ----------
    notes : list of str
        On rows, folds and members made from files.
    metric_warnings : list of str
        On a metric of one's own.
    sample : DataFrame or None
        The sample submission.
    """

    notes: list[str]
    metric_warnings: list[str]
    sample: pd.DataFrame | None


def check_sample(sample: pd.DataFrame, test: Samples, data: DataOptions) -> None:
    """Raise DataError unless predictions of the test rows can be written like the sample submission."""
    from stackfeat.output.submission import Form, make_submission, order_like_sample

    even = np.full((test.n_rows, test.task.n_outputs), 1 / test.task.n_outputs)
    form = Form.of(data, sample, as_labels=False)
    order_like_sample(make_submission(test.ids, even, None, test.task, form), sample)


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

    config, recipes = planner.config, planner.recipes
    notes = planner.read_rows()
    warnings = [] if config.metric in METRICS else _try_metric(planner)
    sample = read_sample(config.data, planner.loaded.folder)
    if sample is not None and recipes.test is not None:
        check_sample(sample, samples_of(planner.store, recipes.test.key), config.data)
    return DataFiles(notes, warnings, sample)


def _try_metric(planner: Planner) -> list[str]:
    train = samples_of(planner.store, planner.recipes.samples.key)
    return planner.metric().tried_on(train.task.to_target_scale(train.labels), train.task, train.weight)


def make_planner(loaded: LoadedConfig, store: Store, trust_code: bool = False) -> Planner:
    """Hash the data files and return the planner."""
    config = loaded.config
    folds = config.folds
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


def find_tapped_layers(planner: Planner) -> Planner:
    """Return the planner with every tap pattern replaced by the layers that it means in the net."""
    loaded, store, samples = planner.loaded, planner.store, planner.recipes.samples.key
    find_layers(loaded, store, samples, trust_code=planner.trust_code)
    return replace(planner, loaded=with_layers(loaded, store, samples))


def open_store(loaded: LoadedConfig, cache: Literal["auto", "refresh", "readonly"] | None = None) -> Store:
    """Open the store that a config names."""
    return Store(loaded.folder / loaded.config.store, cache or loaded.config.cache)
