"""Small: a config with the same members on a budget of seconds, and few rows for it.

In:  a config; rows.
Out: the same levels and wiring with few epochs, trees, seeds and repeats; rows to train and to hold out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stackfeat.config.run_config import RunConfig
from stackfeat.data.inner import inner_split
from stackfeat.data.samples import Samples
from stackfeat.ensemble.options import EstimatorOptions, PredictionsOptions
from stackfeat.nets.options import NetOptions

HELD_OUT = 1 / 3
"""Share of the rows that take no part in a rerun, as test rows."""
MOST_EPOCHS = 20
MOST_BATCH = 64
MOST_TREES = 50
MOST_FOLDS = 5
_TREES = {"lightgbm.": "n_estimators", "xgboost.": "n_estimators", "catboost.": "iterations"}


def small_config(config: RunConfig) -> RunConfig:
    """Return the config with small budgets; time folds keep their number, which levels may need."""
    levels = {
        level: {name: small_member(options) for name, options in members.items()}
        for level, members in config.levels.items()
    }
    is_time = config.data.time is not None or config.folds.kind == "time"
    n_folds = config.folds.n if is_time else min(config.folds.n, MOST_FOLDS)
    folds = config.folds.model_copy(update={"n": n_folds, "repeats": 1, "repeats_as": "stacks"})
    return config.model_copy(update={"levels": levels, "folds": folds})


def small_member(options: Any) -> Any:
    """Return the options of a member with few epochs or trees, and one seed."""
    if isinstance(options, NetOptions):
        train = options.train
        # Few rows and large batches would be too few steps for a net to learn labels by heart.
        cut = {"epochs": min(train.epochs, MOST_EPOCHS), "batch_size": min(train.batch_size, MOST_BATCH)}
        return options.model_copy(update={"train": train.model_copy(update=cut), "seeds": 1})
    if isinstance(options, EstimatorOptions):
        return options.model_copy(update={"params": _few_trees(options), "seeds": 1})
    return options


def _few_trees(options: EstimatorOptions) -> dict[str, Any]:
    name = options.estimator
    count = next((count for package, count in _TREES.items() if name.startswith(package)), None)
    if name.startswith("sklearn.ensemble.") and not name.endswith(
        ("StackingClassifier", "StackingRegressor")
    ):
        count = "max_iter" if "HistGradientBoosting" in name else "n_estimators"
    if count is None or name.endswith(("VotingClassifier", "VotingRegressor")):
        count = "n_estimators" if "n_estimators" in options.params else None
    if count is None:
        return options.params
    given = options.params.get(count, MOST_TREES)
    return {**options.params, count: min(given, MOST_TREES) if isinstance(given, int) else given}


def small_rows(samples: Samples, kind: str, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
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
        if isinstance(options, PredictionsOptions)
        or (getattr(options, "weights", None) is not None and isinstance(options, NetOptions))
    }
