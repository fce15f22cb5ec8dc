"""Task: what is predicted, in one small value that every stage is given."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["binary", "multiclass", "regression"]
Label = str | int | float | bool


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
    def from_json(cls, values: dict[str, Any]) -> Task:
        return cls(**{**values, "classes": tuple(values["classes"])})
