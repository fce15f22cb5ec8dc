"""Softmax, ridge and quantile regression, fast enough to be fitted hundreds of times.

In:  a design, targets, a penalty and row weights (zero leaves a row out).
Out: coefficients (d + 1, n_outputs), the intercept last and never penalised.

Softmax minimises  sum_i w_i nll_i + 1/2 sum_j penalty_j |W_j|^2, which is scikit-learn's
LogisticRegression(C=1/penalty) for three or more classes, and C=2/penalty for two (there
scikit-learn has one weight where a softmax has two opposite ones). Ridge minimises
1/2 sum_i w_i |y_i - f_i|^2 + 1/2 sum_j penalty_j |W_j|^2: scikit-learn's Ridge(alpha=penalty). Quantile regression
minimises the mean pinball loss of several levels with the same penalty, its corner rounded off, and then moves each
intercept to where its level is kept to exactly.
With a prior P both penalise |W_j - P_j|^2: coefficients shrink to P, not to zero. An offset is added to
the scores of every row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.special import expit

from stackfeat.tasks.quantile import nearest_to_median, pinball_losses, weighted_quantiles
from stackfeat.tasks.task import Task


def with_intercept(design: np.ndarray) -> np.ndarray:
    """Append a column of ones, (n, d + 1)."""
    return np.hstack([design, np.ones((len(design), 1), dtype=design.dtype)])


def with_free_intercept(prior: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """Return what coefficients (d + 1, n_outputs) shrink to: the prior, and zero for the intercept."""
    out = np.zeros(shape)
    if prior is not None:
        out[:-1] = prior
    return out


def linear_scores(design: np.ndarray, coefficients: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
    """Return design @ coefficients, and an offset of every row where there is one, in the design's dtype."""
    scores = design @ coefficients.astype(design.dtype)
    return np.asarray(scores if offset is None else scores + offset.astype(design.dtype))


def weighted_gram(design: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """X' diag(weight) X as float64, the intercept column included."""
    return np.asarray(design.T @ (design * weight[:, None].astype(design.dtype)), dtype=np.float64)


@dataclass(frozen=True)
class Softmax:
    """Multinomial logistic regression on class codes 0 .. n_outputs - 1.

    Attributes
    ----------
    target : int64 array of shape (n,)
    n_outputs : int
    """

    target: np.ndarray
    n_outputs: int
    dtype: ClassVar[type[np.floating]] = np.float32
    """Of designs in cross-validation: fits are many, and need no more."""

    @classmethod
    def pose(cls, y: np.ndarray, task: Task) -> tuple[np.ndarray, tuple[float, float], Softmax]:
        """Return the classes that occur, no change of the target, and the problem."""
        classes, codes = np.unique(y.astype(np.int64), return_inverse=True)
        return classes, (0.0, 1.0), cls(codes.reshape(-1), len(classes))

    @staticmethod
    def vote(vote: np.ndarray, classes: np.ndarray, target: tuple[float, float]) -> np.ndarray:
        """Return coefficients that give all classes, or values, in the terms of the problem."""
        return vote[:, classes]

    @staticmethod
    def predictions(
        scores: np.ndarray, classes: np.ndarray, n_outputs: int, target: tuple[float, float], n_rows: int
    ) -> np.ndarray:
        """Return probabilities of all classes; one that none of `n_rows` rows had gets half a row's share."""
        share = 0.5 / (n_rows + n_outputs)
        out = np.full((len(scores), n_outputs), share)
        out[:, classes] = softmax(scores) * (1.0 - (n_outputs - len(classes)) * share)
        return out

    def row_loss(self, scores: np.ndarray) -> np.ndarray:
        """Negative log-likelihood of each row, float64 (n,).

        `task.row_loss` of their soft-max, from the scores themselves: no logarithm of a rounded
        probability, so the loss has a slope wherever a step may go.
        """
        shifted = scores - scores.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1, dtype=np.float64))
        return np.asarray(log_sum - shifted[np.arange(len(scores)), self.target])

    def residual(self, scores: np.ndarray) -> np.ndarray:
        """Minus the gradient of the row losses: one-hot target less probability, (n, n_outputs)."""
        out = -softmax(scores)
        out[np.arange(len(out)), self.target] += 1
        return out

    def curvature(self, scores: np.ndarray, weight: np.ndarray) -> float:
        """Mean second derivative of a row's loss in one score."""
        proba = softmax(scores).astype(np.float64)
        rows = np.mean(proba * (1 - proba), axis=1)
        return max(float(np.average(rows, weights=weight)), 1e-3)

    def near(self, scores: np.ndarray) -> Softmax:
        """Return the problem as it is best posed where scores are about these."""
        return self

    def take(self, rows: np.ndarray) -> Softmax:
        return Softmax(self.target[rows], self.n_outputs)

    def start(self, weight: np.ndarray) -> np.ndarray:
        """Intercepts that give the class shares, (n_outputs,)."""
        counts = np.bincount(self.target, weights=weight, minlength=self.n_outputs) + 0.5
        logs = np.log(counts)
        return np.asarray(logs - logs.mean())

    def fit(
        self,
        design: np.ndarray,
        penalty: np.ndarray,
        weight: np.ndarray,
        *,
        gram: np.ndarray | None = None,
        start: np.ndarray | None = None,
        prior: np.ndarray | None = None,
        offset: np.ndarray | None = None,
        tolerance: float = 1e-10,
        max_steps: int = 500,
    ) -> np.ndarray:
        """Minimise by L-BFGS in coordinates where the Hessian is near the identity.

        Parameters
        ----------
        design : float32 or float64 array of shape (n, d + 1)
            From `with_intercept`; all products are made in its dtype.
        penalty : float64 array of shape (d,)
        weight : float64 array of shape (n,)
        gram : float64 array of shape (d + 1, d + 1), optional
            `weighted_gram(design, weight)`, where it is known.
        start : float64 array of shape (d + 1, n_outputs), optional
        prior : float64 array of shape (d, n_outputs), optional
            What coefficients shrink to; default zero.
        offset : float array of shape (n, n_outputs), optional
            Added to the scores.
        tolerance : float
            Stop when a step lowers the mean loss by less than this share.
        max_steps : int

        Returns
        -------
        float64 array of shape (d + 1, n_outputs)
        """
        centre = with_free_intercept(prior, (design.shape[1], self.n_outputs))
        if start is None:
            start = centre.copy()
            start[-1] = self.start(weight)
        return minimised(
            self,
            design,
            centre,
            start,
            penalty,
            weight,
            gram,
            offset,
            tolerance=tolerance,
            max_steps=max_steps,
        )

    def value_and_residual(self, scores: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
        """Weighted loss, and minus the gradient of each row's, from one pass of exponentials.

        Parameters
        ----------
        scores : float array of shape (n_outputs, n)
            Overwritten. Rows are last, so that sums over classes run along whole vectors.
        weight : float64 array of shape (n,)

        Returns
        -------
        float, array of shape (n_outputs, n)
        """
        rows = np.arange(scores.shape[1])
        scores -= scores.max(axis=0)
        at_target = scores[self.target, rows].astype(np.float64)
        np.exp(scores, out=scores)
        sums = scores.sum(axis=0)
        scores *= -1 / sums
        scores[self.target, rows] += 1
        return float(weight @ (np.log(sums.astype(np.float64)) - at_target)), scores


@dataclass(frozen=True)
class Squares:
    """Ridge regression on values.

    Attributes
    ----------
    target : float64 array of shape (n,)
    """

    target: np.ndarray
    n_outputs: int = 1
    dtype: ClassVar[type[np.floating]] = np.float64

    @classmethod
    def pose(cls, y: np.ndarray, task: Task) -> tuple[np.ndarray, tuple[float, float], Squares]:
        """Return no classes, the mean and standard deviation of the target, and the problem."""
        values = y.astype(np.float64)
        mean, sd = float(values.mean()), float(values.std()) or 1.0
        return np.empty(0, dtype=np.int64), (mean, sd), cls((values - mean) / sd)

    @staticmethod
    def vote(vote: np.ndarray, classes: np.ndarray, target: tuple[float, float]) -> np.ndarray:
        """As `Softmax.vote`."""
        return vote / target[1]

    @staticmethod
    def predictions(
        scores: np.ndarray, classes: np.ndarray, n_outputs: int, target: tuple[float, float], n_rows: int
    ) -> np.ndarray:
        """Return values on the target's scale."""
        return np.asarray(scores * target[1] + target[0])

    def row_loss(self, scores: np.ndarray) -> np.ndarray:
        """Squared error of each row, float64 (n,)."""
        return np.asarray((self.target - scores[:, 0]) ** 2)

    def residual(self, scores: np.ndarray) -> np.ndarray:
        """Target less prediction, (n, 1)."""
        return np.asarray(self.target[:, None] - scores)

    def value_and_residual(self, scores: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
        """As `Softmax.value_and_residual`, of squared errors."""
        residual = self.target - scores
        return float(weight @ residual[0] ** 2), 2 * residual

    def curvature(self, scores: np.ndarray, weight: np.ndarray) -> float:
        """Second derivative of a row's loss: one."""
        return 1.0

    def near(self, scores: np.ndarray) -> Squares:
        """As `Softmax.near`."""
        return self

    def take(self, rows: np.ndarray) -> Squares:
        return Squares(self.target[rows])

    def fit(
        self,
        design: np.ndarray,
        penalty: np.ndarray,
        weight: np.ndarray,
        *,
        gram: np.ndarray | None = None,
        start: np.ndarray | None = None,
        prior: np.ndarray | None = None,
        offset: np.ndarray | None = None,
        tolerance: float = 0.0,
        max_steps: int = 0,
    ) -> np.ndarray:
        """Solve the normal equations; arguments as `Softmax.fit`, start and the last two without effect."""
        gram = weighted_gram(design, weight) if gram is None else gram
        ridge = np.r_[penalty, 0.0]
        left = self.target if offset is None else self.target - offset[:, 0]
        moment = design.T.astype(np.float64, copy=False) @ (weight * left)
        moment = moment[:, None] + ridge[:, None] * with_free_intercept(prior, (design.shape[1], 1))
        return np.asarray(cho_solve((_factor(gram, ridge), True), moment))


@dataclass(frozen=True)
class Pinball:
    """Quantile regression on values, for several levels at once.

    Attributes
    ----------
    target : float64 array of shape (n,)
    levels : float64 array of shape (n_outputs,)
    width : float
        Of the rounded corner of the loss, ``level u + width log(1 + exp(-u / width))``: S. Zheng, "Gradient descent
        algorithms for quantile regression with smooth approximation", Int. J. Mach. Learn. Cybern. 2, 2011.
    """

    target: np.ndarray
    levels: np.ndarray
    width: float = 0.05
    dtype: ClassVar[type[np.floating]] = np.float64

    @property
    def n_outputs(self) -> int:
        return len(self.levels)

    @classmethod
    def pose(cls, y: np.ndarray, task: Task) -> tuple[np.ndarray, tuple[float, float], Pinball]:
        """As `Squares.pose`."""
        values = y.astype(np.float64)
        mean, sd = float(values.mean()), float(values.std()) or 1.0
        return np.empty(0, dtype=np.int64), (mean, sd), cls((values - mean) / sd, np.asarray(task.quantiles))

    @staticmethod
    def vote(vote: np.ndarray, classes: np.ndarray, target: tuple[float, float]) -> np.ndarray:
        """As `Softmax.vote`."""
        return vote / target[1]

    @staticmethod
    def predictions(
        scores: np.ndarray, classes: np.ndarray, n_outputs: int, target: tuple[float, float], n_rows: int
    ) -> np.ndarray:
        """Return quantiles on the target's scale, which do not cross."""
        return np.sort(scores * target[1] + target[0], axis=1)

    def row_loss(self, scores: np.ndarray) -> np.ndarray:
        """Mean pinball loss of each row, its corner as it is, float64 (n,)."""
        left = self.target[:, None] - np.sort(scores, axis=1)
        return np.asarray(pinball_losses(left, self.levels).mean(axis=1))

    def residual(self, scores: np.ndarray) -> np.ndarray:
        """Minus the gradient of the row losses, (n, n_outputs)."""
        below = expit((scores - self.target[:, None]) / self.width)
        return np.asarray((self.levels - below) / self.n_outputs)

    def value_and_residual(self, scores: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
        """As `Softmax.value_and_residual`, of pinball losses with a rounded corner."""
        levels, scaled = self.levels[:, None], (scores - self.target) / self.width
        losses = self.width * (np.logaddexp(0.0, scaled) - levels * scaled)
        return float(losses.mean(axis=0) @ weight), (levels - expit(scaled)) / self.n_outputs

    def curvature(self, scores: np.ndarray, weight: np.ndarray) -> float:
        """As `Softmax.curvature`."""
        below = expit((scores - self.target[:, None]) / self.width)
        rows = (below * (1.0 - below)).mean(axis=1) / (self.width * self.n_outputs)
        return max(float(np.average(rows, weights=weight)), 1e-3)

    def near(self, scores: np.ndarray) -> Pinball:
        """As `Softmax.near`: the corner is round where it is narrow beside errors."""
        left = self.target - scores[:, nearest_to_median(self.levels)]
        return replace(self, width=max(ROUNDED * float(np.abs(left - np.median(left)).mean()), 1e-6))

    def take(self, rows: np.ndarray) -> Pinball:
        return replace(self, target=self.target[rows])

    def fit(
        self,
        design: np.ndarray,
        penalty: np.ndarray,
        weight: np.ndarray,
        *,
        gram: np.ndarray | None = None,
        start: np.ndarray | None = None,
        prior: np.ndarray | None = None,
        offset: np.ndarray | None = None,
        tolerance: float = 1e-10,
        max_steps: int = 500,
    ) -> np.ndarray:
        """Minimise as `Softmax.fit`, then keep to each level exactly by its intercept."""
        centre = with_free_intercept(prior, (design.shape[1], self.n_outputs))
        if start is None:
            start = self.levelled(design, centre, weight, offset)
        found = minimised(
            self,
            design,
            centre,
            start,
            penalty,
            weight,
            gram,
            offset,
            tolerance=tolerance,
            max_steps=max_steps,
        )
        return self.levelled(design, found, weight, offset)

    def levelled(
        self, design: np.ndarray, coefficients: np.ndarray, weight: np.ndarray, offset: np.ndarray | None
    ) -> np.ndarray:
        """Return coefficients with intercepts such that scores are quantiles of the target."""
        left = self.target[:, None] - linear_scores(design, coefficients, offset)
        moved = coefficients.copy()
        for place, level in enumerate(self.levels):
            moved[-1, place] += weighted_quantiles(left[:, place], np.array([level]), weight)[0]
        return moved


ROUNDED = 0.1
"""Width of a rounded corner, in mean errors."""

Problem = Softmax | Squares | Pinball
PROBLEMS: dict[str, type[Softmax] | type[Squares] | type[Pinball]] = {
    "cross_entropy": Softmax,
    "mse": Squares,
    "pinball": Pinball,
    "listwise": Squares,
}
"""By the first of `Task.losses`; of the target in the unit of `Task.in_unit`."""


def minimised(
    problem: Softmax | Pinball,
    design: np.ndarray,
    centre: np.ndarray,
    start: np.ndarray,
    penalty: np.ndarray,
    weight: np.ndarray,
    gram: np.ndarray | None,
    offset: np.ndarray | None,
    *,
    tolerance: float,
    max_steps: int,
) -> np.ndarray:
    """Minimise by L-BFGS in coordinates where the Hessian is near the identity; arguments as `Softmax.fit`."""
    total = float(weight.sum())
    ridge = np.r_[penalty, 0.0][:, None] / total
    gram = weighted_gram(design, weight) if gram is None else gram
    curvature = problem.curvature(linear_scores(design, start, offset), weight)
    lower = _factor(gram / total * curvature, ridge[:, 0])
    row_weight = (weight / total).astype(design.dtype)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        coefficients = solve_triangular(lower, flat.reshape(start.shape), lower=True, trans=1)
        scores = np.ascontiguousarray(linear_scores(design, coefficients, offset).T)
        value, residual = problem.value_and_residual(scores, weight / total)
        away = coefficients - centre
        value += 0.5 * float(np.sum(ridge * away**2))
        residual *= row_weight
        slope = ridge * away - (residual @ design).T.astype(np.float64)
        return value, solve_triangular(lower, slope, lower=True).ravel()

    options = {
        "maxiter": max_steps,
        "ftol": tolerance,
        "gtol": 1e-9,
        "maxcor": 10,
        "maxfun": 3 * max_steps,
    }
    found = minimize(loss, (lower.T @ start).ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(solve_triangular(lower, found.x.reshape(start.shape), lower=True, trans=1))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities (n, n_outputs) in the dtype of the scores."""
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _factor(gram: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of gram + diag(penalty), with just enough jitter to exist."""
    matrix = gram + np.diag(penalty)
    largest = float(np.max(np.diag(matrix)))
    for jitter in (0.0, 1e-10, 1e-7, 1e-5):
        try:
            factor = cho_factor(matrix + jitter * largest * np.eye(len(matrix)), lower=True)[0]
        except np.linalg.LinAlgError:
            continue
        return np.tril(factor)
    raise np.linalg.LinAlgError("the design is not finite")
