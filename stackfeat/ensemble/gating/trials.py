"""Cross-validate any scikit-learn style estimator on base columns plus some blocks.

In:  a way to make the estimator, base (array or DataFrame), blocks with their scales.
Out: the loss of every row (`row_loss` of what the estimator would emit), from the fit that left its fold out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import has_fit_parameter

from stackfeat.ensemble.category_columns import as_taken, fit_keywords
from stackfeat.ensemble.gating.blocks import Block, Scale
from stackfeat.ensemble.members.predict import predict_rows
from stackfeat.task import Task, row_loss

logger = logging.getLogger(__name__)


def join(
    base: np.ndarray | pd.DataFrame, blocks: Sequence[Block], factors: Mapping[int, Scale | None]
) -> np.ndarray | pd.DataFrame:
    """Put blocks beside the base.

    Parameters
    ----------
    base : array or DataFrame of n rows
    blocks : sequence of Block
    factors : mapping of int to Scale or None
        Block number to how its columns are scaled; None leaves them as they are.

    Returns
    -------
    array or DataFrame
        As `base`; block columns of a frame are named ``b<block>_<column>``, which LightGBM accepts.
    """
    parts = []
    for number, scale in factors.items():
        values = blocks[number].values
        parts.append(values if scale is None else scale.apply(values))
    if not isinstance(base, pd.DataFrame):
        return np.hstack([np.asarray(base), *parts])
    frames = [
        pd.DataFrame(
            part, index=base.index, columns=[f"b{number}_{column}" for column in range(part.shape[1])]
        )
        for number, part in zip(factors, parts, strict=True)
    ]
    return pd.concat([base, *frames], axis=1)


@dataclass(frozen=True)
class EstimatorTrials:
    """Rows, targets and folds that trials of one estimator share.

    Attributes
    ----------
    make_estimator : callable
        Returns a new, unfitted estimator.
    base : array or DataFrame of n rows
    blocks : tuple of Block
    y : array of shape (n,)
    weight : float64 array of shape (n,)
        Mean one; handed to `fit` only if `weighted`.
    weighted : bool
    fold_of : int64 array of shape (n,)
    task : Task
    """

    make_estimator: Callable[[], Any]
    base: np.ndarray | pd.DataFrame
    blocks: tuple[Block, ...]
    y: np.ndarray
    weight: np.ndarray
    weighted: bool
    fold_of: np.ndarray
    task: Task

    def run(self, factors: Mapping[int, Scale | None]) -> np.ndarray:
        """Loss of each row, float64 (n,)."""
        design = join(self.base, self.blocks, factors)
        losses = np.empty(len(self.y))
        for fold in range(int(self.fold_of.max()) + 1):
            held_out = np.flatnonzero(self.fold_of == fold)
            estimator = self.fit(design, np.flatnonzero(self.fold_of != fold))
            prediction = predict_rows(estimator, _rows(design, held_out), self.task)
            losses[held_out] = row_loss(self.task, self.y[held_out], prediction)
        return losses

    def fit(self, design: np.ndarray | pd.DataFrame, rows: np.ndarray) -> Any:
        """Fit a new estimator on some rows."""
        estimator = self.make_estimator()
        keywords = fit_keywords(estimator, design)
        if self.weighted and has_fit_parameter(estimator, "sample_weight"):
            keywords["sample_weight"] = self.weight[rows]
        elif self.weighted:
            logger.info("%s takes no sample_weight; the gate fits it without", type(estimator).__name__)
        return estimator.fit(as_taken(estimator, _rows(design, rows)), self.y[rows], **keywords)


def _rows(design: np.ndarray | pd.DataFrame, rows: np.ndarray) -> np.ndarray | pd.DataFrame:
    return design.iloc[rows] if isinstance(design, pd.DataFrame) else design[rows]
