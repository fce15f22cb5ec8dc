"""Votes: several predictions of the same rows become one.

In:  a list of predictions, each (n, n_classes) probabilities or (n, 1) values on the members' scale.
Out: one prediction of the same shape. A fitted vote is a small value with `combine` and a JSON form;
weighted and greedy votes are soft votes with fitted weights.

It also holds:

- RankVote: average ranks instead of values, for members whose scales do not agree.
- Averaging: the predictions of K fold pipelines become one, at the very end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata

from stackfeat.errors import UsageError
from stackfeat.structure import must, structured
from stackfeat.tasks.task import Task

MAX_POINTS = 10_001
"""Points kept of a distribution."""

Curve = tuple[tuple[float, ...], tuple[float, ...]]
"""A monotone function through points (x, y), x strictly increasing."""


@dataclass(frozen=True)
class RankVote:
    """Mean of ranks, on the scale of a prediction.

    Binary: the mean rank r in (0, 1) of the positive column, as ``[1 - r, r]``: good for ranking metrics,
    not a calibrated probability. Regression: the mean rank goes through the monotone map that gives
    the out-of-fold rows the distribution of the plain mean of inputs.

    Attributes
    ----------
    ranks : tuple of curves
        Value to rank, one for each input.
    values : curve or None
        Regression: mean rank to value.
    positive : int or None
        Binary: the positive column.
    """

    ranks: tuple[Curve, ...]
    values: Curve | None
    positive: int | None

    @classmethod
    def fit(cls, inputs: Sequence[np.ndarray], task: Task) -> RankVote:
        """Learn the distribution of every input.

        Parameters
        ----------
        inputs : sequence of float arrays (n, 2) or (n, 1)
        task : Task

        Raises
        ------
        UsageError
            If the task is multiclass: ranks of classes cannot be compared.
        """
        if task.kind == "multiclass":
            raise UsageError("rank vote needs a binary or regression task; got multiclass. Use vote: soft.")
        positive = task.positive if task.kind == "binary" else None
        columns = [_column(values, positive) for values in inputs]
        ranks = tuple(_rank_curve(column, is_proba=positive is not None) for column in columns)
        if positive is not None:
            return cls(ranks, None, positive)
        mean_rank = np.sort(_mean_rank(columns, ranks))
        mean_value = np.sort(np.mean(columns, axis=0))
        return cls(ranks, _curve(_thin(mean_rank), _thin(mean_value)), None)

    def subset(self, places: Sequence[int]) -> RankVote:
        """Return the vote of some of its inputs; each keeps the distribution learnt."""
        return replace(self, ranks=tuple(self.ranks[place] for place in places))

    def combine(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Return the vote, float64 (n, 2) or (n, 1)."""
        if len(inputs) != len(self.ranks):
            raise UsageError(f"rank vote was fitted on {len(self.ranks)} inputs; got {len(inputs)}.")
        mean_rank = _mean_rank([_column(values, self.positive) for values in inputs], self.ranks)
        if self.values is not None:
            return np.asarray(np.interp(mean_rank, *self.values))[:, None]
        proba = np.empty((len(mean_rank), 2))
        proba[:, self.positive or 0] = mean_rank
        proba[:, 1 - (self.positive or 0)] = 1.0 - mean_rank
        return proba

    def to_json(self) -> dict[str, Any]:
        return {"vote": "rank", **asdict(self)}

    @classmethod
    def from_json(cls, values: object, where: str = "rank vote") -> RankVote:
        """Return the vote that `to_json` described; StructureError if it is not made so."""
        own = (
            {name: part for name, part in values.items() if name != "vote"}
            if isinstance(values, dict)
            else values
        )
        vote = structured(cls, own, where)
        must(vote.positive in (None, 0, 1), f"{where}.positive", "be 0, 1 or null", vote.positive)
        for x, y in (*vote.ranks, *([] if vote.values is None else [vote.values])):
            must(len(x) == len(y) > 0, where, "have curves of as many x as y", (len(x), len(y)))
        return vote


def _column(values: np.ndarray, positive: int | None) -> np.ndarray:
    column: np.ndarray = values[:, 0 if positive is None else positive]
    return column.astype(np.float64)


def _mean_rank(columns: Sequence[np.ndarray], ranks: Sequence[Curve]) -> np.ndarray:
    total = np.zeros(len(columns[0]))
    for column, (x, y) in zip(columns, ranks, strict=True):
        total += np.interp(column, x, y)
    mean: np.ndarray = total / len(ranks)
    return mean


def _rank_curve(column: np.ndarray, is_proba: bool) -> Curve:
    """Mid-ranks in (0, 1) of the values; probabilities beyond the ones seen still differ in rank."""
    ordered = np.sort(column)
    x, y = _curve(_thin(ordered), _thin((np.arange(len(ordered)) + 0.5) / len(ordered)))
    if is_proba and x[0] > 0.0:
        x, y = (0.0, *x), (0.0, *y)
    if is_proba and x[-1] < 1.0:
        x, y = (*x, 1.0), (*y, 1.0)
    return x, y


def _thin(ordered: np.ndarray) -> np.ndarray:
    """Keep at most MAX_POINTS of sorted values, evenly by position, both ends included."""
    if len(ordered) <= MAX_POINTS:
        return ordered
    kept: np.ndarray = ordered[np.linspace(0, len(ordered) - 1, MAX_POINTS).round().astype(np.int64)]
    return kept


def _curve(x: np.ndarray, y: np.ndarray) -> Curve:
    """Join points of equal x at their mean y."""
    unique, place = np.unique(x, return_inverse=True)
    means = np.bincount(place, weights=y) / np.bincount(place)
    return tuple(unique.tolist()), tuple(means.tolist())


Tie = Literal["soft", "prior", "lowest"]

SAME_SHARE = 1e-9
"""Vote shares nearer than this are a tie (weights are floats)."""

TIE_BONUS = 1e-6
"""Share added to the winner of a tie; large enough to survive float32 and a csv file."""


class Vote(Protocol):
    """What every fitted vote can do."""

    def combine(self, inputs: Sequence[np.ndarray]) -> np.ndarray: ...

    def to_json(self) -> dict[str, Any]: ...


def soft_vote(predictions: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Return the weighted mean of predictions.

    Parameters
    ----------
    predictions : sequence of float arrays (n, k)
    weights : sequence of float or None
        One for each prediction, at least 0; only their ratios count.

    Returns
    -------
    float64 array (n, k)

    Raises
    ------
    UsageError
        If shapes differ or the weights do not fit.

    Examples
    --------
    >>> soft_vote([np.array([[0.2, 0.8]]), np.array([[0.4, 0.6]])], weights=[3, 1])
    array([[0.25, 0.75]])
    """
    shares = vote_weights(predictions, weights)
    total = np.zeros(predictions[0].shape)
    for prediction, share in zip(predictions, shares, strict=True):
        if share > 0:
            total += share * prediction
    return total


def hard_vote(
    predictions: Sequence[np.ndarray],
    weights: Sequence[float] | None = None,
    tie: Tie = "soft",
    priors: Sequence[float] | None = None,
    smooth: float = 0.0,
) -> np.ndarray:
    """Return vote shares whose argmax is the winner, ties broken.

    Parameters
    ----------
    predictions : sequence of float arrays (n, n_classes)
        Each votes for its most probable class (the lowest of equals).
    weights : sequence of float or None
    tie : {"soft", "prior", "lowest"}
        Among classes with equal votes wins the one with the greatest mean probability, the greatest
        prior, or the lowest code. The lowest code decides what is still equal.
    priors : sequence of float (n_classes,) or None
        From `class_totals` of the training rows, or their shares; needed for "prior".
    smooth : float
        Votes added to every class, as if by that many more members, for metrics of probabilities.

    Returns
    -------
    float64 array (n, n_classes)
        Rows sum to 1. The winner of a tie stands a millionth above the others.

    Raises
    ------
    UsageError
        If predictions are no class probabilities, weights do not fit, or priors are missing.
    """
    shares = vote_weights(predictions, weights)
    n_classes = predictions[0].shape[1]
    if n_classes < 2:
        raise UsageError(
            "hard vote needs class probabilities; got one column. Use vote: soft for regression."
        )
    votes = count_votes([prediction.argmax(axis=1) for prediction in predictions], shares, n_classes)
    winner, tied = break_ties(votes, tie, predictions, shares.tolist(), priors)
    votes += smooth / len(predictions)
    votes /= votes.sum(axis=1, keepdims=True)
    votes[tied, winner[tied]] += TIE_BONUS
    votes /= votes.sum(axis=1, keepdims=True)
    return votes


def class_totals(y: np.ndarray, n_classes: int, weight: np.ndarray | None) -> np.ndarray:
    """Return the sum of the weights of each class's rows (without weights their number), float64 (n_classes,)."""
    return np.bincount(y, weights=weight, minlength=n_classes).astype(np.float64)


def count_votes(codes: Sequence[np.ndarray], shares: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the share of the vote of each class, (n_rows, n_classes).

    Parameters
    ----------
    codes : sequence of int arrays (n_rows,)
        The class that each input votes for.
    shares : float array (n_inputs,)
        From `vote_shares`.
    """
    votes: np.ndarray = np.zeros((len(codes[0]), n_classes))
    for chosen, share in zip(codes, shares, strict=True):
        votes[np.arange(len(votes)), chosen] += share
    return votes


def break_ties(
    votes: np.ndarray,
    tie: Tie,
    predictions: Sequence[np.ndarray],
    weights: Sequence[float] | None,
    priors: Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the winner of every row, and which rows had a tie.

    Parameters
    ----------
    votes : float array (n_rows, n_classes)
        From `count_votes`.
    tie, priors
        As in `hard_vote`.
    predictions, weights
        As in `hard_vote`; read where `tie` is "soft".

    Returns
    -------
    winner : int array (n_rows,)
    tied : bool array (n_rows,)
    """
    is_best = votes >= votes.max(axis=1, keepdims=True) - SAME_SHARE
    tied = is_best.sum(axis=1) > 1
    if tie == "prior":
        if priors is None or len(priors) != votes.shape[1]:
            raise UsageError(f"tie 'prior' needs {votes.shape[1]} priors; got priors={priors}.")
        preference = np.broadcast_to(np.asarray(priors, dtype=np.float64), votes.shape)
    elif tie == "soft":
        preference = soft_vote(predictions, weights)
    else:
        preference = np.zeros(votes.shape)
    winner: np.ndarray = np.where(is_best, preference, -np.inf).argmax(axis=1)
    return winner, tied


def vote_weights(predictions: Sequence[np.ndarray], weights: Sequence[float] | None) -> np.ndarray:
    """Check predictions and weights; return the weights, summing to 1.

    Raises
    ------
    UsageError
        If there is no prediction, shapes differ, or weights do not fit.
    """
    if not predictions:
        raise UsageError("a vote needs at least one prediction; got none.")
    shapes = {prediction.shape for prediction in predictions}
    if len(shapes) > 1 or predictions[0].ndim != 2:
        raise UsageError(f"predictions must have one shape (n_rows, n_columns); got {sorted(shapes)}.")
    return vote_shares(len(predictions), weights)


def vote_shares(n_inputs: int, weights: Sequence[float] | None) -> np.ndarray:
    """Check weights; return those of the inputs, summing to 1.

    Raises
    ------
    UsageError
        If the weights do not fit.
    """
    if weights is None:
        return np.full(n_inputs, 1.0 / n_inputs)
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (n_inputs,):
        raise UsageError(
            f"weights must be equal in number to the inputs; got {len(values)} weights, {n_inputs} inputs."
        )
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise UsageError(f"weights must be at least 0 with one above 0; got weights={values.tolist()}.")
    normalised: np.ndarray = values / values.sum()
    return normalised


@dataclass(frozen=True)
class SoftVote:
    """The weighted mean; without weights all inputs count the same."""

    weights: tuple[float, ...] | None = None

    def combine(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        return soft_vote(inputs, self.weights)

    def to_json(self) -> dict[str, Any]:
        return {"vote": "soft", **asdict(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SoftVote:
        return cls(_as_tuple(values["weights"]))


@dataclass(frozen=True)
class HardVote:
    """Vote shares; parameters as in `hard_vote`."""

    weights: tuple[float, ...] | None = None
    tie: Tie = "soft"
    priors: tuple[float, ...] | None = None
    smooth: float = 0.0

    def combine(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        return hard_vote(inputs, self.weights, self.tie, self.priors, self.smooth)

    def to_json(self) -> dict[str, Any]:
        return {"vote": "hard", **asdict(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> HardVote:
        return cls(_as_tuple(values["weights"]), values["tie"], _as_tuple(values["priors"]), values["smooth"])


def vote_from_json(values: dict[str, Any]) -> Vote:
    """Return the fitted vote that wrote `values` with its `to_json`."""
    kinds: dict[str, type[SoftVote] | type[HardVote] | type[RankVote]] = {
        "soft": SoftVote,
        "hard": HardVote,
        "rank": RankVote,
    }
    return kinds[values["vote"]].from_json(values)


def _as_tuple(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)


_CLIP = 1e-12


def average_views(views: Sequence[np.ndarray], task: Task, average: str) -> np.ndarray:
    """Average pipelines.

    Parameters
    ----------
    views : sequence of ndarray of shape (n_rows, n_outputs)
    average : {"mean", "logit", "rank"}
        ``logit`` (classes) averages centred log-probabilities: the normalised geometric mean.
        ``rank`` puts every pipeline on one scale by the order of these rows. Binary: the mean rank
        stands for the probability. Regression: the mean rank goes through the mean of the pipelines'
        quantiles, back to a value.

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
        float64.
    """
    if average == "rank" and not task.is_classification:
        mean_rank = np.mean([_ranks(view[:, 0]) for view in views], axis=0)
        quantiles = np.mean([np.sort(view[:, 0]) for view in views], axis=0)
        return _at_ranks(mean_rank, quantiles)[:, None]
    if average == "rank":
        views = [to_ranks(view, task) for view in views]
    if average == "logit" and task.is_classification:
        logs = np.mean([np.log(np.clip(view, _CLIP, 1.0)) for view in views], axis=0)
        return np.asarray(softmax(logs, axis=1))
    return np.asarray(np.mean(np.stack(views), axis=0))


def to_ranks(prediction: np.ndarray, task: Task) -> np.ndarray:
    """Replace a binary prediction by the share of rows it stands above, between 0 and 1."""
    positive = _ranks(prediction[:, task.positive])
    columns = np.empty_like(prediction)
    columns[:, task.positive] = positive
    columns[:, 1 - task.positive] = 1 - positive
    return columns


def rank_within_folds(oof: np.ndarray, fold_of: np.ndarray, task: Task) -> np.ndarray:
    """Rank OOF rows within the fold whose pipeline made them; uncovered rows stay NaN.

    In regression a rank becomes the value that has it among all OOF rows, so every fold gets
    one distribution.
    """
    ranked = np.array(oof, copy=True)
    pooled = np.sort(oof[np.isfinite(oof).all(axis=1), 0])
    for fold in np.unique(fold_of[fold_of >= 0]):
        rows = np.flatnonzero((fold_of == fold) & np.isfinite(oof).all(axis=1))
        if not len(rows):
            continue
        if task.is_classification:
            ranked[rows] = to_ranks(oof[rows], task)
        else:
            ranked[rows, 0] = _at_ranks(_ranks(oof[rows, 0]), pooled)
    return ranked


def _ranks(values: np.ndarray) -> np.ndarray:
    """Share of the rows that each value stands above, ties and itself counted half; between 0 and 1."""
    return np.asarray((rankdata(values) - 0.5) / len(values))


def _at_ranks(ranks: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Values of a distribution (its sorted values) at ranks."""
    return np.asarray(np.interp(ranks, (np.arange(len(ordered)) + 0.5) / len(ordered), ordered))
