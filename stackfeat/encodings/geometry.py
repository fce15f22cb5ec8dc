"""Geometry of a row within the embedding of its own fold model.

In:  the fold's training rows (embedding and labels), then any other rows of the same model.
Out: columns that mean the same in every fold: class shares among neighbours, distances to
     centroids, Mahalanobis distances; for regression neighbours' targets and ridge read-outs.
     Every distance is in units of the same distance of the fold's own training rows: without
     that, the distances of a row to all classes give away its fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from stackfeat.encodings.encoding import PerFold, checked_rows, in_blocks
from stackfeat.encodings.neighbours import (
    Neighbours,
    project,
    reference_rows,
    search_directions,
    unit_rows,
)
from stackfeat.errors import UsageError
from stackfeat.tasks.task import Task

NEIGHBOURS = (10, 30)
READ_OUTS = (0.1, 10.0)
PROBE_ROWS = 1024  # training rows whose distance to their own k-th neighbour is the unit of that column


@dataclass(frozen=True)
class Geometry(PerFold):
    """Statistics of rows within one embedding, learnt from that fold's training rows.

    Attributes
    ----------
    task : Task
    neighbours : Neighbours
    searched : float32 array of shape (d, 64) or None
        Directions in which neighbours are searched, the widest of the rows of length one; None for
        all: with at most 20,000 reference rows, or 64 columns.
    sizes : tuple of int
        Neighbours counted: 10 and 30, or a quarter of the rows where that is fewer.
    centre : float64 array of shape (d,)
        Mean embedding.
    linear : float64 array of shape (d, c)
        Classification: whitens rows (d, d). Regression: ridge read-outs (d, 2).
    centroids : float64 array of shape (n_classes, d)
        NaN for classes without rows; empty for regression.
    units : float64 array of shape (2 * n_classes + 2,)
        Mean distance of the training rows to each centroid, plain and whitened; median distance
        of a training row to its k-th neighbour, for both k.
    level : float, or float64 array of shape (n_targets,)
        Mean target; 0 for classes.

    Examples
    --------
    >>> task = Task("binary", classes=(0, 1))
    >>> rng = np.random.default_rng(0)
    >>> embedding, y = rng.normal(size=(80, 4)), np.arange(80) % 2
    >>> Geometry.fit(embedding, y, task, seed=0).transform(embedding[:3]).shape
    (3, 10)
    """

    name: ClassVar[str] = "geometry"
    compares_rows: ClassVar[bool] = False
    learns_from_target: ClassVar[bool] = True
    scaling: ClassVar[Literal["scalar", "zscore"]] = "zscore"

    task: Task
    neighbours: Neighbours
    searched: np.ndarray | None
    sizes: tuple[int, ...]
    centre: np.ndarray
    linear: np.ndarray
    centroids: np.ndarray
    units: np.ndarray
    level: float | np.ndarray

    @classmethod
    def fit(
        cls, embedding: np.ndarray, y: np.ndarray, task: Task, *, seed: int, anchors: np.ndarray | None = None
    ) -> Geometry:
        """Learn from a fold's training rows; `seed` chooses the neighbours kept of more than 50,000 rows."""
        rows = checked_rows(embedding)
        if len(rows) != len(y) or not len(rows):
            raise UsageError(
                f"embedding and y must have the same rows, at least one; got {rows.shape=}, {len(y)=}"
            )
        kept = reference_rows(task.strata(y), len(rows), seed)
        values, level = _STATISTICS[bool(task.most_classes)].targets(task.learnt(y))
        n_classes = len(task.classes)
        centre = rows.mean(axis=0, dtype=np.float64)
        centred = rows - centre
        centroids, linear = _STATISTICS[bool(task.most_classes)].learn(rows, centred, values, n_classes)
        sizes = tuple(min(k, max(1, len(rows) // 4), len(kept)) for k in NEIGHBOURS)
        unit = unit_rows(rows)
        searched = search_directions(unit, len(kept))
        unit = project(unit, searched)
        near = Neighbours(unit[kept], values[kept], n_classes)
        units = np.r_[
            _mean_distances(centred, centroids - centre, linear),
            _radii(near, unit, centred, sizes),
        ]
        return cls(task, near, searched, sizes, centre, linear, centroids, units, level)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `transform`."""
        return (
            *_STATISTICS[bool(self.task.most_classes)].names(self.task),
            *(f"radius{k}" for k in NEIGHBOURS),
        )

    def transform(self, embedding: np.ndarray) -> np.ndarray:
        rows = checked_rows(embedding, len(self.centre))
        return in_blocks(self._describe, rows, len(self.columns))

    def _describe(self, rows: np.ndarray, n_real: int) -> np.ndarray:
        unit = project(unit_rows(rows), self.searched)
        means, radius = self.neighbours.look_up(unit, self.sizes, n_real)
        radius = radius / self.units[-len(NEIGHBOURS) :]
        return np.hstack(
            [*_STATISTICS[bool(self.task.most_classes)].describe(self, rows - self.centre, means), radius]
        )

    def arrays(self) -> dict[str, np.ndarray]:
        searched = {} if self.searched is None else {"searched": self.searched}
        return searched | {
            "reference": self.neighbours.reference,
            "values": self.neighbours.values,
            "sizes": np.asarray(self.sizes, dtype=np.int64),
            "centre": self.centre,
            "linear": self.linear,
            "centroids": self.centroids,
            "units": self.units,
            "level": np.atleast_1d(self.level),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], task: Task) -> Geometry:
        near = Neighbours(arrays["reference"], arrays["values"], len(task.classes))
        sizes = tuple(int(k) for k in arrays["sizes"])
        centre, linear, centroids, units = (
            arrays[name] for name in ("centre", "linear", "centroids", "units")
        )
        levels = arrays["level"]
        level = float(levels[0]) if len(levels) == 1 else levels
        return cls(task, near, arrays.get("searched"), sizes, centre, linear, centroids, units, level)

    @classmethod
    def readouts(cls, columns: np.ndarray, task: Task) -> dict[str, np.ndarray]:
        """Return what columns say of the target by themselves; nothing without an output.

        A linear model over the same columns has a coefficient for every pair of column and class. A readout has one
        for all classes together, which few rows suffice to fit.

        Returns
        -------
        dict of str to float32 array of shape (n, n_outputs)
            Classification: scores up to a factor and a constant for each row, less their mean over classes.
            ``knn10``, ``knn30``: logarithms of class shares among neighbours, one neighbour more being shared out
            among all classes; ``centroid``, ``mahalanobis``: minus squared distances, as of a normal density.
            Regression: predictions, ``knn10``, ``knn30`` and ridge readouts.
        """
        if not task.n_outputs:
            return {}
        return _STATISTICS[bool(task.most_classes)].readouts(np.asarray(columns, dtype=np.float64), task)


class _OfClasses:
    """Distances to the centroids of classes, and shares of classes among neighbours."""

    def targets(self, y: np.ndarray) -> tuple[np.ndarray, float]:
        return y.astype(np.int64), 0.0

    def learn(
        self, rows: np.ndarray, centred: np.ndarray, codes: np.ndarray, n_classes: int
    ) -> tuple[np.ndarray, np.ndarray]:
        centroids = _centroids(rows, codes, n_classes)
        return centroids, _whitening(rows, codes, centroids)

    def names(self, task: Task) -> list[str]:
        kinds = ["centroid", "mahalanobis", *(f"knn{k}" for k in NEIGHBOURS)]
        return [f"{kind}:{label}" for kind in kinds for label in task.classes]

    def describe(
        self, fitted: Geometry, centred: np.ndarray, means: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        centroids = fitted.centroids - fitted.centre
        plain_units, whitened_units = np.split(fitted.units[: 2 * len(centroids)], 2)
        plain = _distances(centred, centroids, plain_units)
        return [
            plain,
            _distances(centred @ fitted.linear, centroids @ fitted.linear, whitened_units),
            *means,
        ]

    def readouts(self, columns: np.ndarray, task: Task) -> dict[str, np.ndarray]:
        n_classes = task.n_outputs
        plain, whitened, *shares = (
            columns[:, i * n_classes : (i + 1) * n_classes] for i in range(2 + len(NEIGHBOURS))
        )
        near = zip(NEIGHBOURS, shares, strict=True)
        scores = {f"knn{k}": np.log(k * share + 1.0 / n_classes) for k, share in near}
        scores |= {"centroid": -(plain**2), "mahalanobis": -(whitened**2)}
        return {
            name: (score - score.mean(axis=1, keepdims=True)).astype(np.float32)
            for name, score in scores.items()
        }


class _OfValues:
    """Mean and spread of the neighbours' targets, and ridge read-outs."""

    def targets(self, y: np.ndarray) -> tuple[np.ndarray, float | np.ndarray]:
        level = float(np.mean(y)) if y.ndim == 1 else y.mean(axis=0, dtype=np.float64)
        return y.astype(np.float64) - level, level

    def learn(
        self, rows: np.ndarray, centred: np.ndarray, values: np.ndarray, n_classes: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return np.empty((n_classes, rows.shape[1])), _read_outs(centred, values)

    def names(self, task: Task) -> list[str]:
        kinds = [f"knn{k}:{what}" for k in NEIGHBOURS for what in ("mean", "sd")]
        kinds += [f"readout:{penalty:g}" for penalty in READ_OUTS]
        return kinds if task.n_targets == 1 else [f"{kind}:{name}" for kind in kinds for name in task.names]

    def describe(
        self, fitted: Geometry, centred: np.ndarray, means: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        parts, n_targets = [], np.size(fitted.level)
        for mean in means:
            values, squares = mean[:, :n_targets], mean[:, n_targets:]
            parts += [values + fitted.level, np.sqrt(np.maximum(squares - values**2, 0.0))]
        return [*parts, centred @ fitted.linear + np.tile(fitted.level, len(READ_OUTS))]

    def readouts(self, columns: np.ndarray, task: Task) -> dict[str, np.ndarray]:
        places = {f"knn{k}": 2 * i for i, k in enumerate(NEIGHBOURS)}
        places |= {f"readout{penalty:g}": 2 * len(NEIGHBOURS) + i for i, penalty in enumerate(READ_OUTS)}
        if task.n_targets == 1:
            # A value is said for each of several quantiles alike.
            return {
                name: np.repeat(columns[:, [place]], task.n_outputs, axis=1).astype(np.float32)
                for name, place in places.items()
            }
        n_targets = task.n_targets
        return {
            name: columns[:, place * n_targets : (place + 1) * n_targets].astype(np.float32)
            for name, place in places.items()
        }


# An embedding says different things of classes and of values: two sets of formulas, not two answers of a task.
_STATISTICS: dict[bool, _OfClasses | _OfValues] = {True: _OfClasses(), False: _OfValues()}
"""What is read of an embedding, by whether a row is of one class of several; else it has values, one or more."""


def _centroids(rows: np.ndarray, codes: np.ndarray, n_classes: int) -> np.ndarray:
    centroids = np.full((n_classes, rows.shape[1]), np.nan)
    for code in np.unique(codes):
        centroids[code] = rows[codes == code].mean(axis=0, dtype=np.float64)
    return centroids


def _whitening(rows: np.ndarray, codes: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Matrix W with W W' = S^-1, S = .9 Sw + .1 tr(Sw)/d I and Sw the covariance within classes."""
    # Here, because the facts of encodings are asked for where SciPy is too slow to import.
    from scipy.linalg import cholesky, solve_triangular

    d = rows.shape[1]
    within = rows - centroids[codes]
    covariance = within.T @ within / len(rows)
    mean_variance = np.trace(covariance) / d
    if mean_variance <= np.finfo(np.float64).tiny:
        return np.eye(d)
    lower = cholesky(0.9 * covariance + 0.1 * mean_variance * np.eye(d), lower=True)
    return np.ascontiguousarray(solve_triangular(lower, np.eye(d), lower=True).T)


def _read_outs(centred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Ridge coefficients (d, 2 n_targets), the penalty in units of the mean squared column."""
    from scipy.linalg import cho_factor, cho_solve

    gram, moment = centred.T @ centred, centred.T @ target
    mean_square = np.trace(gram) / len(gram)
    if mean_square <= np.finfo(np.float64).tiny:
        return np.zeros((len(gram), len(READ_OUTS) * (target.size // len(target))))
    factors = (cho_factor(gram + penalty * mean_square * np.eye(len(gram))) for penalty in READ_OUTS)
    return np.column_stack([cho_solve(factor, moment) for factor in factors])


def _mean_distances(centred: np.ndarray, centroids: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Mean distances (2 * n_classes,) of rows to centroids, plain, then whitened; 1 where there is none."""
    if not len(centroids):
        return np.empty(0)
    spaces = ((centred, centroids), (centred @ linear, centroids @ linear))
    ones = np.ones(len(centroids))
    return np.concatenate(
        [_positive(_distances(rows, middles, ones).mean(axis=0)) for rows, middles in spaces]
    )


def _radii(near: Neighbours, unit: np.ndarray, centred: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Median distance of training rows to their k-th neighbour other than themselves.

    The rows asked are spread evenly over the distances to the centre, which no order of rows changes.
    """
    order = np.argsort(np.einsum("ij,ij->i", centred, centred), kind="stable")
    probes = order[np.linspace(0, len(order) - 1, min(PROBE_ROWS, len(order))).astype(np.int64)]
    others = tuple(min(k + 1, len(near.values)) for k in sizes)
    return _positive(np.median(near.radius(unit[probes], others), axis=0))


def _positive(units: np.ndarray) -> np.ndarray:
    """Replace units of columns that do not vary at all by one."""
    return np.where(units > np.finfo(np.float32).eps, units, 1.0)


def _distances(rows: np.ndarray, centroids: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Distances (n, n_classes) in `units`; a class without a centroid is as far as the farthest one."""
    known = np.isfinite(centroids).all(axis=1)
    present = centroids[known]
    squared = (
        np.einsum("ij,ij->i", rows, rows)[:, None]
        - 2.0 * rows @ present.T
        + np.einsum("ij,ij->i", present, present)[None, :]
    )
    out = np.empty((len(rows), len(centroids)))
    out[:, known] = np.sqrt(np.maximum(squared, 0.0)) / units[known]
    out[:, ~known] = out[:, known].max(axis=1, keepdims=True)
    return out
