"""Weighted vote: a mean whose weights, at least 0 and summing to 1, are fitted to out-of-fold predictions.

In:  predictions of several members on the members' scale, true values, a metric.
Out: a weight for each member. Smooth metrics are convex in the weights and solved; for the others a
search by coordinates starts from the solution for log-loss or squared error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from stackfeat.meta.votes.soft import WeightVote, check_predictions, soft_vote, vote_shares
from stackfeat.meta.votes.vote import VoteTarget
from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.incremental_scores import class_errors, error_products, row_shares, value_errors
from stackfeat.metrics.metric import Metric
from stackfeat.tasks.classification import SMALLEST_PROBABILITY
from stackfeat.tasks.task import Task, spread_rows

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""Weights to (loss, gradient)."""

SEARCH_STEPS = (0.3, 0.1, 0.03, 0.01)
SEARCH_PASSES = 5
SEARCH_ROWS = 20_000
NEGLIGIBLE = 1e-6
"""Smaller weights become 0."""


def fit_simplex_weights(
    predictions: Sequence[np.ndarray],
    y: np.ndarray,
    metric: Metric,
    task: Task,
    weight: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Fit the weights of a soft vote.

    Parameters
    ----------
    predictions : sequence of float arrays (n, n_classes) or (n, 1)
        On the members' scale; mapped back with the task before scoring.
    y : array (n,)
        Codes, or values on the members' scale.
    metric : Metric
    task : Task
    weight : array (n,) or None
        Of the rows.
    seed : int
        Draws the rows that a search uses where there are more than 20,000.

    Returns
    -------
    float64 array (n_inputs,)
        At least 0, sum 1; never worse on these rows than equal weights under metrics with a convex error.
        The same inputs give the same weights.
    """
    check_predictions(predictions)
    equal = vote_shares(len(predictions), None)
    if len(predictions) == 1:
        return equal
    objective = _objective(predictions, y, metric, task, row_shares(len(y), weight))
    fitted = _minimise(objective, len(predictions))
    if metric.convex_error is not None and metric.is_on_members_scale(task, predictions):
        return fitted
    rows = spread_rows(y, SEARCH_ROWS, seed)
    return _search(
        [fitted, equal], [p[rows] for p in predictions], y[rows], metric, task, _take(weight, rows)
    )


def _take(weight: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if weight is None else weight[rows]


def _objective(
    predictions: Sequence[np.ndarray], y: np.ndarray, metric: Metric, task: Task, shares: np.ndarray
) -> Objective:
    """Return the convex loss to minimise: the metric's own, or the usual one of the task."""
    error = metric.convex_error if metric.target_transform == task.transform else None
    error = error or METRICS[task.row_metric].convex_error
    if error == "log":
        return _log_objective(np.stack([p[np.arange(len(y)), y] for p in predictions], axis=1), shares)
    if error == "squared_proba":
        errors = [class_errors(predictions, y, code) for code in range(task.n_outputs)]
        return _squares_objective(error_products(errors, shares))
    if error == "absolute":
        return _absolute_objective(value_errors(predictions, y), shares)
    return _squares_objective(error_products([value_errors(predictions, y)], shares))


def _log_objective(true_class: np.ndarray, shares: np.ndarray) -> Objective:
    def evaluate(weights: np.ndarray) -> tuple[float, np.ndarray]:
        # The mean of `row_loss`, written out because its slope needs the clipped mean too.
        mean = np.maximum(true_class @ weights, SMALLEST_PROBABILITY)
        return -float(shares @ np.log(mean)), -((shares / mean) @ true_class)

    return evaluate


def _squares_objective(products: np.ndarray) -> Objective:
    # Scaled, because the solver's tolerance is absolute.
    scaled = products / max(float(products.diagonal().mean()), np.finfo(np.float64).tiny)

    def evaluate(weights: np.ndarray) -> tuple[float, np.ndarray]:
        slope = scaled @ weights
        return float(weights @ slope), 2.0 * slope

    return evaluate


def _absolute_objective(errors: np.ndarray, shares: np.ndarray) -> Objective:
    """Mean of ``sqrt(error**2 + corner**2)``: smooth, and within `corner` of the absolute error."""
    scale = max(float(shares @ np.abs(errors.mean(axis=1))), np.finfo(np.float64).tiny)
    scaled, corner = errors / scale, 1e-3

    def evaluate(weights: np.ndarray) -> tuple[float, np.ndarray]:
        error = scaled @ weights
        rounded = np.sqrt(error**2 + corner**2)
        return float(shares @ rounded), (shares * error / rounded) @ scaled

    return evaluate


def _minimise(objective: Objective, n_inputs: int) -> np.ndarray:
    """Minimise on the simplex from equal weights; return the best of the solution, equal and single ones."""
    from scipy.optimize import minimize

    equal = np.full(n_inputs, 1.0 / n_inputs)
    solution = minimize(
        objective,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * n_inputs,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda w: np.ones_like(w)},
        options={"maxiter": 300, "ftol": 1e-10},
    )
    candidates = [equal, *np.eye(n_inputs)]
    if np.isfinite(solution.x).all():
        candidates.insert(0, _on_simplex(solution.x))
    return min(candidates, key=lambda weights: objective(weights)[0])


def _on_simplex(weights: np.ndarray) -> np.ndarray:
    kept = np.where(weights > NEGLIGIBLE, weights, 0.0)
    normalised: np.ndarray = kept / kept.sum()
    return normalised


def _search(
    starts: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    y: np.ndarray,
    metric: Metric,
    task: Task,
    weight: np.ndarray | None,
) -> np.ndarray:
    """Move weight to and from one member at a time for as long as the metric gains."""
    target = task.to_target_scale(y)

    def loss_of(weights: np.ndarray) -> float:
        mean = soft_vote(predictions, weights.tolist())
        loss = metric.loss(target, task.to_target_scale(mean), task, weight)
        return np.inf if np.isnan(loss) else loss

    best = min(starts, key=loss_of)
    lowest = loss_of(best)
    for step in SEARCH_STEPS:
        for _ in range(SEARCH_PASSES):
            before = lowest
            for move in _moves(best, step):
                loss = loss_of(move)
                if loss < lowest - 1e-12 * abs(lowest):
                    best, lowest = move, loss
            if lowest >= before:
                break
    return best


def _moves(weights: np.ndarray, step: float) -> list[np.ndarray]:
    """Return the neighbours of `weights`: `step` given to, or taken from, each member."""
    found = []
    for index in range(len(weights)):
        for change in (step, -step):
            moved = weights.copy()
            moved[index] = max(0.0, moved[index] + change)
            if moved.sum() > 0 and moved[index] != weights[index]:
                found.append(moved / moved.sum())
    return found


@dataclass(frozen=True)
class WeightedVote(WeightVote):
    """The mean with weights that are best for the metric on out-of-fold predictions."""

    name: ClassVar[str] = "weighted"
    is_fitted: ClassVar[bool] = True

    @classmethod
    def fit(cls, predictions: Sequence[np.ndarray], target: VoteTarget, options: Mapping[str, Any]) -> Self:
        assert target.metric is not None
        weights = fit_simplex_weights(
            predictions, target.y, target.metric, target.task, weight=target.weight, seed=target.seed
        )
        return cls(tuple(weights.tolist()))
