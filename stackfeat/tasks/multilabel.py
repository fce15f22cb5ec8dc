"""The task whose rows have any number of several labels, and whose prediction is a probability for each label.

In:  y of shape (n_rows, n_labels), 1 where a row has a label and 0 where not; probabilities of that shape.
Out: the mean of the labels' log-losses; of each label what a binary task says of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from stackfeat.errors import DataError, MemberError, one_line
from stackfeat.structure import must
from stackfeat.tasks.classification import LOWEST_LOG, Binary, OfProbabilities, is_outside, log_probability
from stackfeat.tasks.rows import checked_finite, of_length
from stackfeat.tasks.task import Fault, Task

LABEL = (0, 1)
"""The classes of a label by itself."""


class Label(Binary):
    """One of several labels by itself."""

    is_label = True


class Multilabel(OfProbabilities):
    """Several labels, of which a row has none, one or several."""

    family: ClassVar[Literal["classification", "regression"]] = "classification"
    output: ClassVar[Literal["proba", "prediction"]] = "proba"
    prediction_text = "in [0, 1]"
    dtype = np.int64
    fewest_classes = most_classes = 0
    is_stratified = True
    takes_positive = False
    takes_targets = True
    has_amounts = False
    has_label_sets = True
    transforms = ("none",)
    averages = ("mean", "logit")
    losses = ("binary_cross_entropy",)
    shares_unit = True
    linear_readings = ("logit",)
    head_outputs = ("logits", "proba")
    needs = ("label", "proba")
    default_metric = row_metric = "log_loss"
    method = "predict_proba"
    estimator_suffix: ClassVar[Literal["Classifier", "Regressor"]] = "Classifier"
    unusable_training = ("class_weight", "label_smoothing", "mixup", "cutmix")
    calibrations = ("by_label",)
    pictures = ("reliability", "targets", "calibrations")
    reported = ("log_loss", "roc_auc", "f1_macro", "f1_micro", "hamming")
    has_widths = False
    region_words = ("label sets", "mean number of labels")

    @property
    def n_outputs(self) -> int:
        return self.n_targets

    @property
    def columns(self) -> tuple[str, ...]:
        return self.names

    def columns_of(self, member: str) -> tuple[str, ...]:
        return tuple(f"{member}:{name}" for name in self.names)

    @property
    def described(self) -> str:
        return f"labels: {', '.join(map(one_line, self.names))}"

    # Labels one by one

    @property
    def parts(self) -> tuple[Task, ...]:
        return (Label("binary", LABEL),) * self.n_targets

    @classmethod
    def of_parts(cls, parts: Sequence[Task], names: Sequence[str]) -> Task:
        return Task("multilabel", n_targets=len(parts), targets=tuple(names))

    def part_of_y(self, y: np.ndarray, place: int) -> np.ndarray:
        return np.asarray(y[:, place])

    def part_of_prediction(self, prediction: np.ndarray, place: int) -> np.ndarray:
        return np.column_stack([1.0 - prediction[:, place], prediction[:, place]])

    def part_of_scores(self, scores: np.ndarray, place: int) -> np.ndarray:
        # Centred log-probabilities of two classes are half their log-odds, with either sign.
        half = 0.5 * scores[:, place]
        return np.column_stack([-half, half])

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.column_stack([part[:, 1] for part in parts])

    # The target

    def to_member_scale(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip(values, 0.0, 1.0))

    def check_y(self, y: np.ndarray, where: str) -> None:
        must(y.dtype.kind in "iu", where, "be of kind iu", y.dtype.str)
        is_table = y.ndim == 2 and y.shape[1] == self.n_targets
        must(is_table, where, f"have a column for each of {self.n_targets} labels", y.shape)
        must(bool(((y == 0) | (y == 1)).all()), where, "be 0 or 1", "another value")

    def strata(self, y: np.ndarray) -> np.ndarray:
        """Return a number for the rarest label of each row, or for rows of none: of labels that say most."""
        counts = np.where(y > 0, y.sum(axis=0), len(y) + 1)
        return np.where(y.any(axis=1), counts.argmin(axis=1), self.n_targets).astype(np.int64)

    # Predictions

    def checked(self, prediction: np.ndarray, who: str) -> np.ndarray:
        values = checked_finite(prediction, who)
        outside = is_outside(values)
        if outside.any():
            worst = values.flat[np.abs(values - 0.5).argmax()]
            raise MemberError(
                f"{who} must predict probabilities between 0 and 1; got {worst:g}, in "
                f"{int(outside.any(axis=1).sum())} rows. If these are scores before the logistic function, apply it "
                "first"
            )
        return np.asarray(np.clip(values, 0.0, 1.0))

    def faults(self, prediction: np.ndarray) -> Iterator[Fault]:
        wrong = is_outside(prediction)
        if wrong.any():
            remedy = ". If these are scores before the logistic function, apply it first"
            claim, got = "probabilities must lie in [0, 1]", f"{prediction[wrong][0]:g}"
            yield Fault("range", claim, got, np.asarray(wrong.any(axis=1)), remedy)

    def ask(self, estimator: Any, columns: Any) -> np.ndarray:
        """Return the probability of each label; without `predict_proba` as for classes."""
        from scipy.special import expit

        name, n_rows = type(estimator).__name__, np.shape(columns)[0]
        if hasattr(estimator, "predict_proba"):
            said = of_each_label(estimator.predict_proba(columns), getattr(estimator, "classes_", None))
        elif hasattr(estimator, "decision_function"):
            said = expit(checked_finite(estimator.decision_function(columns), name))
        else:
            said = np.asarray(estimator.predict(columns))
        return self.checked(of_length(said, n_rows, self.n_targets, name)[:, : self.n_targets], name)

    def of_scores(self, scores: np.ndarray) -> np.ndarray:
        from scipy.special import expit

        return np.asarray(expit(scores))

    def decided(self, prediction: np.ndarray) -> np.ndarray:
        return np.asarray(prediction > 0.5, dtype=np.int64)

    def judged(self, prediction: np.ndarray, as_labels: bool) -> np.ndarray:
        return self.decided(prediction) if prediction.dtype.kind == "f" else prediction.astype(np.int64)

    def plain_decision(self, as_labels: bool) -> Literal["argmax", "round", "value", "labels"]:
        return "labels"

    def check_submitted(self, prediction: np.ndarray, single: bool) -> None:
        if prediction.min() < 0 or prediction.max() > 1 + 1e-9:
            raise DataError(f"probabilities must lie in [0, 1]; got [{prediction.min()}, {prediction.max()}]")

    def row_loss(self, y: np.ndarray, prediction: np.ndarray, unit: np.ndarray | None = None) -> np.ndarray:
        right = np.where(y > 0, prediction, 1.0 - prediction)
        return np.asarray(-log_probability(right).mean(axis=1))

    def average_logit(self, views: Sequence[np.ndarray]) -> np.ndarray:
        return self.of_scores(np.mean([self.unbounded(view, 1e-12) for view in views], axis=0))

    def unbounded(self, prediction: np.ndarray, smallest: float) -> np.ndarray:
        """Return log-odds."""
        shares = np.clip(np.asarray(prediction, dtype=np.float64), smallest, 1.0 - smallest)
        return np.asarray(np.log(shares) - np.log1p(-shares))

    def sureness(self, prediction: np.ndarray) -> np.ndarray:
        return np.asarray(np.maximum(prediction, 1.0 - prediction).mean(axis=1))

    def evidence(self, prediction: np.ndarray) -> np.ndarray:
        return self.unbounded(prediction, float(np.exp(LOWEST_LOG)))

    def perfect(self, y: np.ndarray) -> np.ndarray:
        return y.astype(np.float64)

    def told(self, y: np.ndarray, prediction: np.ndarray) -> dict[str, list[Any]]:
        decided = self.decided(prediction)

        def named(rows: np.ndarray) -> list[str]:
            return [", ".join(self.names[place] for place in np.flatnonzero(row)) for row in rows]

        wrong = (decided != y).sum(axis=1)
        return {"truth": named(y), "predicted": named(decided), "labels wrong": wrong.tolist()}

    def said_and_came(self, y: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of each label of each row, and whether the row has it."""
        return np.ravel(prediction), np.ravel(y > 0)

    # Sets of labels: each label that a row has is in its set at the level

    def nonconformity(self, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return what is missing to certainty, of the labels that a row has."""
        return np.where(y > 0, 1.0 - prediction, np.nan)

    def holds(self, region: np.ndarray, y: np.ndarray) -> np.ndarray:
        n_labels = y.sum(axis=1)
        return np.where(n_labels > 0, (region & (y > 0)).sum(axis=1) / np.maximum(n_labels, 1), 1.0)

    # Chance

    def constants(self, y: np.ndarray, weight: np.ndarray | None) -> list[np.ndarray]:
        """Return the shares of the labels; as labels they are those that most rows have."""
        return [np.average(y, axis=0, weights=weight)]

    def guess(self, y: np.ndarray, as_labels: bool, random: np.random.Generator) -> np.ndarray:
        if as_labels:
            return random.permutation(y)
        return np.asarray(0.5 * random.random(y.shape) + 0.5 * y.mean(axis=0))

    def is_near_chance(self, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> bool:
        return all(
            part.is_near_chance(self.part_of_y(y, place), self.part_of_prediction(prediction, place), weight)
            for place, part in enumerate(self.parts)
        )

    def ordering(self, prediction: np.ndarray) -> Callable[[np.ndarray], float]:
        """Return a function from labels to the mean area under the ROC curve, over labels that some rows have."""
        parts = [
            part.ordering(self.part_of_prediction(prediction, place)) for place, part in enumerate(self.parts)
        ]

        def mean_auc(y: np.ndarray) -> float:
            shares = y.mean(axis=0)
            known = np.flatnonzero((shares > 0) & (shares < 1))
            if not len(known):
                raise ValueError("ranking must have rows with and without a label; got none; draw more rows")
            return float(np.mean([parts[place](y[:, place]) for place in known]))

        return mean_auc


def of_label_sets(y: np.ndarray, names: Sequence[str] = ()) -> Task:
    """Return the task of a table of 0 and 1."""
    return Task("multilabel", n_targets=y.shape[1], targets=tuple(names))


def of_each_label(said: Any, classes: Any = None) -> np.ndarray:
    """Return the probability of each label, (n_rows, n_labels), of what an estimator says of label sets.

    A label that all training rows had, or none, has one column in its table: that of its only class.

    Parameters
    ----------
    said : array of shape (n_rows, n_labels), or sequence of array of shape (n_rows, n_seen)
        What `predict_proba` gives: the probabilities themselves, or those of the classes of each label.
    classes : sequence of array, optional
        The classes that the columns of each table of a list are of; 0 and 1 without it.
    """
    if isinstance(said, np.ndarray) and said.ndim == 2:
        return said
    columns = []
    for place, one in enumerate(said):
        seen = np.arange(np.shape(one)[1]) if classes is None else np.asarray(classes[place])
        of_one = np.flatnonzero(seen == 1)
        columns.append(np.asarray(one)[:, of_one[0]] if len(of_one) else np.zeros(len(one)))
    return np.column_stack(columns)
