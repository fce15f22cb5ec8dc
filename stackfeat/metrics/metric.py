"""Metrics: what a run is judged by.

In:  a metric's name ("log_loss", or "my_pkg.metrics:kappa"), the kind of task.
Out: a Metric, which scores predictions and bootstraps scores. Torch-free, cheap to import.

It also holds:

- Row bootstrap of scores: how sure a score, or a difference of two, is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stackfeat.errors import ConfigError, UsageError
from stackfeat.metrics import functions as metric_functions
from stackfeat.metrics.user_function import Needs, UserFunction, try_metric, wrap_user_function
from stackfeat.registry.resolve import check_name, is_user_code, resolve, suggest
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    pass  # own

Function = Callable[[np.ndarray, np.ndarray, Task, np.ndarray | None], float]

_CLASSES = ("binary", "multiclass")

_VALUES = ("regression",)


@dataclass(frozen=True)
class _Traits:
    needs: Needs
    greater_is_better: bool
    tasks: tuple[str, ...]
    ranking: bool = False


_TRAITS: dict[str, _Traits] = {
    "accuracy": _Traits("label", True, _CLASSES),
    "balanced_accuracy": _Traits("label", True, _CLASSES),
    "log_loss": _Traits("proba", False, _CLASSES),
    "roc_auc": _Traits("proba", True, _CLASSES, ranking=True),
    "average_precision": _Traits("proba", True, _CLASSES, ranking=True),
    "f1": _Traits("label", True, ("binary",)),
    "f1_macro": _Traits("label", True, _CLASSES),
    "mcc": _Traits("label", True, _CLASSES),
    "brier": _Traits("proba", False, _CLASSES),
    "rmse": _Traits("value", False, _VALUES),
    "rmsle": _Traits("value", False, _VALUES),
    "mae": _Traits("value", False, _VALUES),
    "r2": _Traits("value", True, _VALUES),
    "pearson": _Traits("value", True, _VALUES),
    "quadratic_weighted_kappa": _Traits("label", True, _CLASSES + _VALUES),
}

METRICS: dict[str, str] = {name: f"stackfeat.metrics.functions:{name}" for name in _TRAITS}
"""Metrics by name, and where their functions are."""

_OTHER_NAMES = {
    "auc": "roc_auc",
    "logloss": "log_loss",
    "cross_entropy": "log_loss",
    "acc": "accuracy",
    "qwk": "quadratic_weighted_kappa",
    "kappa": "quadratic_weighted_kappa",
    "mse": "rmse",
    "f1_score": "f1_macro",
    "ap": "average_precision",
    "r2_score": "r2",
}


@dataclass(frozen=True)
class Metric:
    """One metric, ready to score.

    Attributes
    ----------
    name : str
    function : callable
        ``function(y, prediction, task, weight) -> float``.
    needs : {"label", "proba", "value"}
        What the function is given: codes (regression: rounded values), probabilities, values.
    greater_is_better : bool
    tasks : tuple of str
        Kinds of task it fits.
    ranking : bool
        Whether only the order of predictions counts.
    path : str
        Where the function is.
    """

    name: str
    function: Function
    needs: Needs
    greater_is_better: bool
    tasks: tuple[str, ...]
    ranking: bool
    path: str

    def tried_on(self, y: np.ndarray, task: Task, weight: np.ndarray | None) -> list[str]:
        """Try a user's function on guesses for training rows; return what to warn of.

        Raises
        ------
        UsageError
            If it raises, or returns anything but a finite number.
        """
        if not isinstance(self.function, UserFunction):
            return []
        try_metric(self.function, y, task, weight)
        if weight is None or self.function.takes_weight:
            return []
        return [
            f"metric {self.name} takes no sample_weight: scores count all rows equally, although data.weight is "
            "set; give the function an argument sample_weight"
        ]

    def score(
        self, y: np.ndarray, prediction: np.ndarray, task: Task, weight: np.ndarray | None = None
    ) -> float:
        """Return the score of predictions.

        Parameters
        ----------
        y : array (n,)
            Int codes into ``task.classes``, or values **on the scale of the target**.
        prediction : array (n, n_classes), (n, 1) or (n,)
            Probabilities; codes where a label is needed; regression: values on the scale of the
            target, mapped back with ``task.to_target_scale`` by the caller.
        task : Task
        weight : array (n,) or None

        Raises
        ------
        UsageError
            If lengths differ, or a prediction is NaN or infinite.
        """
        y, readable = self.readable(y, prediction, task)
        return float(self.function(y, readable, task, weight))

    def loss(
        self, y: np.ndarray, prediction: np.ndarray, task: Task, weight: np.ndarray | None = None
    ) -> float:
        """Return the score with its sign turned where greater is better; lower is better."""
        return self.signed(self.score(y, prediction, task, weight))

    def signed(self, score: float) -> float:
        """Turn a score into a loss, or a loss back into a score."""
        return -score if self.greater_is_better else score

    def bootstrap(
        self,
        y: np.ndarray,
        predictions: Sequence[np.ndarray],
        task: Task,
        weight: np.ndarray | None = None,
        n_resamples: int = 200,
        seed: int = 0,
        strata: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return scores of resampled rows, the same resamples for all predictions.

        Parameters
        ----------
        predictions : sequence of arrays
            As in `score`.
        strata : int array (n,) or None
            Rows are drawn within each value, so its counts stay.

        Returns
        -------
        float64 array (n_resamples, n_predictions)
            NaN where a resample leaves the metric undefined (one class only).
        """
        # own

        return bootstrap_scores(self, y, predictions, task, weight, n_resamples, seed, strata)

    def readable(self, y: np.ndarray, prediction: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """Return y and the prediction in the form that `function` reads: codes, probabilities or values."""
        y, prediction = np.asarray(y), np.asarray(prediction)
        if len(y) != len(prediction):
            raise UsageError(
                f"y and prediction must have the same rows; got {len(y)} and {len(prediction)}. "
                "Align them by id."
            )
        if not np.isfinite(prediction).all():
            n_bad = int((~np.isfinite(prediction.reshape(len(prediction), -1)).all(axis=1)).sum())
            raise UsageError(
                f"predictions must be finite; got {n_bad} rows with NaN or infinity. "
                "Score only predicted rows."
            )
        if not task.is_classification:
            values = prediction.reshape(len(prediction)).astype(np.float64)
            return y.astype(np.float64), np.rint(values) if self.needs == "label" else values
        if self.needs == "label":
            return y, prediction.argmax(axis=1) if prediction.ndim == 2 else prediction.astype(np.int64)
        if prediction.ndim != 2 or prediction.shape[1] != task.n_outputs:
            raise UsageError(
                f"metric {self.name} needs a probability for each of {task.n_outputs} classes; "
                f"got shape={prediction.shape}. Hand over the (n_rows, n_classes) array."
            )
        return y, prediction


def metric_names(task_kind: str) -> list[str]:
    """Return the names of the metrics that fit a kind of task.

    Examples
    --------
    >>> metric_names("regression")[:2]
    ['rmse', 'rmsle']
    """
    return [name for name, traits in _TRAITS.items() if task_kind in traits.tasks]


def check_metric(
    name: str, task_kind: str, *, trust_code: bool = False, search_path: Path | None = None
) -> None:
    """Raise what `get_metric` would raise, without importing user code."""
    if name not in METRICS and ":" not in name and "." not in name:
        near = f" Did you mean {_OTHER_NAMES[name]!r}?" if name in _OTHER_NAMES else suggest(name, METRICS)
        raise ConfigError(
            f"metric must be one of {', '.join(metric_names(task_kind))} or 'package.module:function'; "
            f"got {name!r}.{near}"
        )
    check_name(name, METRICS, "metric", packages=(), trust_code=trust_code, search_path=search_path)
    if name in _TRAITS and task_kind not in _TRAITS[name].tasks:
        raise ConfigError(
            f"metric must fit task {task_kind}; got {name!r}, "
            f"which is for {' and '.join(_TRAITS[name].tasks)}. "
            f"Choose one of {', '.join(metric_names(task_kind))}."
        )


def get_metric(
    name: str, task_kind: str, *, trust_code: bool = False, search_path: Path | None = None
) -> Metric:
    """Return the metric of a name.

    Parameters
    ----------
    name : str
        A key of `METRICS`, or ``pkg.mod:function``: a function ``(y_true, y_pred) -> float`` of original
        labels (or values), which may carry ``greater_is_better`` (default True) and ``needs`` ("label",
        "proba" or "value"; default "label", regression "value") as attributes, and take ``sample_weight``.
        A binary "proba" function gets the positive column, a multiclass one the matrix.
    task_kind : {"binary", "multiclass", "regression"}
    trust_code : bool
        Whether user code may be imported.
    search_path : Path or None
        The config's folder.

    Raises
    ------
    ConfigError
        If there is no such metric, or it does not fit the task.
    TrustError
        If it is user code and `trust_code` is false.
    """
    check_metric(name, task_kind, trust_code=trust_code, search_path=search_path)
    if is_user_code(name, METRICS, packages=()):
        found = resolve(name, METRICS, "metric", packages=(), trust_code=trust_code, search_path=search_path)
        function = wrap_user_function(name, found, task_kind)
        return Metric(name, function, function.needs, function.greater_is_better, (task_kind,), False, name)
    traits, path = _TRAITS[name], METRICS[name]
    module, _, attribute = path.partition(":")
    built_in: Function = getattr(importlib.import_module(module), attribute)
    return Metric(name, built_in, traits.needs, traits.greater_is_better, traits.tasks, traits.ranking, path)


RowFunction = Callable[[np.ndarray, np.ndarray, Task], np.ndarray]

ROW_VALUES: dict[str, tuple[RowFunction, bool]] = {
    "accuracy": (metric_functions.accuracy_rows, False),
    "log_loss": (metric_functions.log_loss_rows, False),
    "brier": (metric_functions.brier_rows, False),
    "rmse": (metric_functions.squared_error_rows, True),
    "rmsle": (metric_functions.squared_log_error_rows, True),
    "mae": (metric_functions.absolute_error_rows, False),
}
"""Metrics that are a mean of one value per row, and whether its square root is taken."""


def draw_rows(
    n_rows: int, n_resamples: int, seed: int, strata: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield `n_resamples` int64 arrays of `n_rows` rows drawn with replacement (within strata)."""
    random = np.random.default_rng(seed)
    groups = None
    if strata is not None:
        groups = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    for _ in range(n_resamples):
        if groups is None:
            yield random.integers(0, n_rows, n_rows)
        else:
            yield np.concatenate([group[random.integers(0, len(group), len(group))] for group in groups])


def bootstrap_scores(
    metric: Metric,
    y: np.ndarray,
    predictions: Sequence[np.ndarray],
    task: Task,
    weight: np.ndarray | None,
    n_resamples: int,
    seed: int,
    strata: np.ndarray | None,
) -> np.ndarray:
    """See `Metric.bootstrap`."""
    pairs = [metric.readable(y, prediction, task) for prediction in predictions]
    rows = draw_rows(len(y), n_resamples, seed, strata)
    built_in = metric.path == f"stackfeat.metrics.functions:{metric.name}"
    if built_in and metric.name in ROW_VALUES:
        return _means(metric, pairs, task, weight, rows, len(y))
    if built_in and metric.name == "roc_auc":
        return _aucs(pairs, task, weight, rows, len(y))
    scores = [
        [
            _on_rows(
                metric, y_read[drawn], prediction[drawn], task, None if weight is None else weight[drawn]
            )
            for y_read, prediction in pairs
        ]
        for drawn in rows
    ]
    return np.asarray(scores, dtype=np.float64).reshape(n_resamples, len(pairs))


def _on_rows(
    metric: Metric, y: np.ndarray, prediction: np.ndarray, task: Task, weight: np.ndarray | None
) -> float:
    """Return the score of a resample; NaN where the function refuses it, which may lack a class."""
    try:
        return metric.function(y, prediction, task, weight)
    except ValueError:
        return float("nan")


def _drawn_weights(
    rows: Iterator[np.ndarray], n_rows: int, weight: np.ndarray | None
) -> Iterator[np.ndarray]:
    """Yield how much each row counts in each resample."""
    for drawn in rows:
        counts = np.bincount(drawn, minlength=n_rows).astype(np.float64)
        yield counts if weight is None else counts * weight


def _means(
    metric: Metric,
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    task: Task,
    weight: np.ndarray | None,
    rows: Iterator[np.ndarray],
    n_rows: int,
) -> np.ndarray:
    function, takes_root = ROW_VALUES[metric.name]
    values = np.stack([function(y, prediction, task) for y, prediction in pairs], axis=1)
    means = np.stack([drawn @ values / drawn.sum() for drawn in _drawn_weights(rows, n_rows, weight)])
    return np.sqrt(means) if takes_root else means


def _aucs(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    task: Task,
    weight: np.ndarray | None,
    rows: Iterator[np.ndarray],
    n_rows: int,
) -> np.ndarray:
    sorted_scores = [metric_functions.sort_by_class(y, prediction, task) for y, prediction in pairs]
    scores = [
        [metric_functions.mean_defined([one.auc(drawn) for one in classes]) for classes in sorted_scores]
        for drawn in _drawn_weights(rows, n_rows, weight)
    ]
    return np.asarray(scores, dtype=np.float64)
