"""Calibration: predictions become others that can be taken at their word.

In:  predictions of rows by models that did not see them, targets, the folds of these rows.
Out: a `Calibration`: a family of maps and its numbers, kept only where it lowers the loss of rows that it was not
     fitted on. Which families there are for a task, the simplest first, the `Task` says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stackfeat.meta.gating.blocks import paired_gain
from stackfeat.store import Entry, EntryWriter
from stackfeat.structure import must
from stackfeat.tasks.classification import log_probability
from stackfeat.tasks.quantile import weighted_quantiles
from stackfeat.tasks.task import Task

SMALLEST_SCALE, LARGEST_SCALE = 0.02, 50.0
"""Bounds of what scores are multiplied by: above zero, so that no family turns the order of rows round."""

_STEPS = 50
"""Of Newton, on a convex function: more than any row needs."""

SMALLEST_INFORMATION = 1e-9
"""With less of it, all predictions are alike."""


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
    family.name: family for family in (Temperature, ClassScaling, Linear, Shift)
}
"""By the names that `Task.calibrations` gives."""


@dataclass(frozen=True)
class Trial:
    """What a family was worth on rows that it was not fitted on.

    Attributes
    ----------
    gain, se : float
        Fall of the loss, beside the family that was kept before it, and its standard error.
    """

    family: str
    gain: float
    se: float
    is_kept: bool

    def to_json(self) -> dict[str, Any]:
        return {"family": self.family, "gain": self.gain, "se": self.se, "kept": self.is_kept}


@dataclass(frozen=True)
class CalibrationState:
    """What is stored of a calibration beside its numbers."""

    family: str | None
    report: dict[str, Any]


@dataclass(frozen=True)
class Calibration:
    """A map of predictions, or none.

    Attributes
    ----------
    family : Family class or None
        None leaves predictions as they are, to the bit.
    numbers : ndarray
        See `Family.fit`.
    found : mapping
        How it was chosen, as JSON; ``slope_se`` is the standard error of the slope that it leaves on rows that the
        member did not see: the slope is 1 as far as they can tell.
    """

    family: type[Family] | None
    numbers: np.ndarray
    found: dict[str, Any]

    @property
    def described(self) -> str:
        """What was found, in a line."""
        name, gain, error = (self.found[key] for key in ("family", "gain", "se"))
        return (
            name if self.family is None else f"{name}; the out-of-fold loss falls by {gain:.2g} ± {error:.2g}"
        )

    def apply(self, prediction: np.ndarray) -> np.ndarray:
        return prediction if self.family is None else self.family.apply(self.numbers, prediction)

    def undo(self, prediction: np.ndarray) -> np.ndarray:
        """Return what `apply` made the predictions of, up to rounding."""
        return prediction if self.family is None else self.family.undo(self.numbers, prediction)

    def save(self, writer: EntryWriter) -> None:
        """Write it under names starting with ``calibration``."""
        writer.json("calibration", {"family": self.family and self.family.name, "report": self.found})
        writer.array("calibration/numbers", self.numbers)

    @classmethod
    def load(cls, entry: Entry, task: Task) -> Calibration:
        """Read what `save` wrote."""
        state = entry.structure("calibration", CalibrationState)
        numbers = entry.array("calibration/numbers")
        if state.family is None:
            return cls(None, numbers, state.report)
        known = ", ".join(task.calibrations)
        must(state.family in task.calibrations, "calibration.json.family", f"be one of {known}", state.family)
        family = FAMILIES[state.family]
        fits = numbers.shape == family.shape(task.n_outputs) and bool(np.isfinite(numbers).all())
        must(fits, "calibration/numbers", f"be the numbers of {state.family}", numbers.shape)
        return cls(family, numbers.astype(np.float64), state.report)


def choose_calibration(
    prediction: np.ndarray,
    y: np.ndarray,
    fold_of: np.ndarray,
    task: Task,
    weight: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    given: str | None = None,
) -> Calibration:
    """Keep the family that lowers the loss of held-out folds by more than a standard error, the simplest that does.

    Of quantiles one is kept unless it raises the loss by more than that: it is there for their coverage.

    Each family is fitted without one fold after the other and judged on it; it must beat the one that was kept
    before it, at first predictions as they are. What is kept is fitted on all rows.

    Parameters
    ----------
    prediction : ndarray of shape (n_rows, n_outputs)
        Of rows that the member was not fitted on.
    y : ndarray
        Codes of classes, or values on the members' scale.
    fold_of : int64 array of shape (n_rows,)
        Numbers from 0.
    clusters : int64 array of shape (n_rows,) or None
        Rows of one are not independent; see `paired_gain`.
    given : str, optional
        The name of a family that is kept whatever it gains; no other is tried.
    """
    weight = np.ones(len(y)) if weight is None else weight
    before = plain = task.row_loss(y, prediction, task.unit_of(y))
    kept: type[Family] | None = None
    trials: list[Trial] = []
    for family in (FAMILIES[name] for name in ([given] if given else task.calibrations)):
        losses = _held_out_losses(family, prediction, y, fold_of, task, weight)
        gain, error = paired_gain(before, losses, weight, clusters)
        trials.append(Trial(family.name, gain, error, bool(given) or gain > task.calibration_se * error))
        if trials[-1].is_kept:
            kept, before = family, losses
    gain, error = paired_gain(plain, before, weight, clusters)
    numbers = (
        np.zeros((0, 0)) if kept is None else kept.fit(prediction, y, weight / weight.sum(), task.quantiles)
    )
    report = {
        "family": "none" if kept is None else kept.name,
        "parameters": {} if kept is None else kept.described(numbers),
        "gain": gain,
        "se": error,
        "slope_se": _slope_error(Calibration(kept, numbers, {}).apply(prediction), y, task, weight, clusters),
        "trials": [trial.to_json() for trial in trials],
    }
    return Calibration(kept, numbers, report)


def _slope_error(
    prediction: np.ndarray, y: np.ndarray, task: Task, weight: np.ndarray, clusters: np.ndarray | None
) -> float | None:
    """Return the standard error of the slope of predictions; None where they are all alike."""
    family = FAMILIES[task.calibrations[0]]
    scores, information = family.slope_score(prediction, y, weight / weight.sum())
    if not information > SMALLEST_INFORMATION:
        return None
    error = paired_gain(scores, np.zeros(len(scores)), weight, clusters)[1]
    return float(error / information)


def _held_out_losses(
    family: type[Family],
    prediction: np.ndarray,
    y: np.ndarray,
    fold_of: np.ndarray,
    task: Task,
    weight: np.ndarray,
) -> np.ndarray:
    losses, unit = np.empty(len(y)), task.unit_of(y)
    for fold in range(int(fold_of.max()) + 1):
        held_out = fold_of == fold
        shares = weight[~held_out]
        if not shares.sum() > 0:
            losses[held_out] = task.row_loss(y[held_out], prediction[held_out], unit)
            continue
        numbers = family.fit(prediction[~held_out], y[~held_out], shares / shares.sum(), task.quantiles)
        losses[held_out] = task.row_loss(y[held_out], family.apply(numbers, prediction[held_out]), unit)
    return losses


def _log_loss(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    from scipy.special import logsumexp

    return np.asarray(logsumexp(scores, axis=1) - scores[np.arange(len(y)), y])


def _softmax(scores: np.ndarray) -> np.ndarray:
    from scipy.special import softmax

    return np.asarray(softmax(scores, axis=1))
