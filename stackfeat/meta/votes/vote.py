"""Vote: several predictions of the same rows become one.

In:  predictions, each (n, n_classes) probabilities or (n, 1) values on the members' scale.
Out: one prediction of the same shape. A class for each vote says what the vote needs and takes; its
objects are fitted votes, small values with a JSON form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from stackfeat.metrics.metric import Metric
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class VoteTarget:
    """What predictions are meant to hit when a vote is fitted to them.

    Attributes
    ----------
    y : array (n,)
        Codes, or values on the members' scale.
    weight : array (n,) or None
        Of the rows.
    metric : Metric or None
        What weights are fitted for; None for votes that learn nothing.
    seed : int
    """

    task: Task
    y: np.ndarray
    weight: np.ndarray | None = None
    metric: Metric | None = None
    seed: int = 0


class Vote(ABC):
    """A way to combine predictions.

    Attributes
    ----------
    name : str
        As in a config's ``vote:``.
    is_fitted : bool
        Whether it learns from out-of-fold predictions. If not, it takes a fold without training rows.
    options : tuple of str
        Options of `VoteOptions` that it takes.
    tasks : tuple of str or None
        Kinds of tasks that it serves; None for all.
    takes_targets : bool
        Whether a row may have several targets.
    needs : str
        What it does that other tasks do not allow, for messages.
    preference : int
        Among members of the same score ``submit: auto`` takes the lowest; 2 is that of members that are no votes.
    gives_probabilities : bool
        Whether it is worth being judged by a metric of probabilities.
    """

    name: ClassVar[str]
    is_fitted: ClassVar[bool]
    options: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...] | None] = None
    takes_targets: ClassVar[bool] = True
    needs: ClassVar[str] = ""
    preference: ClassVar[int] = 2
    gives_probabilities: ClassVar[bool] = True

    @classmethod
    def serves(cls, task_kind: str) -> bool:
        return cls.tasks is None or task_kind in cls.tasks

    @classmethod
    def stage(cls, options: Mapping[str, Any]) -> str | None:
        """Return the entry of the versions of recipes that counts for a fit with these options, if any."""
        return None

    @classmethod
    def option_problems(cls, options: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return (option, message) for what is wrong with values of the options that it takes."""
        return []

    @classmethod
    @abstractmethod
    def fit(cls, predictions: Sequence[np.ndarray], target: VoteTarget, options: Mapping[str, Any]) -> Self:
        """Return the vote fitted to predictions of rows that no member saw; `options` holds all it takes."""

    @classmethod
    def reads(
        cls, predictions: Sequence[np.ndarray], task: Task, lists: np.ndarray | None
    ) -> Sequence[np.ndarray]:
        """Return what the vote is fitted to, and combines, of predictions; `lists` numbers those of the rows."""
        return predictions

    @property
    @abstractmethod
    def n_inputs(self) -> int: ...

    @abstractmethod
    def combine(self, predictions: Sequence[np.ndarray]) -> np.ndarray:
        """Return the vote, float64 of the predictions' shape."""

    @abstractmethod
    def subset(self, places: Sequence[int]) -> Self:
        """Return the vote of these inputs, in this order; where some are left out the others share their part."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]: ...

    @classmethod
    @abstractmethod
    def from_json(cls, values: Mapping[str, Any], task: Task, options: Mapping[str, Any], where: str) -> Self:
        """Return the vote that `to_json` described; StructureError if it is not made so."""

    def report(self, names: Sequence[str]) -> dict[str, Any]:
        """Return what the fit found for the inputs of these names, as JSON."""
        return {}
