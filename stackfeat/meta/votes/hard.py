"""Hard vote: each input votes for one class, and a rule says who wins among equals.

In:  class probabilities, or the classes that the inputs vote for.
Out: shares of the vote, or the winner of each row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

from stackfeat.errors import UsageError
from stackfeat.meta.votes.soft import GivenWeightVote, check_predictions, soft_vote, vote_shares
from stackfeat.structure import must
from stackfeat.tasks.task import Task

Tie = Literal["soft", "prior", "lowest"]

SAME_SHARE = 1e-9
"""Vote shares nearer than this are a tie (weights are floats)."""

TIE_BONUS = 1e-6
"""Share added to the winner of a tie; large enough to survive float32 and a csv file."""


@dataclass(frozen=True)
class HardVote(GivenWeightVote):
    """Votes of classes, counted by weight.

    Attributes
    ----------
    tie : {"soft", "prior", "lowest"}
        Among classes with equal votes wins the one with the greatest mean probability, the greatest
        prior, or the lowest code. The lowest code decides what is still equal.
    """

    name: ClassVar[str] = "hard"
    options: ClassVar[tuple[str, ...]] = ("weights", "tie")
    tasks: ClassVar[tuple[str, ...] | None] = ("binary", "multiclass")
    needs: ClassVar[str] = "counts votes for classes"
    gives_probabilities: ClassVar[bool] = False

    tie: Tie = "soft"

    @classmethod
    def stage(cls, options: Mapping[str, Any]) -> str | None:
        return "prior_vote" if options["tie"] == "prior" else None

    @classmethod
    def of(cls, n_inputs: int, priors: Sequence[float] | None, options: Mapping[str, Any]) -> Self:
        return replace(super().of(n_inputs, priors, options), tie=options["tie"])

    @classmethod
    def from_json(cls, values: Mapping[str, Any], task: Task, options: Mapping[str, Any], where: str) -> Self:
        vote = replace(super().from_json(values, task, options, where), tie=options["tie"])
        is_whole = len(vote.priors or ()) == task.n_outputs
        must(is_whole, f"{where}.fitted.priors", "be one for each class", list(values))
        return vote

    def combine(self, predictions: Sequence[np.ndarray]) -> np.ndarray:
        """Return vote shares (n, n_classes) whose argmax is the winner, a millionth above those it ties with.

        Every class gets the vote of one more input, for metrics of probabilities.

        Raises
        ------
        UsageError
            If predictions are no class probabilities or do not fit the weights.
        """
        check_predictions(predictions)
        if predictions[0].shape[1] < 2:
            raise UsageError(
                "hard vote needs class probabilities; got one column. Use vote: soft for regression."
            )
        codes = [prediction.argmax(axis=1) for prediction in predictions]
        votes = self._count(codes, predictions[0].shape[1])
        winner, tied = self._break_ties(votes, lambda: predictions)
        votes += 1.0 / len(predictions)
        votes /= votes.sum(axis=1, keepdims=True)
        votes[tied, winner[tied]] += TIE_BONUS
        votes /= votes.sum(axis=1, keepdims=True)
        return votes

    def winners(
        self, codes: Sequence[np.ndarray], n_classes: int, read: Callable[[], Sequence[np.ndarray]]
    ) -> np.ndarray:
        """Return the class, int (n,), that wins each row.

        Parameters
        ----------
        codes : sequence of int arrays (n,)
            The class that each input votes for.
        read : callable
            Gives the probabilities of all inputs, should a tie depend on them.
        """
        return self._break_ties(self._count(codes, n_classes), read)[0]

    def _count(self, codes: Sequence[np.ndarray], n_classes: int) -> np.ndarray:
        """Return the share of the vote of each class, (n, n_classes)."""
        votes = np.zeros((len(codes[0]), n_classes))
        for chosen, share in zip(codes, vote_shares(len(codes), self.weights), strict=True):
            votes[np.arange(len(votes)), chosen] += share
        return votes

    def _break_ties(
        self, votes: np.ndarray, read: Callable[[], Sequence[np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the winner of every row, and which rows had a tie."""
        is_best = votes >= votes.max(axis=1, keepdims=True) - SAME_SHARE
        if self.tie == "prior":
            if self.priors is None or len(self.priors) != votes.shape[1]:
                raise UsageError(f"tie 'prior' needs {votes.shape[1]} priors; got priors={self.priors}.")
            preference = np.broadcast_to(np.asarray(self.priors, dtype=np.float64), votes.shape)
        elif self.tie == "soft":
            preference = soft_vote(read(), self.weights)
        else:
            preference = np.zeros(votes.shape)
        winner: np.ndarray = np.where(is_best, preference, -np.inf).argmax(axis=1)
        return winner, is_best.sum(axis=1) > 1
