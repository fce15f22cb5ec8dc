"""The decision rule: from a prediction to the label or value that a label metric scores.

In:  out-of-fold predictions, true values, a metric.
Out: a small fitted value: a threshold (binary), offsets of log-probabilities (multiclass), or cuts between
     neighbouring labels (metrics of ordinal labels), each the one that scores best. `apply` turns predictions
     into codes, or rounded values in regression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from stackfeat.errors import UsageError
from stackfeat.metrics.metric import Metric
from stackfeat.structure import must, structured
from stackfeat.tasks.classification import log_probability
from stackfeat.tasks.rows import spread_rows
from stackfeat.tasks.task import Task

COARSE, FINE = 100, 40
"""Thresholds tried over all rows, then between the neighbours of the best."""

OFFSETS_TRIED = 24
LARGEST_OFFSET = 4.0
CUTS_TRIED = 16
PASSES = 5

LossOf = Callable[[np.ndarray], float]
Moves = Iterable[tuple[float, np.ndarray]]


def fit_threshold(loss_of: LossOf, prediction: np.ndarray, task: Task) -> float:
    """Return the threshold of the positive probability; of equals the one nearest to 0.5."""
    proba = prediction[:, task.positive]

    def best_of(candidates: np.ndarray) -> float:
        decided = (np.where(proba > one, task.positive, 1 - task.positive) for one in candidates)
        losses = zip(map(loss_of, decided), np.abs(candidates - 0.5), candidates, strict=True)
        return float(min(losses)[2])

    between = _midpoints(proba)
    coarse = np.unique(np.r_[0.5, _some(between, COARSE)])
    best = best_of(coarse)
    place = int(np.searchsorted(coarse, best))
    low, high = coarse[max(place - 1, 0)], coarse[min(place + 1, len(coarse) - 1)]
    fine = _some(between[(between >= low) & (between <= high)], FINE)
    return best_of(np.r_[best, fine])


def fit_offsets(loss_of: LossOf, prediction: np.ndarray) -> list[float]:
    """Return an offset for the log-probability of each class; their mean is 0.

    With the other offsets fixed, a row goes to a class from a certain offset on, so only these offsets need
    to be tried.
    """
    logs = log_probability(prediction)

    def turns(offsets: np.ndarray, code: int) -> Moves:
        others = logs + offsets
        others[:, code] = -np.inf
        runner_up = others.argmax(axis=1)
        turns_at = others.max(axis=1) - logs[:, code]
        inside = turns_at[np.abs(turns_at - offsets[code]) < LARGEST_OFFSET]
        tried = _some(_midpoints(inside), OFFSETS_TRIED)
        return ((offset, np.where(turns_at < offset, code, runner_up)) for offset in tried)

    offsets = _descend(np.zeros(logs.shape[1]), loss_of(logs.argmax(axis=1)), turns, loss_of)
    centred: list[float] = (offsets - offsets.mean()).tolist()
    return centred


def fit_cuts(loss_of: LossOf, values: np.ndarray, labels: np.ndarray, task: Task) -> list[float]:
    """Return ascending cuts between neighbouring labels, moved one at a time from the middles."""
    start = (labels[:-1] + labels[1:]) / 2.0

    def decided(cuts: np.ndarray) -> np.ndarray:
        return np.asarray(labels[np.searchsorted(cuts, values)].astype(task.dtype))

    def moves(cuts: np.ndarray, index: int) -> Moves:
        low = cuts[index - 1] if index else -np.inf
        high = cuts[index + 1] if index + 1 < len(cuts) else np.inf
        between = values[(values > low) & (values < high)]
        near = between[np.abs(between - cuts[index]) <= np.ptp(labels) / len(cuts)]
        tried = _some(_midpoints(near), CUTS_TRIED)
        return ((cut, decided(np.r_[cuts[:index], cut, cuts[index + 1 :]])) for cut in tried)

    found: list[float] = _descend(start, loss_of(decided(start)), moves, loss_of).tolist()
    return found


def _descend(
    numbers: np.ndarray, lowest: float, moves: Callable[[np.ndarray, int], Moves], loss_of: LossOf
) -> np.ndarray:
    """Lower the loss one number at a time; `moves` gives the values to try for one, and what each decides."""
    for _ in range(PASSES):
        before = lowest
        for place in range(len(numbers)):
            for number, decided in moves(numbers, place):
                loss = loss_of(decided)
                if loss < lowest:
                    lowest, numbers[place] = loss, number
        if lowest >= before:
            break
    return numbers


def _midpoints(values: np.ndarray) -> np.ndarray:
    """Return the middles between neighbouring different values."""
    unique = np.unique(values)
    middles: np.ndarray = (unique[:-1] + unique[1:]) / 2.0
    return middles


def _some(values: np.ndarray, n: int) -> np.ndarray:
    """Return at most `n` of sorted values, evenly by position."""
    if len(values) <= n:
        return values
    some: np.ndarray = values[np.linspace(0, len(values) - 1, n).round().astype(np.int64)]
    return some


Kind = Literal["argmax", "threshold", "offsets", "cuts", "round", "value", "labels"]

FIT_ROWS = 50_000

MAX_LABELS = 100
"""Regression with ordinal labels: with more different rounded values than this, values are only rounded."""


@dataclass(frozen=True)
class Decision:
    """How predictions become labels.

    Attributes
    ----------
    kind : {"argmax", "threshold", "offsets", "cuts", "round", "value", "labels"}
        "round" and "value": regression values rounded, or as they are. "labels": each label that is likelier than
        its threshold.
    numbers : tuple of float
        The threshold; an offset for each class; the cuts, ascending; a threshold for each label, 0.5 without any.
    labels : tuple of float
        "cuts": the label below the first cut, between cuts, and above the last one.
    positive : int
        "threshold": the column compared.
    """

    kind: Kind
    numbers: tuple[float, ...] = ()
    labels: tuple[float, ...] = ()
    positive: int = 1

    @classmethod
    def fit(
        cls,
        metric: Metric,
        y: np.ndarray,
        prediction: np.ndarray,
        task: Task,
        kind: Literal["auto", "argmax", "threshold"] = "auto",
        weight: np.ndarray | None = None,
    ) -> Decision:
        """Fit the decision that scores best on these rows.

        Parameters
        ----------
        metric : Metric
        y : array (n,)
            Codes, or values on the scale of the target (as `Metric.score` takes them).
        prediction : array (n, n_classes) or (n, 1)
            Regression: on the scale of the target.
        task : Task
        kind : {"auto", "argmax", "threshold"}
            "auto" fits where `Metric.decision` says so; "threshold" for any label metric.
        weight : array (n,) or None

        Returns
        -------
        Decision
            Deterministic: the same rows give the same decision.

        Raises
        ------
        UsageError
            If a threshold is asked for under a metric that takes no labels.
        """
        if kind == "threshold" and metric.needs != "label":
            raise UsageError(
                f"decision 'threshold' needs a label metric; got {metric.name}, which takes {metric.needs}. "
                "Use decision: auto."
            )
        wants_fit = kind == "threshold" or (kind == "auto" and metric.decision != "plain")
        if not wants_fit or not len(y):
            return _plain(metric, task)
        rows = spread_rows(y, FIT_ROWS, seed=0)
        y, prediction = y[rows], prediction[rows]
        return _fit(metric, y, prediction, task, None if weight is None else weight[rows])

    def apply(self, prediction: np.ndarray) -> np.ndarray:
        """Return int64 codes (n,); regression: float64 values (n,)."""
        match self.kind:
            case "value":
                return _ordinal(prediction)
            case "round":
                return np.asarray(np.rint(_ordinal(prediction)))
            case "labels":
                return np.asarray(prediction > (self.numbers or 0.5), dtype=np.int64)
            case "argmax":
                return np.asarray(prediction.argmax(axis=1), dtype=np.int64)
            case "threshold":
                is_positive = prediction[:, self.positive] > self.numbers[0]
                return np.where(is_positive, self.positive, 1 - self.positive).astype(np.int64)
            case "offsets":
                return np.asarray((log_probability(prediction) + self.numbers).argmax(axis=1), dtype=np.int64)
        decided: np.ndarray = np.asarray(self.labels)[np.searchsorted(self.numbers, _ordinal(prediction))]
        return decided.astype(np.int64) if prediction.ndim == 2 and prediction.shape[1] > 1 else decided

    @staticmethod
    def average(decisions: Sequence[Decision]) -> Decision:
        """Return the mean of decisions of one kind, such as those of the fold pipelines.

        Raises
        ------
        UsageError
            If there is none, or they differ in kind.
        """
        kinds = sorted({decision.kind for decision in decisions})
        if len(kinds) != 1:
            raise UsageError(f"decisions to average must be of one kind; got {', '.join(kinds) or 'none'}.")
        first = decisions[0]
        labels = sorted({label for decision in decisions for label in decision.labels})
        rows = [
            decision.numbers if first.kind != "cuts" else decision._cuts_of(labels) for decision in decisions
        ]
        numbers = np.mean(rows, axis=0).tolist() if first.numbers or first.kind == "cuts" else []
        return Decision(first.kind, tuple(numbers), tuple(labels), first.positive)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: object, where: str = "decision") -> Decision:
        """Return the decision that `to_json` described; StructureError if it is not made so."""
        decision = structured(cls, values, where)
        n_numbers, n_labels = len(decision.numbers), len(decision.labels)
        must(decision.positive in (0, 1), f"{where}.positive", "be 0 or 1", decision.positive)
        must(decision.kind != "threshold" or n_numbers == 1, f"{where}.numbers", "be one", n_numbers)
        is_between = decision.kind != "cuts" or n_labels == n_numbers + 1
        must(is_between, f"{where}.labels", "be one more than cuts", n_labels)
        return decision

    def checked(self, task: Task) -> Decision:
        """Return the decision; UsageError where it is none for the predictions of a task."""
        n_classes = len(task.classes)
        fits = {
            "threshold": task.takes_positive,
            "labels": task.has_label_sets and len(self.numbers) in (0, task.n_targets),
            "offsets": len(self.numbers) == n_classes > 0,
            "cuts": not task.has_label_sets
            and set(self.labels) <= set(range(n_classes) if n_classes else self.labels),
        }
        if not fits.get(self.kind, True):
            raise UsageError(
                f"a given decision must fit the predictions; got {self.kind} of {len(self.numbers)} numbers for "
                f"task={task.kind} of {n_classes} classes; correct it, or use decision: auto"
            )
        return self

    def _cuts_of(self, labels: Sequence[float]) -> list[float]:
        """Return cuts between `labels`, some of which this decision may never have seen.

        A label unseen between two seen ones gets no room; beyond the outermost the middle is the cut.
        """
        cuts = []
        for below, above in pairwise(labels):
            if below < self.labels[0]:
                cuts.append(min([(below + above) / 2.0, *self.numbers[:1]]))
            elif above > self.labels[-1]:
                cuts.append(max([(below + above) / 2.0, *self.numbers[-1:]]))
            else:
                cuts.append(self.numbers[int(np.searchsorted(self.labels, above)) - 1])
        return cuts


def _plain(metric: Metric, task: Task) -> Decision:
    return Decision(task.plain_decision(metric.needs == "label"))


def _fit(
    metric: Metric, y: np.ndarray, prediction: np.ndarray, task: Task, weight: np.ndarray | None
) -> Decision:
    def loss_of(decided: np.ndarray) -> float:
        loss = metric.loss(y, decided, task, weight)
        return float("inf") if np.isnan(loss) else loss

    if task.has_label_sets:
        return Decision("labels", _label_thresholds(metric, loss_of, y, prediction, task, weight))
    # Cuts lie between whole values, which nobody has listed; classes are known.
    if not task.classes:
        labels = np.unique(np.rint(y))
        if len(labels) > MAX_LABELS:
            return _plain(metric, task)
    elif task.takes_positive:
        return Decision("threshold", (fit_threshold(loss_of, prediction, task),), positive=task.positive)
    elif metric.decision != "ordinal":
        return Decision("offsets", tuple(fit_offsets(loss_of, prediction)))
    else:
        labels = np.arange(task.n_outputs, dtype=np.float64)
    cuts = fit_cuts(loss_of, _ordinal(prediction), labels, task)
    return Decision("cuts", tuple(cuts), tuple(labels.tolist()))


def _label_thresholds(
    metric: Metric,
    loss_of: LossOf,
    y: np.ndarray,
    prediction: np.ndarray,
    task: Task,
    weight: np.ndarray | None,
) -> tuple[float, ...]:
    """Return a threshold for each label, or one for all where the score is no mean over labels."""
    if metric.over_targets == "whole":
        tried = np.unique(np.r_[0.5, _some(_midpoints(prediction.ravel()), COARSE)])
        best = min(
            tried, key=lambda one: (loss_of(np.asarray(prediction > one, dtype=np.int64)), abs(one - 0.5))
        )
        return (float(best),) * task.n_targets
    found = []
    for place, part in enumerate(task.parts):
        own, said = task.part_of_y(y, place), task.part_of_prediction(prediction, place)
        known = 0 < own.sum() < len(own)
        found.append(float(_fit(metric, own, said, part, weight).numbers[0]) if known else 0.5)
    return tuple(found)


def _ordinal(prediction: np.ndarray) -> np.ndarray:
    """Return values (n,), or the expected code of class probabilities."""
    if prediction.ndim == 1 or prediction.shape[1] == 1:
        return prediction.reshape(len(prediction)).astype(np.float64)
    expected: np.ndarray = prediction @ np.arange(prediction.shape[1], dtype=np.float64)
    return expected
