"""Readouts: what the columns of a `geometry` block predict by themselves.

In:  columns of `geometry`, as they are stored.
Out: by name one score for each class, or one value.

A linear model over the same columns has a coefficient for every pair of column and class. A readout has
one for all classes together, which few rows suffice to fit.
"""

from __future__ import annotations

import numpy as np

from stackfeat.encodings.geometry import NEIGHBOURS, READ_OUTS
from stackfeat.tasks.task import Task


def readout_scores(encoding: str | None, columns: np.ndarray, task: Task) -> dict[str, np.ndarray]:
    """Return what a block says of the target.

    Parameters
    ----------
    encoding : str or None
        Only ``geometry`` says something by itself.
    columns : float array of shape (n, c)
    task : Task

    Returns
    -------
    dict of str to float32 array of shape (n, n_outputs)
        Classification: scores up to a factor and a constant for each row, less their mean over classes.
        ``knn10``, ``knn30``: logarithms of class shares among neighbours, one neighbour more being shared out
        among all classes; ``centroid``, ``mahalanobis``: minus squared distances, as of a normal density.
        Regression: predictions, ``knn10``, ``knn30`` and ridge readouts. Empty for other encodings.
    """
    if encoding != "geometry" or task.n_outputs == 0:
        return {}
    return _READOUTS[task.family](np.asarray(columns, dtype=np.float64), task.n_outputs)


def _of_classes(values: np.ndarray, n_classes: int) -> dict[str, np.ndarray]:
    plain, whitened, *shares = (
        values[:, i * n_classes : (i + 1) * n_classes] for i in range(2 + len(NEIGHBOURS))
    )
    near = zip(NEIGHBOURS, shares, strict=True)
    scores = {f"knn{k}": np.log(k * share + 1.0 / n_classes) for k, share in near}
    scores |= {"centroid": -(plain**2), "mahalanobis": -(whitened**2)}
    return {
        name: (score - score.mean(axis=1, keepdims=True)).astype(np.float32) for name, score in scores.items()
    }


def _of_values(values: np.ndarray, n_targets: int) -> dict[str, np.ndarray]:
    places = {f"knn{k}": 2 * i for i, k in enumerate(NEIGHBOURS)}
    places |= {f"readout{penalty:g}": 2 * len(NEIGHBOURS) + i for i, penalty in enumerate(READ_OUTS)}
    return {name: values[:, [place]].astype(np.float32) for name, place in places.items()}


# Where the columns stand that `geometry` has of classes and of values.
_READOUTS = {"classification": _of_classes, "regression": _of_values}
"""By `Task.family`."""
