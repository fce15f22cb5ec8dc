"""Tasks whose target is one class of several, and whose prediction is a probability for each class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from stackfeat.errors import DataError, MemberError, one_line
from stackfeat.structure import must
from stackfeat.tasks.rows import checked_finite, is_above_zero, of_length, rank_shares
from stackfeat.tasks.task import MOST_CLASSES, Fault, Label, Task

SMALLEST_PROBABILITY = 1e-15
"""Smaller probabilities count as this one before a logarithm, so that no loss is infinite."""
LARGEST_OVERSHOOT = 1e-6
"""How far below 0 or above 1 a probability may lie by rounding."""
LARGEST_SUM_ERROR = 0.01
"""How far the probabilities of a row may be from a sum of 1: half precision, two digits of a file."""
LOWEST_LOG = float(np.log(1e-6))
"""Log-probabilities count as at least this where a row that is surely wrong must not outweigh the others."""
_SMALLEST_IN_MEAN = 1e-12
MOST_CONSTANTS = 50
"""Classes up to which each of them for sure is tried as a constant prediction."""
SMALLEST_SHARE = 0.01
"""A class of a smaller probability is no row to learn from."""


class OfProbabilities(Task):
    """What tasks have in common whose regions are sets of classes, or of labels: those that are probable enough."""

    def region(self, prediction: np.ndarray, reach: np.ndarray) -> np.ndarray:
        return np.asarray(1.0 - prediction <= reach)

    def region_size(self, region: np.ndarray) -> np.ndarray:
        return np.asarray(region.sum(axis=1), dtype=np.float64)

    @property
    def region_names(self) -> list[str]:
        return list(self.columns_of("set"))

    def region_columns(self, region: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.region_names, region.T.astype(np.int64), strict=True))


class Classification(OfProbabilities):
    """What tasks of classes have in common."""

    family: ClassVar[Literal["classification", "regression"]] = "classification"
    output: ClassVar[Literal["proba", "prediction"]] = "proba"
    prediction_text = "in [0, 1], rows sum to 1"
    dtype = np.int64
    fewest_classes = 2
    has_amounts = False
    is_stratified = True
    transforms = ("none",)
    losses = ("cross_entropy",)
    shares_unit = True
    linear_readings = ("logit",)
    head_outputs = ("logits", "proba", "log_proba")
    needs = ("label", "proba")
    row_metric = "log_loss"
    method = "predict_proba"
    estimator_suffix: ClassVar[Literal["Classifier", "Regressor"]] = "Classifier"
    unusable_training = ()
    calibrations = ("temperature", "class_scaling")
    pictures: ClassVar[tuple[str, ...]] = (
        "confusion",
        "roc",
        "precision_recall",
        "reliability",
        "calibrations",
        "class_shares",
    )
    has_widths = False
    region_words = ("class sets", "mean number of classes")

    @property
    def n_outputs(self) -> int:
        return len(self.classes)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(str(label) for label in self.classes)

    def columns_of(self, member: str) -> tuple[str, ...]:
        return tuple(f"{member}:{label}" for label in self.columns)

    @property
    def described(self) -> str:
        return f"classes: {', '.join(map(one_line, self.classes))}"

    def to_member_scale(self, values: np.ndarray) -> np.ndarray:
        shares = np.clip(values, 0.0, 1.0)
        # Rows that nobody reads were not checked, and may be all zero.
        return np.asarray(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300))

    def check_y(self, y: np.ndarray, where: str) -> None:
        must(y.dtype.kind in "iu", where, "be of kind iu", y.dtype.str)
        are_codes = not len(y) or 0 <= y.min() <= y.max() < self.n_outputs
        must(are_codes, where, "be codes of classes", self.classes)

    def strata(self, y: np.ndarray) -> np.ndarray:
        return y

    def labels_of(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(np.asarray(self.classes)[codes])

    def indicators(self, y: np.ndarray) -> np.ndarray:
        return np.asarray(y[:, None] == np.unique(y), dtype=np.float64)

    def class_totals(self, y: np.ndarray, weight: np.ndarray | None) -> list[float] | None:
        return [float(total) for total in np.bincount(y, weights=weight, minlength=self.n_outputs)]

    def balanced_weights(self, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        counts = np.bincount(y, weights=weight, minlength=self.n_outputs)
        by_class = np.divide(1.0, counts, out=np.zeros_like(counts, dtype=np.float64), where=counts > 0)
        return np.asarray(by_class[y] * (1.0 if weight is None else weight))

    def checked(self, prediction: np.ndarray, who: str) -> np.ndarray:
        return checked_probabilities(prediction, who)

    def faults(self, prediction: np.ndarray) -> Iterator[Fault]:
        # What is not a number is outside of nothing.
        wrong = is_outside(prediction)
        if wrong.any():
            remedy = ". If these are scores before the soft-max, apply it first"
            claim, got = "probabilities must lie in [0, 1]", f"{prediction[wrong][0]:g}"
            yield Fault("range", claim, got, np.asarray(wrong.any(axis=1)), remedy)
        bad = np.abs(prediction.sum(axis=1) - 1.0) > LARGEST_SUM_ERROR
        if bad.any():
            claim = f"probabilities of a row must sum to 1 within {LARGEST_SUM_ERROR}"
            yield Fault("row sums", claim, f"{prediction[bad][0].sum():g}", bad)

    def ask(self, estimator: Any, columns: Any) -> np.ndarray:
        """Return probabilities of all classes; those that the estimator never saw get zero.

        Without `predict_proba` a decision function goes through the logistic or soft-max function; without
        that, predicted labels become certain probabilities.
        """
        name, classes = type(estimator).__name__, np.asarray(estimator.classes_, dtype=np.int64)
        n_rows = np.shape(columns)[0]
        proba = np.zeros((n_rows, self.n_outputs))
        shares = _class_shares(estimator, columns, classes, name)
        proba[:, classes] = of_length(shares, n_rows, len(classes), name)
        return checked_probabilities(proba, name)

    def as_rows(self, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a row for each class that is likely enough, with its probability as a share of the row's weight.

        Their weighted log-loss is the cross-entropy with the probabilities, whatever learns them.
        """
        least = np.minimum(SMALLEST_SHARE, prediction.max(axis=1, keepdims=True))
        kept = np.where(prediction >= least, prediction, 0.0)
        rows, codes = np.nonzero(kept)
        return rows, codes.astype(np.int64), (kept / kept.sum(axis=1, keepdims=True))[rows, codes]

    def placed(self, said: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
        values = super().placed(said)
        if values.shape[1] == 1:
            values = np.hstack([1.0 - values, values])
        if seen is None:
            return values
        found = np.zeros((len(values), self.n_outputs))
        found[:, seen] = values
        return found

    def of_scores(self, scores: np.ndarray) -> np.ndarray:
        from scipy.special import softmax

        # One score is that of the second class of two.
        both = np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores
        return np.asarray(softmax(both, axis=1))

    def decided(self, prediction: np.ndarray) -> np.ndarray:
        return np.asarray(prediction.argmax(axis=1))

    def judged(self, prediction: np.ndarray, as_labels: bool) -> np.ndarray:
        return self.decided(prediction) if prediction.ndim == 2 else prediction.astype(np.int64)

    def plain_decision(self, as_labels: bool) -> Literal["argmax", "round", "value"]:
        return "argmax"

    def check_submitted(self, prediction: np.ndarray, single: bool) -> None:
        if prediction.min() < 0 or prediction.max() > 1 + 1e-9:
            raise DataError(f"probabilities must lie in [0, 1]; got [{prediction.min()}, {prediction.max()}]")
        if not single and np.abs(prediction.sum(axis=1) - 1).max() > 1e-6:
            raise DataError("probabilities of a row must sum to 1; got rows that do not")

    def row_loss(self, y: np.ndarray, prediction: np.ndarray, unit: np.ndarray | None = None) -> np.ndarray:
        return -log_probability(prediction[np.arange(len(y)), y])

    def average_logit(self, views: Sequence[np.ndarray]) -> np.ndarray:
        from scipy.special import softmax

        logs = np.mean([np.log(np.clip(view, _SMALLEST_IN_MEAN, 1.0)) for view in views], axis=0)
        return np.asarray(softmax(logs, axis=1))

    def unbounded(self, prediction: np.ndarray, smallest: float) -> np.ndarray:
        logs = np.log(np.clip(np.asarray(prediction, dtype=np.float64), smallest, None))
        return np.asarray(logs - logs.mean(axis=1, keepdims=True))

    def sureness(self, prediction: np.ndarray) -> np.ndarray:
        return np.asarray(prediction.max(axis=1))

    def evidence(self, prediction: np.ndarray) -> np.ndarray:
        # A probability of 0 of one tree or another outweighs no other column.
        logs = np.log(np.clip(prediction, np.exp(LOWEST_LOG), 1 - np.exp(LOWEST_LOG)))
        return np.asarray(logs - np.log1p(-np.exp(logs)))

    def explained(self, prediction: np.ndarray) -> np.ndarray:
        return np.asarray(self.decided(prediction)[:, None], dtype=np.int64)

    def moved(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return np.asarray(0.5 * np.abs(after - before).sum(axis=1))

    def perfect(self, y: np.ndarray) -> np.ndarray:
        return np.asarray(np.eye(self.n_outputs)[y])

    def told(self, y: np.ndarray, prediction: np.ndarray) -> dict[str, list[Any]]:
        decided = self.decided(prediction)
        return {
            "truth": [str(label) for label in self.labels_of(y)],
            "predicted": [str(label) for label in self.labels_of(decided)],
            "probability of the truth": prediction[np.arange(len(y)), y].tolist(),
        }

    def said_and_came(self, y: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counted = self.counted_classes
        codes = np.full(len(y), counted[0]) if len(counted) == 1 else self.decided(prediction)
        return prediction[np.arange(len(y)), codes], codes == y

    def constants(self, y: np.ndarray, weight: np.ndarray | None) -> list[np.ndarray]:
        """Return the shares of the classes, and each class for sure."""
        shares = np.bincount(y, weights=weight, minlength=self.n_outputs)
        return [shares / shares.sum(), *(np.eye(self.n_outputs) if self.n_outputs <= MOST_CONSTANTS else [])]

    def nonconformity(self, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return what is missing to certainty, in the column of a row's own class."""
        found, rows = np.full(prediction.shape, np.nan), np.arange(len(y))
        found[rows, y] = 1.0 - prediction[rows, y]
        return found

    def holds(self, region: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(region[np.arange(len(y)), y], dtype=np.float64)

    def guess(self, y: np.ndarray, as_labels: bool, random: np.random.Generator) -> np.ndarray:
        mixed = random.permutation(y)
        if as_labels:
            return mixed
        return 0.5 * random.dirichlet(np.ones(self.n_outputs), len(y)) + 0.5 / self.n_outputs

    def is_near_chance(self, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> bool:
        weights = np.ones(len(y)) if weight is None else weight
        prior = np.bincount(y, weights=weights, minlength=self.n_outputs) / weights.sum()
        constant = np.broadcast_to(prior, prediction.shape)
        own = np.minimum(self.row_loss(y, prediction), -LOWEST_LOG)
        gain = np.minimum(self.row_loss(y, constant), -LOWEST_LOG) - own
        # An unsure order of classes is worse than the prior in log-loss, but its accuracy tells.
        hits = (prediction.argmax(axis=1) == y).astype(np.float64) - float(prior.max())
        return not (is_above_zero(gain, weights) or is_above_zero(hits, weights))

    def ordering(self, prediction: np.ndarray) -> Callable[[np.ndarray], float]:
        """Return a function from codes to the mean area under the ROC curve, one class against the rest."""
        from scipy.stats import rankdata

        ranks = rankdata(prediction, axis=0)

        def mean_auc(y: np.ndarray) -> float:
            n_classes = ranks.shape[1]
            inside = np.bincount(y, minlength=n_classes).astype(np.float64)
            known = (inside > 0) & (inside < len(y))
            if not known.any():
                raise ValueError("ranking must have rows of two classes; got one class; draw more rows")
            sums = np.bincount(y, weights=ranks[np.arange(len(y)), y], minlength=n_classes)
            pairs = inside * (len(y) - inside)
            return float(np.mean((sums - inside * (inside + 1) / 2)[known] / pairs[known]))

        return mean_auc


class Binary(Classification):
    """Two classes, one of which counts: a column of its probability says all."""

    most_classes = 2
    takes_positive = True
    averages = ("mean", "logit", "rank")
    default_metric = "roc_auc"
    reported = ("roc_auc", "average_precision", "log_loss", "accuracy")
    pictures = (*Classification.pictures, "threshold_scores", "cumulative_gains")

    @property
    def described(self) -> str:
        return f"{super().described}; the probability of {self.classes[self.positive]!r} counts"

    @property
    def widths(self) -> tuple[int, ...]:
        return (2, 1)

    @property
    def counted_classes(self) -> Sequence[int]:
        return (self.positive,)

    def counted(self, prediction: np.ndarray) -> np.ndarray:
        return np.asarray(prediction[:, self.positive])

    def explained(self, prediction: np.ndarray) -> np.ndarray:
        return np.full((len(prediction), 1), self.positive, dtype=np.int64)

    def whole(self, given: np.ndarray) -> np.ndarray:
        if given.shape[1:] == (2,):
            return given
        column, both = given.reshape(len(given)), np.empty((len(given), 2))
        both[:, self.positive] = column
        both[:, 1 - self.positive] = 1.0 - column
        return both

    def average_rank(self, views: Sequence[np.ndarray]) -> np.ndarray:
        return self.average_mean([self.whole(rank_shares(self.counted(view))) for view in views])

    def ranked(self, prediction: np.ndarray, ordered: np.ndarray) -> np.ndarray:
        return self.whole(rank_shares(self.counted(prediction)))


class Multiclass(Classification):
    """Two classes or more, all of which count alike."""

    most_classes = MOST_CLASSES
    takes_positive = False
    averages = ("mean", "logit")
    default_metric = "log_loss"
    reported = ("log_loss", "accuracy", "f1_macro")


def of_labels(labels: Sequence[Label]) -> Task:
    """Return the task of these classes: two, or any other number.

    Examples
    --------
    >>> of_labels(("no", "yes")).kind
    'binary'
    """
    return Task("binary" if len(labels) == 2 else "multiclass", tuple(labels))


def log_probability(proba: np.ndarray) -> np.ndarray:
    """Return logarithms of probabilities, at least that of `SMALLEST_PROBABILITY`."""
    logs: np.ndarray = np.log(np.clip(proba, SMALLEST_PROBABILITY, 1.0))
    return logs


def checked_probabilities(values: np.ndarray, who: str) -> np.ndarray:
    """Return probabilities (n_rows, n_classes) as float64, in [0, 1] and with rows that sum to 1.

    Raises
    ------
    MemberError
        If they are not finite, out of range, or do not sum to 1, by more than rounding.

    Examples
    --------
    >>> checked_probabilities(np.array([[-1e-9, 1.0]]), "Net").tolist()
    [[0.0, 1.0]]
    """
    values = checked_finite(values, who)
    outside = is_outside(values)
    if outside.any():
        worst = values.flat[np.abs(values - 0.5).argmax()]
        raise MemberError(
            f"{who} must predict probabilities between 0 and 1; got {worst:g}, in {int(outside.any(axis=1).sum())} "
            "rows. If these are scores before the logistic or soft-max function, apply it first"
        )
    shares = np.clip(values, 0.0, 1.0)
    sums = shares.sum(axis=1, keepdims=True)
    off = np.abs(sums[:, 0] - 1.0)
    if off.max(initial=0.0) > LARGEST_SUM_ERROR:
        n_off = int((off > LARGEST_SUM_ERROR).sum())
        raise MemberError(
            f"{who} must predict probabilities that sum to 1 in each row; got a sum of "
            f"{sums[off.argmax(), 0]:g}, {n_off} rows are off. Normalise them, or predict scores by decision_function"
        )
    return np.asarray(shares / sums)


def is_outside(proba: np.ndarray) -> np.ndarray:
    """Return which probabilities lie outside of [0, 1] by more than rounding."""
    return np.asarray((proba < -LARGEST_OVERSHOOT) | (proba > 1 + LARGEST_OVERSHOOT))


def _class_shares(estimator: Any, columns: Any, classes: np.ndarray, name: str) -> np.ndarray:
    from scipy.special import expit, softmax

    if hasattr(estimator, "predict_proba"):
        return checked_finite(estimator.predict_proba(columns), name)
    if hasattr(estimator, "decision_function"):
        scores = checked_finite(estimator.decision_function(columns), name)
        if scores.ndim == 1:
            positive = expit(scores)
            return np.column_stack([1 - positive, positive])
        return np.asarray(softmax(scores, axis=1))
    return np.asarray(np.asarray(estimator.predict(columns))[:, None] == classes[None, :], dtype=np.float64)
