"""Families of maps that predictions are calibrated by, and how the numbers of each are fitted.

In:  predictions of rows by models that did not see them, and targets.
Out: the numbers of a map, and predictions that went through it. Which families there are for a task, the simplest
     first, the `Task` says; which one is kept, `meta.calibration`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from stackfeat.tasks.classification import log_probability
from stackfeat.tasks.quantile import weighted_quantiles

SMALLEST_SCALE, LARGEST_SCALE = 0.02, 50.0
"""Bounds of what scores are multiplied by: above zero, so that no family turns the order of rows round."""

_STEPS = 50
"""Of Newton, on a convex function: more than any row needs."""

UNMOVED = np.array([1.0, 1.0, 0.0, 0.0])
"""Factors and offsets of the two classes of a label that is left as it is."""

Levels = tuple[float, ...]


class Family(ABC):
    """Maps of one form, told apart by a few numbers."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit(
        cls, prediction: np.ndarray, y: np.ndarray, weight: np.ndarray, levels: Levels = ()
    ) -> np.ndarray:
        """Return the numbers, float64 (n_numbers, n_columns), that lower the loss most.

        Parameters
        ----------
        prediction : ndarray of shape (n_rows, n_outputs)
        y : ndarray
            Codes of classes, or values on the members' scale.
        weight : ndarray of shape (n_rows,)
            Sums to 1.
        levels : tuple of float
            The quantiles that columns are.
        """

    @classmethod
    @abstractmethod
    def apply(cls, numbers: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return the calibrated predictions, float64 (n_rows, n_outputs)."""

    @classmethod
    @abstractmethod
    def undo(cls, numbers: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return what `apply` made the predictions of."""

    @classmethod
    @abstractmethod
    def slope_score(
        cls, prediction: np.ndarray, y: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Return each row's push on a slope of 1 beside free offsets, (n_rows,), and how firmly all rows hold it.

        The derivative of its gain in loss by the slope, and the mean second derivative (Fisher information).
        """

    @classmethod
    @abstractmethod
    def shape(cls, n_outputs: int) -> tuple[int, int]:
        """Return the shape of the numbers for predictions of so many columns."""

    @classmethod
    @abstractmethod
    def described(cls, numbers: np.ndarray) -> dict[str, Any]:
        """Return the numbers by name, as JSON."""


class ClassScores(Family):
    """What maps of class scores, the logarithms of probabilities, have in common."""

    @classmethod
    def slope_score(
        cls, prediction: np.ndarray, y: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, float]:
        scores, right = log_probability(prediction), -prediction
        right[np.arange(len(y)), y] += 1.0
        centred = scores - (prediction * scores).sum(axis=1, keepdims=True)
        others = prediction[:, 1:]
        together = weight @ (prediction * centred)[:, 1:]
        offsets = np.diag(weight @ others) - (weight[:, None] * others).T @ others
        pull = np.linalg.pinv(offsets) @ together
        information = float(weight @ (prediction * scores * centred).sum(axis=1) - together @ pull)
        return (right * scores).sum(axis=1) - right[:, 1:] @ pull, information

    @classmethod
    @abstractmethod
    def as_scaling(cls, numbers: np.ndarray, n_outputs: int) -> np.ndarray:
        """Return the numbers of the `ClassScaling` that is the same map, float64 (2, n_outputs)."""


class Temperature(ClassScores):
    """Class scores divided by one temperature."""

    name: ClassVar[str] = "temperature"

    @classmethod
    def fit(
        cls, prediction: np.ndarray, y: np.ndarray, weight: np.ndarray, levels: Levels = ()
    ) -> np.ndarray:
        from scipy.optimize import minimize_scalar

        scores = log_probability(prediction)

        def loss(log_scale: float) -> float:
            return float(weight @ _log_loss(np.exp(log_scale) * scores, y))

        bounds = (float(np.log(SMALLEST_SCALE)), float(np.log(LARGEST_SCALE)))
        found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
        return np.array([[np.exp(found.x)]])

    @classmethod
    def apply(cls, numbers: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return _softmax(numbers[0, 0] * log_probability(prediction))

    @classmethod
    def undo(cls, numbers: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return _softmax(log_probability(prediction) / numbers[0, 0])

    @classmethod
    def shape(cls, n_outputs: int) -> tuple[int, int]:
        return 1, 1

    @classmethod
    def described(cls, numbers: np.ndarray) -> dict[str, Any]:
        return {"temperature": float(1.0 / numbers[0, 0])}

    @classmethod
    def as_scaling(cls, numbers: np.ndarray, n_outputs: int) -> np.ndarray:
        return np.repeat([[numbers[0, 0]], [0.0]], n_outputs, axis=1)


class ClassScaling(ClassScores):
    """Class scores each times a factor plus an offset: beta calibration of two classes, vector scaling of more.

    Factors are drawn to 1 and offsets to 0 with the strength of one row each, so that a class of few rows stays
    where it is.
    """

    name: ClassVar[str] = "class_scaling"

    @classmethod
    def fit(
        cls, prediction: np.ndarray, y: np.ndarray, weight: np.ndarray, levels: Levels = ()
    ) -> np.ndarray:
        from scipy.optimize import minimize

        scores, n_outputs = log_probability(prediction), prediction.shape[1]
        identity = np.repeat([1.0, 0.0], n_outputs)
        penalty = float((weight**2).sum())
        targets = np.zeros(scores.shape)
        targets[np.arange(len(y)), y] = 1.0

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            factors, offsets = flat.reshape(2, n_outputs)
            moved = factors * scores + offsets
            wrong = weight[:, None] * (_softmax(moved) - targets)
            slope = np.concatenate([(wrong * scores).sum(axis=0), wrong.sum(axis=0)])
            away = flat - identity
            value = float(weight @ _log_loss(moved, y)) + 0.5 * penalty * float(away @ away)
            return value, slope + penalty * away

        bounds = [(SMALLEST_SCALE, LARGEST_SCALE)] * n_outputs + [(None, None)] * n_outputs
        found = minimize(loss, identity, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300})
        return np.asarray(found.x if np.isfinite(found.x).all() else identity).reshape(2, n_outputs)

    @classmethod
    def apply(cls, numbers: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return _softmax(numbers[0] * log_probability(prediction) + numbers[1])

    @classmethod
    def undo(cls, numbers: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        from scipy.special import logsumexp

        factors, moved = numbers[0], log_probability(prediction) - numbers[1]
        # A sum was taken from all scores of a row: that with which they are logarithms of probabilities again.
        taken = np.zeros((len(moved), 1))
        for _ in range(_STEPS):
            scores = (moved + taken) / factors
            total = logsumexp(scores, axis=1, keepdims=True)
            taken -= total / (np.exp(scores - total) / factors).sum(axis=1, keepdims=True)
        return _softmax((moved + taken) / factors)

    @classmethod
    def shape(cls, n_outputs: int) -> tuple[int, int]:
        return 2, n_outputs

    @classmethod
    def described(cls, numbers: np.ndarray) -> dict[str, Any]:
        return {"factors": numbers[0].tolist(), "offsets": numbers[1].tolist()}

    @classmethod
    def as_scaling(cls, numbers: np.ndarray, n_outputs: int) -> np.ndarray:
        return numbers


class ByLabel(Family):
    """Of each of several labels, the two classes "has it not" and "has it" go through a `ClassScaling` of their own.

    A label whose numbers are `UNMOVED` stays as it is, to the bit.
    """

    name: ClassVar[str] = "by_label"

    @classmethod
    def fit(
        cls, prediction: np.ndarray, y: np.ndarray, weight: np.ndarray, levels: Levels = ()
    ) -> np.ndarray:
        each = (ClassScaling.fit(both, own, weight).ravel() for both, own in _labels(prediction, y))
        return np.column_stack(list(each))

    @classmethod
    def apply(cls, numbers: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return cls._mapped(ClassScaling.apply, numbers, prediction)

    @classmethod
    def undo(cls, numbers: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return cls._mapped(ClassScaling.undo, numbers, prediction)

    @classmethod
    def _mapped(
        cls, change: Callable[[np.ndarray, np.ndarray], np.ndarray], numbers: np.ndarray, given: np.ndarray
    ) -> np.ndarray:
        found = np.array(given, dtype=np.float64)
        for place in np.flatnonzero((numbers != UNMOVED[:, None]).any(axis=0)):
            share = found[:, place]
            both = np.column_stack([1.0 - share, share])
            found[:, place] = change(numbers[:, place].reshape(2, 2), both)[:, 1]
        return found

    @classmethod
    def slope_score(
        cls, prediction: np.ndarray, y: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, float]:
        # One slope of the log-odds of all labels, beside an offset of each.
        found = [ClassScaling.slope_score(both, own, weight) for both, own in _labels(prediction, y)]
        return np.sum([scores for scores, _ in found], axis=0), float(sum(each for _, each in found))

    @classmethod
    def shape(cls, n_outputs: int) -> tuple[int, int]:
        return 4, n_outputs

    @classmethod
    def described(cls, numbers: np.ndarray) -> dict[str, Any]:
        return {"factors": numbers[:2].T.tolist(), "offsets": numbers[2:].T.tolist()}


def _labels(prediction: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the probabilities of both classes of each label, (n_rows, 2), and the rows' classes."""
    for share, own in zip(prediction.T, y.T, strict=True):
        yield np.column_stack([1.0 - share, share]), own


class Linear(Family):
    """Values times a slope plus an intercept, by least squares, each target for itself."""

    name: ClassVar[str] = "linear"

    @classmethod
    def fit(
        cls, prediction: np.ndarray, y: np.ndarray, weight: np.ndarray, levels: Levels = ()
    ) -> np.ndarray:
        targets = y.reshape(prediction.shape)
        mean, wanted = weight @ prediction, weight @ targets
        spread = weight @ (prediction - mean) ** 2
        together = weight @ ((prediction - mean) * (targets - wanted))
        slope = np.divide(together, spread, out=np.ones_like(mean), where=spread > 0)
        slope = np.clip(slope, SMALLEST_SCALE, LARGEST_SCALE)
        return np.stack([slope, wanted - slope * mean])

    @classmethod
    def apply(cls, numbers: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return np.asarray(numbers[0] * prediction + numbers[1])

    @classmethod
    def undo(cls, numbers: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return np.asarray((prediction - numbers[1]) / numbers[0])

    @classmethod
    def slope_score(
        cls, prediction: np.ndarray, y: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, float]:
        residual = y.reshape(prediction.shape) - prediction
        centred = prediction - weight @ prediction
        spread, varies = weight @ centred**2, np.ptp(prediction, axis=0) > 0
        # Targets have units of their own.
        shares = np.divide(1.0, spread, out=np.zeros_like(spread), where=varies) / len(spread)
        return (centred * (residual - weight @ residual)) @ shares, float(np.mean(varies))

    @classmethod
    def shape(cls, n_outputs: int) -> tuple[int, int]:
        return 2, n_outputs

    @classmethod
    def described(cls, numbers: np.ndarray) -> dict[str, Any]:
        return {"slope": numbers[0].tolist(), "intercept": numbers[1].tolist()}


class Shift(Family):
    """Each quantile moved by that quantile of how far targets lie above it.

    A new target then lies below it with its probability: conformal in the sense of
    Y. Romano and others, NeurIPS 2019, arXiv:1905.03222, each quantile for itself.
    """

    name: ClassVar[str] = "shift"

    @classmethod
    def fit(
        cls, prediction: np.ndarray, y: np.ndarray, weight: np.ndarray, levels: Levels = ()
    ) -> np.ndarray:
        above = (y[:, None] - prediction).T
        pairs = zip(above, levels, strict=True)
        return np.array([[weighted_quantiles(one, np.array([level]), weight)[0] for one, level in pairs]])

    @classmethod
    def apply(cls, numbers: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return np.sort(prediction + numbers[0], axis=1)

    @classmethod
    def undo(cls, numbers: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return np.sort(prediction - numbers[0], axis=1)

    @classmethod
    def slope_score(
        cls, prediction: np.ndarray, y: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, float]:
        # Averages of quantiles are not widened: what is known of means does not hold for them.
        return np.zeros(len(y)), 0.0

    @classmethod
    def shape(cls, n_outputs: int) -> tuple[int, int]:
        return 1, n_outputs

    @classmethod
    def described(cls, numbers: np.ndarray) -> dict[str, Any]:
        return {"shifts": numbers[0].tolist()}


FAMILIES: dict[str, type[Family]] = {
    family.name: family for family in (Temperature, ClassScaling, ByLabel, Linear, Shift)
}
"""By the names that `Task.calibrations` gives."""


def _log_loss(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    from scipy.special import logsumexp

    return np.asarray(logsumexp(scores, axis=1) - scores[np.arange(len(y)), y])


def _softmax(scores: np.ndarray) -> np.ndarray:
    from scipy.special import softmax

    return np.asarray(softmax(scores, axis=1))
