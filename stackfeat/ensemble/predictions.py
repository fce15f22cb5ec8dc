"""Predictions of a member put together: OOF rows over repeats, test rows over pipelines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stackfeat.data.folds import Folds
from stackfeat.ensemble.averaging import average_views, rank_within_folds
from stackfeat.ensemble.plan import Plan
from stackfeat.ensemble.units import Averaging, Place
from stackfeat.features.block import FeatureBlock, Reader, assemble
from stackfeat.task import Task


def oof_prediction(
    store: Reader, places: Sequence[Sequence[Place | None]], folds: Folds, task: Task, average: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return OOF predictions averaged over repeats, and the rows that every repeat covers.

    Parameters
    ----------
    places : sequence over repeats of a sequence over folds
    """
    parts, masks = [], []
    for repeat, listed in enumerate(places):
        values, covered = assemble(store, listed, folds, repeat)
        parts.append(rank_within_folds(values, folds.fold_of(repeat), task) if average == "rank" else values)
        masks.append(covered)
    covered = np.logical_and.reduce(masks)
    if len(parts) == 1:
        return parts[0], covered
    mean = np.full_like(parts[0], np.nan)
    mean[covered] = average_views(
        [part[covered] for part in parts], task, "mean" if average == "rank" else average
    )
    return mean, covered


def view_places(plan: Plan, block: str, averaging: Averaging) -> list[Place]:
    """Where the test rows of all pipelines of a block stand, every repeat's."""
    node = plan.graph.blocks()[block][0]
    views = plan.test_views(node)
    used = views[-1:] if averaging.last_view else views
    return [
        plan.view_place(block, repeat, view, averaging.chain)
        for repeat in range(plan.sources.n_repeats)
        for view in used
    ]


def test_prediction(store: Reader, plan: Plan, block: str, averaging: Averaging, task: Task) -> np.ndarray:
    """Return the averaged predictions of the test rows, float64 (n_test, n_outputs)."""
    views = [store.read(key).array(name) for key, name in view_places(plan, block, averaging)]
    return average_views(views, task, averaging.average)


def load_block(store: Reader, plan: Plan, block: str, folds: Folds, averaging: Averaging) -> FeatureBlock:
    """Return a block as arrays (first repeat's OOF rows; test rows of its pipelines)."""
    oof, covered = assemble(store, plan.oof_places(block, 0), folds, 0)
    views: list[np.ndarray] = []
    if plan.sources.test is not None:
        node = plan.graph.blocks()[block][0]
        places = [plan.view_place(block, 0, view, averaging.chain) for view in plan.test_views(node)]
        views = [store.read(key).array(name) for key, name in places]
    return FeatureBlock(block, oof, covered, views)
