"""Candidate: predictions that want to join a run, and Check: one thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stackfeat.data.folds import Folds
from stackfeat.data.samples import Samples
from stackfeat.ensemble.imports.aligned import Aligned
from stackfeat.ensemble.imports.fold_file import FoldFile
from stackfeat.metrics import Metric

State = Literal["ok", "note", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    text: str

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "state": self.state, "text": self.text}


@dataclass(frozen=True)
class Candidate:
    """Predictions, and the run that they shall join.

    Attributes
    ----------
    aligned : Aligned
        Values as in the files.
    ignored : tuple of str
        Columns that were not read.
    by_name : bool
        Whether columns were matched by name.
    test, held : Samples or None
        Test rows, and the rows that the run holds out.
    fold_file : FoldFile or None
        Folds that the sender says these rows were made with.
    claimed : float or None
    """

    aligned: Aligned
    ignored: tuple[str, ...]
    by_name: bool
    train: Samples
    test: Samples | None
    held: Samples | None
    folds: Folds
    fold_file: FoldFile | None
    metric: Metric
    claimed: float | None
    seed: int

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the training rows that some fold predicts."""
        return np.flatnonzero(self.folds.covered(0))
