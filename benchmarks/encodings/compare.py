"""Losses row by row, and paired differences of two stacks with their standard errors.

In:  predictions of the test rows; then the losses of several seeds.
Out: a `Difference`: its mean over seeds, its error over seeds, and its error over test rows.

Log-loss for classes; for values the root mean squared error in standard deviations of the test target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stackfeat.tasks.task import Task


def row_losses(prediction: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Log-loss of every row, or its squared error in units of the target's variance.

    Parameters
    ----------
    prediction : ndarray of shape (n, n_classes) or (n, 1)
        Classes in the order of ``np.unique(y)``.
    y : ndarray of shape (n,)
        Labels, or values.
    """
    if prediction.shape[1] == 1:
        values = np.asarray(y, dtype=np.float64)
        return (prediction[:, 0] - values) ** 2 / values.var()
    codes = np.unique(y, return_inverse=True)[1].reshape(-1)
    if codes.max() + 1 != prediction.shape[1]:
        raise ValueError(
            f"test rows must have as many classes as predictions; got {codes.max() + 1} and "
            f"{prediction.shape[1]}. Draw more test rows"
        )
    proba = prediction / prediction.sum(axis=1, keepdims=True)
    return Task("multiclass", tuple(range(prediction.shape[1]))).row_loss(codes, proba)


def score(losses: np.ndarray, is_value: bool) -> float:
    """Log-loss, or root mean squared error in standard deviations."""
    mean = float(np.mean(losses))
    return float(np.sqrt(mean)) if is_value else mean


@dataclass(frozen=True)
class Difference:
    """One stack's score less another's; below zero the first is better.

    Attributes
    ----------
    mean : float
        Over seeds.
    over_seeds : float
        Standard error of `mean`, from its spread over seeds; NaN for one seed.
    over_rows : float
        Standard error of `mean`, from its spread over test rows (or clusters of them).
    """

    mean: float
    over_seeds: float
    over_rows: float

    @property
    def in_errors(self) -> float:
        """The mean in standard errors over rows; 0 where all losses are the same."""
        return self.mean / self.over_rows if self.over_rows > 0 else 0.0


def difference(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], clusters: np.ndarray, is_value: bool
) -> Difference:
    """Pair the losses of two stacks, seed by seed and row by row.

    Parameters
    ----------
    first, second : sequences over seeds of ndarray of shape (n,)
        From `row_losses`, the same rows for every seed.
    clusters : ndarray of shape (n,)
        Rows of one number count as one draw.
    """
    shares = [_shares(one, other, is_value) for one, other in zip(first, second, strict=True)]
    by_seed = np.array([share.mean() for share in shares])
    error = float(by_seed.std(ddof=1) / np.sqrt(len(by_seed))) if len(by_seed) > 1 else float("nan")
    return Difference(float(by_seed.mean()), error, clustered_error(np.mean(shares, axis=0), clusters))


def _shares(one: np.ndarray, other: np.ndarray, is_value: bool) -> np.ndarray:
    """What each row adds to the difference: their mean is the difference of the scores."""
    if not is_value:
        return one - other
    # a - b = (a^2 - b^2) / (a + b), so squared errors divide by the sum of the two scores.
    return (one - other) / (score(one, True) + score(other, True))


def clustered_error(values: np.ndarray, clusters: np.ndarray) -> float:
    """Standard error of a mean over rows of which those of one cluster belong together."""
    centred = values - values.mean()
    sums = np.bincount(np.unique(clusters, return_inverse=True)[1].reshape(-1), weights=centred)
    n_clusters = len(sums)
    if n_clusters < 2:
        return float("nan")
    return float(np.sqrt(np.sum(sums**2) * n_clusters / (n_clusters - 1)) / len(values))
