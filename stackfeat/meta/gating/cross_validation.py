"""Cross-validation of the linear member: its penalty, and what its coefficients shrink to.

In:  a problem (softmax or ridge), scaled columns, readouts of blocks, inner folds.
Out: for each candidate a `CVResult`: the loss of every row when held out, and coefficients that the next fit
     starts from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from stackfeat.meta.gating.blocks import paired_gain
from stackfeat.meta.gating.linear_solver import (
    Problem,
    linear_scores,
    weighted_gram,
    with_intercept,
)
from stackfeat.meta.gating.opinion_pool import Shares, fit_shares, weighted_sum

TOLERANCE = 1e-6

STEPS = 100

CLEAR = 3.0
"""Standard errors by which a result must lose for what lies beyond it not to be tried."""


@dataclass(frozen=True)
class Candidate:
    """Penalties, what coefficients shrink to, and blocks.

    Attributes
    ----------
    base_penalty : float
        Of the base's coefficients.
    penalty : float
        Of the coefficients of a block of scale one.
    vote : {"equal", "simplex", "free"} or None
        Shares of the vote that the base's coefficients shrink to, see `fit_shares`; None: to zero.
    readout_blocks : tuple of int
        Blocks whose readouts vote beside the members, in order of entry.
    scales : mapping of int to float
        Block number to scale, for blocks that enter with all their columns, in order of entry.
    """

    base_penalty: float
    penalty: float
    vote: Shares | None
    readout_blocks: tuple[int, ...] = ()
    scales: Mapping[int, float] = field(default_factory=dict)

    def strengths(self, n_base: int, n_columns: int) -> np.ndarray:
        """Penalty of each column, the base's first, (n_columns,)."""
        blocks = np.full(n_columns - n_base, self.penalty)
        return np.concatenate([np.full(n_base, self.base_penalty), blocks])


@dataclass(frozen=True)
class CVResult:
    """What cross-validation of one candidate gave.

    Attributes
    ----------
    candidate : Candidate
    losses : float64 array of shape (n,)
        Of each row, from the fit that left its fold out.
    loss : float
        Their weighted mean.
    coefficients : tuple of float64 arrays of shape (d + 1, n_outputs)
        One for each fold.
    """

    candidate: Candidate
    losses: np.ndarray
    loss: float
    coefficients: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class FoldState:
    """Where a result stands in the fit without one fold.

    Attributes
    ----------
    fitted, held_out : int64 arrays
        Rows.
    scores : float array of shape (n, n_outputs)
        Of all rows.
    residual : float array of shape (len(fitted), n_outputs)
        Minus the gradient of the rows' losses, without weights.
    curvature : float
        Mean second derivative.
    """

    fitted: np.ndarray
    held_out: np.ndarray
    scores: np.ndarray
    residual: np.ndarray
    curvature: float


@dataclass(frozen=True)
class CrossValidation:
    """Rows, columns and folds that results share.

    Attributes
    ----------
    problem : Softmax or Squares
    base : float64 array of shape (n, b)
    votes : tuple of float64 arrays of shape (b, n_outputs)
        Coefficients that read each member's prediction: those of the base may shrink to a vote of them.
    readouts : tuple of float arrays of shape (r, n, n_outputs)
        What each block says of the target by itself; r is 0 for a block that says nothing.
    blocks : tuple of float32 arrays of shape (n, c)
        Scaled to a mean square of one; their coefficients shrink to zero.
    weight : float64 array of shape (n,)
        Mean one.
    fold_of : int64 array of shape (n,)
    clusters : int64 array of shape (n,) or None
        Rows that are not independent; see `gain`.
    """

    problem: Problem
    base: np.ndarray
    votes: tuple[np.ndarray, ...]
    readouts: tuple[np.ndarray, ...]
    blocks: tuple[np.ndarray, ...]
    weight: np.ndarray
    fold_of: np.ndarray
    clusters: np.ndarray | None = None

    @property
    def n_folds(self) -> int:
        return int(self.fold_of.max()) + 1

    def gain(self, before: CVResult, after: CVResult) -> tuple[float, float]:
        """Fall of the loss from one result to another, and its standard error, paired over rows or clusters."""
        return paired_gain(before.losses, after.losses, self.weight, self.clusters)

    def is_clearly_worse(self, result: CVResult, other: CVResult) -> bool:
        """Whether a result loses to another by more than `CLEAR` standard errors."""
        gain, error = self.gain(result, other)
        return gain > CLEAR * error

    def parts(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows to fit on and rows held out."""
        held_out = self.fold_of == fold
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)

    @cached_property
    def _base_grams(self) -> list[np.ndarray]:
        return self._grams(self.design(Candidate(1.0, 1.0, None)))

    @cached_property
    def _member_scores(self) -> np.ndarray:
        none = np.empty((0, len(self.base), self.problem.n_outputs))
        return np.concatenate([none, *(np.asarray(self.base @ vote)[None] for vote in self.votes)])

    @cached_property
    def _known_shares(self) -> dict[tuple[Shares | None, tuple[int, ...]], list[np.ndarray]]:
        return {}

    def fold_shares(self, candidate: Candidate) -> list[np.ndarray]:
        """Return the shares of the vote in the fit without each fold."""
        key = (candidate.vote, candidate.readout_blocks)
        if key not in self._known_shares:
            fitted = [self.parts(fold)[0] for fold in range(self.n_folds)]
            self._known_shares[key] = [self.shares(rows, candidate) for rows in fitted]
        return self._known_shares[key]

    def shares(self, rows: np.ndarray, candidate: Candidate) -> np.ndarray:
        """Share of each member, then of each readout that votes, by some rows; zeros without a vote."""
        parts = [self._member_scores, *(self.readouts[number] for number in candidate.readout_blocks)]
        if candidate.vote is None:
            return np.zeros(sum(map(len, parts)))
        scores = np.concatenate([part[:, rows] for part in parts])
        return fit_shares(self.problem.take(rows), scores, self.weight[rows], candidate.vote, len(self.votes))

    def prior(self, shares: np.ndarray) -> np.ndarray:
        """Return what coefficients of the base shrink to: the members' part of a vote, (b, n_outputs)."""
        shape = (self.base.shape[1], self.problem.n_outputs)
        return weighted_sum(self.votes, shares[: len(self.votes)], shape)

    def offset(
        self, shares: np.ndarray, candidate: Candidate, rows: np.ndarray | slice = slice(None)
    ) -> np.ndarray | None:
        """Return the readouts' part of a vote for some rows, (n, n_outputs); None where none votes."""
        if not candidate.readout_blocks:
            return None
        scores = [values[rows] for number in candidate.readout_blocks for values in self.readouts[number]]
        return weighted_sum(scores, shares[len(self.votes) :], scores[0].shape)

    def design(self, candidate: Candidate) -> np.ndarray:
        """Base, scaled blocks, ones, in the dtype of the problem."""
        dtype = self.problem.dtype
        parts = [self.base.astype(dtype)]
        parts += [
            np.multiply(self.blocks[number], scale, dtype=dtype) for number, scale in candidate.scales.items()
        ]
        return with_intercept(np.hstack(parts))

    def run(self, candidate: Candidate, start: CVResult | None = None) -> CVResult:
        """Fit without each fold in turn and score the fold left out."""
        design = self.design(candidate)
        grams = self._grams(design) if candidate.scales else self._base_grams
        total = np.sum(grams, axis=0)
        penalty = candidate.strengths(self.base.shape[1], design.shape[1] - 1)
        losses, coefficients = np.empty(len(design)), []
        for fold, shares in enumerate(self.fold_shares(candidate)):
            fitted, held_out = self.parts(fold)
            found = self.problem.take(fitted).fit(
                design[fitted],
                penalty,
                self.weight[fitted],
                gram=total - grams[fold],
                start=None if start is None else self._carry(start, fold, candidate),
                prior=extended(self.prior(shares), len(penalty)),
                offset=self.offset(shares, candidate, fitted),
                tolerance=TOLERANCE,
                max_steps=STEPS,
            )
            scores = linear_scores(design[held_out], found, self.offset(shares, candidate, held_out))
            losses[held_out] = self.problem.take(held_out).row_loss(scores)
            coefficients.append(found)
        return CVResult(
            candidate, losses, float(np.average(losses, weights=self.weight)), tuple(coefficients)
        )

    def fold_states(self, result: CVResult) -> Iterator[FoldState]:
        """Say for each fold where a result stands without it, for a cheap step from there."""
        design = self.design(result.candidate)
        for fold, shares in enumerate(self.fold_shares(result.candidate)):
            fitted, held_out = self.parts(fold)
            scores = linear_scores(design, result.coefficients[fold], self.offset(shares, result.candidate))
            problem = self.problem.take(fitted)
            curvature = problem.curvature(scores[fitted], self.weight[fitted])
            yield FoldState(fitted, held_out, scores, problem.residual(scores[fitted]), curvature)

    def held_out_loss(self, rows: np.ndarray, scores: np.ndarray) -> float:
        """Weighted sum of the losses of some rows."""
        return float(self.weight[rows] @ self.problem.take(rows).row_loss(scores))

    def _grams(self, design: np.ndarray) -> list[np.ndarray]:
        """Gram matrix of the rows of each fold."""
        folds = map(self.parts, range(self.n_folds))
        return [weighted_gram(design[rows], self.weight[rows]) for _, rows in folds]

    def _carry(self, start: CVResult, fold: int, candidate: Candidate) -> np.ndarray:
        """Coefficients of an earlier result in the columns of this candidate; new blocks start at zero."""
        old = start.coefficients[fold]
        at = n_base = self.base.shape[1]
        where = {}
        for number in start.candidate.scales:
            width = self.blocks[number].shape[1]
            where[number], at = old[at : at + width], at + width
        parts = [old[:n_base]]
        for number, scale in candidate.scales.items():
            if number in where:
                parts.append(where[number] * (start.candidate.scales[number] / scale))
            else:
                parts.append(np.zeros((self.blocks[number].shape[1], old.shape[1])))
        return np.vstack([*parts, old[-1:]])


def extended(prior: np.ndarray, n_columns: int) -> np.ndarray:
    """Append zeros for the columns of blocks, (n_columns, n_outputs)."""
    return np.vstack([prior, np.zeros((n_columns - len(prior), prior.shape[1]))])


PENALTIES = tuple(float(10.0**power) for power in range(-1, 6))


def search_prior(cv: CrossValidation, penalties: tuple[float, ...]) -> CVResult:
    """Choose what coefficients shrink to, the best kind of vote or zero, and how strongly.

    Under the strongest penalty a fit is its vote: kinds that are clearly worse there are not walked. Zero is for
    members that are sure of themselves and know nothing: it must be better by a standard error, and is not tried
    where every weaker penalty made a vote worse.

    Returns
    -------
    CVResult
        Of the best vote and penalty, without blocks.
    """
    n_members, strongest = len(cv.votes), max(penalties)
    if not n_members:
        best = search_penalty(cv, penalties, None)
        return refine_penalty(cv, best) if len(penalties) > 1 else best
    kinds: tuple[Shares, ...] = ("equal", "simplex", "free") if n_members > 1 else ("equal", "free")
    votes = [cv.run(Candidate(strongest, strongest, kind)) for kind in kinds]
    first = min(votes, key=lambda result: result.loss)
    near = [vote for vote in votes if not cv.is_clearly_worse(vote, first)]
    found = [search_penalty(cv, penalties, vote.candidate.vote, strongest=vote) for vote in near]
    best = min(found, key=lambda result: result.loss)
    if best.candidate.penalty < strongest or len(penalties) == 1:
        zero = search_penalty(cv, penalties, None)
        gain, error = cv.gain(best, zero)
        best = zero if gain > error else best
    return refine_penalty(cv, best) if len(penalties) > 1 else best


def search_penalty(
    cv: CrossValidation,
    penalties: tuple[float, ...],
    vote: Shares | None,
    readout_blocks: tuple[int, ...] = (),
    strongest: CVResult | None = None,
) -> CVResult:
    """Walk from the strongest penalty down until the loss has risen twice, or once by a lot.

    Parameters
    ----------
    strongest : CVResult, optional
        That of the strongest penalty, where it is known.

    Returns
    -------
    CVResult
        Of the best penalty, without columns of blocks.
    """
    best = result = None
    n_worse = 0
    for penalty in sorted(penalties, reverse=True):
        if result is None and strongest is not None:
            result = strongest
        else:
            result = cv.run(Candidate(penalty, penalty, vote, readout_blocks), result)
        if best is None or result.loss < best.loss:
            best, n_worse = result, 0
        else:
            n_worse += 2 if cv.is_clearly_worse(result, best) else 1
        if n_worse >= 2:
            break
    assert best is not None
    return best


def refine_penalty(cv: CrossValidation, result: CVResult) -> CVResult:
    """Try half a decade up and down: without blocks one penalty, with blocks each of the two."""
    candidate = result.candidate
    options = []
    for factor in (10.0**0.5, 10.0**-0.5):
        moved = replace(candidate, base_penalty=candidate.base_penalty * factor)
        other = replace(candidate, penalty=candidate.penalty * factor)
        options += [moved, other] if candidate.scales else [replace(moved, penalty=other.penalty)]
    return min([result, *(cv.run(option, result) for option in options)], key=lambda found: found.loss)
