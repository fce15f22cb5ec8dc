"""Fold assignments that people make most often: KFold and StratifiedKFold of scikit-learn, with the usual seeds.

In:  the labels of all training rows in the order of their file.
Out: `Family`: for each kind, the segments of rows that the folds of all its numbers of folds and seeds are made of.
     Folds of one seed are pieces of one order of the rows, whatever their number, so rows are ordered once a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

N_FOLDS = tuple(range(3, 21))
RUN_FOLDS = "the run's folds"

_OTHER_SEEDS = """
    13 17 21 22 23 33 42 43 64 69 77 88 99 100 101 111 123 202 222 228 321 333 420 456 555 666 719
    777 888 999 1000 1001 1111 1234 1337 1993 2000 2016 2017 2018 2019 2020 2021 2022 2023 2024 2025
    2026 2222 3407 4242 7777 12345 31337
"""
SEEDS = (*range(12), *map(int, _OTHER_SEEDS.split()))


@dataclass(frozen=True)
class Family:
    """Shuffled splits of one kind.

    Attributes
    ----------
    kind : str
        Of scikit-learn's class.
    strata : int64 array (n_rows,)
        Rows are shuffled within each; numbered as the splitter does.
    """

    kind: str
    strata: np.ndarray

    def name(self, n_folds: int, seed: int) -> str:
        return f"{self.kind}({n_folds}, shuffle=True, random_state={seed})"

    @cached_property
    def sizes(self) -> np.ndarray:
        """Rows of each stratum."""
        return np.bincount(self.strata)

    def fold_sizes(self, n_folds: int) -> np.ndarray:
        """Return how many rows of each stratum each fold has, (n_strata, n_folds)."""
        ordered = np.repeat(np.arange(len(self.sizes)), self.sizes)
        counts = [np.bincount(ordered[fold::n_folds], minlength=len(self.sizes)) for fold in range(n_folds)]
        return np.stack(counts, axis=1)

    @cached_property
    def ends(self) -> list[np.ndarray]:
        """Where some fold of some number of folds ends, in the order of the rows of each stratum."""
        ends = [np.cumsum(self.fold_sizes(n), axis=1) for n in N_FOLDS]
        return [
            np.unique(np.concatenate([part[stratum] for part in ends])) for stratum in range(len(self.sizes))
        ]

    @cached_property
    def firsts(self) -> np.ndarray:
        """The number of each stratum's first segment, and of all segments."""
        return np.cumsum([0, *map(len, self.ends)])

    @cached_property
    def folds(self) -> np.ndarray:
        """Which segments each fold of each number of folds is made of, bool (sum of N_FOLDS, n_segments)."""
        rows = []
        for n in N_FOLDS:
            ends = np.cumsum(self.fold_sizes(n), axis=1)
            fold_of = [np.searchsorted(ends[k], self.ends[k], side="left") for k in range(len(self.sizes))]
            rows.append(np.concatenate(fold_of)[None] == np.arange(n)[:, None])
        return np.concatenate(rows)

    def segments(self, seed: int) -> np.ndarray:
        """Return the segment of each row, int64 (n_rows,)."""
        random = np.random.RandomState(seed)
        found = np.empty(len(self.strata), dtype=np.int64)
        for stratum, size in enumerate(self.sizes):
            order = np.arange(size)
            random.shuffle(order)
            place = self._place(order)
            cut = np.searchsorted(self.ends[stratum], place, side="right")
            found[self.strata == stratum] = self.firsts[stratum] + cut
        return found

    def _place(self, order: np.ndarray) -> np.ndarray:
        """Return where each row of a stratum stands in the order that is cut into folds."""
        if self.kind == "StratifiedKFold":
            # It shuffles the numbers of folds that stand beside the rows; KFold shuffles the rows.
            return order
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return place


def families(y: np.ndarray, is_classes: bool) -> Iterator[Family]:
    """Yield the families of splits of these rows; those by class only where there are classes."""
    yield Family("KFold", np.zeros(len(y), dtype=np.int64))
    if is_classes:
        # The splitter numbers classes in the order in which they appear.
        _, first, code = np.unique(y, return_index=True, return_inverse=True)
        yield Family("StratifiedKFold", np.argsort(np.argsort(first))[code])


def fold_of(family: Family, n_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each row."""
    start = sum(n for n in N_FOLDS if n < n_folds)
    return np.asarray(family.folds[start : start + n_folds].argmax(axis=0)[family.segments(seed)])
