"""The blocks of a finished run, read from its store, and the models a refit would use.

In:  the config of a finished run.
Out: for every output of the base level OOF rows, test rows by fold pipeline, and test rows of one model
     refitted on all training rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from scipy.linalg import orthogonal_procrustes

from benchmarks.encodings.stack import ALIGNED, GEOMETRY, RAW
from stackfeat.config import load_config
from stackfeat.data.samples import load_samples
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.fitted import fit_recipe
from stackfeat.engine.plan import Plan
from stackfeat.engine.recipes import EmitRecipe, EmitView
from stackfeat.engine.worker import run_steps
from stackfeat.pipeline.run import run
from stackfeat.seeds import derive_seed
from stackfeat.store import Store
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class Block:
    """One output of a base member.

    Attributes
    ----------
    oof : ndarray of shape (n, c)
    views : list of ndarray of shape (n_test, c)
        One for each fold model.
    refit : ndarray of shape (n_test, c)
        Of a model fitted on all rows.
    """

    oof: np.ndarray
    views: list[np.ndarray]
    refit: np.ndarray


@dataclass(frozen=True)
class Stored:
    """What by-hand stacks are made of."""

    task: Task
    y: np.ndarray
    folds: Folds
    blocks: Mapping[str, Block]

    def predictions(self) -> list[Block]:
        """Blocks of predictions, the net's first."""
        return [self.blocks[f"base/{name}/{self.task.output}"] for name in ("mlp", "gbm")]


def read_stored(config: Path) -> Stored:
    """Read blocks, and refit both base members."""
    result = run(config)
    plan, store, seed = result.plan, cast(Store, result.store), load_config(config).config.seed
    train = load_samples(store.read(plan.sources.samples))
    task = train.task
    net = [task.output, GEOMETRY.split("/")[-1], RAW.split("/")[-1]]
    refits = _refit(plan, store, "base/mlp", net, seed) | _refit(plan, store, "base/gbm", [task.output], seed)
    blocks = {}
    for name in (f"base/mlp/{task.output}", f"base/gbm/{task.output}", GEOMETRY, RAW, ALIGNED):
        found = result.block(name)
        refit = turn_to(refits[RAW], np.mean(found.views, axis=0)) if name == ALIGNED else refits[name]
        blocks[name] = Block(found.oof, found.views, refit)
    return Stored(task, train.labels, result.folds, blocks)


def _refit(plan: Plan, store: Store, member: str, outputs: list[str], seed: int) -> dict[str, np.ndarray]:
    """Fit a base member as in a fold, but on all rows; return what it says of the test rows."""
    fit = replace(
        fit_recipe(store, plan.fits[member, 0, 0]), fold="all", seed=derive_seed(seed, member, 0, "all")
    )
    assert plan.sources.test is not None
    emit = EmitRecipe(fit=fit.key, samples=plan.sources.test, raw=fit.raw, views=(EmitView(0, ()),))
    run_steps(store, [fit, emit])
    entry = store.read(emit.key)
    return {f"{member}/{name}": entry.array(f"view0/{name}") for name in outputs}


def turn_to(values: np.ndarray, consensus: np.ndarray) -> np.ndarray:
    """Turn the activations of the refitted net to the mean of the aligned folds, on the test rows.

    Parameters
    ----------
    values : ndarray of shape (n, d)
    consensus : ndarray of shape (n, r)
        r <= d.

    Returns
    -------
    float32 array of shape (n, r)
    """
    centred = np.asarray(values, dtype=np.float64) - values.mean(axis=0, dtype=np.float64)
    centred /= np.sqrt(np.mean(np.sum(centred**2, axis=1)))
    aim = np.zeros_like(centred)
    aim[:, : consensus.shape[1]] = consensus
    turn, _ = orthogonal_procrustes(centred, aim)
    return np.asarray((centred @ turn)[:, : consensus.shape[1]], dtype=np.float32)
