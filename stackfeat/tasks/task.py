"""Task: what is predicted, in one small value that every stage is given; and the loss of a row."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from stackfeat.structure import must, structured

Kind = Literal["binary", "multiclass", "regression"]
Label = str | int | float | bool
MOST_CLASSES = 1_000_000
SMALLEST_PROBABILITY = 1e-15
"""Smaller probabilities count as this one before a logarithm, so that no loss is infinite."""


@dataclass(frozen=True)
class Task:
    """What is predicted.

    Attributes
    ----------
    kind : {"binary", "multiclass", "regression"}
    classes : tuple
        Labels in ``np.unique`` order, with the file's type; empty for regression.
    positive : int
        Binary: index in `classes` of the class whose probability counts.
    transform : {"none", "log1p"}
        Regression: members learn the target on this scale.
    n_targets : int
        Regression: how many values are predicted for a row.
    """

    kind: Kind
    classes: tuple[Label, ...] = ()
    positive: int = 1
    transform: Literal["none", "log1p"] = "none"
    n_targets: int = 1

    @property
    def is_classification(self) -> bool:
        return self.kind != "regression"

    @property
    def n_outputs(self) -> int:
        """Columns of a prediction: one per class, or one per target."""
        return len(self.classes) if self.is_classification else self.n_targets

    @property
    def output(self) -> Literal["proba", "prediction"]:
        """Name of the block that holds predictions."""
        return "proba" if self.is_classification else "prediction"

    def to_target_scale(self, prediction: np.ndarray) -> np.ndarray:
        """Map regression predictions back to the file's scale; probabilities stay as they are."""
        if self.transform == "log1p":
            return np.asarray(np.maximum(np.expm1(prediction), 0.0))
        return prediction

    def to_json(self) -> dict[str, Any]:
        values = {**asdict(self), "classes": list(self.classes)}
        # Left out where it is the default, so that entries of one target stay as they were.
        if self.n_targets == 1:
            values.pop("n_targets")
        return values

    @classmethod
    def from_json(cls, values: object, where: str = "task") -> Task:
        """Return the task that `to_json` described; StructureError if there is no such task."""
        task = structured(cls, values, where)
        task.check(where)
        return task

    def check(self, where: str) -> None:
        """Raise StructureError unless classes, targets and transform fit the kind."""
        n_classes = len(self.classes)
        fewest = {"binary": 2, "multiclass": 2, "regression": 0}[self.kind]
        most = {"binary": 2, "regression": 0}.get(self.kind, MOST_CLASSES)
        must(fewest <= n_classes <= most, f"{where}.classes", f"be those of a {self.kind} task", self.classes)
        must(len(set(map(repr, self.classes))) == n_classes, f"{where}.classes", "differ", self.classes)
        must(self.positive in (0, 1), f"{where}.positive", "be 0 or 1", self.positive)
        must(1 <= self.n_targets <= MOST_CLASSES, f"{where}.n_targets", "be 1 or more", self.n_targets)
        must(
            self.transform == "none" or not n_classes,
            f"{where}.transform",
            "be of a regression",
            self.transform,
        )


def log_probability(proba: np.ndarray) -> np.ndarray:
    """Return logarithms of probabilities, at least that of `SMALLEST_PROBABILITY`."""
    logs: np.ndarray = np.log(np.clip(proba, SMALLEST_PROBABILITY, 1.0))
    return logs


def row_loss(task: Task, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return how wrong each row's prediction is: log-loss of classes, squared error of values.

    Parameters
    ----------
    task : Task
    y : ndarray of shape (n_rows,) or (n_rows, n_targets)
        Class codes, or values on the members' scale.
    prediction : ndarray of shape (n_rows, n_outputs)

    Returns
    -------
    float64 array of shape (n_rows,)
        Of several targets the mean of their squared errors.

    Examples
    --------
    >>> row_loss(Task("binary", ("no", "yes")), np.array([1, 0]), np.array([[0.5, 0.5], [0.2, 0.8]])).round(2)
    array([0.69, 1.61])
    """
    if task.is_classification:
        return -log_probability(prediction[np.arange(len(y)), y])
    return np.asarray(((prediction - y.reshape(len(y), -1)) ** 2).mean(axis=1))


def spread_rows(y: np.ndarray, cap: int, seed: int) -> np.ndarray:
    """Return at most `cap` rows; shares of classes (or of quantiles of y) are kept.

    Returns
    -------
    int64 array
        Sorted; all rows where there are no more than `cap`.
    """
    if len(y) <= cap:
        return np.arange(len(y))
    shuffled = np.random.default_rng(seed).permutation(len(y))
    by_value = shuffled[np.argsort(y[shuffled], kind="stable")]
    every = np.linspace(0, len(y) - 1, cap).round().astype(np.int64)
    return np.sort(by_value[every])
