"""The gate of any estimator: which feature blocks it gets, and at which scale; and the penalty of a linear one.

In:  a way to make the estimator, its base columns, feature blocks, targets, fold ids.
Out: a `GateResult`, or the value of the penalty, by cross-validation over whole folds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from stackfeat.meta.columns import join, take_rows
from stackfeat.meta.estimator_io import fit_estimator, predict_rows
from stackfeat.meta.gating.blocks import (
    MAX_BLOCKS,
    MAX_TRIALS,
    SCALES,
    Block,
    GateStep,
    check_design,
    inner_folds,
    paired_gain,
    passes,
    threshold,
)
from stackfeat.meta.gating.screened_gate import screened_search
from stackfeat.meta.scaling import Scale, scaled
from stackfeat.tasks.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EstimatorCV:
    """Cross-validation of one estimator on base columns and some blocks.

    Attributes
    ----------
    make_estimator : callable
        Returns a new, unfitted estimator.
    base : array or DataFrame of n rows
    blocks : tuple of Block
    y : array of shape (n,)
    weight : float64 array of shape (n,) or None
    fold_of : int64 array of shape (n,)
    task : Task
    """

    make_estimator: Callable[[], Any]
    base: np.ndarray | pd.DataFrame
    blocks: tuple[Block, ...]
    y: np.ndarray
    weight: np.ndarray | None
    fold_of: np.ndarray
    task: Task

    def design(self, factors: Mapping[int, Scale]) -> Any:
        """Return the base with blocks beside it, by their numbers, scaled or as they are."""
        return join(self.base, [scaled(self.blocks[number].values, factors[number]) for number in factors])

    def run(self, factors: Mapping[int, Scale]) -> np.ndarray:
        """Loss of each row, float64 (n,)."""
        design = self.design(factors)
        losses = np.empty(len(self.y))
        for fold in range(int(self.fold_of.max()) + 1):
            held_out = np.flatnonzero(self.fold_of == fold)
            estimator = self.fit(design, np.flatnonzero(self.fold_of != fold))
            prediction = predict_rows(estimator, take_rows(design, held_out), self.task)
            losses[held_out] = self.task.row_loss(self.y[held_out], prediction)
        return losses

    def fit(self, design: np.ndarray | pd.DataFrame, rows: np.ndarray) -> Any:
        """Fit a new estimator on some rows."""
        weight = None if self.weight is None else self.weight[rows]
        estimator, columns = self.make_estimator(), take_rows(design, rows)
        return fit_estimator(estimator, columns, self.y[rows], weight, self.task, must_weigh=False)


FIRST_SCALE = 0.3


@dataclass(frozen=True)
class GateResult:
    """What the gate let in.

    Attributes
    ----------
    scales : tuple of float
        One for each block given; 0 keeps it out. Estimators that are no linear models: 0 or 1.
    report : dict
        Losses, threshold and steps; JSON values.
    names : tuple of str
        Of the blocks given.
    fitted : tuple of Scale or None
        How the columns of each accepted block are scaled, the gate's scale included.
    """

    scales: tuple[float, ...]
    report: dict[str, Any]
    names: tuple[str, ...]
    fitted: tuple[Scale | None, ...]


def gate_blocks(
    make_estimator: Callable[[], Any],
    base: np.ndarray | pd.DataFrame,
    blocks: Sequence[Block | np.ndarray],
    y: np.ndarray,
    folds: np.ndarray,
    task: Task,
    *,
    gate_se: float,
    weight: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    linear: bool,
    seed: int,
) -> GateResult:
    """Let in the blocks that lower the cross-validated loss.

    Parameters
    ----------
    make_estimator : callable
        Returns a new, unfitted estimator; classifiers are given class codes.
    base : array or DataFrame of n rows
        Always in; NaN are left to the estimator.
    blocks : sequence of Block or array
        An array is a block whose columns are scaled already.
    y : array of shape (n,)
        Class codes, or values.
    folds : int array of shape (n,)
        The fold each row was held out in; splits keep folds whole.
    task : Task
    gate_se : float
        Standard errors that a block must gain; more are asked where there are many blocks.
    weight : float array of shape (n,), optional
    clusters : int64 array of shape (n,), optional
        Rows that standard errors of gains do not count apart; see `paired_gain`.
    linear : bool
        Linear estimators try scales, in whole fits; for others see `screened_search`.
    seed : int

    Raises
    ------
    UsageError, MemberError
        As `GatedLinear.fit`.
    """
    named = tuple(
        block if isinstance(block, Block) else Block(f"block{number}", np.asarray(block), "none")
        for number, block in enumerate(blocks)
    )
    check_design(np.empty((len(base), 0)), named)
    weights = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64) / np.mean(weight)
    inner = inner_folds(np.asarray(folds), seed, "gate")
    to_fit = None if weight is None else weights
    limit = threshold(gate_se, len(blocks))
    if not blocks:
        return GateResult((), {"threshold_se": limit, "scales": {}, "steps": []}, (), ())
    scales = [Scale.fit(block.values, block.scaling) for block in named]
    y = task.as_y(y)
    if linear:
        cv = EstimatorCV(make_estimator, base, named, y, to_fit, inner, task)
        search = _Search(cv, weights, limit, clusters)
        search.by_scale(scales)
        chosen, report = search.scales, search.report()
    else:
        found = screened_search(
            make_estimator,
            base,
            named,
            scales,
            y,
            to_fit,
            inner,
            task,
            limit=limit,
            seed=seed,
            clusters=clusters,
        )
        chosen, report = dict.fromkeys(found.accepted, 1.0), found.report()
    by_number = tuple(chosen.get(number, 0.0) for number in range(len(named)))
    names = tuple(block.name for block in named)
    fitted = tuple(
        _times(scale, factor) if factor else None for scale, factor in zip(scales, by_number, strict=True)
    )
    by_name = {"scales": dict(zip(names, by_number, strict=True))}
    return GateResult(by_number, {"threshold_se": limit, **by_name, **report}, names, fitted)


class _Search:
    """Greedy search through blocks in order of promise."""

    def __init__(
        self, cv: EstimatorCV, weight: np.ndarray, limit: float, clusters: np.ndarray | None
    ) -> None:
        self.cv = cv
        self.weight = weight
        self.clusters = clusters
        self.limit = limit
        self.scales: dict[int, float] = {}
        self.factors: dict[int, Scale] = {}
        self.steps: list[GateStep] = []
        self.losses = cv.run({})
        self.base_loss = self.loss

    @property
    def loss(self) -> float:
        return float(np.average(self.losses, weights=self.weight))

    def report(self) -> dict[str, Any]:
        """Losses and steps; JSON values."""
        steps = [step.to_json() for step in self.steps]
        return {"base_loss": self.base_loss, "loss": self.loss, "steps": steps}

    def by_scale(self, unscaled: Sequence[Scale]) -> None:
        """Rank blocks at one scale, then go down the ranking and try all scales of each."""
        first: dict[int, np.ndarray] = {}
        for number in self._by_coefficients(unscaled)[:MAX_TRIALS]:
            first[number] = self.cv.run({number: _times(unscaled[number], FIRST_SCALE)})
        for number in sorted(first, key=lambda n: float(np.average(first[n], weights=self.weight))):
            if len(self.scales) == MAX_BLOCKS:
                break
            factors = {scale: _times(unscaled[number], scale) for scale in SCALES}
            tried = {
                scale: first[number]
                if scale == FIRST_SCALE and not self.factors
                else self.cv.run({**self.factors, number: factor})
                for scale, factor in factors.items()
            }
            self._judge(number, tried, factors)

    def _judge(self, number: int, tried: dict[float, np.ndarray], factors: dict[float, Any]) -> None:
        """Accept the best scale of a block if its gain is real."""
        scale = min(tried, key=lambda s: float(np.average(tried[s], weights=self.weight)))
        gain, error = paired_gain(self.losses, tried[scale], self.weight, self.clusters)
        taken = passes(gain, error, self.limit, self.loss)
        self.steps.append(GateStep(self.cv.blocks[number].name, scale, gain, error, taken))
        if taken:
            self.scales[number], self.factors[number], self.losses = scale, factors[scale], tried[scale]

    def _by_coefficients(self, unscaled: Sequence[Scale]) -> list[int]:
        """Blocks by how much one fit on everything used them; as given where they are few, or it does not say."""
        widths = [block.values.shape[1] for block in self.cv.blocks]
        if len(widths) <= MAX_TRIALS:
            return list(range(len(widths)))
        design = self.cv.design({number: _times(scale, FIRST_SCALE) for number, scale in enumerate(unscaled)})
        estimator = self.cv.fit(design, np.arange(len(self.cv.y)))
        found = getattr(estimator, "coef_", None)
        if found is None:
            logger.info("%s has no coef_; blocks are tried as given", type(estimator).__name__)
            return list(range(len(widths)))
        sizes = np.atleast_2d(np.asarray(found, dtype=np.float64) ** 2).sum(axis=0)
        starts = np.cumsum([len(sizes) - sum(widths), *widths])
        totals = np.array([sizes[start:end].sum() for start, end in pairwise(starts)])
        return [int(number) for number in np.argsort(-totals, kind="stable")]


def _times(scale: Scale, factor: float) -> Scale:
    return Scale(scale.centre, scale.factor * factor)


_GRIDS: dict[str, tuple[str, tuple[float, ...]]] = {
    "LogisticRegression": ("C", (0.001, 0.01, 0.1, 1.0, 10.0)),
    "Ridge": ("alpha", (0.1, 1.0, 10.0, 100.0, 1000.0)),
}


def _grid(path: str) -> tuple[str, tuple[float, ...]] | None:
    return _GRIDS.get(path.rsplit(".", 1)[-1]) if path.startswith("sklearn.linear_model.") else None


def is_linear(estimator: Any) -> bool:
    """Whether an estimator is a linear model of scikit-learn, or a pipeline or search around one.

    Of any other the gate does not know that the scale of a column matters, nor that fits are cheap.
    """
    steps = getattr(estimator, "steps", None)
    inner = steps[-1][1] if steps else getattr(estimator, "estimator", None)
    if inner is not None and hasattr(inner, "get_params"):
        return is_linear(inner)
    return any(cls.__module__.startswith("sklearn.linear_model") for cls in type(estimator).__mro__)


def has_free_penalty(path: str, params: Mapping[str, Any]) -> bool:
    """Whether this is a linear model whose penalty the config leaves open."""
    grid = _grid(path)
    return grid is not None and grid[0] not in params


def choose_penalty(
    make: Callable[[Mapping[str, Any]], Any],
    path: str,
    columns: Any,
    y: np.ndarray,
    fold_of: np.ndarray,
    task: Task,
    *,
    weight: np.ndarray | None,
    seed: int,
) -> dict[str, Any]:
    """Return ``{"C": value}`` or ``{"alpha": value}`` with the lowest mean loss over held-out folds."""
    grid = _grid(path)
    assert grid is not None
    name, values = grid
    inner = inner_folds(fold_of, seed, path)

    def loss_of(value: float) -> float:
        cv = EstimatorCV(lambda: make({name: value}), columns, (), y, weight, inner, task)
        return float(np.average(cv.run({}), weights=weight))

    return {name: min(values, key=loss_of)}
