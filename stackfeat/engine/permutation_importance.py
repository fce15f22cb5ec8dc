"""Permutation importance: how much worse predictions get when a feature, or a block, is that of another row.

In:  rows that passed through parts of a stack which had not seen them, their labels and metric.
Out: for each feature and block the rise of the loss, with a standard error and an interval.

A value is swapped within a *unit*: a block of rows of one fold, of whole groups, or of time. Units do not share rows,
groups or values that are put in, so the standard error is that of leaving out one unit at a time (jackknife), for any
metric. Where each row trains the pipelines of the other folds, errors of two folds are not independent: what a
column of noise does to fold k is a product of the chance correlations of folds k and l, and to fold l the same
product. Every pair then counts twice, which doubles the variance; standard errors hold that factor.

Intervals hold for all columns together (Bonferroni): where all are noise, in 95 of 100 lists none stands out.

Source: L. Breiman, "Random forests", Machine Learning 45, 2001.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtrit

from stackfeat.data.samples import Samples, Table
from stackfeat.data.schema.features import Feature, varied
from stackfeat.engine.judged import Judged
from stackfeat.engine.passed_rows import PassedRows
from stackfeat.seeds import derive_seed

N_UNITS, N_TIME_UNITS = 50, 20
ROWS_A_UNIT, GROUPS_A_UNIT = 8, 5
"""At least so many in a unit: with fewer a value would often be swapped for itself."""
SURE = 0.95
MOST_ROWS, MOST_BYTES = 20_000, 2**26
"""Rows that are predicted at a time, and what they may take."""

Losses = Callable[[np.ndarray], np.ndarray]
"""From predictions (n, n_outputs) to the loss of all rows, then of all but one unit after the other."""


def number_units(
    fold_of: np.ndarray, group: np.ndarray | None, time: np.ndarray | None, is_time: bool, seed: int
) -> np.ndarray:
    """Number the units of rows, int64 (n,): within folds, of whole groups, or of rows that follow each other in time.

    Parameters
    ----------
    fold_of : int64 array (n,)
    group, time : array (n,) or None
    is_time : bool
        Whether folds follow time.
    """
    random = np.random.default_rng(derive_seed(seed, "units"))
    folds = np.unique(fold_of)
    most = -(-(N_TIME_UNITS if is_time else N_UNITS) // len(folds))
    units = np.empty(len(fold_of), dtype=np.int64)
    for number, fold in enumerate(folds):
        rows = np.flatnonzero(fold_of == fold)
        if group is not None:
            names, place_of = np.unique(group[rows], return_inverse=True)
            # Those that follow each other in a random order of groups are one unit.
            order, least = random.permutation(len(names))[place_of], GROUPS_A_UNIT
        elif is_time:
            order, least = np.empty(len(rows), dtype=np.int64), ROWS_A_UNIT
            when = rows if time is None else time[rows]
            order[np.argsort(when, kind="stable")] = np.arange(len(rows))
        else:
            order, least = random.permutation(len(rows)), ROWS_A_UNIT
        n_places = int(order.max()) + 1
        n_units = int(np.clip(n_places // least, 1, most))
        units[rows] = number * most + order * n_units // n_places
    return np.unique(units, return_inverse=True)[1].astype(np.int64)


def donors_of(units: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return for each row another one of its unit, int64 (n,): each is taken once, and no row takes its own."""
    donors = np.arange(len(units))
    for unit in np.unique(units):
        order = random.permutation(np.flatnonzero(units == unit))
        donors[order] = np.roll(order, 1)
    return donors


@dataclass(frozen=True)
class Rise:
    """By how much a loss rises, its standard error, and the interval that holds for all of a list.

    Attributes
    ----------
    se, low, high : float or None
        None where there are fewer than two units.
    """

    value: float
    se: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, losses: np.ndarray, n_alike: int, trains_others: bool) -> Rise:
        """Return the rise of a loss of all rows, and of all but one unit (NaN where undefined).

        Parameters
        ----------
        losses : float64 array (1 + n_units,)
        n_alike : int
            How many such rises are listed together.
        trains_others : bool
            Whether the rows of a fold train the pipelines of the others, and theirs its own.
        """
        value, without = float(losses[0]), losses[1:][np.isfinite(losses[1:])]
        n_units = len(without)
        if n_units < 2:
            return cls(value)
        variance = (n_units - 1) * np.mean((without - without.mean()) ** 2)
        se = float(np.sqrt(variance * (2 if trains_others else 1)))
        reach = se * float(stdtrit(n_units - 1, 1 - (1 - SURE) / (2 * max(n_alike, 1))))
        return cls(value, se, value - reach, value + reach)


@dataclass(frozen=True)
class Metered:
    """Losses by a metric, of predictions on the members' scale; lower is better.

    Attributes
    ----------
    judged : Judged
    decide : callable
        From predictions to what the metric reads.
    units : int64 array (n,)
    """

    judged: Judged
    decide: Callable[[np.ndarray], np.ndarray]
    units: np.ndarray

    @cached_property
    def _parts(self) -> list[tuple[Judged, np.ndarray]]:
        every = [np.arange(len(self.units))]
        every += [np.flatnonzero(self.units != unit) for unit in np.unique(self.units)]
        return [(self.judged.take(rows), rows) for rows in every]

    def score(self, prediction: np.ndarray) -> float | None:
        """Return the score of predictions of all rows; None where it is undefined."""
        return self.judged.defined(self.decide(prediction))

    def __call__(self, prediction: np.ndarray) -> np.ndarray:
        decided = self.decide(prediction)
        scores = [judged.defined(decided[rows]) for judged, rows in self._parts]
        return np.array([np.nan if one is None else self.judged.metric.signed(one) for one in scores])


@dataclass(frozen=True)
class Moved:
    """How far predictions have moved, where nobody knows the labels; `move` says it of each row."""

    move: Callable[[np.ndarray], np.ndarray]
    units: np.ndarray

    def __call__(self, prediction: np.ndarray) -> np.ndarray:
        moved = self.move(prediction)
        sums, counts = np.bincount(self.units, moved), np.bincount(self.units)
        with np.errstate(invalid="ignore"):
            without = (moved.sum() - sums) / (len(moved) - counts)
        return np.concatenate([[moved.mean()], without])


@dataclass(frozen=True)
class Importance:
    """Rows with all that their features and blocks are judged by.

    Attributes
    ----------
    samples : Samples
        All rows.
    parts : sequence of PassedRows
        Which together are all rows, each through the pipelines that may predict them.
    losses : callable
    units : int64 array (n,)
    repeats : int
        Permutations; losses are averaged over them.
    trains_others : bool
        See `Rise.of`.
    """

    samples: Samples
    parts: Sequence[PassedRows]
    losses: Losses
    units: np.ndarray
    repeats: int
    seed: int
    trains_others: bool

    @cached_property
    def prediction(self) -> np.ndarray:
        """What is predicted of all rows as they are, float64 (n, n_outputs)."""
        return self._together([part.prediction for part in self.parts])

    @cached_property
    def _before(self) -> np.ndarray:
        return self.losses(self.prediction)

    @cached_property
    def _donors(self) -> list[np.ndarray]:
        seeds = [derive_seed(self.seed, "permutation", repeat) for repeat in range(self.repeats)]
        return [donors_of(self.units, np.random.default_rng(one)) for one in seeds]

    def of_features(self, features: Sequence[Feature]) -> Iterator[Rise]:
        """Yield the importance of each feature, in their order."""
        size = max(
            1,
            min(MOST_ROWS, MOST_BYTES // _row_bytes(self.samples))
            // max(len(part.rows) for part in self.parts),
        )
        variants = [(feature, donors) for feature in features for donors in self._donors]
        losses: list[np.ndarray] = []
        for start in range(0, len(variants), size):
            losses += self._varied(variants[start : start + size])
            while len(losses) >= self.repeats:
                yield self._rise(losses[: self.repeats], len(features))
                losses = losses[self.repeats :]

    def _varied(self, variants: Sequence[tuple[Feature, np.ndarray]]) -> list[np.ndarray]:
        """Return the losses of variants of all rows, those of the same inputs predicted together."""
        found: dict[int, np.ndarray] = {}
        for inputs in dict.fromkeys(feature.inputs for feature, _ in variants):
            places = [place for place, (feature, _) in enumerate(variants) if feature.inputs == inputs]
            said = []
            for part in self.parts:
                own = [(variants[place][0], variants[place][1][part.rows]) for place in places]
                changed = part.changed(varied(self.samples, part.rows, own), inputs)
                said.append(changed.reshape(len(places), len(part.rows), -1))
            for number, place in enumerate(places):
                found[place] = self.losses(self._together([one[number] for one in said]))
        return [found[place] for place in range(len(variants))]

    def of_blocks(self, blocks: Sequence[str]) -> Iterator[Rise]:
        """Yield the importance of each block, or member with all its blocks."""
        place_of = np.empty(self.samples.n_rows, dtype=np.int64)
        for block in blocks:
            said = []
            for part in self.parts:
                place_of[part.rows] = np.arange(len(part.rows))
                orders = [place_of[donors[part.rows]] for donors in self._donors]
                said.append(part.shuffled(block, orders).reshape(self.repeats, len(part.rows), -1))
            losses = [
                self.losses(self._together([one[repeat] for one in said])) for repeat in range(self.repeats)
            ]
            yield self._rise(losses, len(blocks))

    def _rise(self, losses: Sequence[np.ndarray], n_alike: int) -> Rise:
        # The mean of differences: of what nothing reads it is 0, not a rounding error.
        return Rise.of(np.mean(np.stack(losses) - self._before, axis=0), n_alike, self.trains_others)

    def _together(self, predictions: Sequence[np.ndarray]) -> np.ndarray:
        """Return predictions of all rows, those of each part where they belong."""
        whole = np.empty((self.samples.n_rows, *predictions[0].shape[1:]))
        for part, prediction in zip(self.parts, predictions, strict=True):
            whole[part.rows] = prediction
        return whole


def _row_bytes(samples: Samples) -> int:
    total = 1
    for values in samples.inputs.values():
        if isinstance(values, Table):
            total += 8 * (values.numeric.shape[1] + values.texts.shape[1]) + 4 * values.codes.shape[1]
        else:
            total += int(np.prod(values.shape[1:], dtype=np.int64)) * values.dtype.itemsize
    return total
