"""Intervals: which values, or which classes, a new row may have at a level such as 90 %.

In:  predictions of out-of-fold rows, their targets and columns; arrays only.
Out: a region for each new row, so that the share `level` of regions hold their target: a lower and an upper bound, or
     a set of classes. What a region is, and how far a target lies from a prediction (nonconformity), the task says.

Values: the nonconformity of row i of fold k is divided by what a small model that never saw fold k expects of it; new
rows get what the models of all folds expect, on average. Quantiles are taken in bins of the expectation and
interpolated, so that easy and hard rows are covered alike. Classes: one quantile for each class.

Sources: cross-conformal intervals, V. Vovk, Ann. Math. Artif. Intell. 74, 2015, and R. Barber and others (CV+), Ann.
Stat. 49, 2021, arXiv:1905.02928; normalised by a model of the error, J. Lei and others, JASA 113, 2018,
arXiv:1604.04173; by bins and by classes, V. Vovk, ACML 2012, arXiv:1209.2673; class sets, M. Sadinle and others, JASA
114, 2019, arXiv:1609.00451; whole groups, R. Dunn and others, JASA 118, 2023, arXiv:1809.07441.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from stackfeat.errors import UsageError
from stackfeat.store.booster_text import checked_text, plain_text
from stackfeat.structure import must
from stackfeat.tasks.rows import spread_rows
from stackfeat.tasks.task import Task

LEAST_LEVEL = 0.5

MOST_CELLS, MOST_ROWS = 2_000_000, 10_000
"""Of what a model of the expected error is fitted on."""

UNITS_IN_BIN, MOST_BINS = 350, 10

MOST_IN_BIN = 2_000
"""Of more scores in a bin every n-th is kept, the greater one."""

LEAST_EXPECTED = 0.1
"""In units of the mean error: nothing is expected to be as good as known."""

MOST_EXPECTED = 1e6

LEAST_LEFT = 0.5
"""An average of pipelines counts as no better than by this factor."""

ROUNDS = 30

WIDTH_TREES = {"learning_rate": 0.1, "num_leaves": 8, "min_data_in_leaf": 50, "max_bin": 63}

Split = tuple[np.ndarray, np.ndarray]
"""Numbers of the rows to learn from, and of those to be predicted."""

ColumnsOf = Callable[[np.ndarray], np.ndarray]
"""Predictions (n_rows, n_outputs) of the rows in question to the columns that their error is expected from."""


def checked_level(level: float) -> float:
    """Return a level; UsageError unless it lies between 0.5 and 1."""
    if not isinstance(level, int | float) or not LEAST_LEVEL < level < 1:
        raise UsageError(f"the level of an interval must lie between 0.5 and 1; got {level!r}; such as 0.9")
    return float(level)


@dataclass(frozen=True)
class WidthModel:
    """Boosted trees that say how far off a prediction is to be expected, in units of the mean error."""

    text: str

    @classmethod
    def fit(cls, columns: np.ndarray, nonconformity: np.ndarray, rows: np.ndarray, seed: int) -> WidthModel:
        """Fit it on some rows; its loss (gamma) weighs errors by their ratio to what is expected."""
        import lightgbm

        cap = max(MOST_ROWS // 10, min(MOST_ROWS, MOST_CELLS // columns.shape[1]))
        mean = float(nonconformity[rows].mean()) or 1.0
        rows = rows[spread_rows(nonconformity[rows], cap, seed)]
        target = np.maximum(nonconformity[rows] / mean, 1e-6)
        fixed = {"objective": "gamma", "num_threads": 1, "deterministic": True, "force_col_wise": True}
        params = {**WIDTH_TREES, **fixed, "verbose": -1, "seed": seed % 2**31}
        data = lightgbm.Dataset(columns[rows], target, params=params)
        return cls(plain_text(lightgbm.train(params, data, ROUNDS).model_to_string()))

    @classmethod
    def of(cls, text: str, n_columns: int) -> WidthModel:
        """Return a model that anybody may have written; StructureError if it is none."""
        return cls(checked_text(text, n_columns, 1))

    @cached_property
    def _booster(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    def __getstate__(self) -> dict[str, Any]:
        return {"text": self.text}

    def expected(self, columns: np.ndarray) -> np.ndarray:
        """Return what to expect of each row, float64 (n_rows,)."""
        said = np.asarray(self._booster.predict(columns, num_threads=1))
        return np.asarray(np.clip(said, LEAST_EXPECTED, MOST_EXPECTED))


@dataclass(frozen=True)
class Quantiles:
    """Nonconformity in units of what was expected, sorted within bins of what was expected.

    Attributes
    ----------
    scores, shares : float64 arrays (n,)
        Bin after bin; the shares of a bin sum to 1. A row of a group has the n-th part of the group's share.
    starts : int64 array (n_bins + 1,)
    columns : int64 array (n_bins,)
        What a bin is of: a class, or a target.
    n_units : int64 array (n_bins,)
        Rows, or groups, in a bin.
    centres : float64 array (n_bins,)
        The logarithm of the median of what was expected, rising within a column.
    squares : float64 array (n_columns,)
        Mean square of the scores.
    """

    scores: np.ndarray
    shares: np.ndarray
    starts: np.ndarray
    columns: np.ndarray
    n_units: np.ndarray
    centres: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, nonconformity: np.ndarray, expected: np.ndarray, units: np.ndarray | None) -> Quantiles:
        """Collect them.

        Parameters
        ----------
        nonconformity : array (n_rows, n_columns)
            NaN where a row says nothing of a column.
        expected : array (n_rows, n_columns)
        units : int64 array (n_rows,), optional
            Groups, which count alike however many rows they have.
        """
        bins: list[tuple[np.ndarray, np.ndarray, int, int, float]] = []
        squares = []
        for column, values in enumerate(nonconformity.T):
            rows = np.flatnonzero(~np.isnan(values))
            unit = rows if units is None else units[rows]
            own, scores = expected[rows, column], values[rows] / expected[rows, column]
            share = _shares(unit)
            squares.append(float(share @ scores**2) if len(rows) else 0.0)
            for inside in _bins(own, len(np.unique(unit))):
                n_in = len(np.unique(unit[inside]))
                centre = float(np.log(np.median(own[inside]))) if len(inside) else 0.0
                bins.append((*_thinned(scores[inside], share[inside]), column, n_in, centre))
        starts = np.cumsum([0, *(len(one[0]) for one in bins)])
        scores, shares = (np.concatenate([one[part] for one in bins]) for part in (0, 1))
        of, n_units = (np.array([one[part] for one in bins], dtype=np.int64) for part in (2, 3))
        centres = np.array([one[4] for one in bins])
        return cls(scores, shares, starts, of, n_units, centres, np.array(squares))

    @classmethod
    def from_arrays(cls, read: Callable[[str], np.ndarray], n_columns: int, where: str) -> Quantiles:
        """Return what anybody may have written; StructureError if it does not fit together."""
        found = cls(**{item.name: read(item.name) for item in fields(cls)})
        kinds = {"starts": "i", "columns": "i", "n_units": "i"}
        for item in fields(cls):
            values = getattr(found, item.name)
            is_sound = values.ndim == 1 and values.dtype.str[1:] == f"{kinds.get(item.name, 'f')}8"
            must(
                bool(is_sound and np.isfinite(values).all()),
                f"{where}: {item.name}",
                "be numbers",
                values.shape,
            )
        n_bins, starts = len(found.columns), found.starts
        lengths = {"starts": n_bins + 1, "n_units": n_bins, "centres": n_bins, "squares": n_columns}
        lengths["shares"] = len(found.scores)
        for name, length in lengths.items():
            must(len(getattr(found, name)) == length, f"{where}: {name}", f"have {length} numbers", name)
        cuts = bool(len(starts) and starts[0] == 0 and starts[-1] == len(found.scores))
        must(cuts and bool((np.diff(starts) >= 0).all()), f"{where}: starts", "cut its scores", starts[:3])
        whole = np.array_equal(np.unique(found.columns), np.arange(n_columns))
        must(
            whole and bool((np.diff(found.columns) >= 0).all()),
            f"{where}: columns",
            "be those of the task",
            n_bins,
        )
        return found

    def reach(self, level: float, expected: np.ndarray) -> np.ndarray:
        """Return how far a target may lie from its prediction, float64 (n_rows, n_columns); it may be infinite.

        Examples
        --------
        >>> found = Quantiles.of(np.arange(1.0, 100.0)[:, None], np.ones((99, 1)), None)
        >>> found.reach(0.9, np.ones((1, 1)))
        array([[90.]])
        """
        found = np.empty(expected.shape)
        for column in range(expected.shape[1]):
            bins = np.flatnonzero(self.columns == column)
            own = np.array([self._quantile(level, bins[place : place + 1]) for place in range(len(bins))])
            if not np.isfinite(own).all():
                # So sure a level that bins are too small for it.
                own[:] = self._quantile(level, bins)
            found[:, column] = own[0]
            if len(own) > 1 and np.isfinite(own[0]):
                found[:, column] = np.interp(np.log(expected[:, column]), self.centres[bins], own)
        return np.asarray(found * expected)

    def _quantile(self, level: float, bins: np.ndarray) -> float:
        """Return the score that the share `level` of a new unit and of those in some bins does not pass."""
        n_units = int(self.n_units[bins].sum())
        if not n_units:
            return np.inf
        parts = [slice(self.starts[one], self.starts[one + 1]) for one in bins]
        scores = np.concatenate([self.scores[part] for part in parts])
        weights = self.n_units[bins] / n_units
        shares = np.concatenate([w * self.shares[part] for w, part in zip(weights, parts, strict=True)])
        order = np.argsort(scores, kind="stable")
        place = int(np.searchsorted(np.cumsum(shares[order]), level * (1 + 1 / n_units) - 1e-9))
        return float(scores[order[place]]) if place < len(order) else np.inf


def _shares(unit: np.ndarray) -> np.ndarray:
    """Return the share of each row where every unit has the same."""
    number, counts = np.unique(unit, return_inverse=True, return_counts=True)[1:]
    return np.asarray(1.0 / (counts[number] * max(len(counts), 1)))


def _bins(expected: np.ndarray, n_units: int) -> list[np.ndarray]:
    """Return the rows of each bin, all of different expectations; one bin where that does not differ."""
    n_bins = int(np.clip(n_units // UNITS_IN_BIN, 1, MOST_BINS))
    if not len(expected):
        return [np.zeros(0, dtype=np.int64)]
    edges = np.quantile(expected, np.arange(1, n_bins) / n_bins)
    found = np.searchsorted(edges, expected, side="right")
    return [np.flatnonzero(found == number) for number in np.unique(found)]


def _thinned(scores: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted scores with shares that sum to 1; of many scores, the greatest of each of `MOST_IN_BIN` parts."""
    order = np.argsort(scores, kind="stable")
    scores, shares = scores[order], shares[order]
    if len(scores) > MOST_IN_BIN:
        ends = np.linspace(0, len(scores), MOST_IN_BIN + 1).round().astype(np.int64)
        scores, shares = scores[ends[1:] - 1], np.add.reduceat(shares, ends[:-1])
    return scores, shares / (shares.sum() or 1.0)


@dataclass(frozen=True)
class OofRows:
    """Rows that are predicted out of fold.

    Attributes
    ----------
    y, prediction : arrays (n_rows,), (n_rows, n_outputs)
        On the members' scale.
    columns : array (n_rows, n_columns)
        What an error is expected from.
    splits : sequence of Split
        For each fold the rows of the others, or earlier ones; and its own. Folds without any others are left out.
    units : int64 array (n_rows,), optional
        Groups.
    is_time : bool
    """

    task: Task
    y: np.ndarray
    prediction: np.ndarray
    columns: np.ndarray
    splits: Sequence[Split]
    units: np.ndarray | None
    is_time: bool

    @cached_property
    def nonconformity(self) -> np.ndarray:
        return self.task.nonconformity(self.y, self.prediction)

    @property
    def judged(self) -> np.ndarray:
        """Numbers of the rows of folds for which there are rows to learn from."""
        return np.sort(np.concatenate([held_out for _, held_out in self.splits]))

    def fit_widths(self, rows: np.ndarray, seed: int) -> tuple[WidthModel, ...]:
        """Return a model for each column."""
        return tuple(WidthModel.fit(self.columns, values, rows, seed) for values in self.nonconformity.T)

    def reach(self, expected: np.ndarray, levels: Sequence[float]) -> list[np.ndarray]:
        """Return for each level how far each row's target may lie from its prediction, (n_rows, n_columns).

        The quantiles of a fold are those of its training rows; NaN where none of these was predicted so.
        """
        found = [np.full(expected.shape, np.nan) for _ in levels]
        judged = np.isin(np.arange(len(self.y)), self.judged)
        for train, rows in self.splits:
            train = train[judged[train]]
            if len(train):
                units = None if self.units is None else self.units[train]
                quantiles = Quantiles.of(self.nonconformity[train], expected[train], units)
                for reach, level in zip(found, levels, strict=True):
                    reach[rows] = quantiles.reach(level, expected[rows])
        return found


@dataclass(frozen=True)
class Intervals:
    """What gives new rows their regions.

    Attributes
    ----------
    quantiles : Quantiles
    widths : tuple of tuple of WidthModel
        Of each pipeline, for each column; none where the predictions themselves say how sure they are.
    """

    task: Task
    quantiles: Quantiles
    widths: tuple[tuple[WidthModel, ...], ...]

    @classmethod
    def fit(cls, rows: OofRows, seed: int) -> tuple[Intervals, np.ndarray]:
        """Fit them; return also what was expected of each row by a model that did not see it, (n_rows, n_columns)."""
        expected = np.ones_like(rows.nonconformity)
        widths = []
        for train, held_out in rows.splits if rows.task.has_widths else ():
            widths.append(rows.fit_widths(train, seed))
            expected[held_out] = _expected(widths[-1], rows.columns[held_out])
        if rows.is_time and widths:
            # The rows of the last fold are nearest to what comes.
            widths = [rows.fit_widths(np.arange(len(rows.y)), seed)]
        judged = rows.judged
        units = None if rows.units is None else rows.units[judged]
        quantiles = Quantiles.of(rows.nonconformity[judged], expected[judged], units)
        return cls(rows.task, quantiles, tuple(widths)), expected

    def region(
        self, prediction: np.ndarray, views: np.ndarray, columns_of: ColumnsOf, level: float, *, is_mean: bool
    ) -> np.ndarray:
        """Return the region of each new row, as `Task.region`.

        Parameters
        ----------
        prediction : array (n_rows, n_outputs)
            On the members' scale.
        views : array (n_views, n_rows, n_outputs)
            What each pipeline predicts; a model of widths goes with its own where there are as many.
        is_mean : bool
            Whether the prediction is the mean of the views. Then its squared error is that of a single view, which is
            what was measured, less the variance of the views (A. Krogh, J. Vedelsby, NeurIPS 1994).
        """
        shape = len(prediction), len(self.quantiles.squares)
        expected = np.ones(shape)
        if self.widths:
            own = views if len(views) == len(self.widths) else [prediction] * len(self.widths)
            pairs = zip(self.widths, own, strict=True)
            expected = np.mean([_expected(models, columns_of(view)) for models, view in pairs], axis=0)
        own_region = self.task.at_level(prediction, checked_level(level))
        if own_region is not None:
            return own_region
        reach = self.quantiles.reach(level, expected)
        if self.widths and is_mean and len(views) > 1:
            square = np.maximum(self.quantiles.squares * expected**2, np.finfo(np.float64).tiny)
            reach *= np.sqrt(np.clip(1.0 - views.var(axis=0) / square, LEAST_LEFT**2, 1.0))
        return self.task.region(prediction, reach)


def _expected(models: Sequence[WidthModel], columns: np.ndarray) -> np.ndarray:
    return np.column_stack([model.expected(columns) for model in models])
