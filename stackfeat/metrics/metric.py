"""A metric and all that is known of it: what a run is judged by.

In:  true values and predictions on the scale of the target, row weights.
Out: a score, scores of resampled rows, or a scorer of growing averages. Nobody else asks which metric it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import ClassVar, Literal

import numpy as np

from stackfeat.errors import UsageError
from stackfeat.metrics.incremental_scores import IncrementalScorer, LossOf
from stackfeat.metrics.incremental_targets import MeanOverTargetsScorer
from stackfeat.tasks.task import Task

Weight = np.ndarray | None
Needs = Literal["label", "proba", "value"]
Function = Callable[[np.ndarray, np.ndarray, Task, Weight], float]
RowFunction = Callable[[np.ndarray, np.ndarray, Task], np.ndarray]
Reweighted = Callable[[np.ndarray, np.ndarray, Task], Callable[[np.ndarray], float]]
MakeScorer = Callable[[Sequence[np.ndarray], np.ndarray, Task, Weight, LossOf], IncrementalScorer]

SEARCH_ROWS = 10_000
"""Rows used where every candidate of a growing average must be scored from scratch."""

SEARCH_CELLS = 50_000
"""Rows times classes used where the probabilities of more than one class are sorted or scored from scratch."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric, ready to score. Only the first five facts and one of the three functions must be given.

    Attributes
    ----------
    name : str
    needs : {"label", "proba", "value"}
        What the functions are given as prediction: int codes (regression: rounded values), probabilities
        (n, n_classes), or the values (n, 1) where there are no classes, float values (n,), of
        quantiles (n, n_levels), on the scale of the target. Of classes y are int codes (n,).
    greater_is_better : bool
    tasks : tuple of str
        Kinds of task it fits.
    function : callable, optional
        ``function(y, prediction, task, weight) -> float``. NaN where it is undefined (one class only).
    row_values : callable, optional
        In the place of `function`, where the metric is the weighted mean of a value of each row:
        ``row_values(y, prediction, task) -> array (n,)``. The bootstrap is then many times faster.
    root : bool
        Whether the square root of that mean is taken.
    reweighted : callable, optional
        In the place of `function`, where rows can be prepared once (sorted) for a fast bootstrap:
        ``reweighted(y, prediction, task)`` gives a function of row weights that gives the score.
    ranking : bool
        Whether only the order of predictions counts.
    decision : {"plain", "fitted", "ordinal"}
        How predictions best become labels: the most probable class (the rounded value); by a threshold or
        offsets of classes that are fitted; by cuts, because neighbouring labels are nearly right.
    target_transform : {"none", "log1p"}
        What members learn the logarithm of, if `data.target_transform` is auto; "log1p" needs targets of at least 0.
    training_loss : str or None
        The loss nets are trained with, where it is not the usual one of the task.
    over_targets : {"mean", "whole"}
        Of several targets: the score is the mean of theirs, those left out that have none (one class only); or the
        functions are given all of them, y and predictions of shape (n, n_targets).
    convex_error : {"log", "squared_proba", "squared", "absolute", "tilted_absolute"} or None
        The error, convex in the weights of an average, that the metric is a monotone function of: its vote
        weights are solved, not searched.
    takes_zeros : bool
        Whether it is defined for targets of 0.
    levels_problem : callable, optional
        Of quantiles: says of their levels what keeps it from being computed, or nothing.
    is_optimised : bool
        Whether a run may be judged by it; otherwise it is reported beside others alone.
    incremental : callable, optional
        An `IncrementalScorer` of its own: ``incremental(predictions, y, task, weight, loss)``, which gives the picks
        of the plain one with less work.
    n_best : int or None
        How many labels of each row it reads, the most probable ones first, where it reads no more.
    variants : mapping of str to Metric
        The metrics that have this name for kinds of task where it is another one.
    """

    name: str
    needs: Needs
    greater_is_better: bool
    tasks: tuple[str, ...]
    function: Function | None = None
    row_values: RowFunction | None = None
    root: bool = False
    reweighted: Reweighted | None = None
    ranking: bool = False
    decision: Literal["plain", "fitted", "ordinal"] = "plain"
    target_transform: Literal["none", "log1p"] = "none"
    training_loss: Literal["mse", "mae", "huber", "pinball"] | None = None
    over_targets: Literal["mean", "whole"] = "mean"
    convex_error: Literal["log", "squared_proba", "squared", "absolute", "tilted_absolute"] | None = None
    takes_zeros: bool = True
    levels_problem: Callable[[Sequence[float]], str | None] | None = None
    is_optimised: bool = True
    incremental: MakeScorer | None = None
    n_best: int | None = None
    variants: Mapping[str, Metric] = field(default_factory=dict)

    remedy: ClassVar[str] = "it is not defined for these rows (one class, equal values): use another metric"
    """What to do where it gives no number."""

    def of(self, task_kind: str) -> Metric:
        """Return the metric that has this name for a kind of task."""
        return self.variants.get(task_kind, self)

    def tried_on(self, y: np.ndarray, task: Task, weight: Weight) -> list[str]:
        """Try the metric on guesses for training rows; return what to warn of: of built-in ones nothing.

        Raises
        ------
        UsageError
            If it raises, or returns anything but a finite number.
        """
        return []

    def score(self, y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
        """Return the score of predictions.

        Parameters
        ----------
        y : array (n,), or (n, n_targets)
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
        return self._score_readable(*self._readable(y, prediction, task), task, weight)

    def loss(self, y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight = None) -> float:
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
        weight: Weight = None,
        n_resamples: int = 200,
        seed: int = 0,
        strata: np.ndarray | None = None,
        clusters: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return scores of resampled rows, the same resamples for all predictions.

        Parameters
        ----------
        predictions : sequence of arrays
            As in `score`.
        strata : int array (n,) or None
            Rows are drawn within each value, so its counts stay.
        clusters : array (n,) or None
            Whole clusters are drawn in the place of rows (a cluster bootstrap): rows of one are not independent.
            Where rows stand in lists, these are clusters.

        Returns
        -------
        float64 array (n_resamples, n_predictions)
            NaN where a resample leaves the metric undefined (one class only).
        """
        pairs = [self._readable(y, prediction, task) for prediction in predictions]
        clusters = task.lists(y) if clusters is None else clusters
        if self._is_mean(task):
            parts = [list(self._by_target(*pair, task)) for pair in pairs]
            drawn = (n_resamples, seed, strata, clusters)
            each = [
                self.bootstrap(
                    of_target[0][1], [said for _, _, said in of_target], of_target[0][0], weight, *drawn
                )
                for of_target in zip(*parts, strict=True)
            ]
            return mean_known(np.stack(each))
        weights = drawn_weights(len(y), n_resamples, seed, strata, clusters, weight)
        if self.row_values is not None:
            values = np.stack([self.row_values(*pair, task) for pair in pairs], axis=1)
            means = np.stack([drawn @ values / drawn.sum() for drawn in weights])
            return np.sqrt(means) if self.root else means
        if self.reweighted is not None:
            scorers = [self.reweighted(*pair, task) for pair in pairs]
            scores = [[scorer(drawn) for scorer in scorers] for drawn in weights]
        else:
            rows = draw_rows(len(y), n_resamples, seed, strata, clusters)
            scores = [[self._score_drawn(*pair, task, weight, drawn) for pair in pairs] for drawn in rows]
        return np.asarray(scores, dtype=np.float64).reshape(n_resamples, len(pairs))

    def is_on_members_scale(self, task: Task, predictions: Sequence[np.ndarray]) -> bool:
        """Whether it judges the very values that members give, not what they are mapped back to."""
        # A value below 0 is clipped when it is mapped back from its logarithm.
        is_clipped = task.transform == "log1p" and any(one.min() < 0 for one in predictions)
        return self.target_transform == task.transform and not is_clipped

    def incremental_scorer(
        self, predictions: Sequence[np.ndarray], y: np.ndarray, task: Task, weight: Weight, seed: int
    ) -> IncrementalScorer:
        """Return a scorer of growing averages: the metric's own, or the plain one on at most SEARCH_ROWS rows.

        Areas under curves of more than one class are worked out of at most SEARCH_CELLS cells.

        Parameters
        ----------
        predictions : sequence of float arrays (n, n_classes) or (n, 1)
        y : array (n,)
            Like the predictions on the members' scale.
        seed : int
            Draws the rows.
        """
        is_own = self.incremental is not None and self.is_on_members_scale(task, predictions)
        # Of label sets each label's probabilities would have to be copied.
        is_own = is_own and (self.needs == "value" or not self._is_mean(task))
        make: MakeScorer = self.incremental if self.incremental is not None and is_own else IncrementalScorer
        if is_own and self._is_mean(task):
            make = partial(MeanOverTargetsScorer, make=make, root=self.root)
        rows = np.arange(len(y))
        if not is_own or (self.ranking and len(task.counted_classes) > 1):
            n_columns = predictions[0].shape[1] if self.needs == "proba" or task.n_targets > 1 else 1
            rows = task.spread(y, max(2_000, min(SEARCH_ROWS, SEARCH_CELLS // n_columns)), seed)
        if len(rows) < len(y):
            predictions, y = [one[rows] for one in predictions], y[rows]
            weight = None if weight is None else weight[rows]
        return make(predictions, y, task, weight, self.loss)

    def _is_mean(self, task: Task) -> bool:
        return self.over_targets == "mean" and len(task.parts) > 1

    def _by_target(
        self, y: np.ndarray, prediction: np.ndarray, task: Task
    ) -> Iterator[tuple[Task, np.ndarray, np.ndarray]]:
        """Yield each target's task, true values and predictions, in the form that the functions read."""
        for place, part in enumerate(task.parts):
            said = (
                task.part_of_prediction(prediction, place) if self.needs == "proba" else prediction[:, place]
            )
            yield part, task.part_of_y(y, place), said

    def _score_readable(self, y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight) -> float:
        if self._is_mean(task):
            parts = self._by_target(y, prediction, task)
            scores = [self._score_readable(own, said, part, weight) for part, own, said in parts]
            return float(mean_known(np.asarray(scores)))
        if self.row_values is not None:
            mean = weighted_mean(self.row_values(y, prediction, task), weight)
            return float(np.sqrt(mean)) if self.root else mean
        if self.reweighted is not None:
            rows = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
            return float(self.reweighted(y, prediction, task)(rows))
        assert self.function is not None, f"metric {self.name} has no function"
        return float(self.function(y, prediction, task, weight))

    def _score_drawn(
        self, y: np.ndarray, prediction: np.ndarray, task: Task, weight: Weight, drawn: np.ndarray
    ) -> float:
        """Return the score of a resample; NaN where the function refuses it, which may lack a class."""
        try:
            return self._score_readable(
                y[drawn], prediction[drawn], task, None if weight is None else weight[drawn]
            )
        except ValueError:
            return float("nan")

    def _readable(self, y: np.ndarray, prediction: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """Return y and the prediction in the form that the functions read: codes, probabilities or values."""
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
        if self.needs == "proba":
            if prediction.ndim == 1 and task.n_outputs == 1:
                prediction = task.whole(prediction)
            if prediction.ndim != 2 or prediction.shape[1] != task.n_outputs:
                raise UsageError(
                    f"metric {self.name} needs a probability for each of {task.n_outputs} classes; "
                    f"got shape={prediction.shape}. Hand over the (n_rows, n_classes) array."
                )
            return y, prediction
        return task.as_y(y), task.judged(prediction, self.needs == "label")


def weighted_mean(values: np.ndarray, weight: Weight) -> float:
    """Return the mean; NaN of no rows."""
    return float(np.average(values, weights=weight)) if len(values) else float("nan")


def mean_known(scores: np.ndarray) -> np.ndarray:
    """Return means over the first axis, of the numbers alone; NaN where there is none."""
    known = np.isfinite(scores)
    n_known = known.sum(axis=0)
    return np.where(n_known > 0, np.where(known, scores, 0.0).sum(axis=0) / np.maximum(n_known, 1), np.nan)


def draw_rows(
    n_rows: int,
    n_resamples: int,
    seed: int,
    strata: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Yield int64 arrays of rows drawn with replacement: `n_rows` of them (within strata), or whole clusters."""
    random = np.random.default_rng(seed)
    if clusters is not None:
        yield from _draw_clusters(clusters, n_resamples, random)
        return
    groups = [np.arange(n_rows)]
    if strata is not None:
        groups = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    for _ in range(n_resamples):
        yield np.concatenate([group[random.integers(0, len(group), len(group))] for group in groups])


def _draw_clusters(
    clusters: np.ndarray, n_resamples: int, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the rows of as many clusters as there are, drawn with replacement."""
    sizes = np.unique_counts(clusters).counts
    rows = np.argsort(clusters, kind="stable")
    starts = np.cumsum(sizes) - sizes
    for _ in range(n_resamples):
        drawn = random.integers(0, len(sizes), len(sizes))
        lengths = sizes[drawn]
        # Where each drawn cluster starts among the sorted rows, less where it starts in the result.
        shift = starts[drawn] - (np.cumsum(lengths) - lengths)
        yield rows[np.arange(lengths.sum()) + np.repeat(shift, lengths)]


MOST_KEPT = 2**26
"""Counts of drawn rows, of a byte each, that are kept from one member to the next."""


def drawn_weights(
    n_rows: int,
    n_resamples: int,
    seed: int,
    strata: np.ndarray | None,
    clusters: np.ndarray | None,
    weight: Weight,
) -> Iterator[np.ndarray]:
    """Yield how much each row counts in each resample of `draw_rows`."""
    counts: Iterable[np.ndarray]
    if strata is None and clusters is None and n_rows * n_resamples <= MOST_KEPT:
        counts = _kept_counts(n_rows, n_resamples, seed)
    else:
        rows = draw_rows(n_rows, n_resamples, seed, strata, clusters)
        counts = (np.bincount(drawn, minlength=n_rows) for drawn in rows)
    for drawn in counts:
        yield drawn.astype(np.float64) if weight is None else drawn * weight


@lru_cache(maxsize=1)
def _kept_counts(n_rows: int, n_resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    found = (np.bincount(drawn, minlength=n_rows) for drawn in draw_rows(n_rows, n_resamples, seed))
    return tuple(drawn.astype(np.min_scalar_type(int(drawn.max(initial=0)))) for drawn in found)
