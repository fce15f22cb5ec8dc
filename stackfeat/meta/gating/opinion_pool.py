"""Logarithmic opinion pool: the share of each prediction in a weighted sum of scores.

In:  scores of the rows, of each member and of each readout of a block.
Out: a share for each.

Of classes this is a logarithmic opinion pool (Genest & Zidek, 1986, "Combining probability
distributions"), of values a stacked regression (Breiman, 1996, "Stacked regressions"). A free sum of the
shares is a temperature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import LinearConstraint, minimize

from stackfeat.meta.gating.blocks import Block
from stackfeat.meta.gating.linear_solver import Problem

MOST_CELLS = 20_000_000
"""Scores that shares are fitted to; of more, those of a seeded sample of the rows."""

FREE_TOLERANCE = 1e-7
"""Share of the loss that a step must win; more digits change no share by a thousandth."""

PULL = 10.0
"""Penalty of shares away from the usual ones (equal for members, none for readouts), beside a sum of losses
over rows: where members make no mistake, nothing else keeps the sum of shares finite."""


Shares = Literal["equal", "simplex", "free"]
"""All the same; fitted with a sum of one; fitted with any sum."""


def fit_shares(
    problem: Problem, scores: np.ndarray, weight: np.ndarray, shares: Shares, n_members: int | None = None
) -> np.ndarray:
    """Fit a share for each vote, zero or more, with a free intercept.

    Parameters
    ----------
    problem : Softmax or Squares
    scores : float array of shape (n_votes, n, n_outputs)
    weight : float64 array of shape (n,)
    shares : {"equal", "simplex", "free"}
    n_members : int, optional
        The first votes, which share equally unless rows say otherwise; readouts behind them, which only free
        shares know, begin with nothing. Default all.

    Returns
    -------
    float64 array of shape (n_votes,)
    """
    n_votes, n_rows, n_outputs = scores.shape
    if shares == "equal" or not n_votes or (shares == "simplex" and n_votes == 1):
        return np.full(n_votes, 1 / max(n_votes, 1))
    n_fit = max(1, MOST_CELLS // (n_votes * n_outputs))
    if n_fit < n_rows:
        rows = np.sort(np.random.default_rng(0).permutation(n_rows)[:n_fit])
        problem, scores, weight = problem.take(rows), scores[:, rows], weight[rows]
    # Rows last, and one on another: sums over classes and members then run along whole vectors.
    dtype = problem.dtype
    wide = np.ascontiguousarray(scores.transpose(0, 2, 1), dtype=dtype).reshape(n_votes, -1)
    row_share = weight / weight.sum()
    negative_share = -row_share.astype(dtype)
    pull = PULL / len(weight)
    usual = np.zeros(n_votes)
    usual[:n_members] = 1 / max(len(usual[:n_members]), 1)

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        given = point.astype(dtype)
        combined = (given[:n_votes] @ wide).reshape(n_outputs, -1) + given[n_votes:, None]
        value, residual = problem.value_and_residual(combined, row_share)
        residual *= negative_share
        away = point[:n_votes] - usual
        steps = [wide @ residual.ravel() + pull * away, residual.sum(axis=1)]
        return value + 0.5 * pull * float(away @ away), np.concatenate(steps, dtype=np.float64)

    start = np.concatenate([usual, np.zeros(n_outputs)])
    bounds = [(0.0, None)] * n_votes + [(None, None)] * n_outputs
    if shares == "free":
        options = {"maxiter": 200, "ftol": FREE_TOLERANCE}
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return np.asarray(found.x[:n_votes])
    one = LinearConstraint(np.r_[np.ones(n_votes), np.zeros(n_outputs)], 1.0, 1.0)
    found = minimize(
        loss,
        start,
        jac=True,
        method="SLSQP",
        bounds=bounds,
        constraints=one,
        options={"maxiter": 200, "ftol": 1e-9},
    )
    parts = np.clip(found.x[:n_votes], 0.0, None)
    return np.asarray(parts / parts.sum())


def weighted_sum(votes: Sequence[np.ndarray], shares: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the weighted sum of coefficients or scores, `shape`; zero of none."""
    out = np.zeros(shape)
    for vote, share in zip(votes, shares, strict=True):
        out += share * vote
    return out


@dataclass(frozen=True)
class ReadoutScores:
    """Readouts of one block, one on another.

    Attributes
    ----------
    values : float32 array of shape (r, n, n_outputs)
    factors : float64 array of shape (r,)
        What gives readouts the size of the members' mean vote, or the unit of the target: the size of a
        readout's scores of classes is arbitrary, and all shares are pulled to zero alike.
    centre : float
        Mean of the target, which the intercept takes up; 0 of classes.
    """

    values: np.ndarray
    factors: np.ndarray
    centre: float

    @classmethod
    def of(
        cls, block: Block, classes: np.ndarray, target: tuple[float, float], mean_vote: np.ndarray
    ) -> ReadoutScores:
        """Size the readouts of a block.

        Parameters
        ----------
        block : Block
        classes : int64 array
            Class codes that occur; empty for values.
        target : tuple of float
            Mean and sd of values; 0 and 1 of classes.
        mean_vote : float array of shape (n, n_outputs)
            Of the members.
        """
        parts = [occurring(scores, classes) for scores in block.readouts.values()]
        values = np.stack(parts) if parts else np.empty((0, *mean_vote.shape), dtype=np.float32)
        if not len(classes):
            return cls(values, np.full(len(values), 1 / target[1]), target[0])
        size = np.sqrt(np.mean(mean_vote**2))
        sizes = np.sqrt(np.mean(values**2, axis=(1, 2), dtype=np.float64))
        known = (sizes > 0) & (size > 0)
        return cls(values, np.where(known, size / np.where(known, sizes, 1.0), 1.0), 0.0)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return readouts of some rows, sized and centred, float64 (r, len(rows), n_outputs)."""
        return np.asarray((self.values[:, rows] - self.centre) * self.factors[:, None, None])


def occurring(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the columns of the classes that occur; without classes, all."""
    return scores[:, classes] if len(classes) else scores


def readout_offset(
    blocks: Sequence[Block], classes: np.ndarray, factors: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """Return what readouts add to the scores, (n, n_outputs); None where no block votes.

    Parameters
    ----------
    blocks : sequence of Block
        At least those of `factors`, found by name.
    classes : int64 array
        Class codes that occur; empty for values.
    factors : mapping of str to float64 array of shape (r,)
        What the readouts of a block are multiplied by.
    """
    if not factors:
        return None
    by_name = {block.name: block for block in blocks}
    scores = [occurring(values, classes) for name in factors for values in by_name[name].readouts.values()]
    return weighted_sum(scores, np.concatenate([*factors.values()]), scores[0].shape)
