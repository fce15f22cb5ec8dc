"""Calibration: predictions become others that can be taken at their word.

In:  predictions of rows by models that did not see them, targets, the folds of these rows.
Out: a `Calibration`: a family of maps and its numbers, kept only where it lowers the loss of rows that it was not
     fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.meta.calibration_families import FAMILIES, UNMOVED, ByLabel, ClassScores, Family
from stackfeat.meta.gating.blocks import paired_gain
from stackfeat.store import Entry, EntryWriter
from stackfeat.structure import must
from stackfeat.tasks.task import Task

SMALLEST_INFORMATION = 1e-9
"""With less of it, all predictions are alike."""


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

    Of quantiles one is kept unless it raises the loss by more than two: it is there for their coverage.

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
    plain = task.row_loss(y, prediction, task.unit_of(y))
    if ByLabel.name in task.calibrations:
        kept, numbers, parameters, losses, trials = _by_label(
            prediction, y, fold_of, task, weight, clusters, plain
        )
    else:
        chosen = _chosen(plain, prediction, y, fold_of, task, weight, clusters, given)
        kept, losses, trials = chosen.family, chosen.losses, chosen.trials
        numbers = chosen.fitted(prediction, y, task, weight)
        parameters = {} if kept is None else kept.described(numbers)
    gain, error = paired_gain(plain, losses, weight, clusters)
    report = {
        "family": "none" if kept is None else kept.name,
        "parameters": parameters,
        "gain": gain,
        "se": error,
        "slope_se": _slope_error(Calibration(kept, numbers, {}).apply(prediction), y, task, weight, clusters),
        "trials": [trial.to_json() for trial in trials],
    }
    return Calibration(kept, numbers, report)


@dataclass(frozen=True)
class _Chosen:
    """The family that was kept, the losses of held-out folds with it, and what was tried."""

    family: type[Family] | None
    losses: np.ndarray
    trials: list[Trial]

    def fitted(self, prediction: np.ndarray, y: np.ndarray, task: Task, weight: np.ndarray) -> np.ndarray:
        """Return the numbers of the family, fitted on all rows."""
        if self.family is None:
            return np.zeros((0, 0))
        return self.family.fit(prediction, y, weight / weight.sum(), task.quantiles)


def _chosen(
    before: np.ndarray,
    prediction: np.ndarray,
    y: np.ndarray,
    fold_of: np.ndarray,
    task: Task,
    weight: np.ndarray,
    clusters: np.ndarray | None,
    given: str | None = None,
) -> _Chosen:
    """Try the families of a task one after the other; `before` are the losses of predictions as they are."""
    kept: type[Family] | None = None
    trials: list[Trial] = []
    for family in (FAMILIES[name] for name in ([given] if given else task.calibrations)):
        losses = _held_out_losses(family, prediction, y, fold_of, task, weight)
        gain, error = paired_gain(before, losses, weight, clusters)
        trials.append(Trial(family.name, gain, error, bool(given) or gain > task.calibration_se * error))
        if trials[-1].is_kept:
            kept, before = family, losses
    return _Chosen(kept, before, trials)


def _by_label(
    prediction: np.ndarray,
    y: np.ndarray,
    fold_of: np.ndarray,
    task: Task,
    weight: np.ndarray,
    clusters: np.ndarray | None,
    plain: np.ndarray,
) -> tuple[type[Family] | None, np.ndarray, dict[str, Any], np.ndarray, list[Trial]]:
    """Choose for each label by itself: a family of two classes, or none.

    Returns
    -------
    family, numbers
        `ByLabel` and its numbers, or none where all labels stay as they are.
    parameters : dict
        By label what was kept of it.
    losses : ndarray of shape (n_rows,)
        Of held-out folds, the mean over labels.
    trials : list of Trial
        Of all labels together.
    """
    numbers, losses = np.repeat(UNMOVED[:, None], task.n_targets, axis=1), []
    parameters: dict[str, Any] = {}
    for place, (part, label) in enumerate(zip(task.parts, task.names, strict=True)):
        said, own = task.part_of_prediction(prediction, place), task.part_of_y(y, place)
        before = part.row_loss(own, said)
        chosen = _chosen(before, said, own, fold_of, part, weight, clusters)
        # Of a label that all rows have, or none, nothing can be learnt.
        if chosen.family is None or len(np.unique(own[weight > 0])) < 2:
            losses.append(before)
            continue
        losses.append(chosen.losses)
        fitted = chosen.fitted(said, own, part, weight)
        assert issubclass(chosen.family, ClassScores)
        numbers[:, place] = chosen.family.as_scaling(fitted, 2).ravel()
        gain, error = paired_gain(before, chosen.losses, weight, clusters)
        kept = {"family": chosen.family.name, **chosen.family.described(fitted)}
        parameters[label] = {**kept, "gain": gain, "se": error}
    mean = np.mean(losses, axis=0)
    trial = Trial(ByLabel.name, *paired_gain(plain, mean, weight, clusters), is_kept=bool(parameters))
    family = ByLabel if parameters else None
    return family, numbers if parameters else np.zeros((0, 0)), parameters, mean, [trial]


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
