"""The built-in metrics, in numpy: their functions, and the table of all that is known of each.

In:  what a metric needs: int codes, probabilities (n, n_classes) or values (n,); see `Metric.needs`.
Out: a number, or a value for each row, which makes the bootstrap many times faster. `METRICS` by name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from stackfeat.errors import DataError
from stackfeat.metrics.incremental_scores import (
    AbsoluteErrorScorer,
    AccuracyScorer,
    BrierScorer,
    LogLossScorer,
    SquaredErrorScorer,
)
from stackfeat.metrics.metric import Metric, Weight, weighted_mean
from stackfeat.tasks.task import Task

CLASSES = ("binary", "multiclass")
VALUES = ("regression",)


def accuracy_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    return np.asarray((y == prediction).astype(np.float64))


def log_loss_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    return task.row_loss(y, prediction)


def brier_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    """Squared error of the positive probability; multiclass: sum of squares over the classes."""
    if len(task.counted_classes) == 1:
        return np.asarray((task.counted(prediction) - (y == task.counted_classes[0])) ** 2)
    return np.asarray((prediction**2).sum(axis=1) - 2.0 * prediction[np.arange(len(y)), y] + 1.0)


def squared_error_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    return np.asarray((y - prediction) ** 2)


def squared_log_error_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    """Squared error of log1p; predictions below 0 count as 0."""
    if len(y) and y.min() < 0:
        raise DataError(f"metric rmsle needs a target of at least 0; got {y.min():g}. Choose rmse or mae.")
    return np.asarray((np.log1p(y) - np.log1p(np.maximum(prediction, 0.0))) ** 2)


def absolute_error_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    return np.asarray(np.abs(y - prediction))


def r2(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    total = weighted_mean((y - weighted_mean(y, weight)) ** 2, weight)
    return 1.0 - weighted_mean((y - prediction) ** 2, weight) / total if total > 0 else float("nan")


def pearson(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Correlation; 0 for constant predictions, so that they lose against any sensible ones."""
    centred_y, centred = y - weighted_mean(y, weight), prediction - weighted_mean(prediction, weight)
    spread = np.sqrt(weighted_mean(centred_y**2, weight) * weighted_mean(centred**2, weight))
    return float(weighted_mean(centred_y * centred, weight) / spread) if spread > 0 else 0.0


def confusion(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight) -> np.ndarray:
    """Weighted counts, true classes in rows."""
    n = task.n_outputs
    counts = np.bincount(y * n + prediction, weights=weight, minlength=n * n).astype(np.float64)
    return counts.reshape(n, n)


def balanced_accuracy(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Mean recall over the classes that occur in y."""
    counts = confusion(y, prediction, task, weight)
    occurs = counts.sum(axis=1) > 0
    recalls = counts.diagonal()[occurs] / counts.sum(axis=1)[occurs]
    return float(recalls.mean()) if occurs.any() else float("nan")


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
    mean_a, mean_b = weighted_mean(a, weight), weighted_mean(b, weight)
    spread = weighted_mean((a - mean_a) ** 2, weight) + weighted_mean((b - mean_b) ** 2, weight)
    by_chance = spread + (mean_a - mean_b) ** 2
    return 1.0 - weighted_mean((a - b) ** 2, weight) / by_chance if by_chance > 0 else 0.0


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
        self.starts = np.flatnonzero(np.diff(ordered, prepend=np.nan) != 0.0)

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
    return [SortedScores(y == code, prediction[:, code]) for code in task.counted_classes]


def mean_defined(values: list[float]) -> float:
    """Mean over the classes whose value is defined; NaN where none is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def reweighted_auc(y: np.ndarray, prediction: np.ndarray, task: Task) -> Callable[[np.ndarray], float]:
    """Multiclass: mean over classes, each against the rest; classes absent from y are left out."""
    classes = sort_by_class(y, prediction, task)
    return lambda weight: mean_defined([scores.auc(weight) for scores in classes])


def average_precision(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Multiclass: mean over classes, each against the rest; classes absent from y are left out."""
    rows = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
    return mean_defined([scores.average_precision(rows) for scores in sort_by_class(y, prediction, task)])


label_metric = partial(Metric, needs="label", greater_is_better=True, tasks=CLASSES)
proba_metric = partial(Metric, needs="proba", tasks=CLASSES)
value_metric = partial(Metric, needs="value", tasks=VALUES)
error_metric = partial(value_metric, greater_is_better=False)
squared_error_metric = partial(
    error_metric, root=True, convex_error="squared", incremental=SquaredErrorScorer
)

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        label_metric(name="accuracy", row_values=accuracy_rows, incremental=AccuracyScorer),
        label_metric(name="balanced_accuracy", function=balanced_accuracy, decision="fitted"),
        proba_metric(
            name="log_loss",
            greater_is_better=False,
            row_values=log_loss_rows,
            convex_error="log",
            incremental=LogLossScorer,
        ),
        proba_metric(name="roc_auc", greater_is_better=True, reweighted=reweighted_auc, ranking=True),
        proba_metric(
            name="average_precision", greater_is_better=True, function=average_precision, ranking=True
        ),
        label_metric(name="f1", tasks=("binary",), function=f1, decision="fitted"),
        label_metric(name="f1_macro", function=f1_macro, decision="fitted"),
        label_metric(name="mcc", function=mcc, decision="fitted"),
        proba_metric(
            name="brier",
            greater_is_better=False,
            row_values=brier_rows,
            convex_error="squared_proba",
            incremental=BrierScorer,
        ),
        squared_error_metric(name="rmse", row_values=squared_error_rows),
        squared_error_metric(name="rmsle", row_values=squared_log_error_rows, target_transform="log1p"),
        error_metric(
            name="mae",
            row_values=absolute_error_rows,
            training_loss="mae",
            convex_error="absolute",
            incremental=AbsoluteErrorScorer,
        ),
        value_metric(name="r2", greater_is_better=True, function=r2, convex_error="squared"),
        value_metric(name="pearson", greater_is_better=True, function=pearson),
        label_metric(
            name="quadratic_weighted_kappa",
            tasks=CLASSES + VALUES,
            function=quadratic_weighted_kappa,
            decision="ordinal",
        ),
    )
}
"""Metrics by name."""
