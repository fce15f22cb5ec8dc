"""Columns and arrays for nets, fitted within a fold.

In:  the rows of one fold's training part: a `Table`, or images, sequences, tokens.
Out: numbers near a standard normal as float32 (with an indicator where values were missing) and int64 category
     codes, 0 for unknown; images and sequences near mean 0 and spread 1; tokens as int64, padding as 0.
"""

from __future__ import annotations

from typing import Literal, Self, get_args

import numpy as np
from scipy.special import ndtri

from stackfeat.data.prepare import Preparer, renumber, seen_levels
from stackfeat.data.samples import ArrayInput, LazyRows, Table, chunk_rows
from stackfeat.errors import UsageError

Scaling = Literal["quantile", "standard", "clipped", "none"]
FEW_ROWS = 100
"""On at most so many rows ``auto`` is ``clipped``: quantiles of few are rough."""
CLIPPED_AT = 3.0
_LARGEST = 1e6
_MOST_ROWS = 100_000
_MOST_KNOTS = 1000
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SPREAD = (0.229, 0.224, 0.225)
MOST_ARRAY_ROWS = 20_000
"""Mean and spread come from at most so many rows, evenly spaced."""


def scaling_of(n_rows: int) -> Scaling:
    """Return what ``scaling: auto`` is on so many rows."""
    return "clipped" if n_rows <= FEW_ROWS else "quantile"


class NetPrepare(Preparer):
    """Fold-local preprocessing for nets.

    ``scaling="quantile"`` maps each number through its empirical distribution to a normal one. Equal
    values share the middle of their ranks, so a column of many zeros has no far-off peak, as it has
    with scikit-learn's `QuantileTransformer`. ``scaling="standard"`` subtracts the mean and divides
    by the spread; ``"clipped"`` also takes ``z / sqrt(1 + (z / 3)^2)`` of that, which is never beyond 3, as in
    RealMLP (arXiv:2407.04491). Missing numbers become 0, with an indicator column where any were missing in `fit`.
    ``scaling="none"`` leaves numbers, and missing ones, as they are.

    Attributes
    ----------
    cardinalities : tuple of int
        Codes of each categorical column: the levels seen in `fit`, and 0 for unknown or missing.
    n_numeric : int
        Columns of numbers, indicators included.
    """

    kind = "net"
    packed = ("knots", "heights", "seen")

    def __init__(self) -> None:
        self.scaling: Scaling = "quantile"
        self.knots: list[np.ndarray] = []
        self.heights: list[np.ndarray] = []
        self.shift = np.zeros(0)
        self.spread = np.ones(0)
        self.indicated = np.zeros(0, dtype=np.int64)
        self.seen: list[np.ndarray] = []

    @property
    def cardinalities(self) -> tuple[int, ...]:
        return tuple(len(seen) + 1 for seen in self.seen)

    @property
    def n_numeric(self) -> int:
        return len(self.shift) + len(self.indicated)

    @property
    def n_one_hot(self) -> int:
        """Columns of `one_hot`."""
        return sum(self.cardinalities)

    def fit(self, table: Table, scaling: Scaling | Literal["auto"] = "quantile", seed: int = 0) -> Self:
        """Learn distributions, missing columns and levels from these rows alone.

        Parameters
        ----------
        table : Table
        scaling : {"auto", "quantile", "standard", "clipped", "none"}
            ``auto``: ``clipped`` on at most 100 rows, else ``quantile``.
        seed : int
            Picks the rows that quantiles are taken from where there are more than 100,000.
        """
        if scaling == "auto":
            scaling = scaling_of(len(table.numeric))
        if scaling not in get_args(Scaling):
            names = ", ".join(map(repr, ("auto", *get_args(Scaling))))
            raise UsageError(f"scaling must be one of {names}; got {scaling!r}")
        self.scaling = scaling
        if scaling == "none":
            if table.code_names:
                # Which number stands for which category, only the one who trained the net knows.
                raise UsageError(
                    f"scaling: none hands columns on as they are, so they must be numbers; got the categories "
                    f"{', '.join(table.code_names[:5])}; name the numeric columns as an input of their own "
                    "(data.inputs), or write the numbers that the net was trained on into the file"
                )
            self.shift = np.zeros(table.numeric.shape[1])
            return self
        missing = np.isnan(table.numeric)
        share = missing.mean(axis=0)
        self.indicated = np.flatnonzero((share > 0) & (share < 1))
        self.knots, self.heights = [], []
        # A way to scale columns, not a task.
        if scaling == "quantile":
            self._fit_quantiles(table.numeric, seed)
        values = self._curved(table.numeric)
        present = np.maximum((~missing).sum(axis=0), 1)
        self.shift = np.where(missing, 0.0, values).sum(axis=0) / present
        variance = np.where(missing, 0.0, (values - self.shift) ** 2).sum(axis=0) / present
        # The rounding error of a sum leaves a constant column a spread near, but not at, zero.
        dead = np.sqrt(variance) <= 1e-12 * np.maximum(np.abs(self.shift), 1e-300)
        self.spread = np.where(dead, np.inf, np.sqrt(variance))
        self.seen = [seen_levels(codes) for codes in table.codes.T]
        return self

    def _fit_quantiles(self, numeric: np.ndarray, seed: int) -> None:
        if len(numeric) > _MOST_ROWS:
            chosen = np.random.default_rng(seed).choice(len(numeric), _MOST_ROWS, replace=False)
            numeric = numeric[np.sort(chosen)]
        for column in numeric.T:
            knots, counts = np.unique(column[~np.isnan(column)], return_counts=True)
            heights = ndtri((np.cumsum(counts) - counts / 2) / max(counts.sum(), 1))
            if len(knots) > _MOST_KNOTS:
                ranks = np.linspace(1, counts.sum(), _MOST_KNOTS)
                kept = np.unique(np.searchsorted(np.cumsum(counts), ranks))
                knots, heights = knots[kept], heights[kept]
            self.knots.append(knots)
            self.heights.append(heights)

    def _curved(self, numeric: np.ndarray) -> np.ndarray:
        """Return numbers mapped through their distributions, where that is asked for."""
        # As in `fit`.
        if self.scaling != "quantile":
            return numeric
        curved = np.zeros(numeric.shape)
        for j, (knots, heights) in enumerate(zip(self.knots, self.heights, strict=True)):
            if len(knots):
                curved[:, j] = np.interp(numeric[:, j], knots, heights)
        return curved

    def transform(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 numbers (n_rows, n_numeric) and int64 codes (n_rows, n_categorical)."""
        if self.scaling == "none":
            return table.numeric.astype(np.float32), np.zeros(table.codes.shape, dtype=np.int64)
        missing = np.isnan(table.numeric)
        scaled = np.where(missing, 0.0, (self._curved(table.numeric) - self.shift) / self.spread)
        if self.scaling == "clipped":
            scaled = np.clip(scaled, -_LARGEST, _LARGEST)  # the square of a huge number is infinite
            scaled /= np.sqrt(1 + (scaled / CLIPPED_AT) ** 2)
        numeric = np.hstack([scaled, missing[:, self.indicated]]).astype(np.float32)
        codes = np.zeros(table.codes.shape, dtype=np.int64)
        for j, seen in enumerate(self.seen):
            codes[:, j] = renumber(table.codes[:, j], seen) + 1
        return numeric, codes

    def one_hot(self, codes: np.ndarray) -> np.ndarray:
        """Return a column per code of each categorical column, float32 of shape (n_rows, n_one_hot)."""
        columns = np.zeros((len(codes), self.n_one_hot), dtype=np.float32)
        starts = np.cumsum([0, *self.cardinalities[:-1]])[: len(self.seen)]
        for j, start in enumerate(starts):
            columns[np.arange(len(codes)), start + codes[:, j]] = 1.0
        return columns


class ArrayPrepare(Preparer):
    """Fold-local scaling of arrays.

    ``standard`` subtracts the mean of each channel and divides by its spread, both of the rows given
    to `fit` and without padding; ``imagenet`` does so with the constants of that data set, on numbers
    from 0 to 1; ``unit`` divides unsigned whole numbers by their largest; ``none`` keeps numbers.
    """

    kind = "array"

    def __init__(self) -> None:
        self.axes = "array"
        self.shift: np.ndarray = np.zeros(1, dtype=np.float32)
        self.factor: np.ndarray = np.ones(1, dtype=np.float32)

    def fit(self, values: ArrayInput) -> Self:
        """Learn the scale from these rows alone."""
        self.axes = values.kind
        largest = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1
        shift, factor = np.zeros(1), np.ones(1)
        if values.scaling == "standard":
            shift, spread = channel_moments(values)
            dead = spread <= 1e-7 * np.maximum(np.abs(shift), 1e-30)
            factor = np.where(dead, 0.0, 1 / np.where(dead, 1.0, spread))
        elif values.scaling == "imagenet":
            shift, factor = np.array(IMAGENET_MEAN) * largest, 1 / (np.array(IMAGENET_SPREAD) * largest)
        elif values.scaling == "unit":
            factor = np.full(1, 1 / largest)
        self.shift, self.factor = shift.astype(np.float32), factor.astype(np.float32)
        return self

    def transform(self, values: ArrayInput) -> np.ndarray | LazyRows:
        """Return rows of the same shape, int64 for tokens and float32 for others."""
        if isinstance(values.values, LazyRows):
            held = values.values
            lengths = None
            if values.lengths is not None:
                # Lengths are those of the view's rows; the view asks for those of the file's rows.
                lengths = np.zeros(len(held.source), dtype=np.int64)
                lengths[slice(None) if held.rows is None else held.rows] = values.lengths
            dtype = np.int64 if self.axes == "tokens" else np.float32
            return LazyRows(held.source, held.rows, self.change, lengths, values.shape[1:], dtype)
        return self.change(values.values, values.lengths)

    def change(self, values: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
        """Return scaled rows, padding set to 0."""
        changed: np.ndarray = values.astype(np.int64 if self.axes == "tokens" else np.float32)
        if self.axes != "tokens":
            shape = (-1, 1, 1) if self.axes == "image" else (-1,)
            changed -= self.shift.reshape(shape)
            changed *= self.factor.reshape(shape)
        if lengths is not None:
            changed[np.arange(changed.shape[1]) >= lengths[:, None]] = 0
        return changed


def channel_moments(values: ArrayInput) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and spread by channel (images: axis 1, sequences: the last; else one for all), float64."""
    rows = np.arange(len(values))
    if len(rows) > MOST_ARRAY_ROWS:
        rows = np.linspace(0, len(rows) - 1, MOST_ARRAY_ROWS).astype(np.int64)
    n_channels = {"image": values.shape[1:2], "sequence": values.shape[-1:]}.get(values.kind, (1,))[0]
    count, total, squares = 0, np.zeros(n_channels), np.zeros(n_channels)
    size = chunk_rows(values.shape[1:])
    # Squares are summed around a first guess: far from zero their difference would lose all digits.
    guess: np.ndarray | None = None
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        chunk = np.asarray(values[chosen], dtype=np.float64)
        if values.kind == "image":
            chunk = np.moveaxis(chunk, 1, -1)
        if values.lengths is not None:
            chunk = chunk[np.arange(chunk.shape[1]) < values.lengths[chosen, None]]
        flat = chunk.reshape(-1, n_channels)
        guess = flat.mean(axis=0) if guess is None else guess
        count += len(flat)
        total += (flat - guess).sum(axis=0)
        squares += ((flat - guess) ** 2).sum(axis=0)
    assert guess is not None
    offset = total / count
    return guess + offset, np.sqrt(np.maximum(squares / count - offset**2, 0.0))
