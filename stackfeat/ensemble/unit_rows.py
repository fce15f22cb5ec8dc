"""Which rows a unit of work reads, and what its fit knows besides them.

In:  a recipe, the samples and folds that it names, blocks of earlier levels.
Out: row numbers, `Rows` and `FitContext`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from stackfeat.data.folds import Folds
from stackfeat.data.inner import inner_split
from stackfeat.data.samples import Samples
from stackfeat.ensemble.graph import PLAIN_VOTES
from stackfeat.errors import MemberError
from stackfeat.features.alignment import anchors_of
from stackfeat.features.encodings.anchors import MAX_ANCHORS
from stackfeat.features.encodings.relative import N_ANCHORS
from stackfeat.features.member import BlockRows, FitContext, Rows
from stackfeat.store import Entry, Scratch

Recipe = Mapping[str, Any]


def row_sets(recipe: Recipe, folds: Folds, covered: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the rows to fit on and the rows to predict (None for the fit on all OOF rows).

    A base member trains on the splitter's rows. A later one trains on those of them that all
    its blocks cover: a splitter's gaps and windows hold at every level.
    """
    repeat, fold = recipe["repeat"], recipe["fold"]
    usable = np.logical_and.reduce(covered) if covered else np.ones(folds.n_rows, dtype=bool)
    if fold == "all":
        return np.flatnonzero(usable), None
    left_out = left_out_folds(fold)
    if left_out:
        one, other = (folds.splits[repeat][k][0] for k in left_out)
        return np.intersect1d(one, other), None
    train, held_out = folds.splits[repeat][fold]
    train = train[usable[train]]
    if not len(train) and recipe["member"].get("vote") not in PLAIN_VOTES:
        raise MemberError(
            f"fold {fold} must have training rows that all inputs predict; got none. "
            "Use fewer levels, more folds, or a larger folds.max_train_size"
        )
    return train, held_out


def left_out_folds(fold: int | str) -> list[int]:
    """Return the two folds that a nested fit leaves out, such as "0-1"; none for other fits."""
    return [int(part) for part in fold.split("-")] if isinstance(fold, str) and "-" in fold else []


def context_of(
    recipe: Recipe,
    samples: Samples,
    folds: Folds,
    train: np.ndarray,
    sources: Mapping[str, Entry],
    scratch: Scratch | None = None,
) -> FitContext:
    """Return what a fit on the rows `train` knows besides them."""

    def inner(fraction: float) -> tuple[np.ndarray, np.ndarray]:
        fit_rows, valid_rows = inner_split(samples, train, folds.kind, fraction, recipe["seed"])
        return np.searchsorted(train, fit_rows), np.searchsorted(train, valid_rows)

    return FitContext(
        task=samples.task,
        y=samples.labels[train],
        weight=None if samples.weight is None else samples.weight[train],
        fold_of=folds.fold_of(recipe["repeat"])[train] if recipe["blocks"] else None,
        inner=inner,
        seed=recipe["seed"],
        settings=recipe["settings"],
        anchors=anchors(recipe, samples, folds, N_ANCHORS) if encodes(recipe, ("relative",)) else None,
        scratch=scratch,
        repeat=recipe["repeat"],
        fold=recipe["fold"],
        sources=sources,
    )


def block_rows(
    samples: Samples, raw: list[str], blocks: list[tuple[Recipe, np.ndarray, np.ndarray]], rows: np.ndarray
) -> Rows:
    """Return what a member reads of the training rows with these numbers."""
    part = samples.take(rows)
    read = tuple(
        BlockRows(block["name"], block["kind"], block["encoding"], values[rows])
        for block, values, _ in blocks
    )
    return Rows(len(rows), {name: part.inputs[name] for name in raw}, read, part.ids, rows)


def encodes(recipe: Recipe, encodings: Collection[str]) -> bool:
    """Whether a member's taps have one of these encodings."""
    return any(name in encodings for tap in recipe["member"].get("emit", ()) for name in tap["encode"])


def anchors(recipe: Recipe, samples: Samples, folds: Folds, n_most: int = MAX_ANCHORS) -> Rows:
    """Return the raw inputs of a seeded sample of training rows, the same rows for every fold."""
    return block_rows(samples, recipe["raw"], [], anchors_of(folds, n_most))
