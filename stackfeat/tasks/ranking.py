"""The task whose rows stand in lists, and whose prediction orders the rows of each list.

In:  relevance, and the list (the query) that each row belongs to: y has these two columns, so that whoever has the
     target of some rows knows which of them are compared with each other.
Out: scores within a list: mean 0 and spread 1, so that those of two members can be added and averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from stackfeat.structure import must
from stackfeat.tasks.rows import checked_finite, is_above_zero, of_length
from stackfeat.tasks.task import Task

RELEVANCE, LIST = 0, 1
"""Columns of y."""
MOST_RELEVANT = 31
"""Gains double with each grade of relevance; larger ones are counted by no library."""
_SAME = 1e-12
"""Values of a list that differ by less, relative to the largest, are equal but for rounding."""


class Ranking(Task):
    """Graded relevance, of which the order within each list counts."""

    family: ClassVar[Literal["classification", "regression"]] = "regression"
    output: ClassVar[Literal["proba", "prediction"]] = "prediction"
    prediction_text = "finite"
    dtype = np.float64
    fewest_classes = most_classes = 0
    is_stratified = False
    takes_positive = False
    has_lists = True
    transforms = ("none",)
    averages = ("mean",)
    losses = ("listwise", "pairwise", "mse")
    shares_unit = True
    linear_readings = ("proba", "logit")
    head_outputs = ("value",)
    needs = ("value",)
    default_metric = row_metric = "ndcg@10"
    method = "predict"
    estimator_suffix: ClassVar[Literal["Classifier", "Regressor"]] = "Regressor"
    unusable_training = ("class_weight", "label_smoothing", "mixup", "cutmix")
    pictures = ("positions",)
    reported = ("ndcg@10", "ndcg@5", "map@10", "mrr")
    has_widths = False
    has_regions = False
    region_words = ("intervals", "mean width")

    @property
    def n_outputs(self) -> int:
        return 1

    @property
    def columns(self) -> tuple[str, ...]:
        return ("prediction",)

    # The target

    @classmethod
    def target_problem(cls, y: np.ndarray) -> tuple[np.ndarray, str]:
        is_wrong = ~((y >= 0) & (y <= MOST_RELEVANT) & (y == np.round(y)))
        return is_wrong, f"relevance must be a whole number from 0 to {MOST_RELEVANT}"

    def in_lists(self, y: np.ndarray, lists: np.ndarray) -> np.ndarray:
        return np.column_stack([y, lists]).astype(np.float64)

    def lists(self, y: np.ndarray) -> np.ndarray | None:
        return np.asarray(y[:, LIST], dtype=np.int64)

    def learnt(self, y: np.ndarray) -> np.ndarray:
        return np.asarray(y[:, RELEVANCE])

    def check_y(self, y: np.ndarray, where: str) -> None:
        super().check_y(y, where)
        must(y.ndim == 2 and y.shape[1] == 2, where, "have columns of relevance and list", y.shape)

    def shuffled(self, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Return y with the relevance of each list in another order."""
        drawn, mixed = random.permutation(len(y)), y.copy()
        mixed[np.argsort(y[:, LIST], kind="stable"), RELEVANCE] = y[
            drawn[np.argsort(y[drawn, LIST], kind="stable")], RELEVANCE
        ]
        return mixed

    def spread(self, y: np.ndarray, cap: int, seed: int) -> np.ndarray:
        """Return the rows of whole lists, drawn until the next one would be too much; one list at least."""
        if len(y) <= cap:
            return np.arange(len(y))
        _, place, sizes = np.unique(y[:, LIST], return_inverse=True, return_counts=True)
        order = np.random.default_rng(seed).permutation(len(sizes))
        n_taken = max(1, int(np.searchsorted(np.cumsum(sizes[order]), cap, side="right")))
        return np.flatnonzero(np.isin(place, order[:n_taken]))

    def indicators(self, y: np.ndarray) -> np.ndarray:
        return self.learnt(y).reshape(-1, 1)

    def in_unit(self, y: np.ndarray) -> np.ndarray:
        return standardised(self.learnt(y), self.lists(y))

    # Predictions

    def within(self, prediction: np.ndarray, lists: np.ndarray | None) -> np.ndarray:
        return self.whole(standardised(self.counted(prediction), lists))

    def ranked_within(self, prediction: np.ndarray, lists: np.ndarray | None) -> np.ndarray:
        """Return the share of its list that each row stands above, ties and itself counted half; in (0, 1)."""
        place, sizes = _numbered(lists, len(prediction))
        return self.whole((average_ranks(self.counted(prediction), place) - 0.5) / sizes[place])

    def ask(self, estimator: Any, columns: Any) -> np.ndarray:
        """Return what an estimator predicts; of a classifier the mean relevance of the grades, by probability."""
        name = type(estimator).__name__
        if hasattr(estimator, "predict_proba") and hasattr(estimator, "classes_"):
            proba = checked_finite(estimator.predict_proba(columns), name)
            said = proba @ np.asarray(estimator.classes_, dtype=np.float64)
        else:
            said = checked_finite(estimator.predict(columns), name)
        return of_length(said, len(columns), 1, name)[:, :1]

    def counted(self, prediction: np.ndarray) -> np.ndarray:
        return prediction.reshape(len(prediction))

    def whole(self, given: np.ndarray) -> np.ndarray:
        return given.reshape(len(given), 1)

    def judged(self, prediction: np.ndarray, as_labels: bool) -> np.ndarray:
        return self.counted(prediction).astype(np.float64)

    def plain_decision(self, as_labels: bool) -> Literal["argmax", "round", "value"]:
        return "value"

    def row_loss(self, y: np.ndarray, prediction: np.ndarray, unit: np.ndarray | None = None) -> np.ndarray:
        """Return the squared error of each row's score, both in units of their list; 0 where all are as relevant.

        Its mean over a list is 2 (1 - r), with r the correlation of score and relevance.
        """
        lists = self.lists(y)
        truth = self.in_unit(y)
        place, sizes = _numbered(lists, len(y))
        says = np.bincount(place, weights=truth**2, minlength=len(sizes)) > 0
        said = standardised(self.counted(prediction), lists)
        return np.asarray(np.where(says[place], (said - truth) ** 2, 0.0))

    def perfect(self, y: np.ndarray) -> np.ndarray:
        return self.whole(self.in_unit(y))

    def told(self, y: np.ndarray, prediction: np.ndarray) -> dict[str, list[Any]]:
        """Return the relevance of rows, their score and the number of their list."""
        return {
            "relevance": self.learnt(y).tolist(),
            "score": self.counted(prediction).tolist(),
            "query": y[:, LIST].astype(np.int64).tolist(),
        }

    # Chance

    def constants(self, y: np.ndarray, weight: np.ndarray | None) -> list[np.ndarray]:
        """Return the score that orders nothing."""
        return [np.zeros(1)]

    def guess(self, y: np.ndarray, as_labels: bool, random: np.random.Generator) -> np.ndarray:
        return random.normal(size=len(y))

    def is_near_chance(self, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> bool:
        agreement, weights = self._agreement(y, self.counted(prediction), weight)
        return not len(agreement) or not is_above_zero(agreement, weights)

    def ordering(self, prediction: np.ndarray) -> Callable[[np.ndarray], float]:
        """Return a function from y to the mean over lists of the rank correlation with relevance."""

        def correlation(y: np.ndarray) -> float:
            agreement, _ = self._agreement(y, self.counted(prediction), None)
            return float(agreement.mean()) if len(agreement) else 0.0

        return correlation

    def _agreement(
        self, y: np.ndarray, scores: np.ndarray, weight: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return Spearman's correlation in each list whose relevance differs, and the lists' mean weights."""
        place, sizes = _numbered(self.lists(y), len(y))
        truth, said = (
            standardised(average_ranks(values, place), place) for values in (self.learnt(y), scores)
        )
        means = np.bincount(place, weights=truth * said, minlength=len(sizes)) / sizes
        weights = np.bincount(place, weights=weight, minlength=len(sizes)) / sizes
        tells = np.bincount(place, weights=truth**2, minlength=len(sizes)) > 0
        return means[tells], weights[tells]


def _numbered(lists: np.ndarray | None, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the place of each row's list among the sorted ones, and their sizes; without lists all rows are one."""
    if lists is None:
        return np.zeros(n_rows, dtype=np.int64), np.array([n_rows])
    _, place, sizes = np.unique(lists, return_inverse=True, return_counts=True)
    return place, sizes


def standardised(values: np.ndarray, lists: np.ndarray | None) -> np.ndarray:
    """Return values with mean 0 and standard deviation 1 in each list; 0 where all of a list are equal.

    Examples
    --------
    >>> standardised(np.array([1.0, 3.0, 5.0, 5.0]), np.array([0, 0, 1, 1]))
    array([-1.,  1.,  0.,  0.])
    """
    place, sizes = _numbered(lists, len(values))
    values = np.asarray(values, dtype=np.float64)
    centred = values - (np.bincount(place, weights=values) / sizes)[place]
    spread = np.sqrt(np.bincount(place, weights=centred**2) / sizes)
    largest = np.zeros(len(sizes))
    np.maximum.at(largest, place, np.abs(values))
    unit = np.where(spread > _SAME * largest, spread, np.inf)
    return np.asarray(centred / unit[place])


def average_ranks(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the rank of each value in its list, from 1; equal values share the mean of their ranks."""
    order = np.lexsort((values, place))
    ends = run_ends(place[order], values[order])
    starts = np.concatenate([[0], ends[:-1]])
    first = np.searchsorted(place[order], place[order[starts]])
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2 - first, ends - starts)
    return ranks


def run_ends(*columns: np.ndarray) -> np.ndarray:
    """Return where runs of rows that are equal in all columns end, of sorted rows; the last is their number."""
    changes = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return np.append(np.flatnonzero(changes) + 1, len(columns[0]))


def orders_any(y: np.ndarray) -> bool:
    """Return whether some list has rows of different relevance, so that there is something to rank."""
    return len(np.unique(y, axis=0)) > len(np.unique(y[:, LIST]))


def list_numbers(lists: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return numbers from 0 of lists of any names, in sorted order of these."""
    return np.unique(np.asarray(lists), return_inverse=True)[1].astype(np.int64)
