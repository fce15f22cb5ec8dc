"""The built-in metrics in numpy: true values and predictions in, one number out.

Every function takes ``(y, prediction, task, weight)``. Classification: y are int codes of shape (n,);
a label metric gets codes of shape (n,), a probability metric an array (n, n_classes). Regression: both
are float arrays (n,) on the scale of the target. An undefined score (one class only) is NaN.
"""

from __future__ import annotations

import numpy as np

from stackfeat.errors import DataError
from stackfeat.tasks.task import Task

Weight = np.ndarray | None


def _mean(values: np.ndarray, weight: Weight) -> float:
    return float(np.average(values, weights=weight)) if len(values) else float("nan")


# Metrics that are means of one value per row (some with a square root at the end) are written as
# that value, because the bootstrap and greedy selection are many times faster on it.


def accuracy_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    hits: np.ndarray = (y == prediction).astype(np.float64)
    return hits


def log_loss_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    return task.row_loss(y, prediction)


def brier_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    losses: np.ndarray
    if task.kind == "binary":
        losses = (prediction[:, task.positive] - (y == task.positive)) ** 2
    else:
        losses = (prediction**2).sum(axis=1) - 2.0 * prediction[np.arange(len(y)), y] + 1.0
    return losses


def squared_error_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    losses: np.ndarray = (y - prediction) ** 2
    return losses


def squared_log_error_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    if len(y) and y.min() < 0:
        raise DataError(f"metric rmsle needs a target of at least 0; got {y.min():g}. Choose rmse or mae.")
    losses: np.ndarray = (np.log1p(y) - np.log1p(np.maximum(prediction, 0.0))) ** 2
    return losses


def absolute_error_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    losses: np.ndarray = np.abs(y - prediction)
    return losses


def accuracy(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    return _mean(accuracy_rows(y, prediction, task), weight)


def log_loss(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    return _mean(log_loss_rows(y, prediction, task), weight)


def brier(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Squared error of the positive probability; multiclass: sum of squares over the classes."""
    return _mean(brier_rows(y, prediction, task), weight)


def rmse(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    return float(np.sqrt(_mean(squared_error_rows(y, prediction, task), weight)))


def rmsle(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Root mean squared error of log1p; predictions below 0 count as 0."""
    return float(np.sqrt(_mean(squared_log_error_rows(y, prediction, task), weight)))


def mae(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    return _mean(absolute_error_rows(y, prediction, task), weight)


def r2(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    total = _mean((y - _mean(y, weight)) ** 2, weight)
    return 1.0 - _mean((y - prediction) ** 2, weight) / total if total > 0 else float("nan")


def pearson(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Correlation; 0 for constant predictions, so that they lose against any sensible ones."""
    centred_y, centred = y - _mean(y, weight), prediction - _mean(prediction, weight)
    spread = np.sqrt(_mean(centred_y**2, weight) * _mean(centred**2, weight))
    return float(_mean(centred_y * centred, weight) / spread) if spread > 0 else 0.0


def confusion(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight) -> np.ndarray:
    """Weighted counts, true classes in rows."""
    n = task.n_outputs
    counts = np.bincount(y * n + prediction, weights=weight, minlength=n * n).astype(np.float64)
    return counts.reshape(n, n)


def balanced_accuracy(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Mean recall over the classes that occur in y."""
    counts = confusion(y, prediction, task, weight)
    occurs = counts.sum(axis=1) > 0
    return (
        float((counts.diagonal()[occurs] / counts.sum(axis=1)[occurs]).mean())
        if occurs.any()
        else float("nan")
    )


def _f1_by_class(counts: np.ndarray) -> np.ndarray:
    both = counts.sum(axis=0) + counts.sum(axis=1)
    by_class: np.ndarray = np.divide(2.0 * counts.diagonal(), both, out=np.zeros(len(both)), where=both > 0)
    return by_class


def f1(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """F1 of the positive class; 0 where it neither occurs nor is predicted."""
    return float(_f1_by_class(confusion(y, prediction, task, weight))[task.positive])


def f1_macro(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Mean F1 over the classes that occur in y or are predicted."""
    counts = confusion(y, prediction, task, weight)
    seen = counts.sum(axis=0) + counts.sum(axis=1) > 0
    return float(_f1_by_class(counts)[seen].mean()) if seen.any() else float("nan")


def mcc(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 for constant predictions."""
    counts = confusion(y, prediction, task, weight)
    total, true, predicted = counts.sum(), counts.sum(axis=1), counts.sum(axis=0)
    spread = np.sqrt((total**2 - true @ true) * (total**2 - predicted @ predicted))
    return float((counts.trace() * total - true @ predicted) / spread) if spread > 0 else 0.0


def quadratic_weighted_kappa(
    y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None
) -> float:
    """Agreement beyond chance, distances squared; codes or rounded values.

    The matrix form reduces to moments: with squared distances the expected disagreement of
    independent raters is ``var(a) + var(b) + (mean(a) - mean(b))**2``.
    """
    a, b = y.astype(np.float64), prediction.astype(np.float64)
    mean_a, mean_b = _mean(a, weight), _mean(b, weight)
    by_chance = _mean((a - mean_a) ** 2, weight) + _mean((b - mean_b) ** 2, weight) + (mean_a - mean_b) ** 2
    return 1.0 - _mean((a - b) ** 2, weight) / by_chance if by_chance > 0 else 0.0


class SortedScores:
    """Scores of one class sorted once, so that AUC under new row weights is a few sums.

    Parameters
    ----------
    is_positive : bool array (n,)
    score : float array (n,)
    """

    def __init__(self, is_positive: np.ndarray, score: np.ndarray) -> None:
        # Not a stable sort, which is several times slower: ties are summed as groups anyway.
        self.order = np.argsort(score)
        ordered = score[self.order]
        self.is_positive = is_positive[self.order]
        self.starts = (
            np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(score) else np.zeros(0, np.int64)
        )

    def auc(self, weight: np.ndarray) -> float:
        """Area under the ROC curve with `weight` (n,) in the original row order; NaN with one class."""
        positive, negative = self._by_tie(weight)
        if not positive.sum() > 0 or not negative.sum() > 0:
            return float("nan")
        below = np.cumsum(negative) - negative
        return float(positive @ (below + 0.5 * negative) / (positive.sum() * negative.sum()))

    def average_precision(self, weight: np.ndarray) -> float:
        """Sum of precision times gain in recall, thresholds from high to low; NaN without positives."""
        positive, negative = (group[::-1] for group in self._by_tie(weight))
        if not positive.sum() > 0:
            return float("nan")
        found = np.cumsum(positive)
        called = found + np.cumsum(negative)
        precision = np.divide(found, called, out=np.zeros(len(found)), where=called > 0)
        return float(positive @ precision / positive.sum())

    def _by_tie(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ordered = weight[self.order]
        if not len(ordered):
            return np.zeros(0), np.zeros(0)
        positive = np.add.reduceat(np.where(self.is_positive, ordered, 0.0), self.starts)
        return positive, np.add.reduceat(np.where(self.is_positive, 0.0, ordered), self.starts)


def sort_by_class(y: np.ndarray, prediction: np.ndarray, task: Task) -> list[SortedScores]:
    """Return the sorted scores of the positive class, or of every class against the rest."""
    classes = [task.positive] if task.kind == "binary" else range(task.n_outputs)
    return [SortedScores(y == code, prediction[:, code]) for code in classes]


def mean_defined(values: list[float]) -> float:
    """Mean over the classes whose value is defined; NaN where none is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _row_weights(y: np.ndarray, weight: Weight) -> np.ndarray:
    return np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)


def roc_auc(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Multiclass: mean over classes, each against the rest; classes absent from y are left out."""
    rows = _row_weights(y, weight)
    return mean_defined([scores.auc(rows) for scores in sort_by_class(y, prediction, task)])


def average_precision(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Multiclass: mean over classes, each against the rest; classes absent from y are left out."""
    rows = _row_weights(y, weight)
    return mean_defined([scores.average_precision(rows) for scores in sort_by_class(y, prediction, task)])
