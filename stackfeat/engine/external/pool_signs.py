"""What looks wrong about one file of a pool, seen beside the others.

In:  predictions of many members for the same training and test rows, and labels.
Out: for each sign how sure it is, in standard errors over blocks of neighbouring rows (rows that follow each other
     may be alike, so single rows would make every sign too sure); members that are nearly the same.

The middle of a pool is the median of its members. What a member says beside it is what is left of its predictions
once a line on the middle is taken away, so neither its spread nor its offset counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import t

from stackfeat.tasks.task import Task

FALSE_ALARMS = 0.01
"""Probability that any file of a sound pool is suspected, whatever the number of its files."""
N_BLOCKS = 20
SHIFTS = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)
FEWEST_ROWS = 3 * N_BLOCKS
FEWEST_OTHERS = 2
FEWEST_FOR_PAIRS = 8
LEAST_PROFILE_GAIN = 0.1
SAME = 0.999
"""Correlation of log-odds, or values, from which on two members are nearly the same, on both kinds of rows."""
COPIED, UNLIKE = 0.9999, 0.99
"""Correlations of test rows and of out-of-fold rows: one test file stands beside two members."""


def surest_by_chance(n_comparisons: int) -> float:
    """Return how many standard errors the surest of so many comparisons exceeds with probability `FALSE_ALARMS`."""
    return float(t.isf(FALSE_ALARMS / max(n_comparisons, 1), N_BLOCKS - 1))


def block_sums(values: np.ndarray) -> np.ndarray:
    """Return sums over blocks of neighbouring rows, along the first axis."""
    starts = np.linspace(0, len(values), N_BLOCKS, endpoint=False).astype(np.int64)
    return np.asarray(np.add.reduceat(values, starts, axis=0))


def jackknife(estimate: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Return estimates in standard errors; `without` holds, first, those less each of the blocks."""
    n = len(without)
    error = np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    return np.asarray(estimate / np.maximum(error, 1e-12))


def shifted_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> tuple[int, float]:
    """Return by how many rows predictions fit better when they are moved, and how sure that is.

    Parameters
    ----------
    y, prediction : arrays of n rows
        All training rows in the order of their file, on the members' scale.
    """
    own = task.row_loss(y, prediction)
    best = (0, -np.inf)
    sizes = block_sums(np.ones(len(y)))
    for shift in SHIFTS:
        gain = own - task.row_loss(np.roll(y, shift), prediction)
        means = block_sums(gain) / sizes
        sure = float(means.mean() / max(means.std(ddof=1) / np.sqrt(N_BLOCKS), 1e-12))
        if sure > best[1]:
            best = (shift, sure)
    return best


@dataclass(frozen=True)
class PoolRows:
    """Predictions of the members of a pool for the same rows.

    Attributes
    ----------
    oof : float32 array (n_members, n_rows, n_columns)
        Probabilities or values, on the members' scale.
    test : float32 array (n_members, n_test, n_columns) or None
    target : float64 array (n_rows, n_columns)
        What `oof` predicts: a column of ones and zeros for each class, or values.
    """

    oof: np.ndarray
    test: np.ndarray | None
    target: np.ndarray

    @property
    def is_enough(self) -> bool:
        """Whether there are members and rows enough to compare one with the others."""
        n_test = 0 if self.test is None else self.test.shape[1]
        return len(self.oof) > FEWEST_OTHERS and min(self.oof.shape[1], n_test) >= FEWEST_ROWS


def middle(predictions: np.ndarray) -> np.ndarray:
    """Return the median of the members, float64, by chunks of rows."""
    chunks = np.array_split(np.arange(predictions.shape[1]), max(1, predictions.shape[1] // 2000))
    return np.concatenate([np.median(predictions[:, rows], axis=0) for rows in chunks]).astype(np.float64)


def _beside(values: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Return what is left of `values` (n, columns) when, column by column, a line on `line` is taken away."""
    values, line = values - values.mean(axis=0), line - line.mean(axis=0)
    slope = (values * line).sum(axis=0) / np.maximum((line * line).sum(axis=0), 1e-30)
    return np.asarray(values - slope * line)


def memorised_labels(rows: PoolRows) -> np.ndarray:
    """Return how sure it is, for each member, that it knows labels of its own out-of-fold rows.

    What a member says beside the middle has a part that follows what the middle does not know of the labels. If that
    is knowledge it varies on test rows as well: its variance is at most that of what the member says beside the
    middle there. A model that has seen the labels of its rows exceeds that by far.

    Returns
    -------
    float64 array (n_members,)
        Standard errors by which the logarithm of the ratio of both variances is above 0.
    """
    assert rows.test is not None
    of_oof, of_test = middle(rows.oof), middle(rows.test)
    unknown = _beside(rows.target, of_oof)
    sizes, test_sizes = block_sums(np.ones(len(of_oof))), block_sums(np.ones(len(of_test)))
    unknown_sums = block_sums((unknown**2).sum(axis=1))
    found = np.empty(len(rows.oof))
    for member, (oof, test) in enumerate(zip(rows.oof, rows.test, strict=True)):
        shared = block_sums((_beside(oof.astype(np.float64), of_oof) * unknown).sum(axis=1))
        spread = block_sums((_beside(test.astype(np.float64), of_test) ** 2).sum(axis=1))
        sums = np.stack([shared, unknown_sums, sizes, spread, test_sizes])
        total = sums.sum(axis=1)
        estimate, without = _log_ratio(total), np.array([_log_ratio(total - block) for block in sums.T])
        found[member] = jackknife(np.asarray(estimate), without) if estimate > 0 else 0.0
    return found


def _log_ratio(sums: np.ndarray) -> float:
    shared, unknown, n_rows, spread, n_test = sums
    if shared <= 0:
        return -50.0
    return float(np.log((shared**2 / max(unknown, 1e-30) / n_rows + 1e-15) / (spread / n_test + 1e-15)))


def lost_test_rows(rows: PoolRows) -> np.ndarray:
    """Return how sure it is, for each member, that its test rows follow the middle far less than its own rows do."""
    assert rows.test is not None
    found = np.zeros(len(rows.oof))
    lines = middle(rows.oof), middle(rows.test)
    for member, tables in enumerate(zip(rows.oof, rows.test, strict=True)):
        sums = [_moments(*pair) for pair in zip(tables, lines, strict=True)]
        totals = [part.sum(axis=0) for part in sums]
        oof, test = map(_correlation, totals)
        without = [
            [_correlation(total - block) for block in part] for total, part in zip(totals, sums, strict=True)
        ]
        if test < 0.5 * oof:
            found[member] = jackknife(np.asarray(0.5 * oof - test), 0.5 * np.array(without[0]) - without[1])
    return found


def _moments(values: np.ndarray, line: np.ndarray) -> np.ndarray:
    a, b = (one - one.mean(axis=0) for one in (values.astype(np.float64), line))
    return np.stack([block_sums((x * y).sum(axis=1)) for x, y in ((a, b), (a, a), (b, b))], axis=1)


def _correlation(moments: np.ndarray) -> float:
    return float(moments[0] / np.sqrt(max(moments[1] * moments[2], 1e-30)))


def exchanged_test_rows(rows: PoolRows) -> list[tuple[int, int]]:
    """Return pairs (member, other): the test rows of a member look like those that belong to the other.

    How a member stands to all others, by what they say beside the middle, is its profile. A member's profile on test
    rows is that on its out-of-fold rows, unless the test file is of another member. A member counts only where its
    test rows go to another one as well when all of them are given to the members that they fit best.
    """
    assert rows.test is not None
    n = len(rows.oof)
    if n < FEWEST_FOR_PAIRS:
        return []
    oof, test = (_block_products(part) for part in (rows.oof, rows.test))
    limit = surest_by_chance(n * n * N_SIGNS)
    alike = _profile_likeness(oof.sum(axis=0), test.sum(axis=0))
    gain = _gain(alike)
    without = np.stack(
        [
            _gain(_profile_likeness(oof.sum(axis=0) - a, test.sum(axis=0) - b))
            for a, b in zip(oof, test, strict=True)
        ]
    )
    sure = jackknife(gain - LEAST_PROFILE_GAIN, without)
    best = linear_sum_assignment(-alike)[1]
    return [(member, int(best[member])) for member in range(n) if sure[member, best[member]] > limit]


def copied_test_rows(rows: PoolRows) -> list[tuple[int, int]]:
    """Return pairs (member, other) with one test file, though their out-of-fold rows are not the same.

    The member is the one of both whose profile (`exchanged_test_rows`) suits it less, the first in doubt.
    """
    assert rows.test is not None
    pairs = np.argwhere(np.triu((_related(rows.test) >= COPIED) & (_related(rows.oof) < UNLIKE)))
    if not len(pairs):
        return []
    products = (_block_products(part).sum(axis=0) for part in (rows.oof, rows.test))
    own = np.diag(_profile_likeness(*products))
    found: dict[int, int] = {}
    for pair in pairs:
        member, other = (int(one) for one in sorted(pair, key=lambda one: own[one]))
        found.setdefault(member, other)
    return list(found.items())


def _related(predictions: np.ndarray) -> np.ndarray:
    """Return correlations between members."""
    centred = (predictions - predictions.mean(axis=1, keepdims=True)).reshape(len(predictions), -1)
    centred = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-30)
    return np.asarray(centred @ centred.T)


def _block_products(predictions: np.ndarray) -> np.ndarray:
    """Return products of what members say beside the middle, (blocks, n_members, n_members)."""
    line = middle(predictions)
    beside = np.stack([_beside(one.astype(np.float64), line) for one in predictions])
    flat = beside.reshape(len(beside), -1)
    places = np.linspace(0, predictions.shape[1], N_BLOCKS + 1).astype(np.int64) * predictions.shape[2]
    parts = [flat[:, start:stop] for start, stop in pairwise(places)]
    return np.stack([part @ part.T for part in parts])


def _profile_likeness(oof: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return how like each member's profile (rows) is that of the test rows of each member (columns)."""
    profiles = []
    for products in (oof, test):
        spread = np.sqrt(np.maximum(np.diag(products), 1e-30))
        related = products / np.outer(spread, spread)
        np.fill_diagonal(related, 0.0)
        profiles.append(related / np.maximum(np.linalg.norm(related, axis=1, keepdims=True), 1e-30))
    return np.asarray(profiles[0] @ profiles[1].T)


def _gain(alike: np.ndarray) -> np.ndarray:
    """Return by how much each member's profile is more like that of another's test rows than of its own."""
    return np.asarray(alike - np.diag(alike)[:, None])


def near_twins(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return for each member the first member that it is nearly the same as; itself, where there is none before.

    Parameters
    ----------
    parts : sequence of float arrays (n_members, n_rows, n_columns)
        Log-odds or values of out-of-fold rows, and of test rows.
    """
    n = len(parts[0])
    alike = np.ones((n, n), dtype=bool)
    for part in parts:
        alike &= _related(part) >= SAME
    leader = np.arange(n)
    for member in range(n):
        before = np.flatnonzero(alike[member, :member] & (leader[:member] == np.arange(member)))
        if len(before):
            leader[member] = before[0]
    return leader


N_SIGNS = 6
"""Order of classes, moved rows, labels, lost and exchanged test rows, AUC: they share `FALSE_ALARMS`."""
