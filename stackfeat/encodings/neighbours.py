"""Nearest neighbours by cosine, found by blocked matrix products.

In:  reference rows of one embedding, with class codes or target values.
Out: for query rows, the mean of what their neighbours hold, and the distance to the k-th.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_REFERENCE = 50_000
MAX_EXACT = 20_000  # with more reference rows than this a wide search costs too much beside training
MAX_WIDTH = 64  # the search is as fast as it is narrow, and a trained layer has few wide directions
QUERY_ROWS = 64  # similarities to 50,000 rows then fit into memory that is used again, not asked for anew
GROUP = 64
TIE = 1e-6  # similarities closer than this are equal: float32 cannot order them


def unit_rows(embedding: np.ndarray) -> np.ndarray:
    """Scale rows to length one, float32; rows of zeros stay zero."""
    rows = np.asarray(embedding, dtype=np.float32)
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return (rows / np.where(length > 0, length, 1.0)[:, None]).astype(np.float32)


def search_directions(
    unit: np.ndarray, n_reference: int, *, n_most: int = MAX_WIDTH, n_exact: int = MAX_EXACT
) -> np.ndarray | None:
    """Return the directions that keep most of the cosines between rows; None where all are searched.

    Parameters
    ----------
    unit : float32 array of shape (n, d)
        Rows of length one.
    n_reference : int
        Rows that are searched. The full width costs quality nothing, so up to `n_exact` rows keep it.
    n_most, n_exact : int

    Returns
    -------
    float32 array of shape (d, n_most), or None
    """
    if n_reference <= n_exact or unit.shape[1] <= n_most:
        return None
    vectors = np.linalg.eigh((unit.T @ unit).astype(np.float64))[1]
    return np.ascontiguousarray(vectors[:, ::-1][:, :n_most], dtype=np.float32)


def project(unit: np.ndarray, directions: np.ndarray | None) -> np.ndarray:
    """Return rows in some directions, float32; in double precision on the way, as in `Neighbours`."""
    if directions is None:
        return unit
    return np.asarray(unit.astype(np.float64) @ directions.astype(np.float64), dtype=np.float32)


def reference_rows(
    strata: np.ndarray | None, n_rows: int, seed: int, limit: int = MAX_REFERENCE
) -> np.ndarray:
    """Choose at most `limit` rows, each class in its share and none left out.

    Parameters
    ----------
    strata : int array of shape (n_rows,) or None
        Class codes; None draws from all rows alike.
    n_rows, seed, limit : int

    Returns
    -------
    int64 array, sorted
    """
    if n_rows <= limit:
        return np.arange(n_rows)
    order = np.random.default_rng(seed).permutation(n_rows)
    if strata is None:
        return np.sort(order[:limit])
    # Rank every row within its class, then take rows in order of (rank / class size):
    # any prefix holds the classes in their shares, and the first row of each class comes early.
    codes = strata[order]
    by_class = np.argsort(codes, kind="stable")
    _, starts, sizes = np.unique(codes[by_class], return_index=True, return_counts=True)
    rank = np.arange(n_rows) - np.repeat(starts, sizes)
    share = rank / np.repeat(sizes, sizes)
    chosen = by_class[np.argsort(share, kind="stable")[:limit]]
    return np.sort(order[chosen])


@dataclass(frozen=True)
class Neighbours:
    """Reference rows that know what they hold.

    Attributes
    ----------
    reference : float32 array of shape (m, d)
        Rows of length one, in the directions that are searched.
    values : array of shape (m,), or (m, n_targets)
        int64 class codes (`n_classes` > 0), or float64 targets.
    n_classes : int
        0 for regression.
    """

    reference: np.ndarray
    values: np.ndarray
    n_classes: int

    def _held(self) -> Any:
        """What each reference row holds, (m, c): one-hot classes, or the target and its square."""
        if self.n_classes:
            from scipy import sparse

            m = len(self.values)
            return sparse.csr_array((np.ones(m), (np.arange(m), self.values)), shape=(m, self.n_classes))
        return np.column_stack([self.values, self.values**2])

    def look_up(
        self, queries: np.ndarray, sizes: tuple[int, ...], n_real: int | None = None
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Average what the nearest rows hold.

        Rows equally far from the query as its k-th neighbour share the remaining places,
        so the order of the reference rows does not matter.

        Parameters
        ----------
        queries : float32 array of shape (n, d)
            Rows of length one.
        sizes : tuple of int
            Numbers of neighbours, each at most m.
        n_real : int, optional
            Rows that are looked up; those behind them, which fill a block up, get zeros.

        Returns
        -------
        means : list of float64 arrays of shape (n, c)
            One for each size: class shares, or the mean of the target and of its square.
        radius : float64 array of shape (n, len(sizes))
            1 - cosine to the k-th neighbour.
        """
        held, n_real = self._held(), len(queries) if n_real is None else n_real
        parts = [
            self._look_up(queries[start : start + QUERY_ROWS], sizes, held, n_real - start)
            for start in range(0, n_real, QUERY_ROWS)
        ]
        means = [np.vstack([part[0][i] for part in parts]) for i in range(len(sizes))]
        radius, n_filled = np.vstack([part[1] for part in parts]), len(queries) - n_real
        if not n_filled:
            return means, radius
        return [_filled(mean, n_filled) for mean in means], _filled(radius, n_filled)

    def _look_up(
        self, queries: np.ndarray, sizes: tuple[int, ...], held: Any, n_real: int
    ) -> tuple[list[np.ndarray], np.ndarray]:
        # The product of all of them, for it may round otherwise in another shape.
        similarity, queries = (queries @ self.reference.T)[:n_real], queries[:n_real]
        nearest, close = self._nearest(queries, similarity, min(max(sizes) + 1, similarity.shape[1]))
        means, radius = [], []
        for k in sizes:
            means.append(self._mean(nearest[:, :k]))
            radius.append(1.0 - close[:, k - 1])
            if close.shape[1] > k:
                tied = np.flatnonzero(close[:, k - 1] - close[:, k] <= TIE)
                if len(tied):
                    means[-1][tied] = _share_places(similarity[tied], close[tied, k - 1], k) @ held
        return means, np.column_stack(radius)

    def _nearest(
        self, queries: np.ndarray, similarity: np.ndarray, n_top: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest rows and their cosines, in double precision, nearest first.

        A float32 product rounds a row by its place among the others, and results must not.
        """
        columns = _top(similarity, n_top)[0]
        close = np.einsum(
            "ij,ikj->ik", queries.astype(np.float64), self.reference[columns].astype(np.float64)
        )
        order = np.argsort(-close, axis=1, kind="stable")
        return np.take_along_axis(columns, order, axis=1), np.take_along_axis(close, order, axis=1)

    def radius(self, queries: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
        """Return 1 - cosine to the k-th nearest row, float64 (n, len(sizes)), without what the rows hold."""
        parts = []
        for start in range(0, len(queries), QUERY_ROWS):
            block = queries[start : start + QUERY_ROWS]
            _, close = self._nearest(block, block @ self.reference.T, max(sizes))
            parts.append(1.0 - close[:, [k - 1 for k in sizes]])
        return np.vstack(parts)

    def _mean(self, nearest: np.ndarray) -> np.ndarray:
        held = self.values[nearest]
        if not self.n_classes:
            return np.column_stack([held.mean(axis=1), (held**2).mean(axis=1)])
        n, k = nearest.shape
        cells = held + self.n_classes * np.arange(n)[:, None]
        counts = np.bincount(cells.ravel(), minlength=n * self.n_classes)
        return np.asarray(counts.reshape(n, self.n_classes) / k)


def _filled(values: np.ndarray, n_rows: int) -> np.ndarray:
    return np.vstack([values, np.zeros((n_rows, values.shape[1]))])


def _top(similarity: np.ndarray, n_top: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the `n_top` greatest values of every row, greatest first, and the values."""
    n_groups = similarity.shape[1] // GROUP
    if n_groups > 4 * n_top:
        # The greatest values lie in the groups with the greatest maxima; the last columns form no group.
        whole = n_groups * GROUP
        maxima = similarity[:, :whole].reshape(len(similarity), GROUP, n_groups).max(axis=1)
        groups = np.argpartition(maxima, -n_top, axis=1)[:, -n_top:]
        members = (groups[:, :, None] + n_groups * np.arange(GROUP)).reshape(len(similarity), -1)
        tail = np.broadcast_to(
            np.arange(whole, similarity.shape[1]), (len(similarity), similarity.shape[1] - whole)
        )
        candidates = np.hstack([members, tail])
        inside, values = _top(np.take_along_axis(similarity, candidates, axis=1), n_top)
        return np.take_along_axis(candidates, inside, axis=1), values
    columns = np.argpartition(similarity, -n_top, axis=1)[:, -n_top:]
    values = np.take_along_axis(similarity, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)


def _share_places(similarity: np.ndarray, at_k: np.ndarray, k: int) -> np.ndarray:
    """Weights over reference rows, summing to one: ties at the k-th place share what is left."""
    closer = similarity > at_k[:, None] + TIE
    tied = ~closer & (similarity >= at_k[:, None] - TIE)
    left = (k - closer.sum(axis=1)) / tied.sum(axis=1)
    return np.asarray((closer + tied * left[:, None]) / k)
