"""Penalty: the strength of a linear meta-learner, by cross-validation grouped on the folds.

Used where `params` names none: the default of a library was not chosen for stacked
predictions, and a random split would not see that every fold has a model of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stackfeat.ensemble.columns import take_rows
from stackfeat.ensemble.gating.rules import inner_folds
from stackfeat.ensemble.members.predict import fit_estimator, predict_rows
from stackfeat.task import Task, row_loss

_GRIDS: dict[str, tuple[str, tuple[float, ...]]] = {
    "LogisticRegression": ("C", (0.001, 0.01, 0.1, 1.0, 10.0)),
    "Ridge": ("alpha", (0.1, 1.0, 10.0, 100.0, 1000.0)),
}


def _grid(path: str) -> tuple[str, tuple[float, ...]] | None:
    return _GRIDS.get(path.rsplit(".", 1)[-1]) if path.startswith("sklearn.linear_model.") else None


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
    losses = np.zeros(len(values))
    inner = inner_folds(fold_of, seed, path)
    for fold in np.unique(inner):
        fit_rows, held_rows = np.flatnonzero(inner != fold), np.flatnonzero(inner == fold)
        held = take_rows(columns, held_rows)
        for i, value in enumerate(values):
            estimator = fit_estimator(
                make({name: value}),
                take_rows(columns, fit_rows),
                y[fit_rows],
                None if weight is None else weight[fit_rows],
            )
            rows = row_loss(task, y[held_rows], predict_rows(estimator, held, task))
            losses[i] += rows.sum() if weight is None else (rows * weight[held_rows]).sum()
    return {name: values[int(np.argmin(losses))]}
