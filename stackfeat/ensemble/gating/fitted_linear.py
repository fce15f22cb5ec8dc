"""What the linear member with gated blocks learnt, and how it reads rows.

In:  base columns and blocks of any rows.
Out: scaled columns in order of the coefficients; scores as probabilities of all classes, or as values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.ensemble.gating.blocks import Block, Scale
from stackfeat.ensemble.gating.linear_solver import linear_scores, softmax, with_intercept
from stackfeat.ensemble.gating.spoken import offset_of
from stackfeat.task import Task

MAX_DOUBLE_CELLS = 50_000_000  # a final design above this is solved in float32


@dataclass(frozen=True)
class FittedLinear:
    """What `GatedLinear.fit` learnt.

    Attributes
    ----------
    task : Task
    classes : int64 array
        Class codes that occurred, in order of the coefficients' columns.
    base_scale : Scale
    block_scales : dict of str to Scale
        Of the blocks accepted with all columns, the gate's scale included.
    voters : dict of str to float64 array of shape (r,)
        By block that votes, what its read-outs are multiplied by.
    coefficients : float64 array of shape (d + 1, n_outputs)
    target : tuple of float
        Regression: mean and sd of the target.
    report : dict
        JSON values.
    """

    task: Task
    classes: np.ndarray
    base_scale: Scale
    block_scales: dict[str, Scale]
    voters: dict[str, np.ndarray]
    coefficients: np.ndarray
    target: tuple[float, float]
    report: dict[str, Any]

    def design(self, base: np.ndarray, blocks: Sequence[Block], n_rows: int = 0) -> np.ndarray:
        """Scaled columns in order of the coefficients, and ones; float32 where `n_rows` of them are many."""
        scales = [self.base_scale, *self.block_scales.values()]
        n_cells = n_rows * sum(len(scale.factor) for scale in scales)
        dtype = np.float64 if n_cells <= MAX_DOUBLE_CELLS else np.float32
        values = {block.name: block.values for block in blocks}
        accepted = [scale.apply(values[name], dtype) for name, scale in self.block_scales.items()]
        return with_intercept(np.hstack([self.base_scale.apply(base, dtype), *accepted]))

    def offset(self, blocks: Sequence[Block]) -> np.ndarray | None:
        """What read-outs add to the scores, (n, n_outputs); None where no block votes."""
        return offset_of(blocks, self.classes, self.voters)

    def emit(self, base: np.ndarray, blocks: Sequence[Block]) -> np.ndarray:
        """Return probabilities of all classes, or values on the target's scale, float64 (n, n_outputs).

        A class that no row had gets half a row's share, so that no log-loss is infinite.
        """
        scores = linear_scores(self.design(base, blocks), self.coefficients, self.offset(blocks))
        if not self.task.is_classification:
            mean, sd = self.target
            return np.asarray(scores * sd + mean)
        n_classes, n_absent = self.task.n_outputs, self.task.n_outputs - len(self.classes)
        share = 0.5 / (self.report["n_rows"] + n_classes)
        out = np.full((len(scores), n_classes), share)
        out[:, self.classes] = softmax(scores) * (1.0 - n_absent * share)
        return out
