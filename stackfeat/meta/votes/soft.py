"""Soft vote: the weighted mean of predictions; and what all votes made of one weight for each input share.

In:  predictions, weights.
Out: their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from stackfeat.errors import MemberError, UsageError
from stackfeat.meta.votes.vote import Vote, VoteTarget
from stackfeat.structure import checked
from stackfeat.tasks.task import Task


def soft_vote(predictions: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Return the weighted mean of predictions.

    Parameters
    ----------
    predictions : sequence of float arrays (n, k)
    weights : sequence of float or None
        One for each prediction; only their ratios count.

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
    check_predictions(predictions)
    shares = vote_shares(len(predictions), weights)
    total = np.zeros(predictions[0].shape)
    for prediction, share in zip(predictions, shares, strict=True):
        if share != 0:
            total += share * prediction
    return total


def check_predictions(predictions: Sequence[np.ndarray]) -> None:
    """Raise UsageError if there is no prediction or shapes differ."""
    if not predictions:
        raise UsageError("a vote needs at least one prediction; got none.")
    shapes = {prediction.shape for prediction in predictions}
    if len(shapes) > 1 or predictions[0].ndim != 2:
        raise UsageError(f"predictions must have one shape (n_rows, n_columns); got {sorted(shapes)}.")


def vote_shares(n_inputs: int, weights: Sequence[float] | None) -> np.ndarray:
    """Return the weights of the inputs, equal ones for None, summing to 1.

    Raises
    ------
    UsageError
        If there is not one for each input, or their sum is no number to divide by.
    """
    if weights is None:
        return np.full(n_inputs, 1.0 / n_inputs)
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (n_inputs,):
        raise UsageError(
            f"weights must be equal in number to the inputs; got {len(values)} weights, {n_inputs} inputs."
        )
    total = values.sum()
    if not np.isfinite(total) or total == 0:
        raise UsageError(f"weights must be finite and not sum to 0; got weights={values.tolist()}.")
    normalised: np.ndarray = values / total
    return normalised


@dataclass(frozen=True)
class WeightVote(Vote):
    """A vote that is one weight for each input."""

    weights: tuple[float, ...]

    @property
    def n_inputs(self) -> int:
        return len(self.weights)

    def combine(self, predictions: Sequence[np.ndarray]) -> np.ndarray:
        return soft_vote(predictions, self.weights)

    def subset(self, places: Sequence[int]) -> Self:
        weights = [self.weights[place] for place in places]
        if not sum(weights) > 0:
            raise MemberError(
                "a vote needs an input with a weight above 0; all of those left have none. Leave out fewer members"
            )
        if len(places) < len(self.weights):
            weights = [weight / sum(weights) for weight in weights]
        return replace(self, weights=tuple(weights))

    def to_json(self) -> dict[str, Any]:
        return {"weights": list(self.weights)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], task: Task, options: Mapping[str, Any], where: str) -> Self:
        return cls(read_weights(values, where))

    def report(self, names: Sequence[str]) -> dict[str, Any]:
        return {"weights": dict(zip(names, self.weights, strict=True))}


def read_weights(values: Mapping[str, Any], where: str) -> tuple[float, ...]:
    """Return the weights of a fitted vote's JSON.

    Raises
    ------
    StructureError
        If they are no numbers.
    UsageError
        If there are some and none is above 0, or one is below 0.
    """
    weights: tuple[float, ...] = checked(tuple[float, ...], values.get("weights", ()), f"{where}.weights")
    if weights and is_wrong(weights):
        raise UsageError(f"weights must be at least 0 with one above 0; got weights={list(weights)}.")
    return weights


def is_wrong(weights: Sequence[float]) -> bool:
    """Whether these are no weights: one is below 0, or none is above."""
    return any(weight < 0 for weight in weights) or sum(weights) <= 0


@dataclass(frozen=True)
class GivenWeightVote(WeightVote):
    """A vote whose weights are given, not learnt; equal ones without any.

    Attributes
    ----------
    priors : tuple of float or None
        Classes: the sum of the weights of each one's training rows (without weights their number).
    """

    is_fitted: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ("weights",)

    priors: tuple[float, ...] | None = None

    @classmethod
    def option_problems(cls, options: Mapping[str, Any]) -> list[tuple[str, str]]:
        weights = options.get("weights")
        if weights is None or not is_wrong(weights):
            return []
        return [("weights", f"must be at least 0 and not all 0; got {list(weights)}")]

    @classmethod
    def fit(cls, predictions: Sequence[np.ndarray], target: VoteTarget, options: Mapping[str, Any]) -> Self:
        priors = target.task.class_totals(target.y, target.weight)
        return cls.of(len(predictions), priors, options)

    @classmethod
    def of(cls, n_inputs: int, priors: Sequence[float] | None, options: Mapping[str, Any]) -> Self:
        """Return the vote of so many inputs, with given options."""
        weights = (1.0,) * n_inputs if options["weights"] is None else options["weights"]
        total = sum(weights)
        return cls(tuple(weight / total for weight in weights), None if priors is None else tuple(priors))

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | ({} if self.priors is None else {"priors": list(self.priors)})

    @classmethod
    def from_json(cls, values: Mapping[str, Any], task: Task, options: Mapping[str, Any], where: str) -> Self:
        priors = checked(tuple[float, ...], values.get("priors", ()), f"{where}.priors")
        return cls(read_weights(values, where), priors or None)

    def report(self, names: Sequence[str]) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class SoftVote(GivenWeightVote):
    """The weighted mean."""

    name: ClassVar[str] = "soft"
    preference: ClassVar[int] = 1
