"""The picture of how good rankings are: what stands at each place of the lists.

In:  scores and relevance of rows in lists.
Out: the mean relevance at each of the first places, beside that in random order and in the best one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.output.report.evidence import Evidence
from stackfeat.output.report.pictures.classes import draw_folds
from stackfeat.output.report.pictures.picture import (
    ALL,
    Numbers,
    Picture,
    ink,
    label,
    only_axes,
    select,
    table,
)
from stackfeat.tasks.ranking import average_ranks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACES = 10


class Positions(Picture):
    """Mean relevance at each place."""

    name = "positions"
    title = "Relevance by place"
    is_judgement = True

    def numbers(self, evidence: Evidence) -> Numbers:
        task, target = evidence.task, evidence.target
        relevance, lists, said = task.learnt(target), task.lists(target), task.counted(evidence.prediction)
        _, list_of, sizes = np.unique(np.asarray(lists), return_inverse=True, return_counts=True)
        # Equal scores share their places; a mean place between two counts as the nearer one.
        reached = np.rint(average_ranks(-said, list_of)).astype(int)
        # Of equal relevance it does not matter which row is first.
        order, best = np.lexsort((-relevance, list_of)), np.empty(len(said), dtype=int)
        best[order] = np.arange(len(said)) - np.searchsorted(list_of[order], list_of[order]) + 1
        random = (np.bincount(list_of, weights=relevance) / sizes)[list_of]
        rows: list[tuple[Any, ...]] = []
        folds = [(ALL, np.ones(len(said), dtype=bool))]
        folds += [(str(fold), evidence.folds == fold) for fold in np.unique(evidence.folds)]
        for fold, inside in folds:
            for place in range(1, PLACES + 1):
                here, ideal = inside & (reached == place), inside & (best == place)
                if here.any() and ideal.any():
                    means = relevance[here].mean(), random[here].mean(), relevance[ideal].mean()
                    rows.append((fold, place, *map(float, means), int(here.sum())))
        return table(rows, ("fold", "place", "relevance", "random order", "best order", "rows"))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        axes = only_axes(figure)
        part = select(numbers, fold=ALL)
        axes.plot(part["place"], part["best order"], color=ink(), lw=0.7, ls="--")
        axes.plot(part["place"], part["random order"], color=ink(), lw=0.7, ls=":")
        draw_folds(axes, numbers, "place", "relevance")
        label(axes, "place in the list", "mean relevance")

    def caption(self, numbers: Numbers) -> str:
        return (
            f"Mean relevance of the rows at each of the first {PLACES} places of the lists, of all of them and of "
            "each fold; dashed in the best order, dotted in random order."
        )

    def alt(self, numbers: Numbers) -> str:
        part = select(numbers, fold=ALL)
        first, random = float(part["relevance"][0]), float(part["random order"][0])
        return f"Relevance by place: {first:.3g} at the first one, where random order has {random:.3g}."
