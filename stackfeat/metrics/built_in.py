"""The built-in metrics, in numpy: their functions, and the table of all that is known of each.

In:  what a metric needs: int codes, probabilities (n, n_classes) or values (n,); see `Metric.needs`.
Out: a number, or a value for each row, which makes the bootstrap many times faster. `METRICS` by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from stackfeat.errors import DataError
from stackfeat.metrics.incremental_labels import AccuracyScorer, ConfusionScorer, ScoreOfCounts
from stackfeat.metrics.incremental_ranks import AucScorer, AveragePrecisionScorer
from stackfeat.metrics.incremental_scores import (
    AbsoluteErrorScorer,
    BrierScorer,
    IncrementalScorer,
    LogLossScorer,
    LossOf,
    PearsonScorer,
    R2Scorer,
    RoundedKappaScorer,
    SquaredErrorScorer,
)
from stackfeat.metrics.metric import Metric, Weight, weighted_mean
from stackfeat.metrics.sorted_scores import SortedScores, mean_defined
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


def balanced_accuracy(counts: np.ndarray, task: Task) -> float:
    """Mean recall over the classes that occur in y."""
    occurs = counts.sum(axis=1) > 0
    recalls = counts.diagonal()[occurs] / counts.sum(axis=1)[occurs]
    return float(recalls.mean()) if occurs.any() else float("nan")


def _f1_by_class(counts: np.ndarray) -> np.ndarray:
    both = counts.sum(axis=0) + counts.sum(axis=1)
    by_class: np.ndarray = np.divide(2.0 * counts.diagonal(), both, out=np.zeros(len(both)), where=both > 0)
    return by_class


def f1(counts: np.ndarray, task: Task) -> float:
    """F1 of the positive class; 0 where it neither occurs nor is predicted."""
    return float(_f1_by_class(counts)[task.positive])


def f1_macro(counts: np.ndarray, task: Task) -> float:
    """Mean F1 over the classes that occur in y or are predicted."""
    seen = counts.sum(axis=0) + counts.sum(axis=1) > 0
    return float(_f1_by_class(counts)[seen].mean()) if seen.any() else float("nan")


def mcc(counts: np.ndarray, task: Task) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 for constant predictions."""
    total, true, predicted = counts.sum(), counts.sum(axis=1), counts.sum(axis=0)
    # Weights round: of one class the difference may be a little below 0.
    spread = np.sqrt(max((total**2 - true @ true) * (total**2 - predicted @ predicted), 0.0))
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


def kappa_of_counts(counts: np.ndarray, task: Task) -> float:
    """`quadratic_weighted_kappa` of codes that are counted."""
    codes = np.arange(len(counts))
    true, predicted = np.divmod(np.arange(counts.size), len(codes))
    return quadratic_weighted_kappa(true, predicted, task, counts.ravel())


def kappa_scorer(
    predictions: Sequence[np.ndarray], y: np.ndarray, task: Task, weight: Weight, loss: LossOf
) -> IncrementalScorer:
    """Return the scorer of `quadratic_weighted_kappa`: of counts where there are classes."""
    # Of values there is no table of counts.
    if task.classes:
        return ConfusionScorer(predictions, y, task, weight, loss, score_of_counts=kappa_of_counts)
    return RoundedKappaScorer(predictions, y, task, weight, loss)


def sort_by_class(y: np.ndarray, prediction: np.ndarray, task: Task) -> list[SortedScores]:
    """Return the sorted scores of the positive class, or of every class against the rest."""
    return [SortedScores(y == code, prediction[:, code]) for code in task.counted_classes]


def reweighted_auc(y: np.ndarray, prediction: np.ndarray, task: Task) -> Callable[[np.ndarray], float]:
    """Multiclass: mean over classes, each against the rest; classes absent from y are left out."""
    classes = sort_by_class(y, prediction, task)
    return lambda weight: mean_defined([scores.auc(weight) for scores in classes])


def average_precision(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Multiclass: mean over classes, each against the rest; classes absent from y are left out."""
    rows = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
    return mean_defined([scores.average_precision(rows) for scores in sort_by_class(y, prediction, task)])


def counts_metric(name: str, score: ScoreOfCounts, tasks: tuple[str, ...] = CLASSES) -> Metric:
    """Return the metric of labels that is a score of their confusion matrix."""
    return label_metric(
        name=name,
        tasks=tasks,
        function=lambda y, prediction, task, weight: score(confusion(y, prediction, task, weight), task),
        decision="fitted",
        incremental=partial(ConfusionScorer, score_of_counts=score),
    )


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
        counts_metric("balanced_accuracy", balanced_accuracy),
        proba_metric(
            name="log_loss",
            greater_is_better=False,
            row_values=log_loss_rows,
            convex_error="log",
            incremental=LogLossScorer,
        ),
        proba_metric(
            name="roc_auc",
            greater_is_better=True,
            reweighted=reweighted_auc,
            ranking=True,
            incremental=AucScorer,
        ),
        proba_metric(
            name="average_precision",
            greater_is_better=True,
            function=average_precision,
            ranking=True,
            incremental=AveragePrecisionScorer,
        ),
        counts_metric("f1", f1, tasks=("binary",)),
        counts_metric("f1_macro", f1_macro),
        counts_metric("mcc", mcc),
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
        value_metric(
            name="r2",
            greater_is_better=True,
            function=r2,
            convex_error="squared",
            incremental=R2Scorer,
        ),
        value_metric(name="pearson", greater_is_better=True, function=pearson, incremental=PearsonScorer),
        label_metric(
            name="quadratic_weighted_kappa",
            tasks=CLASSES + VALUES,
            function=quadratic_weighted_kappa,
            decision="ordinal",
            incremental=kappa_scorer,
        ),
    )
}
"""Metrics by name."""
