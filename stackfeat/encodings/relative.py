"""Relative representation: how similar a row is to some anchor rows, in the eyes of its own fold model.

In:  one fold model's embedding of its training rows and of the anchors, the same rows in every fold.
Out: a column for each anchor. Nothing is fitted across folds: the anchors name the columns.

Source: Moschella and others 2023, *Relative representations enable zero-shot latent space
communication*. Two changes, both measured (docs/decisions/0006-encodings.md): rows are centred before
the cosine, and every column is less its mean over the fold's training rows. Without them a row gives
away its fold. Anchor rows are drawn without labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stackfeat.encodings.encoding import PerFold, checked_rows, in_blocks
from stackfeat.encodings.neighbours import TIE, unit_rows
from stackfeat.errors import UsageError
from stackfeat.tasks.task import Task

N_ANCHORS = 128
_LEARNT = ("centre", "anchors", "nearest", "level")


@dataclass(frozen=True)
class Relative(PerFold):
    """Cosines to anchor rows within one fold's embedding.

    Attributes
    ----------
    centre : float64 array of shape (d,)
        Mean of the fold's training rows.
    anchors : float32 array of shape (m, d)
        Centred anchor rows of length one.
    nearest : float32 array of shape (m,)
        Cosine of each anchor to the anchor nearest to it, which stands for its cosine to itself: an
        anchor that is an out-of-fold row would show 1 there, which no test row does.
    level : float64 array of shape (m,)
        Mean of each column over the fold's training rows.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(50, 4))
    >>> task = Task("regression")
    >>> Relative.fit(rows, rows[:, 0], task, seed=0, anchors=rows[:8]).transform(rows[:3]).shape
    (3, 8)
    """

    name: ClassVar[str] = "relative"
    needs_anchors: ClassVar[bool] = True

    centre: np.ndarray
    anchors: np.ndarray
    nearest: np.ndarray
    level: np.ndarray

    @classmethod
    def fit(
        cls, embedding: np.ndarray, y: np.ndarray, task: Task, *, seed: int, anchors: np.ndarray | None = None
    ) -> Relative:
        """Learn centre and levels from a fold's training rows; labels are not asked for."""
        rows = checked_rows(embedding)
        if anchors is None or not len(rows) or not len(anchors):
            n_anchors = 0 if anchors is None else len(anchors)
            raise UsageError(
                f"there must be at least one training row and one anchor; got {len(rows)} and {n_anchors}"
            )
        centre = rows.mean(axis=0, dtype=np.float64)
        unit = unit_rows(checked_rows(anchors, rows.shape[1]) - centre)
        among = np.minimum(unit @ unit.T, 1.0)
        among[among > 1.0 - TIE] = -np.inf
        nearest = among.max(axis=1)
        nearest = np.where(np.isfinite(nearest), nearest, 1.0).astype(np.float32)
        plain = cls(centre, unit, nearest, np.zeros(len(unit)))
        level = plain.transform(rows).mean(axis=0, dtype=np.float64)
        return cls(centre, unit, nearest, level)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `transform`."""
        return tuple(f"anchor{j}" for j in range(len(self.anchors)))

    def transform(self, embedding: np.ndarray) -> np.ndarray:
        return in_blocks(self._compare, checked_rows(embedding, len(self.centre)), len(self.anchors))

    def _compare(self, rows: np.ndarray, _n_real: int) -> np.ndarray:
        # In double precision, because a float32 product rounds a row by its place in the block.
        cosine = unit_rows(rows - self.centre).astype(np.float64) @ self.anchors.T.astype(np.float64)
        return np.asarray(np.where(cosine > 1.0 - TIE, self.nearest, cosine) - self.level)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in _LEARNT}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], task: Task) -> Relative:
        return cls(*(arrays[name] for name in _LEARNT))


MAX_ANCHORS = 4096

ANCHORS_PER_COLUMN = 8


def anchor_rows(n_rows: int, cap: int = MAX_ANCHORS, seed: int = 0) -> np.ndarray:
    """Draw anchors among training rows.

    Parameters
    ----------
    n_rows : int
        All training rows.
    cap : int, default 4096
        At most this many anchors.
    seed : int

    Returns
    -------
    int64 array, sorted
    """
    if n_rows <= cap:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).permutation(n_rows)[:cap])


def default_width(n_anchors: int) -> int:
    """Columns that so many anchors align well: one for every eight.

    A map is fitted to its anchors; with fewer of them rows that shaped other folds' maps, and test
    rows, which shaped none, can be told apart.
    """
    return max(1, n_anchors // ANCHORS_PER_COLUMN)
