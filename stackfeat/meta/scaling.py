"""Scales of columns that a linear fit reads, and the coefficients that read a prediction back out of them.

In:  columns of predictions or of a feature block.
Out: centred and scaled columns, dead ones zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Scaling = Literal["scalar", "zscore", "none"]

SMALLEST_PROBA = 1e-7
"""Of columns, whose outliers bend a linear fit; the loss of a row has `task.SMALLEST_PROBABILITY`."""

DEAD = 1e-6  # a column whose sd is below this share of its size is constant in float32


@dataclass(frozen=True)
class Scale:
    """Centre and factor of every column; a factor of zero switches a dead column off.

    Attributes
    ----------
    centre, factor : float64 arrays of shape (c,)
    """

    centre: np.ndarray
    factor: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, scaling: Scaling) -> Scale:
        """Measure columns; live ones get a mean square of one, each or together."""
        rows = np.asarray(values)
        if scaling == "none":
            return cls(np.zeros(rows.shape[1]), np.ones(rows.shape[1]))
        centre = rows.mean(axis=0, dtype=np.float64)
        sd = rows.std(axis=0, dtype=np.float64)
        live = sd > np.maximum(DEAD * np.abs(centre), np.finfo(np.float32).tiny)
        if scaling == "scalar" and live.any():
            common = np.sqrt(np.mean(sd[live] ** 2))
            live &= sd > DEAD * common
            factor = np.full(len(sd), 1.0 / common)
        else:
            factor = 1.0 / np.where(live, sd, 1.0)
        return cls(centre, np.where(live, factor, 0.0))

    def apply(self, values: np.ndarray, dtype: type[np.floating] = np.float64) -> np.ndarray:
        """Centre and scale, (n, c)."""
        scaled = (np.asarray(values, dtype=np.float64) - self.centre) * self.factor
        return np.asarray(scaled, dtype=dtype)

    def undo(self, coefficients: np.ndarray) -> np.ndarray:
        """Turn coefficients of columns, (c, k), into those of scaled columns; zero for dead ones."""
        return np.asarray(coefficients / np.where(self.factor > 0, self.factor, np.inf)[:, None])


def scaled(values: np.ndarray, scale: Scale | None) -> np.ndarray:
    """Return columns as a scale says; None leaves them as they are."""
    return values if scale is None else scale.apply(values)


def prediction_coefficients(start: int, one: np.ndarray, n_columns: int) -> np.ndarray:
    """Return the coefficients that read a prediction whose columns begin at `start`: `one` there, zero elsewhere."""
    return np.vstack(
        [np.zeros((start, one.shape[1])), one, np.zeros((n_columns - start - len(one), one.shape[1]))]
    )
