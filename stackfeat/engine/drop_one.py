"""Drop one: what a vote is worth without one of its inputs.

In:  a plan that was carried out, its store, a vote.
Out: out-of-fold predictions of the vote with all its inputs and without each; what a vote learns is learnt anew from
     the rows of the other folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.blocks import assemble
from stackfeat.engine.fitted import emit, fit_recipe
from stackfeat.engine.plan import Plan
from stackfeat.engine.recipes import FitRecipe
from stackfeat.engine.worker import context_of
from stackfeat.errors import MemberError
from stackfeat.members import learns_from_rows, make_member
from stackfeat.meta.columns import BlockRows, Rows
from stackfeat.store import EntryStore

MOST_ROWS = 5_000
"""Rows that a vote learns from here; with and without an input from the same ones."""


def without_each(
    store: EntryStore,
    plan: Plan,
    vote: str,
    samples: Samples,
    folds: Folds,
    rows: np.ndarray,
    *,
    trust_code: bool = False,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return what a vote predicts of rows with all its inputs, and by member without those of that member.

    Parameters
    ----------
    plan : Plan
    vote : str
        Its full name.
    rows : int64 array (n,)
        Numbers of training rows, which pipelines of the first repeat predict.

    Returns
    -------
    whole, without : float64 array (n, n_outputs), and dict of such
        On the members' scale; without members that are all there is.
    """
    node, fold_of = plan.graph.node(vote), folds.fold_of(0)[rows]
    members = list(dict.fromkeys(_member(block) for block in node.blocks))
    found = {dropped: np.empty((len(rows), samples.task.n_outputs)) for dropped in ("", *members)}
    for fold in np.unique(fold_of).tolist():
        recipe, held = fit_recipe(store, plan.fits[vote, 0, fold]), np.flatnonzero(fold_of == fold)
        blocks, known = [], np.ones(samples.n_rows, dtype=bool)
        for block in recipe.blocks:
            values, covered = assemble(store, plan.oof_places(block.name, 0), folds, 0)
            blocks.append(BlockRows(block.name, block.kind, block.encoding, values))
            known &= covered
        train = folds.splits[0][fold][0]
        train = train[known[train]]
        train = train[samples.task.spread(samples.labels[train], MOST_ROWS, recipe.seed)]
        fit = _Refit(recipe, samples, blocks, train, folds, trust_code)
        for dropped in list(found):
            try:
                found[dropped][held] = fit.predict(
                    [b for b in blocks if _member(b.name) != dropped], rows[held]
                )
            except MemberError:
                # Of what is left nothing has a weight.
                found.pop(dropped)
    return found.pop(""), found


def _member(block: str) -> str:
    return block.rpartition("/")[0]


@dataclass(frozen=True)
class _Refit:
    """A vote of one pipeline that can be fitted again, to all or some of its inputs."""

    recipe: FitRecipe
    samples: Samples
    blocks: Sequence[BlockRows]
    train: np.ndarray
    folds: Folds
    trust_code: bool

    def predict(self, read: Sequence[BlockRows], held: np.ndarray) -> np.ndarray:
        if not read:
            raise MemberError("a vote must have an input; got none; leave one")
        samples, train, recipe = self.samples, self.train, self.recipe
        context = context_of(recipe, samples, self.folds, train, {})
        # Weights that are given are for all inputs: those that are left share the part of the others.
        fitted_to = read if learns_from_rows(recipe.member) else self.blocks
        fitted = make_member(recipe.member, self.trust_code).fit(_of(samples, fitted_to, train), context)
        return emit(fitted, _of(samples, read, held), samples.task)[samples.task.output]


def _of(samples: Samples, blocks: Sequence[BlockRows], rows: np.ndarray) -> Rows:
    read = tuple(replace(block, values=block.values[rows]) for block in blocks)
    return Rows(len(rows), {}, read, lists=None if samples.query is None else samples.query[rows])
