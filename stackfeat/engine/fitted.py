"""Fitted members: read from a store, and asked about rows that they were not fitted on.

In:  the key of a fit, the recipe of what is asked, rows, and where the blocks that it reads stand.
Out: the member with its recipe; arrays by ``viewFOLD/OUTPUT``, whose predictions are seen to be ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.engine.blocks import ReadPlace, read_view
from stackfeat.engine.recipes import EmitRecipe, FitRecipe, key_of
from stackfeat.errors import MemberError
from stackfeat.members import make_member
from stackfeat.members.protocol import FittedMember
from stackfeat.meta.columns import BlockRows, Rows
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.store import EntryStore, reading
from stackfeat.structure import must
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class Fit:
    """A fitted member, and what it was fitted by."""

    recipe: FitRecipe
    member: FittedMember


def load_fit(store: EntryStore, key: str, trust_code: bool) -> Fit:
    """Return a stored fit; raises as `load_fitted`."""
    return Fit(fit_recipe(store, key), load_fitted(store, key, trust_code))


def load_fitted(store: EntryStore, key: str, trust_code: bool) -> FittedMember:
    """Return the fitted member of a stored fit.

    Raises
    ------
    MemberError
        If its state could not be saved.
    """
    entry = store.read(key)
    problem = FitInfo.of(entry).unsaved
    if problem:
        raise MemberError(f"this member cannot score other rows, because its state was not saved: {problem}")
    fit = fit_recipe(store, key)
    with reading(entry):
        task = Task.from_json(entry.json("task"))
        return make_member(fit.member, trust_code).load(entry, task, fit.settings)


def fit_recipe(store: EntryStore, key: str) -> FitRecipe:
    """Return the recipe of a stored fit; DamagedEntryError if the entry is of something else."""
    entry = store.read(key)
    recipe = entry.recipe
    with reading(entry):
        must(key_of(recipe) == key, "its recipe", "be that of its key", key)
        must(recipe.get("stage") == "fit", "its recipe", "be of a fit", recipe.get("stage"))
        return FitRecipe.from_json(recipe, "its recipe")


def emit(fitted: FittedMember, rows: Rows, task: Task) -> dict[str, np.ndarray]:
    """Return what a member gives for rows; its predictions are seen to be ones, and on the scale of all members."""
    arrays = fitted.emit(rows)
    if task.output in arrays:
        task.checked(arrays[task.output], "a member")
        arrays = {**arrays, task.output: task.within(arrays[task.output], rows.lists)}
    return arrays


def emit_views(recipe: EmitRecipe, fit: Fit, samples: Samples, read: ReadPlace) -> dict[str, np.ndarray]:
    """Return what a fitted member gives of rows, for each view of them."""
    described = [block for block in fit.recipe.blocks if block.name not in recipe.without]
    raw = {name: samples.inputs[name] for name in recipe.raw}
    arrays = {}
    for view in recipe.views:
        blocks = tuple(
            BlockRows(block.name, block.kind, block.encoding, read_view(read, place))
            for block, place in zip(described, view.blocks, strict=True)
        )
        rows = Rows(samples.n_rows, raw, blocks, samples.ids, lists=samples.query)
        for name, values in emit(fit.member, rows, samples.task).items():
            arrays[f"view{view.fold}/{name}"] = values
    return arrays
