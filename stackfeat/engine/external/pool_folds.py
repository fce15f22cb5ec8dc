"""Tell by which folds the models behind a file were trained: each fold's model is a little off in its own way.

In:  out-of-fold rows of one file after the other, the training rows with their columns and labels, the run's folds.
Out: for each file the split of `common_folds`, or of the run, that its rows show, or nothing.

What a file says is fitted by the columns of the table, additively, on all rows at once; what is left has no part of
the folds but the models' own. Its means, over all rows and over the rows of each value of a column, differ between
folds by more than between random parts of the rows where the file was made with these folds. A random split knows
nothing of a file that was made with other folds, so the test is exact but for the normal approximation of sums, and
that is corrected by the other splits of the same kind, nearly all of which are wrong ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import f, norm

from stackfeat.data.samples import Samples, Table
from stackfeat.engine.external.common_folds import N_FOLDS, RUN_FOLDS, SEEDS, Family, families
from stackfeat.engine.external.leak_signs import SMALLEST

FALSE_NAMES = 0.01
"""Probability that any file of a pool is said to have folds that it has not."""
MOST_ROWS = 50_000
MOST_COLUMNS = 60
N_BINS = 10
FEWEST_IN_BIN = 200
FEWEST_ROWS = 1_000
CLIPPED = 0.005
"""Share of rows at each end whose values are pulled in, so that sums are normal soon."""
N_WINDOWS = 4
"""Of a fold: the first is compared with the last of the fold before where folds follow the order of the rows."""
FEWEST_GROUPS = 20
"""Of a fold, below which groups tell nothing."""
N_DRAWS = (50, 350)
"""Of groups' places: the first err by a fifth in the variance; a file that looks sure by them gets the others."""
LOOKS_SURE = 2.0
"""Standard deviations."""
ABOUT_AS_WELL = 2.0
"""Standard deviations: folds of one shuffle share borders, so one file alone may show too few or too many."""


@dataclass(frozen=True)
class _Shuffled:
    """Splits that shuffle the rows, or those of each class, first."""

    family: Family
    rows: np.ndarray

    @property
    def names(self) -> list[str]:
        return [self.family.name(n_folds, seed) for seed in SEEDS for n_folds in N_FOLDS]

    @cached_property
    def segments(self) -> list[csr_matrix]:
        """By seed the matrix that sums rows by segment."""
        size = int(self.family.firsts[-1])
        return [_by_segment(self.family.segments(seed)[self.rows], size) for seed in SEEDS]

    @cached_property
    def folds(self) -> csr_matrix:
        return csr_matrix(self.family.folds.astype(np.float64))

    @cached_property
    def counts(self) -> list[np.ndarray]:
        """Rows of each fold, by seed."""
        ones = np.ones(len(self.rows))
        return [np.maximum(self.folds @ (segments @ ones), 1) for segments in self.segments]

    def evidence(self, sums: np.ndarray) -> np.ndarray:
        """Return how sure each seed and number of folds is."""
        starts = np.cumsum([0, *N_FOLDS[:-1]])
        totals = np.empty((len(SEEDS), len(N_FOLDS)))
        for seed, (segments, counts) in enumerate(zip(self.segments, self.counts, strict=True)):
            squares = ((self.folds @ (segments @ sums)) ** 2).sum(axis=1) / counts
            totals[seed] = np.add.reduceat(squares, starts)
        degrees = (np.asarray(N_FOLDS) - 1) * sums.shape[1]
        # Nearly all seeds are wrong ones: their middle says what chance gives.
        middle = degrees * (1 - 2 / (9 * degrees)) ** 3
        return _normal(totals / np.maximum(np.median(totals, axis=0) / middle, 1.0), degrees).ravel()


@dataclass(frozen=True)
class _Ordered:
    """Splits without shuffling: folds are blocks of rows, within each stratum."""

    family: Family
    rows: np.ndarray

    @property
    def names(self) -> list[str]:
        return [f"{self.family.kind}({n})" for n in N_FOLDS]

    @cached_property
    def share(self) -> np.ndarray:
        """Where each row stands in its stratum, from 0 to 1."""
        strata, place = self.family.strata, np.empty(len(self.family.strata))
        for stratum, size in enumerate(self.family.sizes):
            place[strata == stratum] = np.arange(size) / size
        return np.asarray(place[self.rows])

    def evidence(self, sums: np.ndarray) -> np.ndarray:
        """Return how sure each number of folds is.

        A file may drift with the order of the rows, so only steps count: the last quarter of a fold beside the first
        of the next one, as compared with neighbouring quarters within folds.
        """
        found = np.empty(len(N_FOLDS))
        for number, n_folds in enumerate(N_FOLDS):
            window = np.minimum(self.share * (n_folds * N_WINDOWS), n_folds * N_WINDOWS - 1).astype(np.int64)
            counts = np.bincount(window, minlength=n_folds * N_WINDOWS)
            means = _by_segment(window, len(counts)) @ sums / np.maximum(counts, 1)[:, None]
            steps = np.diff(means, axis=0)
            sizes = 1.0 / (1.0 / np.maximum(counts[1:], 1) + 1.0 / np.maximum(counts[:-1], 1))
            is_end = np.arange(1, len(counts)) % N_WINDOWS == 0
            found[number] = _sure_steps(steps * np.sqrt(sizes)[:, None], is_end)
        return found


@dataclass(frozen=True)
class _Grouped:
    """Splits by group without shuffling."""

    group: np.ndarray
    rows: np.ndarray
    seed: int

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of folds with groups enough."""
        n_groups = len(np.unique(self.group[self.rows]))
        return tuple(n for n in N_FOLDS if n_groups >= FEWEST_GROUPS * n)

    @property
    def names(self) -> list[str]:
        return [f"GroupKFold({n})" for n in self.sizes]

    @cached_property
    def folds(self) -> list[np.ndarray]:
        """The fold of each group, by number of folds."""
        from sklearn.model_selection import GroupKFold

        found = []
        for n_folds in self.sizes:
            fold_of = np.empty(int(self.group.max()) + 1, dtype=np.int64)
            for fold, (_, held) in enumerate(GroupKFold(n_folds).split(self.group, groups=self.group)):
                fold_of[self.group[held]] = fold
            found.append(fold_of)
        return found

    def evidence(self, sums: np.ndarray) -> np.ndarray:
        """Return how sure each number of folds is; groups of a size might change places."""
        by_group = _by_segment(self.group[self.rows], int(self.group.max()) + 1) @ sums
        random = np.random.default_rng(self.seed)
        order = np.argsort(-np.bincount(self.group), kind="stable")
        found = []
        for n_folds, fold_of in zip(self.sizes, self.folds, strict=True):
            total, sure = ((_by_segment(fold_of, n_folds) @ by_group) ** 2).sum(), np.inf
            drawn, totals = np.empty_like(fold_of), list[float]()
            for n_draws in N_DRAWS:
                if sure < LOOKS_SURE:
                    break
                for _ in range(n_draws):
                    for start in range(0, len(order), n_folds):
                        chunk = order[start : start + n_folds]
                        drawn[chunk] = random.permutation(n_folds)[: len(chunk)]
                    totals.append(((_by_segment(drawn, n_folds) @ by_group) ** 2).sum())
                mean = float(np.mean(totals))
                degrees = 2 * mean**2 / max(float(np.var(totals, ddof=1)), 1e-300)
                sure = float(_normal(degrees * total / max(mean, 1e-300), np.asarray(degrees)))
            found.append(sure)
        return np.asarray(found)


@dataclass
class FoldSearch:
    """Looks for the folds of files.

    Parameters
    ----------
    train : Samples
        All training rows.
    run_folds : int64 array (n_rows,)
        -1 for rows in none.
    is_whole : bool
        Whether the training rows are those of the training file; of others no splitter's folds are known.
    seed : int
    """

    train: Samples
    run_folds: np.ndarray
    is_whole: bool
    seed: int
    kinds: list[_Shuffled | _Ordered | _Grouped] = field(init=False)

    def __post_init__(self) -> None:
        n = self.train.n_rows
        drawn = np.random.default_rng(self.seed).permutation(n)[:MOST_ROWS]
        self.rows = np.sort(drawn[self.run_folds[drawn] >= 0])
        self.is_classes = bool(self.train.task.classes)
        self.kinds = []
        if not self.is_whole or len(self.rows) < FEWEST_ROWS:
            return
        for family in families(self.train.labels, self.is_classes):
            self.kinds += [_Shuffled(family, self.rows), _Ordered(family, self.rows)]
        if self.train.group is not None:
            self.kinds.append(_Grouped(self.train.group, self.rows, self.seed))

    @cached_property
    def splits(self) -> list[str]:
        """Names of what each file is compared with."""
        return [RUN_FOLDS, *(name for kind in self.kinds for name in kind.names)]

    def find(self, files: Iterator[tuple[str, np.ndarray]]) -> dict[str, str]:
        """Return the name of the split of each file that shows one.

        Splits that some file shows beyond doubt are then looked for in the others, which takes less.

        Parameters
        ----------
        files : iterator of (str, float array (n_rows, n_columns))
            Out-of-fold rows of all training rows, on the members' scale.
        """
        if len(self.rows) < FEWEST_ROWS:
            return {}
        sure = {name: self.evidence(oof[self.rows]) for name, oof in files}
        found: dict[str, int] = {}
        among = np.arange(len(self.splits))
        for _ in range(2):
            limit = norm.isf(FALSE_NAMES / 2 / max(1, len(sure) * len(among)))
            for name, values in sure.items():
                best = among[values[among].argmax()] if len(among) else 0
                if name not in found and values[best] > limit:
                    found[name] = int(best)
            among = np.unique(np.fromiter(found.values(), dtype=np.int64))
        return {name: self.splits[split] for name, split in self._by_the_surest(found, sure).items()}

    def _by_the_surest(self, found: dict[str, int], sure: dict[str, np.ndarray]) -> dict[str, int]:
        """Let the surest file of a shuffle say into how many folds others are cut that show it about as well."""
        surest: dict[int, float] = {}
        for name, split in found.items():
            surest[split] = max(surest.get(split, 0.0), float(sure[name][split]))
        chosen = {}
        for name, split in found.items():
            is_same = [
                other
                for other in surest
                if _shuffle_of(self.splits[other]) == _shuffle_of(self.splits[split])
                and sure[name][other] > sure[name][split] - ABOUT_AS_WELL
            ]
            chosen[name] = max(is_same, key=surest.__getitem__)
        return chosen

    def evidence(self, oof: np.ndarray) -> np.ndarray:
        """Return how sure each split is for rows of a file, in normal standard deviations."""
        sums = self._contrasts(oof)
        if not sums.shape[1]:
            return np.zeros(len(self.splits))
        fold = self.run_folds[self.rows]
        counts = np.bincount(fold)
        squares = ((_by_segment(fold, len(counts)) @ sums) ** 2).sum(axis=1) / np.maximum(counts, 1)
        # The run's own folds are named first where they are a splitter's too.
        own = _normal(squares.sum(), ((counts > 0).sum() - 1) * sums.shape[1]) + 1e-9
        return np.concatenate([[own], *(kind.evidence(sums) for kind in self.kinds)])

    def _contrasts(self, oof: np.ndarray) -> np.ndarray:
        """Return what the columns leave of a file, by itself and within the values of columns, white."""
        opened = _leading(self.train.task.unbounded(oof, SMALLEST))
        design = self.design
        fit = design @ np.linalg.lstsq(self._square, design.T @ opened, rcond=None)[0]
        left = opened - fit
        left = np.clip(left, *np.quantile(left, [CLIPPED, 1 - CLIPPED]))
        slope = np.clip((fit - fit.mean()) / (fit.std() or 1.0), -2.5, 2.5)
        contrasts = np.column_stack([design, slope]) * left[:, None]
        # Within classes: their shares in a fold are no matter of its model.
        strata = self.train.labels[self.rows] if self.is_classes else np.zeros(len(left), dtype=np.int64)
        members = _by_segment(strata, int(strata.max()) + 1)
        means = (members @ contrasts) / np.maximum(np.bincount(strata), 1)[:, None]
        contrasts -= means[strata]
        values, vectors = np.linalg.eigh(contrasts.T @ contrasts / len(contrasts))
        is_there = values > max(values[-1] * 1e-6, 1e-20)
        white: np.ndarray = contrasts @ (vectors[:, is_there] / np.sqrt(values[is_there]))
        return white

    @cached_property
    def design(self) -> np.ndarray:
        """A column of ones, and one for each value, or tenth of the values, of the table's columns."""
        columns = [np.ones(len(self.rows))]
        for cells in _cells(self.train, self.rows):
            values, counts = np.unique(cells, return_counts=True)
            often = values[counts >= FEWEST_IN_BIN]
            is_all = len(often) == len(values)
            columns += [(cells == value).astype(np.float64) for value in often[int(is_all) :]]
            if len(columns) > MOST_COLUMNS:
                break
        return np.column_stack(columns[:MOST_COLUMNS])

    @cached_property
    def _square(self) -> np.ndarray:
        square: np.ndarray = self.design.T @ self.design
        return square


def _sure_steps(steps: np.ndarray, is_end: np.ndarray) -> float:
    """Return how sure it is that steps at the ends of folds are larger than the others.

    Both are means of squares, of as many independent ones as there are directions in which the others go: where rows
    drift these are few, whatever the number of columns.
    """
    squares = (steps**2).sum(axis=1)
    products = steps[~is_end] @ steps[~is_end].T
    # Neighbouring steps share rows.
    apart = np.abs(np.subtract.outer(np.flatnonzero(~is_end), np.flatnonzero(~is_end))) > 1
    within, between = float(squares[~is_end].mean()), float(squares[is_end].mean())
    together = float((products[apart] ** 2).mean())
    n_directions = float(np.clip(within**2 / max(together, 1e-300), 1.0, steps.shape[1]))
    degrees = n_directions * is_end.sum(), n_directions * (~is_end).sum() / 2
    return float(norm.isf(max(f.sf(between / max(within, 1e-300), *degrees), 1e-300)))


def _shuffle_of(split: str) -> str:
    """Return the name of a split without its number of folds."""
    return re.sub(r"\(\d+", "(", split)


def _normal(square: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Return chi-squared values as those of a standard normal variable (Wilson and Hilferty, 1931)."""
    part = 2 / (9 * degrees)
    return np.asarray(((square / degrees) ** (1 / 3) - (1 - part)) / np.sqrt(part))


def _leading(values: np.ndarray) -> np.ndarray:
    """Return the direction of the columns in which rows differ most, standardised."""
    centred = values - values.mean(axis=0)
    along = centred @ np.linalg.eigh(centred.T @ centred)[1][:, -1]
    return np.asarray(along / (along.std() or 1.0))


def _by_segment(segments: np.ndarray, size: int) -> csr_matrix:
    """Return the matrix that sums rows by segment."""
    rows = np.arange(len(segments))
    return csr_matrix((np.ones(len(rows)), (segments, rows)), shape=(size, len(rows)))


def _cells(train: Samples, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield whole numbers for the columns of the tables: codes, or tenths of the values."""
    for values in train.inputs.values():
        if isinstance(values, Table):
            yield from values.codes[rows].T
            for column in values.numeric[rows].T:
                known = column[np.isfinite(column)]
                cuts = (
                    np.unique(np.quantile(known, np.linspace(0, 1, N_BINS + 1)[1:-1]))
                    if len(known)
                    else [0.0]
                )
                yield np.where(np.isfinite(column), np.searchsorted(cuts, column), -1)
