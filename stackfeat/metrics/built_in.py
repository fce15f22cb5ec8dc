"""The built-in metrics, in numpy: their functions, and the table of all that is known of each.

In:  what a metric needs: int codes, probabilities (n, n_classes) or values (n,); see `Metric.needs`.
Out: a number, or a value for each row, which makes the bootstrap many times faster. `METRICS` by name, those with a
     number in the name (``top_k@5``) included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from stackfeat.errors import DataError
from stackfeat.metrics.incremental_labels import AccuracyScorer, ConfusionScorer, ScoreOfCounts
from stackfeat.metrics.incremental_lists import NdcgScorer
from stackfeat.metrics.incremental_ranks import AucScorer, AveragePrecisionScorer, GiniScorer
from stackfeat.metrics.incremental_scores import (
    AbsoluteErrorScorer,
    BrierScorer,
    ExplainedVarianceScorer,
    IncrementalScorer,
    LogLossScorer,
    LossOf,
    PearsonScorer,
    R2Scorer,
    RelativeErrorScorer,
    RelativeRmseScorer,
    RoundedKappaScorer,
    SquaredErrorScorer,
)
from stackfeat.metrics.label_sets import f1_micro, hamming_rows, lrap_rows, map_rows
from stackfeat.metrics.metric import Metric, Weight, weighted_mean
from stackfeat.metrics.quantiles import QUANTILE_METRICS
from stackfeat.metrics.ranked_lists import average_precision as precision_of_lists
from stackfeat.metrics.ranked_lists import ndcg, ranked_metric, reciprocal_rank
from stackfeat.metrics.sorted_scores import SortedScores, SortedValues, mean_defined
from stackfeat.metrics.table import Family, Metrics
from stackfeat.tasks.task import Task

CLASSES = ("binary", "multiclass")
LABELS = ("multilabel",)
VALUES = ("regression",)


def accuracy_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    return np.asarray((y == prediction).astype(np.float64))


def log_loss_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    return task.row_loss(y, prediction)


def reweighted_balanced_log_loss(
    y: np.ndarray, prediction: np.ndarray, task: Task
) -> Callable[[np.ndarray], float]:
    """Log-loss in which all classes that occur weigh the same."""
    rows = task.row_loss(y, prediction)

    def score(weight: np.ndarray) -> float:
        occurs = (totals := np.bincount(y, weights=weight)) > 0
        return float((np.bincount(y, weights=weight * rows)[occurs] / totals[occurs]).mean())

    return score


def balanced_log_loss_scorer(
    predictions: Sequence[np.ndarray], y: np.ndarray, task: Task, weight: Weight, loss: LossOf
) -> IncrementalScorer:
    return LogLossScorer(predictions, y, task, task.balanced_weights(y, weight), loss)


def _place_of_true(y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """How many classes are held for more probable than the true one; of equals the earlier ones, as `argmax`."""
    true = prediction[np.arange(len(y)), y][:, None]
    is_earlier = np.arange(prediction.shape[1]) < y[:, None]
    return np.asarray(((prediction > true) | ((prediction == true) & is_earlier)).sum(axis=1))


def top_k_rows(y: np.ndarray, prediction: np.ndarray, task: Task, k: int) -> np.ndarray:
    """Whether the true class is among the `k` most probable ones."""
    return np.asarray(_place_of_true(y, prediction) < k, dtype=np.float64)


def precision_at_k_rows(y: np.ndarray, prediction: np.ndarray, task: Task, k: int) -> np.ndarray:
    """One over the place of the true class among the `k` most probable ones; 0 behind them."""
    place = _place_of_true(y, prediction)
    return np.where(place < k, 1.0 / (place + 1.0), 0.0)


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


def relative_error_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    """Error in shares of the target."""
    n_zero = int((y == 0).sum())
    if n_zero:
        raise DataError(
            f"metric mape needs targets other than 0; got {n_zero} rows with 0. Use smape or mae."
        )
    return np.asarray(np.abs(y - prediction) / np.abs(y))


def symmetric_error_rows(y: np.ndarray, prediction: np.ndarray, task: Task) -> np.ndarray:
    """Error in shares of the mean of target and prediction, from 0 to 2; 0 where both are 0."""
    size = np.abs(y) + np.abs(prediction)
    return np.asarray(np.divide(2.0 * np.abs(y - prediction), size, out=np.zeros(len(size)), where=size > 0))


def medae(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """Median absolute error; of two middle ones the mean."""
    if not len(y):
        return float("nan")
    errors = np.abs(y - prediction)
    order = np.argsort(errors, kind="stable")
    reached = np.cumsum(np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)[order])
    places = [np.searchsorted(reached, reached[-1] / 2.0, side) for side in ("left", "right")]
    return float(errors[order[np.minimum(places, len(y) - 1)]].mean())


def explained_variance(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """R2 of predictions whose mean error is taken away."""
    return r2(y, prediction + weighted_mean(y - prediction, weight), task, weight)


def reweighted_spearman(y: np.ndarray, prediction: np.ndarray, task: Task) -> Callable[[np.ndarray], float]:
    """Correlation of ranks, ties in the middle; 0 for constant predictions."""
    true, predicted = SortedValues(y), SortedValues(prediction)
    return lambda weight: pearson(true.ranks(weight), predicted.ranks(weight), task, weight)


def reweighted_gini(y: np.ndarray, prediction: np.ndarray, task: Task) -> Callable[[np.ndarray], float]:
    """Twice the area between the diagonal and the Lorenz curve of targets in the order of their predictions:
    ``2 cov(y, rank share of prediction) / mean(y)``. Where one class counts, twice its AUC less 1."""
    if task.takes_positive:
        return reweighted_normalized_gini(y, prediction, task)
    ordered = SortedValues(task.counted(prediction))

    def score(weight: np.ndarray) -> float:
        mean = weighted_mean(y, weight)
        return 2.0 * _covariance(y, ordered.ranks(weight), weight) / mean if mean > 0 else float("nan")

    return score


def reweighted_normalized_gini(
    y: np.ndarray, prediction: np.ndarray, task: Task
) -> Callable[[np.ndarray], float]:
    """Gini in shares of what the targets' own order would reach."""
    target = task.counted(task.perfect(y)).astype(np.float64)
    ordered, best = SortedValues(task.counted(prediction)), SortedValues(target)

    def score(weight: np.ndarray) -> float:
        most = _covariance(target, best.ranks(weight), weight)
        return _covariance(target, ordered.ranks(weight), weight) / most if most > 0 else float("nan")

    return score


def gini_scorer(
    predictions: Sequence[np.ndarray], y: np.ndarray, task: Task, weight: Weight, loss: LossOf
) -> IncrementalScorer:
    scorer = GiniScorer if task.takes_positive else IncrementalScorer
    return scorer(predictions, y, task, weight, loss)


def _covariance(values: np.ndarray, ranks: np.ndarray, weight: np.ndarray) -> float:
    return weighted_mean((values - weighted_mean(values, weight)) * ranks, weight)


def r2(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    return 1.0 - _share_left(y, prediction, weight)


def relative_rmse(y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
    """RMSE in units of that of the mean of these rows; NaN where all have one value."""
    return float(np.sqrt(_share_left(y, prediction, weight)))


def _share_left(y: np.ndarray, prediction: np.ndarray, weight: Weight) -> float:
    """Mean squared error as a share of that of the mean of these rows; NaN where all have one value."""
    total = weighted_mean((y - weighted_mean(y, weight)) ** 2, weight)
    return weighted_mean((y - prediction) ** 2, weight) / total if total > 0 else float("nan")


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


def _fbeta_by_class(counts: np.ndarray, beta: float = 1.0) -> np.ndarray:
    right, true, said = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    both = beta**2 * true + said
    return np.asarray(np.divide((1.0 + beta**2) * right, both, out=np.zeros(len(both)), where=both > 0))


def f1(counts: np.ndarray, task: Task) -> float:
    """F1 of the positive class; 0 where it neither occurs nor is predicted."""
    return float(_fbeta_by_class(counts)[task.positive])


def f1_macro(counts: np.ndarray, task: Task) -> float:
    """Mean F1 over the classes that occur in y or are predicted."""
    return _mean_of_seen(_fbeta_by_class(counts), counts)


def _mean_of_seen(by_class: np.ndarray, counts: np.ndarray) -> float:
    seen = counts.sum(axis=0) + counts.sum(axis=1) > 0
    return float(by_class[seen].mean()) if seen.any() else float("nan")


def fbeta(counts: np.ndarray, task: Task, beta: float) -> float:
    """F-beta: recall weighs `beta` times as much as precision; multiclass: the mean over classes as in `f1_macro`."""
    by_class = _fbeta_by_class(counts, beta)
    return float(by_class[task.positive]) if task.takes_positive else _mean_of_seen(by_class, counts)


def recall_macro(counts: np.ndarray, task: Task) -> float:
    """Mean recall over the classes that occur in y or are predicted; one that is only predicted has 0."""
    true = counts.sum(axis=1)
    return _mean_of_seen(np.divide(counts.diagonal(), true, out=np.zeros(len(true)), where=true > 0), counts)


def kappa(counts: np.ndarray, task: Task) -> float:
    """Cohen's kappa: agreement beyond chance, all errors alike; 0 where chance agrees in every row."""
    total = counts.sum()
    agreed, by_chance = counts.trace() / total, counts.sum(axis=1) @ counts.sum(axis=0) / total**2
    return float((agreed - by_chance) / (1.0 - by_chance)) if by_chance < 1.0 else 0.0


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
order_metric = partial(Metric, needs="proba", greater_is_better=True, tasks=("binary", *VALUES), ranking=True)
error_metric = partial(value_metric, greater_is_better=False)
squared_error_metric = partial(
    error_metric, root=True, convex_error="squared", incremental=SquaredErrorScorer
)


def fbeta_metric(name: str, number: float) -> Metric:
    return counts_metric(name, partial(fbeta, beta=number))


def top_k_metric(name: str, number: float) -> Metric:
    return proba_metric(
        name=name,
        greater_is_better=True,
        tasks=("multiclass",),
        row_values=partial(top_k_rows, k=int(number)),
    )


def map_metric(name: str, number: float) -> Metric:
    rows = partial(precision_at_k_rows, k=int(number))
    of_lists = ranked_metric(precision_of_lists, name, number)
    of_labels = proba_metric(
        name=name,
        greater_is_better=True,
        tasks=LABELS,
        row_values=partial(map_rows, k=int(number)),
        n_best=int(number),
        ranking=True,
        over_targets="whole",
    )
    return proba_metric(
        name=name,
        greater_is_better=True,
        tasks=("multiclass", "ranking", *LABELS),
        row_values=rows,
        # Lists of rows, and sets of labels, are averaged over otherwise.
        variants={"ranking": of_lists, "multilabel": of_labels},
    )


def ndcg_metric(name: str, number: float) -> Metric:
    return ranked_metric(ndcg, name, number, partial(NdcgScorer, most=number))


METRICS = Metrics(
    (
        label_metric(name="accuracy", row_values=accuracy_rows, incremental=AccuracyScorer),
        counts_metric("balanced_accuracy", balanced_accuracy),
        proba_metric(
            name="log_loss",
            tasks=CLASSES + LABELS,
            greater_is_better=False,
            row_values=log_loss_rows,
            convex_error="log",
            incremental=LogLossScorer,
        ),
        proba_metric(
            name="roc_auc",
            tasks=CLASSES + LABELS,
            greater_is_better=True,
            reweighted=reweighted_auc,
            ranking=True,
            incremental=AucScorer,
        ),
        proba_metric(
            name="average_precision",
            tasks=CLASSES + LABELS,
            greater_is_better=True,
            function=average_precision,
            ranking=True,
            incremental=AveragePrecisionScorer,
        ),
        counts_metric("f1", f1, tasks=("binary",)),
        replace(
            counts_metric("f1_macro", f1_macro, CLASSES + LABELS),
            variants={"multilabel": counts_metric("f1_macro", f1, LABELS)},
        ),
        label_metric(
            name="f1_micro", tasks=LABELS, function=f1_micro, decision="fitted", over_targets="whole"
        ),
        label_metric(
            name="hamming",
            tasks=LABELS,
            greater_is_better=False,
            row_values=hamming_rows,
            over_targets="whole",
        ),
        proba_metric(
            name="lrap",
            tasks=LABELS,
            greater_is_better=True,
            row_values=lrap_rows,
            ranking=True,
            over_targets="whole",
        ),
        counts_metric("mcc", mcc),
        proba_metric(
            name="brier",
            tasks=CLASSES + LABELS,
            greater_is_better=False,
            row_values=brier_rows,
            convex_error="squared_proba",
            incremental=BrierScorer,
        ),
        squared_error_metric(name="rmse", row_values=squared_error_rows),
        squared_error_metric(name="mcrmse", row_values=squared_error_rows),
        error_metric(
            name="arrmse", function=relative_rmse, convex_error="squared", incremental=RelativeRmseScorer
        ),
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
        counts_metric("recall_macro", recall_macro),
        counts_metric("kappa", kappa),
        proba_metric(
            name="log_loss_balanced",
            greater_is_better=False,
            reweighted=reweighted_balanced_log_loss,
            incremental=balanced_log_loss_scorer,
        ),
        order_metric(name="gini", reweighted=reweighted_gini, incremental=gini_scorer),
        order_metric(name="gini_normalized", reweighted=reweighted_normalized_gini, incremental=gini_scorer),
        value_metric(name="spearman", greater_is_better=True, reweighted=reweighted_spearman, ranking=True),
        error_metric(
            name="mape",
            row_values=relative_error_rows,
            training_loss="mae",
            takes_zeros=False,
            incremental=RelativeErrorScorer,
        ),
        error_metric(name="smape", row_values=symmetric_error_rows, training_loss="mae"),
        error_metric(name="medae", function=medae, training_loss="mae"),
        value_metric(
            name="explained_variance",
            greater_is_better=True,
            function=explained_variance,
            incremental=ExplainedVarianceScorer,
        ),
        *QUANTILE_METRICS,
        ndcg_metric("ndcg", np.inf),
        ranked_metric(reciprocal_rank, "mrr"),
    ),
    (
        Family("fbeta", "B", fbeta_metric, is_count=False, example="2"),
        Family("top_k", "K", top_k_metric),
        Family("map", "K", map_metric),
        Family("ndcg", "K", ndcg_metric, example="10"),
    ),
)
"""Metrics by name."""
