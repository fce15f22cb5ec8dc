"""How alike are two layers, whatever the basis of their neurons?

In:  features of the same rows, as arrays or as `extract` returns them.
Out: a number between 0 and 1 for a pair; a table for two dicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from stackfeat.errors import UsageError
from stackfeat.registry.resolve import suggest

Features = np.ndarray | Mapping[str, np.ndarray]
METHODS = ("cka", "rsa")
MOST_RSA_ROWS = 2000
"""Representational dissimilarities are of all pairs of rows: 2,000 rows are two million of them."""


def similarity(
    first: Features, second: Features, *, method: Literal["cka", "rsa"] = "cka", seed: int = 0
) -> float | pd.DataFrame:
    """Compare layers of one net, or of two, on the same rows.

    Both measures do not change when a layer's neurons are permuted, rotated, shifted or scaled together;
    so fold models of one member, whose neurons do not correspond, can be compared as well.

    Parameters
    ----------
    first, second : array of shape (n_rows, d), or dict of str to such arrays
        Values of more dimensions are flattened within a row. The widths may differ.
    method : {"cka", "rsa"}
        ``cka``: linear centred kernel alignment. ``rsa``: Spearman correlation between the distances
        of all pairs of rows, on at most 2,000 of them.
    seed : int
        Decides which rows `rsa` takes.

    Returns
    -------
    float or DataFrame
        1 for layers that are alike up to a rotation, a shift and a scale; a DataFrame with a row for each name of
        `first` and a column for each of `second` where either is a dict. `rsa` can be below 0. NaN
        where a layer does not vary over the rows.

    Raises
    ------
    UsageError
        If the numbers of rows differ or are below three, a value is not finite, or the method is unknown.

    References
    ----------
    Kornblith et al., *Similarity of Neural Network Representations Revisited*, ICML 2019.
    Kriegeskorte et al., *Representational similarity analysis*, Frontiers in Systems Neuroscience 2008.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(100, 3))
    >>> turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    >>> round(similarity(rows, 5 * rows @ turn + 1), 6)
    1.0
    """
    if method not in METHODS:
        raise UsageError(
            f"method must be one of {', '.join(METHODS)}; got {method!r}.{suggest(method, METHODS)}"
        )
    named = [_named(values) for values in (first, second)]
    _check(named)
    measure = _cka if method == "cka" else _rsa
    chosen = slice(None) if method == "cka" else _rows(len(next(iter(named[0].values()))), seed)
    table = [[measure(a[chosen], b[chosen]) for b in named[1].values()] for a in named[0].values()]
    if isinstance(first, Mapping) or isinstance(second, Mapping):
        return pd.DataFrame(table, index=list(named[0]), columns=list(named[1]))
    return table[0][0]


def _named(values: Features) -> dict[str, np.ndarray]:
    found = values if isinstance(values, Mapping) else {"values": values}
    arrays = {name: np.asarray(array, dtype=np.float64) for name, array in found.items()}
    return {
        name: array.reshape(len(array), -1) if array.size > 1 else array for name, array in arrays.items()
    }


def _check(named: list[dict[str, np.ndarray]]) -> None:
    if not all(named) or any(array.ndim < 2 for part in named for array in part.values()):
        raise UsageError(
            "features must be arrays with a row for each sample; got none; give first and second"
        )
    counts = {array.shape[0] for part in named for array in part.values()}
    if len(counts) > 1:
        raise UsageError(
            f"features must be of the same rows; got {sorted(counts)} rows; extract both from the same inputs"
        )
    if min(counts) < 3:
        raise UsageError(f"features must have at least 3 rows; got {min(counts)}; give more")
    for part in named:
        for name, array in part.items():
            if not np.isfinite(array).all():
                raise UsageError(f"features must be finite; {name} is not; look at the net or its inputs")


def _cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear centred kernel alignment, by whichever of widths and rows is smaller."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    if max(a.shape[1], b.shape[1]) <= len(a):
        shared = float(np.sum((a.T @ b) ** 2))
        own = float(np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    else:
        left, right = a @ a.T, b @ b.T
        shared, own = float(np.sum(left * right)), float(np.linalg.norm(left) * np.linalg.norm(right))
    return min(shared / own, 1.0) if own else float("nan")


def _rsa(a: np.ndarray, b: np.ndarray) -> float:
    distances = pdist(a), pdist(b)
    if any(np.ptp(values) == 0 for values in distances):
        return float("nan")
    return float(spearmanr(*distances).statistic)


def _rows(n_rows: int, seed: int) -> np.ndarray:
    if n_rows <= MOST_RSA_ROWS:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, MOST_RSA_ROWS, replace=False))
