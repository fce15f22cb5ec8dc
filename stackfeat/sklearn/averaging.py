"""Averages of what fold pipelines say of the same rows: values, votes, or what a final estimator reads.

In:  what each pipeline says, of any of the shapes that scikit-learn's methods give.
Out: one of that shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stackfeat.engine.blocks import mean_of_views
from stackfeat.meta.votes.hard import HardVote


def mean(outputs: Sequence[Any]) -> Any:
    """Return the mean over pipelines, also of tuples (values, spreads)."""
    first = outputs[0]
    if len(outputs) == 1:
        return first
    if isinstance(first, tuple):
        return tuple(mean([output[i] for output in outputs]) for i in range(len(first)))
    return np.mean(outputs, axis=0)


def most_voted(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return what most pipelines say of each row (and label); the lowest code of equals."""
    if len(outputs) == 1:
        return np.asarray(outputs[0])
    votes = np.stack(outputs).astype(np.int64)
    hard = HardVote.of(len(votes), None, {"weights": None, "tie": "lowest"})
    winners = hard.winners(list(votes.reshape(len(votes), -1)), int(votes.max()) + 1, lambda: [])
    return winners.reshape(votes.shape[1:])


def mean_of(views: list[tuple[Any, dict[str, np.ndarray]]]) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the mean of views, column by column."""
    bases, features = zip(*views, strict=True)
    return mean_of_views(bases), {
        name: mean_of_views([one[name] for one in features]) for name in features[0]
    }
