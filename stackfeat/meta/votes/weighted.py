"""Weighted vote: a mean whose weights, at least 0 and summing to 1, are fitted to out-of-fold predictions.

In:  predictions of several members on the members' scale, true values, a metric.
Out: a weight for each member. Smooth metrics are convex in the weights and solved; for the others a
search by coordinates starts from the solution for log-loss or squared error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar, Self

import numpy as np

from stackfeat.meta.votes.soft import WeightVote, check_predictions, vote_shares
from stackfeat.meta.votes.vote import VoteTarget
from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.incremental_scores import (
    IncrementalScorer,
    class_error_products,
    row_shares,
    value_error_products,
    value_errors,
)
from stackfeat.metrics.metric import Metric
from stackfeat.tasks.classification import SMALLEST_PROBABILITY
from stackfeat.tasks.task import Task

SEARCH_STEPS = (0.3, 0.1, 0.03, 0.01)
SEARCH_PASSES = 5
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
        Draws the rows that a search uses where not all can be (see `Metric.incremental_scorer`).

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
    is_solved = metric.convex_error is not None and len(task.parts) == 1
    if is_solved and metric.is_on_members_scale(task, predictions):
        return fitted
    return _search([fitted, equal], metric.incremental_scorer(predictions, y, task, weight, seed))


@dataclass(frozen=True)
class Objective:
    """A convex loss to minimise.

    Attributes
    ----------
    evaluate : callable
        Of weights (n_inputs,): the loss, and its slope (n_inputs,).
    alone : array (n_inputs,)
        The loss of each input alone.
    """

    evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]]
    alone: np.ndarray


def _objective(
    predictions: Sequence[np.ndarray], y: np.ndarray, metric: Metric, task: Task, shares: np.ndarray
) -> Objective:
    """Return the convex loss to minimise: the metric's own, or the usual one of the task; of targets their sum."""
    if len(task.parts) > 1:
        each = []
        for place, part in enumerate(task.parts):
            own = [task.part_of_prediction(one, place) for one in predictions]
            each.append(_objective(own, task.part_of_y(y, place), metric, part, shares))
        return _sum_of(each)
    error = metric.convex_error if metric.target_transform == task.transform else None
    error = error or METRICS[task.row_metric].convex_error
    if error == "log":
        return _log_objective(np.stack([p[np.arange(len(y)), y] for p in predictions], axis=1), shares)
    if error == "squared_proba":
        return _squares_objective(class_error_products(predictions, y, range(task.n_outputs), shares))
    if error == "absolute":
        return _absolute_objective(value_errors(predictions, task.in_unit(y)), shares)
    if error == "tilted_absolute":
        return _pinball_objective(predictions, y, np.asarray(task.quantiles), shares)
    return _squares_objective(value_error_products(predictions, task.in_unit(y), shares))


def _sum_of(objectives: Sequence[Objective]) -> Objective:
    def evaluate(weights: np.ndarray) -> tuple[float, np.ndarray]:
        values, slopes = zip(*(one.evaluate(weights) for one in objectives), strict=True)
        return float(np.sum(values)), np.sum(slopes, axis=0)

    return Objective(evaluate, np.sum([one.alone for one in objectives], axis=0))


def _log_objective(true_class: np.ndarray, shares: np.ndarray) -> Objective:
    alone = -(shares @ np.log(np.maximum(true_class, SMALLEST_PROBABILITY)))

    def evaluate(weights: np.ndarray) -> tuple[float, np.ndarray]:
        # The mean of `row_loss`, written out because its slope needs the clipped mean too.
        mean = np.maximum(true_class @ weights, SMALLEST_PROBABILITY)
        return -float(shares @ np.log(mean)), -((shares / mean) @ true_class)

    return Objective(evaluate, alone)


def _squares_objective(products: np.ndarray) -> Objective:
    # Scaled, because the solver's tolerance is absolute.
    scaled = products / max(float(products.diagonal().mean()), np.finfo(np.float64).tiny)

    def evaluate(weights: np.ndarray) -> tuple[float, np.ndarray]:
        slope = scaled @ weights
        return float(weights @ slope), 2.0 * slope

    return Objective(evaluate, scaled.diagonal())


def _absolute_objective(errors: np.ndarray, shares: np.ndarray) -> Objective:
    """Mean of ``sqrt(error**2 + corner**2)``: smooth, and within `corner` of the absolute error."""
    scale = max(float(shares @ np.abs(errors.mean(axis=1))), np.finfo(np.float64).tiny)
    scaled, corner = errors / scale, 1e-3

    def evaluate(weights: np.ndarray) -> tuple[float, np.ndarray]:
        error = scaled @ weights
        rounded = np.sqrt(error**2 + corner**2)
        return float(shares @ rounded), (shares * error / rounded) @ scaled

    return Objective(evaluate, shares @ np.hypot(scaled, corner))


def _pinball_objective(
    predictions: Sequence[np.ndarray], y: np.ndarray, levels: np.ndarray, shares: np.ndarray
) -> Objective:
    """Mean pinball loss: half the absolute error, and the error itself by how far a level is from the median."""
    # A row for each level of each row, an input in each column.
    errors = np.stack([(prediction - y[:, None]).ravel() for prediction in predictions], axis=1)
    by_cell = np.repeat(shares / len(levels), len(levels))
    absolute = _absolute_objective(errors, by_cell)
    scale = max(float(by_cell @ np.abs(errors.mean(axis=1))), np.finfo(np.float64).tiny)
    lean = (by_cell * np.tile(1.0 - 2.0 * levels, len(y))) @ errors / scale

    def evaluate(weights: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slope = absolute.evaluate(weights)
        return loss + float(lean @ weights), slope + lean

    return Objective(evaluate, absolute.alone + lean)


def _minimise(objective: Objective, n_inputs: int) -> np.ndarray:
    """Minimise on the simplex from equal weights; return the best of the solution, equal weights and one input."""
    from scipy.optimize import minimize

    equal = np.full(n_inputs, 1.0 / n_inputs)
    solution = minimize(
        objective.evaluate,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * n_inputs,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda w: np.ones_like(w)},
        options={"maxiter": 300, "ftol": 1e-10},
    )
    candidates = [equal, np.eye(n_inputs)[objective.alone.argmin()]]
    if np.isfinite(solution.x).all():
        candidates.insert(0, _on_simplex(solution.x))
    return min(candidates, key=lambda weights: objective.evaluate(weights)[0])


def _on_simplex(weights: np.ndarray) -> np.ndarray:
    kept = np.where(weights > NEGLIGIBLE, weights, 0.0)
    normalised: np.ndarray = kept / kept.sum()
    return normalised


def _search(starts: Sequence[np.ndarray], scorer: IncrementalScorer) -> np.ndarray:
    """Move weight to or from one member at a time, the one that gains most, for as long as the metric gains."""
    lowest, best = np.inf, starts[-1]
    for start in starts:
        scorer.set(start)
        loss = scorer.loss_of(scorer.total, scorer.size)
        if loss < lowest:
            lowest, best = loss, start
    for step in SEARCH_STEPS:
        for _ in range(SEARCH_PASSES):
            loss, moved = min(
                _best_gift(best, step, scorer), *_takings(best, step, scorer), key=itemgetter(0)
            )
            if not scorer.limit(loss) < lowest:
                break
            lowest, best = loss, moved / moved.sum()
    return best


def _best_gift(weights: np.ndarray, step: float, scorer: IncrementalScorer) -> tuple[float, np.ndarray]:
    """Return the lowest loss with `step` given to one member, and the weights, which do not sum to 1."""
    scorer.set(weights / step)
    member, loss = scorer.best(np.arange(len(weights)))
    moved = weights.copy()
    moved[member] += step
    return loss, moved


def _takings(
    weights: np.ndarray, step: float, scorer: IncrementalScorer
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield losses with at most `step` taken from each member that has a weight, and the weights."""
    scorer.set(weights)
    for member in np.flatnonzero(weights).tolist():
        taken = min(step, float(weights[member]))
        moved = weights.copy()
        moved[member] -= taken
        if moved.sum() > 0:
            yield scorer.loss_of(scorer.total - taken * scorer.part(member), float(moved.sum())), moved


@dataclass(frozen=True)
class WeightedVote(WeightVote):
    """The mean with weights that are best for the metric on out-of-fold predictions."""

    name: ClassVar[str] = "weighted"
    is_fitted: ClassVar[bool] = True

    @classmethod
    def stage(cls, options: Mapping[str, Any]) -> str | None:
        return "weighted_vote"

    @classmethod
    def fit(cls, predictions: Sequence[np.ndarray], target: VoteTarget, options: Mapping[str, Any]) -> Self:
        assert target.metric is not None
        weights = fit_simplex_weights(
            predictions, target.y, target.metric, target.task, weight=target.weight, seed=target.seed
        )
        return cls(tuple(weights.tolist()))
