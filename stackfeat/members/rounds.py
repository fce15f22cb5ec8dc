"""Rounds of boosting: found by stopping early on inner splits, for one fit on all rows and for every seed.

In:  how to make an estimator, its columns, targets and row weights; inner splits of these rows.
Out: `Rounds`: the params of the fit on all rows, and how they were found.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.utils.validation import has_fit_parameter

from stackfeat.data.prepare.weights import mean_one
from stackfeat.errors import DataError, MemberError
from stackfeat.members.boosters import Booster, booster_of
from stackfeat.members.protocol import FitContext
from stackfeat.members.settings import EstimatorSettings
from stackfeat.meta.columns import take_rows
from stackfeat.meta.estimator_io import as_taken, fit_keywords, is_catboost
from stackfeat.meta.rankers import fit_ranker, is_ranker, validation_of_ranker
from stackfeat.tasks.ranking import orders_any

logger = logging.getLogger(__name__)

MOST_ROUNDS = 5_000
"""Rounds of a search that nothing stops."""

PATIENCE = 2.5
"""A search stops after rounds without a lower loss whose learning rates add up to this: 50 at `RATE`."""

LEAST_PATIENCE, MOST_PATIENCE = 20, 500

FEW_ROWS = 2_000
"""Below so many rows, or lists of a ranking, one inner split says little: the median of `N_SPLITS` counts."""

N_SPLITS = 3

RATE = 0.05
"""The learning rate where none is given."""

MOST_POINTS = 200
"""Of the loss by round: as many as a picture shows."""

Parts = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Rounds:
    """How many rounds a booster is fitted for on all rows.

    Attributes
    ----------
    params : mapping
        With which it is fitted on all rows; empty where nothing was found.
    found : tuple of int
        Rounds by each inner split.
    most : int or None
        At most so many were tried; None for the library's own number, where it does not say it.
    why_not : str
        Why nothing was found.
    curves : tuple of mapping
        What each inner split said of the rounds that were tried, as `validation_curve` gives it.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    found: tuple[int, ...] = ()
    most: int | None = MOST_ROUNDS
    why_not: str = ""
    curves: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, probes: Sequence[Any], most: int | None, name: str, params: Mapping[str, Any]) -> Rounds:
        """Return the median of what fits of the splits say."""
        found = tuple(map(best_rounds, probes))
        curves = tuple(curve for one in probes if (curve := validation_curve(one)))
        return cls({**params, name: int(np.median(found))}, found, most, curves=curves)

    def report(self) -> dict[str, Any]:
        if self.why_not:
            return {"why_not": self.why_not}
        return {"params": dict(self.params), "splits": list(self.found), "most": self.most}

    def __str__(self) -> str:
        if self.why_not:
            return f"rounds are the library's own number: {self.why_not}"
        splits = f"; median of {', '.join(map(str, self.found))}" if len(self.found) > 1 else ""
        most = "the library's own number" if self.most is None else f"{self.most:,}"
        return f"rounds {int(np.median(self.found)):,} (of at most {most}{splits})"


def find_rounds(
    make: Callable[[], Any],
    path: str,
    params: Mapping[str, Any],
    columns: Any,
    context: FitContext[EstimatorSettings],
    fraction: float,
) -> Rounds:
    """Find how many rounds suit rows that were not boosted on.

    Early stopping that `params` ask for takes place on one inner split, as they say. A booster that leaves its rounds
    open gets `RATE`, where no rate is given, and stops under its own loss, absolute error where the metric is one, or
    as a ranker under the NDCG of whole lists; below `FEW_ROWS` rows, or lists, the median of `N_SPLITS` inner splits
    counts.

    Parameters
    ----------
    make : callable
        Returns a new, unfitted estimator with `params`.
    path : str
        Of its class.
    params : mapping
    columns : array or DataFrame of n rows
        All that the fit may look at; the rows of `context`.
    context : FitContext
    fraction : float
        Share of validation rows.

    Raises
    ------
    MemberError
        If `params` ask for early stopping of an estimator that does not tell its best round.
    DataError
        If they do, and the rows cannot be divided. Where rounds are left open, this is logged, and the library's
        own number stays.
    """
    booster = booster_of(path)
    if booster is None or not booster.leaves_open(params):
        rounds = _as_asked(make, booster, params, columns, context, context.inner(fraction))
    else:
        rounds = _searched(make, booster, params, columns, context, fraction)
    logger.info("%s", rounds)
    return rounds


def _as_asked(
    make: Callable[[], Any],
    booster: Booster | None,
    params: Mapping[str, Any],
    columns: Any,
    context: FitContext[EstimatorSettings],
    parts: Parts,
) -> Rounds:
    probe = make()
    # A class of the user's own has one of two names; of a library's, another may be given.
    known = probe.get_params() if booster is None else params
    names = ("n_estimators", "iterations") if booster is None else booster.rounds
    name = next((name for name in names if name in known), names[0])
    most = probe.get_params().get(name)
    _fit(probe, columns, context, parts)
    kept: dict[str, Any] = {"early_stopping_rounds": None}
    if is_catboost(probe) and booster and not any(name in params for name in booster.rate):
        # It follows from the number of rounds, which is another one on all rows.
        kept["learning_rate"] = float(probe.learning_rate_)
    return Rounds.of([probe], most, name, kept)


def _searched(
    make: Callable[[], Any],
    booster: Booster,
    params: Mapping[str, Any],
    columns: Any,
    context: FitContext[EstimatorSettings],
    fraction: float,
) -> Rounds:
    try:
        splits = usable_splits(context, fraction)
    except DataError as error:
        return Rounds(why_not=str(error))
    if not splits:
        return Rounds(
            why_not="no inner split leaves rows of every class to fit on, weights above 0, and lists to order"
        )
    given = next((params[name] for name in booster.rate if name in params), None)
    kept = {} if given is not None else {booster.rate[0]: RATE}
    stops = {booster.rounds[0]: MOST_ROUNDS, booster.patience: patience(given or RATE), **booster.searching}
    stops |= booster.judge(params, context.settings.loss)
    probes = []
    for parts in splits:
        probe = make().set_params(**kept, **stops)
        _fit(probe, columns, context, parts)
        probes.append(probe)
    return Rounds.of(probes, MOST_ROUNDS, booster.rounds[0], {**kept, **booster.found})


def patience(rate: float) -> int:
    """Return after how many rounds without a lower loss a search stops.

    Examples
    --------
    >>> [patience(rate) for rate in (1.0, 0.1, 0.05, 0.02, 0.001)]
    [20, 25, 50, 125, 500]
    """
    return int(np.clip(round(PATIENCE / rate), LEAST_PATIENCE, MOST_PATIENCE))


def usable_splits(context: FitContext[EstimatorSettings], fraction: float) -> list[Parts]:
    """Return one inner split, or several different ones where rows are few, which a search can use.

    Raises
    ------
    DataError
        If the rows cannot be divided.
    """
    y, weight = context.y, context.weight
    lists = context.task.lists(y)
    n_units = len(y) if lists is None else len(np.unique(lists))
    drawn: list[Parts] = []
    for draw in range(N_SPLITS if n_units < FEW_ROWS else 1):
        parts = context.inner(fraction, draw)
        # By time, or of two groups, draws may be the same.
        if not any(np.array_equal(parts[1], other[1]) for other in drawn):
            drawn.append(parts)
    is_class = bool(context.task.classes)
    n_classes = len(np.unique(y))
    return [
        parts
        for parts in drawn
        if (not is_class or len(np.unique(y[parts[0]])) == n_classes)
        and (lists is None or all(orders_any(y[part]) for part in parts))
        and (weight is None or all(weight[part].any() for part in parts))
    ]


def _fit(probe: Any, columns: Any, context: FitContext[EstimatorSettings], parts: Parts) -> None:
    """Fit on the first rows of an inner split, and let the others stop it."""
    fit_rows, valid_rows = parts
    lists = context.task.lists(context.y)
    if lists is not None and is_ranker(probe):
        taken, weight = as_taken(probe, columns), context.weight
        y, keywords = context.task.learnt(context.y), fit_keywords(probe, columns)
        keywords |= validation_of_ranker(probe, taken, y, lists, weight, valid_rows)
        inside = None if weight is None else weight[fit_rows]
        fit_ranker(probe, take_rows(taken, fit_rows), y[fit_rows], lists[fit_rows], inside, keywords)
        return
    y = context.task.learnt(context.y)
    keywords = fit_keywords(probe, columns)
    validation = as_taken(probe, take_rows(columns, valid_rows)), y[valid_rows]
    weights: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    if context.weight is not None:
        weights = mean_one(context.weight[fit_rows]), mean_one(context.weight[valid_rows])
    keywords |= {} if weights[0] is None else {"sample_weight": weights[0]}
    keywords |= validation_keywords(probe, *validation, weights[1], keywords)
    probe.fit(as_taken(probe, take_rows(columns, fit_rows)), y[fit_rows], **keywords)


def validation_keywords(
    estimator: Any, columns: Any, y: np.ndarray, weight: np.ndarray | None, keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """Return validation rows as `fit` wants them; LightGBM deprecates eval_set from 4.7 on."""
    takes = {name for name in _TAKEN if has_fit_parameter(estimator, name)}
    found: dict[str, Any] = {"verbose": False} if "verbose" in takes else {}
    if "X_val" in takes:
        found |= {"X_val": columns, "y_val": y}
        return found | ({} if weight is None else {"sample_weight_val": weight})
    if is_catboost(estimator):
        pool = importlib.import_module("catboost").Pool
        return found | {
            "eval_set": pool(columns, y, weight=weight, cat_features=keywords.get("cat_features"))
        }
    found |= {"eval_X": columns, "eval_y": y} if "eval_X" in takes else {"eval_set": [(columns, y)]}
    if weight is not None:
        found |= {name: [weight] for name in _WEIGHTS if name in takes}
    return found


_WEIGHTS = ("eval_sample_weight", "sample_weight_eval_set")
_TAKEN = ("X_val", "eval_X", "verbose", *_WEIGHTS)


def best_rounds(estimator: Any) -> int:
    """Return the number of boosting rounds that early stopping kept."""
    scores = getattr(estimator, "validation_score_", None)
    if scores is not None and len(scores):
        # scikit-learn's own: the first score is that of no round.
        return max(1, int(np.argmax(scores)))
    for name, offset in (("best_iteration_", 0), ("best_iteration", 1)):
        value = getattr(estimator, name, None)
        if value is not None:
            # LightGBM counts rounds, XGBoost and CatBoost give the index of the best one.
            is_index = offset == 1 or is_catboost(estimator)
            return max(1, int(value) + int(is_index))
    raise MemberError(
        f"early_stopping_rounds needs an estimator that tells its best round; got {type(estimator).__name__}. "
        "Remove it from params"
    )


def validation_curve(estimator: Any) -> dict[str, Any]:
    """Return the loss of validation rows by round, as early stopping saw it; empty where a library does not tell.

    Returns
    -------
    dict
        ``rounds``, some of them, counted from 1; ``validation``, the loss after each; ``metric``, what it is.
    """
    name, losses = _told_losses(estimator)
    if not len(losses) or not np.isfinite(losses).all():
        return {}
    kept = np.unique(np.linspace(0, len(losses) - 1, min(len(losses), MOST_POINTS)).round().astype(np.int64))
    values = [float(f"{losses[place]:.5g}") for place in kept]
    return {"rounds": (kept + 1).tolist(), "validation": values, "metric": name}


def _told_losses(estimator: Any) -> tuple[str, np.ndarray]:
    """Return the name and the values of what early stopping judged by."""
    scores = getattr(estimator, "validation_score_", None)
    if scores is not None:
        # scikit-learn's own: the first score is that of no round, and more is better.
        name = str(estimator.get_params().get("scoring", "loss"))
        is_loss = name == "loss" or name.startswith("neg_")
        return name.removeprefix("neg_"), -np.asarray(scores[1:] if is_loss else [])
    told = getattr(estimator, "evals_result_", None) or {}
    # CatBoost names its training rows, too; validation rows stand last.
    for name, values in reversed([*(list(told.values()) or [{}])[-1].items()]):
        losses = np.asarray(values, dtype=np.float64)
        # Of an NDCG more is better.
        return (f"1 - {name}", 1.0 - losses) if str(name).lower().startswith("ndcg") else (str(name), losses)
    return "", np.zeros(0)
