"""Votes: several predictions of the same rows become one.

In:  a list of predictions, each (n, n_classes) probabilities or (n, 1) values on the members' scale.
Out: one prediction of the same shape. A fitted vote is a small value with `combine` and a JSON form;
weighted and greedy votes are soft votes with fitted weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np

from stackfeat.ensemble.rank_vote import RankVote
from stackfeat.errors import UsageError

Tie = Literal["soft", "prior", "lowest"]

SAME_SHARE = 1e-9
"""Vote shares nearer than this are a tie (weights are floats)."""
TIE_BONUS = 1e-6
"""Share added to the winner of a tie; large enough to survive float32 and a csv file."""


class Vote(Protocol):
    """What every fitted vote can do."""

    def combine(self, inputs: Sequence[np.ndarray]) -> np.ndarray: ...

    def to_json(self) -> dict[str, Any]: ...


def soft_vote(predictions: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Return the weighted mean of predictions.

    Parameters
    ----------
    predictions : sequence of float arrays (n, k)
    weights : sequence of float or None
        One for each prediction, at least 0; only their ratios count.

    Returns
    -------
    float64 array (n, k)

    Raises
    ------
    UsageError
        If shapes differ or the weights do not fit.

    Examples
    --------
    >>> soft_vote([np.array([[0.2, 0.8]]), np.array([[0.4, 0.6]])], weights=[3, 1])
    array([[0.25, 0.75]])
    """
    shares = vote_weights(predictions, weights)
    total = np.zeros(predictions[0].shape)
    for prediction, share in zip(predictions, shares, strict=True):
        if share > 0:
            total += share * prediction
    return total


def hard_vote(
    predictions: Sequence[np.ndarray],
    weights: Sequence[float] | None = None,
    tie: Tie = "soft",
    priors: Sequence[float] | None = None,
    smooth: float = 0.0,
) -> np.ndarray:
    """Return vote shares whose argmax is the winner, ties broken.

    Parameters
    ----------
    predictions : sequence of float arrays (n, n_classes)
        Each votes for its most probable class (the lowest of equals).
    weights : sequence of float or None
    tie : {"soft", "prior", "lowest"}
        Among classes with equal votes wins the one with the greatest mean probability, the greatest
        prior, or the lowest code. The lowest code decides what is still equal.
    priors : sequence of float (n_classes,) or None
        From `class_totals` of the training rows, or their shares; needed for "prior".
    smooth : float
        Votes added to every class, as if by that many more members, for metrics of probabilities.

    Returns
    -------
    float64 array (n, n_classes)
        Rows sum to 1. The winner of a tie stands a millionth above the others.

    Raises
    ------
    UsageError
        If predictions are no class probabilities, weights do not fit, or priors are missing.
    """
    shares = vote_weights(predictions, weights)
    n_classes = predictions[0].shape[1]
    if n_classes < 2:
        raise UsageError(
            "hard vote needs class probabilities; got one column. Use vote: soft for regression."
        )
    votes = count_votes([prediction.argmax(axis=1) for prediction in predictions], shares, n_classes)
    winner, tied = break_ties(votes, tie, predictions, shares.tolist(), priors)
    votes += smooth / len(predictions)
    votes /= votes.sum(axis=1, keepdims=True)
    votes[tied, winner[tied]] += TIE_BONUS
    votes /= votes.sum(axis=1, keepdims=True)
    return votes


def class_totals(y: np.ndarray, n_classes: int, weight: np.ndarray | None) -> np.ndarray:
    """Return the sum of the weights of each class's rows (without weights their number), float64 (n_classes,)."""
    return np.bincount(y, weights=weight, minlength=n_classes).astype(np.float64)


def count_votes(codes: Sequence[np.ndarray], shares: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the share of the vote of each class, (n_rows, n_classes).

    Parameters
    ----------
    codes : sequence of int arrays (n_rows,)
        The class that each input votes for.
    shares : float array (n_inputs,)
        From `vote_shares`.
    """
    votes: np.ndarray = np.zeros((len(codes[0]), n_classes))
    for chosen, share in zip(codes, shares, strict=True):
        votes[np.arange(len(votes)), chosen] += share
    return votes


def break_ties(
    votes: np.ndarray,
    tie: Tie,
    predictions: Sequence[np.ndarray],
    weights: Sequence[float] | None,
    priors: Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the winner of every row, and which rows had a tie.

    Parameters
    ----------
    votes : float array (n_rows, n_classes)
        From `count_votes`.
    tie, priors
        As in `hard_vote`.
    predictions, weights
        As in `hard_vote`; read where `tie` is "soft".

    Returns
    -------
    winner : int array (n_rows,)
    tied : bool array (n_rows,)
    """
    is_best = votes >= votes.max(axis=1, keepdims=True) - SAME_SHARE
    tied = is_best.sum(axis=1) > 1
    if tie == "prior":
        if priors is None or len(priors) != votes.shape[1]:
            raise UsageError(f"tie 'prior' needs {votes.shape[1]} priors; got priors={priors}.")
        preference = np.broadcast_to(np.asarray(priors, dtype=np.float64), votes.shape)
    elif tie == "soft":
        preference = soft_vote(predictions, weights)
    else:
        preference = np.zeros(votes.shape)
    winner: np.ndarray = np.where(is_best, preference, -np.inf).argmax(axis=1)
    return winner, tied


def vote_weights(predictions: Sequence[np.ndarray], weights: Sequence[float] | None) -> np.ndarray:
    """Check predictions and weights; return the weights, summing to 1.

    Raises
    ------
    UsageError
        If there is no prediction, shapes differ, or weights do not fit.
    """
    if not predictions:
        raise UsageError("a vote needs at least one prediction; got none.")
    shapes = {prediction.shape for prediction in predictions}
    if len(shapes) > 1 or predictions[0].ndim != 2:
        raise UsageError(f"predictions must have one shape (n_rows, n_columns); got {sorted(shapes)}.")
    return vote_shares(len(predictions), weights)


def vote_shares(n_inputs: int, weights: Sequence[float] | None) -> np.ndarray:
    """Check weights; return those of the inputs, summing to 1.

    Raises
    ------
    UsageError
        If the weights do not fit.
    """
    if weights is None:
        return np.full(n_inputs, 1.0 / n_inputs)
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (n_inputs,):
        raise UsageError(
            f"weights must be equal in number to the inputs; got {len(values)} weights, {n_inputs} inputs."
        )
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise UsageError(f"weights must be at least 0 with one above 0; got weights={values.tolist()}.")
    normalised: np.ndarray = values / values.sum()
    return normalised


@dataclass(frozen=True)
class SoftVote:
    """The weighted mean; without weights all inputs count the same."""

    weights: tuple[float, ...] | None = None

    def combine(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        return soft_vote(inputs, self.weights)

    def to_json(self) -> dict[str, Any]:
        return {"vote": "soft", **asdict(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SoftVote:
        return cls(_as_tuple(values["weights"]))


@dataclass(frozen=True)
class HardVote:
    """Vote shares; parameters as in `hard_vote`."""

    weights: tuple[float, ...] | None = None
    tie: Tie = "soft"
    priors: tuple[float, ...] | None = None
    smooth: float = 0.0

    def combine(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        return hard_vote(inputs, self.weights, self.tie, self.priors, self.smooth)

    def to_json(self) -> dict[str, Any]:
        return {"vote": "hard", **asdict(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> HardVote:
        return cls(_as_tuple(values["weights"]), values["tie"], _as_tuple(values["priors"]), values["smooth"])


def vote_from_json(values: dict[str, Any]) -> Vote:
    """Return the fitted vote that wrote `values` with its `to_json`."""
    kinds: dict[str, type[SoftVote] | type[HardVote] | type[RankVote]] = {
        "soft": SoftVote,
        "hard": HardVote,
        "rank": RankVote,
    }
    return kinds[values["vote"]].from_json(values)


def _as_tuple(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)
