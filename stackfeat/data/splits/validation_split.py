"""Inner splits: rows set aside inside a fold's training rows, split the way the folds are.

In:  `Samples`, the rows that may be used, the kind of folds, a share, a seed.
Out: (rows to fit on, validation rows). Early stopping, gates and calibration use it.
"""

from __future__ import annotations

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.splits.splitters import Split
from stackfeat.errors import DataError

_GROUP_DRAWS = 20


def inner_split(samples: Samples, rows: np.ndarray, kind: str, fraction: float, seed: int) -> Split:
    """Divide `rows` into rows to fit on and validation rows.

    Groups are kept whole wherever `samples` has them. Time folds validate on the last rows, rows of
    one time together. Otherwise classes are represented in proportion, and every class keeps a row to
    fit on (unless no class has two).

    Parameters
    ----------
    samples : Samples
    rows : ndarray of shape (n,), int
        The rows that may be used; no other row is looked at.
    kind : str
        What `resolve_kind` returned.
    fraction : float
        Share of validation rows, between 0 and 1.
    seed : int

    Returns
    -------
    tuple of ndarray, int64
        Sorted; together exactly `rows`, except that time folds with groups leave out rows to fit on
        whose group is validated.

    Raises
    ------
    DataError
        If there are not two rows, groups or times to divide.
    """
    rows = np.sort(np.asarray(rows, dtype=np.int64))
    if len(rows) < 2:
        raise DataError(f"an inner split must have at least 2 rows; got {len(rows)}; use fewer folds")
    if kind == "time":
        return _last_rows(samples, rows, fraction)
    labels = samples.task.strata(samples.labels[rows])
    rng = np.random.default_rng(seed)
    if samples.group is not None:
        chosen = _whole_groups(samples.group[rows], labels, fraction, rng)
    else:
        chosen = _proportional(labels, fraction, rng)
    return rows[~chosen], rows[chosen]


def _last_rows(samples: Samples, rows: np.ndarray, fraction: float) -> Split:
    assert samples.time is not None
    time = samples.time[rows]
    n_validation = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
    chosen = time >= np.sort(time)[len(rows) - n_validation]
    if chosen.all():
        # The share falls into the first time of all: validate on every later time instead.
        chosen = time > time.min()
    if not chosen.any():
        raise DataError("an inner split by time must have at least 2 times; got one; use fewer folds")
    fit, validation = rows[~chosen], rows[chosen]
    if samples.group is not None:
        apart = ~np.isin(samples.group[fit], samples.group[validation])
        if not apart.any():
            raise DataError(
                "an inner split by time must leave rows to fit on whose group is not validated; got none; "
                "use fewer folds, or remove data.group"
            )
        fit = fit[apart]
    return fit, validation


def _proportional(labels: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Choose a share of every class, to within one row, and the same share of all rows."""
    shuffled = rng.permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    steps = np.floor(np.arange(len(labels) + 1) * fraction + rng.random())
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order[np.diff(steps) > 0]] = True
    kept = np.bincount(labels[~chosen], minlength=labels.max() + 1)
    emptied = np.flatnonzero((kept == 0) & (np.bincount(labels, minlength=len(kept)) > 0))
    for label in emptied:
        chosen[np.flatnonzero(labels == label)[0]] = False
    if not chosen.any():
        counts = np.bincount(labels)
        chosen[order[np.flatnonzero(counts[labels[order]] == counts.max())[-1]]] = True
    return chosen


def _whole_groups(
    groups: np.ndarray, labels: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw sets of groups, and keep the draw with the fewest classes lost and the best proportions."""
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise DataError("an inner split by group must have at least 2 groups; got one; use fewer folds")
    n_classes = int(labels.max()) + 1
    counts = np.bincount(group * n_classes + labels, minlength=len(names) * n_classes).reshape(-1, n_classes)
    total, sizes = counts.sum(axis=0), counts.sum(axis=1)
    draws = []
    for _ in range(_GROUP_DRAWS):
        order = rng.permutation(len(names))
        nearest = int(np.argmin(np.abs(np.cumsum(sizes[order])[:-1] - fraction * len(groups))))
        picked = order[: nearest + 1]
        validated = counts[picked].sum(axis=0)
        lost = int(((total > 0) & (validated == total)).sum())
        distance = float(np.abs(validated / len(groups) - fraction * total / len(groups)).sum())
        draws.append((lost, distance, picked))
    _, _, best = min(draws, key=lambda draw: draw[:2])
    return np.isin(group, best)
