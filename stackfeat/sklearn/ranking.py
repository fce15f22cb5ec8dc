"""`NetRanker`, `StackingRanker` and `VotingRanker`: rows of lists, scored by scikit-learn's words.

In:  estimators by name, X, relevance, the list of each row (`qid`).
Out: scores of which the order within a list counts. Folds keep lists whole; what an estimator says is put in units of
     each list before it is averaged or learnt from, as in a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupKFold
from sklearn.utils import Bunch
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d

from stackfeat.data.files.parsing import name_rows
from stackfeat.data.splits.folds import Folds
from stackfeat.errors import DataError, UsageError
from stackfeat.meta.estimator_io import fit_estimator
from stackfeat.meta.votes import VOTES
from stackfeat.meta.votes.rank import RankVote
from stackfeat.meta.votes.soft import SoftVote
from stackfeat.meta.votes.vote import Vote, VoteTarget
from stackfeat.meta.votes.weighted import WeightedVote
from stackfeat.metrics.registry import get_metric
from stackfeat.sklearn._compat import StrOptions, _fit_context
from stackfeat.sklearn.column_names import with_taken_names
from stackfeat.sklearn.emission import Emission, Reading
from stackfeat.sklearn.final_estimator import FinalDesign, FinalRows, GatedFinalRegressor
from stackfeat.sklearn.folding import FoldFits, FoldWorker, split_folds
from stackfeat.sklearn.inputs import as_rows, check_inputs, check_weight, count
from stackfeat.sklearn.nets import NET_CONSTRAINTS, BaseNet
from stackfeat.tasks.ranking import LIST, Ranking, list_numbers, orders_any
from stackfeat.tasks.task import Task

TASK = Task("ranking")


def numbered_lists(qid: Any, n_rows: int) -> np.ndarray:
    """Return a number for each row's list, int64 (n_rows,); without `qid` all rows are one list."""
    if qid is None:
        return np.zeros(n_rows, dtype=np.int64)
    names = column_or_1d(qid)
    if len(names) != n_rows:
        raise UsageError(f"qid must name the list of each row; got {len(names)} names for {n_rows} rows")
    missing = pd.isna(names)
    if missing.any():
        raise UsageError(
            f"qid must name the list of each row; got none in {name_rows(missing)}; fill them in"
        )
    try:
        return list_numbers(names)
    except TypeError:
        kinds = sorted({type(name).__name__ for name in names})
        raise UsageError(
            f"qid must hold names of one type; got {', '.join(kinds)}; make all of them str"
        ) from None


def relevance_in_lists(y: Any, qid: Any) -> np.ndarray:
    """Return relevance and list of each row, float64 (n_rows, 2); y may be these two columns already.

    Raises
    ------
    DataError
        If relevance is anything but whole numbers from 0.
    """
    given = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    if given.ndim == 2 and given.shape[1] == 2 and qid is None:
        return given
    relevance = column_or_1d(given, warn=True)
    wrong, must = Ranking.target_problem(relevance)
    if wrong.any():
        raise DataError(f"{must}; got {relevance[wrong][0]:g}; grade rows from 0, the least relevant")
    return TASK.in_lists(relevance, numbered_lists(qid, len(relevance)))


def to_learn(y: Any, qid: Any) -> np.ndarray:
    """Return `relevance_in_lists`, of which a ranker learns; DataError where there is nothing to rank."""
    target = relevance_in_lists(y, qid)
    if not orders_any(target):
        raise DataError(
            f"some list must have rows of different relevance, or there is nothing to rank; got none in "
            f"{len(np.unique(target[:, LIST]))} lists of {len(target)} rows; check y and qid"
        )
    return target


def score_of_lists(scores: np.ndarray, y: Any, qid: Any) -> float:
    """Return the mean NDCG at 10 of the lists that have a relevant row."""
    return get_metric(TASK.default_metric, TASK.kind).score(relevance_in_lists(y, qid), scores, TASK)


@dataclass(eq=False, repr=False)
class NetRanker(BaseNet):
    """A PyTorch net that scores rows of lists.

    Parameters
    ----------
    module, net_params, epochs, batch_size, largest_batch, lr, base_lr, weight_decay, schedule, warmup, clip_norm, \
loss, patience, early_stopping, validation_fraction, amp, channels_last, folds_at_once, ema, scaling, output, texts, \
seeds, warm_start, device, threads, random_state, verbose
        As in `NetClassifier`; `loss` is ``listwise`` (ListNet), ``pairwise`` (RankNet) or ``mse``, and ``auto`` is
        ``listwise``. Batches are whole lists.

    Attributes
    ----------
    n_features_in_, feature_names_in_, module_, fitted_, n_iter_, loss_curve_, validation_curve_
        As in `NetClassifier`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, qid = rng.normal(size=(200, 3)), np.repeat(np.arange(20), 10)
    >>> net = NetRanker(net_params={"hidden": [16]}, random_state=0).fit(X, (X[:, 0] > 0).astype(int), qid=qid)
    >>> net.predict(X[:10]).shape
    (10,)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **NET_CONSTRAINTS,
        "loss": [StrOptions({"auto", *Ranking.losses})],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, qid: Any = None, sample_weight: Any = None) -> Self:
        """Train the net.

        Parameters
        ----------
        X : as in `NetClassifier.fit`
        y : array of shape (n_samples,)
            Relevance, whole numbers from 0.
        qid : array of shape (n_samples,)
            Names of the lists, in any order; without it all rows are one list.
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        self
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X = check_inputs(self, X, reset=True, n_least=2)
        target = to_learn(y, qid)
        check_consistent_length(np.empty(count(X)), target)
        return self._fit_nets(X, target, TASK, check_weight(sample_weight, len(target)))

    def predict(self, X: Any) -> np.ndarray:
        """Return a score of each row, float64 (n_samples,); it does not depend on other rows."""
        return TASK.counted(self._emit(X))

    def score(self, X: Any, y: Any, qid: Any = None) -> float:
        """Return ndcg@10: its mean over the lists that have a relevant row."""
        return score_of_lists(self.predict(X), y, qid)


@dataclass(eq=False, repr=False)
class OfLists(BaseEstimator):
    """An estimator of any library that is fitted on relevance and list of each row."""

    estimator: Any

    def fit(self, X: Any, y: np.ndarray, sample_weight: Any = None) -> Self:
        """Fit; rankers get the rows of a list together, others relevance alone."""
        self.estimator_ = fit_estimator(clone(self.estimator), X, y, sample_weight, TASK)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return scores, (n_samples,)."""
        return TASK.counted(TASK.ask(self.estimator_, X))


def taught(estimator: Any) -> Any:
    """Return an estimator that learns relevance and list from one y."""
    return estimator if isinstance(estimator, NetRanker | OfLists) else OfLists(estimator)


@dataclass(eq=False, repr=False)
class ListEnsemble(BaseEstimator):
    """What rankers made of others share: estimators by name, folds that keep lists whole."""

    estimators: Any
    _: KW_ONLY
    cv: Any = None
    n_jobs: int | None = None

    def _members(self) -> dict[str, Any]:
        names = [name for name, _ in self.estimators]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"estimators must be a list of (name, estimator) of different names; got {names}"
            )
        return {name: taught(estimator) for name, estimator in self.estimators if estimator != "drop"}

    def predict(self, X: Any, qid: Any = None) -> np.ndarray:
        """Return scores, float64 (n_samples,)."""
        raise NotImplementedError

    def score(self, X: Any, y: Any, qid: Any = None) -> float:
        """Return ndcg@10: its mean over the lists that have a relevant row."""
        return score_of_lists(self.predict(X, qid=qid), y, qid)

    def _folds(self, X: Any, y: np.ndarray) -> Folds:
        groups = np.asarray(TASK.lists(y))
        cv = self.cv
        if isinstance(cv, Integral | None):
            n_folds, n_lists = int(5 if cv is None else cv), len(np.unique(groups))
            if n_lists < n_folds:
                raise ValueError(
                    f"qid must name a list for each fold, which holds whole lists; got {n_lists}, cv={n_folds}; "
                    + (
                        f"use cv={n_lists} or less"
                        if n_lists > 1
                        else "give qid: without it all rows are one list"
                    )
                )
            cv = GroupKFold(n_folds)
        folds = split_folds(deepcopy(cv), X, y, {"groups": groups})
        for number, (train, held_out) in enumerate(folds.splits[0]):
            torn = np.intersect1d(groups[train], groups[held_out])
            if len(torn):
                raise ValueError(
                    f"a fold of cv must keep lists whole; got {len(torn)} lists on both sides of fold {number}; use "
                    "GroupKFold, or a number of folds"
                )
        return folds

    def _worker(
        self, members: Mapping[str, Any], emissions: Any, X: Any, y: np.ndarray, weight: Any, folds: Folds
    ) -> dict[str, FoldFits]:
        params = {name: {} if weight is None else {"sample_weight": weight} for name in members}
        fits = FoldWorker(members, emissions, params, X, y, folds, TASK).run(n_jobs=self.n_jobs)
        self.estimators_ = [one.whole.estimator for one in fits.values() if one.whole]
        self.named_estimators_ = Bunch(**dict(zip(members, self.estimators_, strict=True)))
        return fits


def within(prediction: Any, lists: np.ndarray) -> np.ndarray:
    """Return what an estimator says in units of each list, (n_rows, 1); NaN where no fold says anything."""
    said = TASK.whole(np.asarray(prediction, dtype=np.float64))
    known = np.isfinite(said[:, 0])
    found = np.full(said.shape, np.nan)
    found[known] = TASK.within(said[known], lists[known])
    return found


@dataclass(eq=False, repr=False)
class StackingRanker(ListEnsemble):
    """A stack of rankers, regressors and nets for rows of lists, with K pipelines averaged last.

    Parameters
    ----------
    estimators : list of (str, estimator)
        Rankers of the boosting libraries, `NetRanker`, regressors on relevance, classifiers of it.
    final_estimator : estimator or None, default=None
        None is `gated_linear` over scores that are standardised within their list, and gated hidden layers.
    cv : int, splitter or None, default=None
        Folds by list; None is 5.
    n_jobs : int or None, default=None
    emit : "auto", words or taps, default="auto"
        ``auto``: scores, and the penultimate layer of nets.
    encode : "auto" or encodings, default="auto"
    gate : bool, default=True

    Attributes
    ----------
    estimators_, named_estimators_
        Fitted on all rows.
    oof_ : ndarray of shape (n_samples, n_columns)
        What the final estimator was given to choose from.
    folds_ : ndarray of shape (n_samples,)
    final_estimator_ : estimator
    diagnostics_ : dict
        Computed when asked for: ``gate``, gains of hidden layers; ``blocks``, how well folds can be told apart.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> rng = np.random.default_rng(0)
    >>> X, qid = rng.normal(size=(200, 3)), np.repeat(np.arange(20), 10)
    >>> y = np.clip(np.round(X[:, 0] + 1), 0, 3)
    >>> members = [("line", Ridge()), ("tree", DecisionTreeRegressor(max_depth=3))]
    >>> StackingRanker(members).fit(X, y, qid=qid).predict(X[:10], qid=qid[:10]).shape
    (10,)
    """

    final_estimator: Any = None
    emit: Any = "auto"
    encode: Any = "auto"
    gate: bool = True

    def fit(self, X: Any, y: Any, qid: Any = None, sample_weight: Any = None) -> Self:
        """Fit the estimators over folds, and the final one on what they say of rows they did not see.

        Parameters
        ----------
        X : whatever the estimators take
        y : array of shape (n_samples,)
            Relevance, whole numbers from 0.
        qid : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        self
        """
        X, y = as_rows(X), to_learn(y, qid)
        weight, members, folds = check_weight(sample_weight, len(y)), self._members(), self._folds(X, y)
        emissions = {
            name: Emission.plan(name, one, self._emit_of(one), self.encode, "predict", has_labels=False)
            for name, one in members.items()
        }
        self.fits_ = self._worker(members, emissions, X, y, weight, folds)
        self.folds_ = folds.fold_of(0)
        lists = np.asarray(TASK.lists(y))
        base, features = _columns({name: one.oof() for name, one in self.fits_.items()}, lists)
        self.oof_ = np.hstack([base, *features.values()])
        params = {} if weight is None else {"sample_weight": weight}
        rows = FinalRows(base, features, y, params, self.folds_, lists, lists)
        covered = np.flatnonzero(self.folds_ >= 0)
        self._rows_of_final = rows if len(covered) == len(y) else rows.take(covered)
        self._fit_final(self._rows_of_final)
        self._diagnostics: dict[str, Any] = {}
        return self

    @property
    def diagnostics_(self) -> dict[str, Any]:
        """What the gate did, and what blocks give away."""
        check_is_fitted(self, "final_estimator_")
        if not self._diagnostics:
            rows, blocks = self._rows_of_final, dict[str, Any]()
            for name, fits in self.fits_.items():
                columns = {output: rows.features[f"{name}/{output}"] for output in fits.emission.outputs}
                found = fits.diagnose(columns, rows.y, rows.fold_of, rows.group)
                blocks |= {f"{name}/{output}": values for output, values in found.items()}
            self._diagnostics = {"gate": dict(self.design_.report), "blocks": blocks}
        return self._diagnostics

    def _emit_of(self, estimator: Any) -> Any:
        return self.emit if isinstance(estimator, NetRanker) else "auto"

    def _fit_final(self, rows: FinalRows) -> None:
        weight = rows.params.get("sample_weight")
        if self.final_estimator is not None:
            self.design_ = FinalDesign.fit(lambda: clone(self.final_estimator), rows, TASK, gate=self.gate)
            final = taught(clone(self.final_estimator))
            self.final_estimator_ = final.fit(self.design_.join(rows.base, rows.features), rows.y, weight)
            return
        self.design_ = FinalDesign(dict.fromkeys(rows.features), {})
        n_base, widths = rows.base.shape[1], [(name, part.shape[1]) for name, part in rows.features.items()]
        columns = self.design_.join(rows.base, rows.features)
        places = [(place, place + 1) for place in range(n_base)]
        gated = GatedFinalRegressor(TASK, places, n_base, widths)
        self.final_estimator_ = gated.fit(columns, rows.y, weight, rows.fold_of, rows.clusters)
        self.design_ = FinalDesign(self.design_.scales, gated.report())

    def predict(self, X: Any, qid: Any = None) -> np.ndarray:
        """Return scores, the mean over pipelines, float64 (n_samples,).

        Parameters
        ----------
        X : as in `fit`
        qid : array of shape (n_samples,), optional
            Lists of the rows, which must be whole; without it they are one list.
        """
        check_is_fitted(self, "final_estimator_")
        X = as_rows(X)
        lists = numbered_lists(qid, count(X))
        n_folds = next(iter(self.fits_.values())).folds.n_folds
        said = []
        for fold in range(n_folds):
            base, features = _columns({name: one.read(X, fold) for name, one in self.fits_.items()}, lists)
            said.append(within(self.final_estimator_.predict(self.design_.join(base, features)), lists))
        return TASK.counted(TASK.average(said, "mean"))


def _columns(readings: Mapping[str, Reading], lists: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the scores of all estimators in units of their lists, and feature blocks by name."""
    said = [within(one.prediction, lists) for one in readings.values() if one.prediction is not None]
    features = {
        f"{name}/{output}": values for name, one in readings.items() for output, values in one.columns.items()
    }
    return np.hstack([np.empty((len(lists), 0)), *said]), features


@dataclass(eq=False, repr=False)
class VotingRanker(ListEnsemble):
    """A vote of rankers, regressors and nets over rows of lists.

    Parameters
    ----------
    estimators, cv, n_jobs
        As in `StackingRanker`; folds are for ``weights="fit"`` alone.
    voting : {"soft", "rank"}, default="soft"
        The mean of scores that are standardised within their list, or of ranks within it.
    weights : array, "fit" or None, default=None
        Of a soft vote. ``fit``: the weights of at least 0 and sum 1 that are best by `metric` out of fold.
    metric : str, default="ndcg@10"

    Attributes
    ----------
    estimators_, named_estimators_
        Fitted on all rows.
    fitted_weights_ : ndarray of shape (n_estimators,) or None
    """

    voting: str = "soft"
    weights: Any = None
    metric: str = "ndcg@10"

    def fit(self, X: Any, y: Any, qid: Any = None, sample_weight: Any = None) -> Self:
        """Fit the estimators on all rows; for fitted weights also over folds. Arguments as `StackingRanker.fit`."""
        X, y = as_rows(X), to_learn(y, qid)
        weight, members = check_weight(sample_weight, len(y)), self._members()
        self._check(members)
        is_fitted = isinstance(self.weights, str)
        folds = self._folds(X, y) if is_fitted else Folds("none", ((),), count(X))
        emissions = {name: Emission("predict" if is_fitted else None) for name in members}
        fits = self._worker(members, emissions, X, y, weight, folds)
        self.fitted_weights_: np.ndarray | None = None
        if is_fitted:
            rows, lists = np.flatnonzero(folds.fold_of(0) >= 0), np.asarray(TASK.lists(y))
            said = [within(one.oof().prediction, lists)[rows] for one in fits.values()]
            kept = None if weight is None else weight[rows]
            target = VoteTarget(TASK, y[rows], kept, get_metric(self.metric, TASK.kind))
            self.fitted_weights_ = np.asarray(WeightedVote.fit(said, target, {}).weights)
        return self

    def _check(self, members: Mapping[str, Any]) -> None:
        kinds = [name for name in (SoftVote.name, RankVote.name) if VOTES[name].serves(TASK.kind)]
        if self.voting not in kinds:
            raise ValueError(f"voting must be one of {', '.join(kinds)}; got {self.voting!r}")
        if isinstance(self.weights, str) and self.weights != "fit":
            raise ValueError(f"weights must be numbers, 'fit' or None; got {self.weights!r}")
        if self.weights is not None and self.voting == RankVote.name:
            raise ValueError("a vote of ranks has no weights; got weights; use voting='soft'")
        if not isinstance(self.weights, str | None) and len(self.weights) != len(members):
            raise ValueError(
                f"weights must be equal in number to the estimators; got {len(self.weights)} weights, "
                f"{len(members)} estimators"
            )

    def _vote(self) -> Vote:
        n_inputs = len(self.estimators_)
        if self.voting == RankVote.name:
            return RankVote.of_lists(n_inputs)
        weights: Any = self.weights if self.fitted_weights_ is None else self.fitted_weights_
        given = None if weights is None else [float(weight) for weight in weights]
        return SoftVote.of(n_inputs, None, {"weights": given})

    def predict(self, X: Any, qid: Any = None) -> np.ndarray:
        """Return scores, float64 (n_samples,); arguments as `StackingRanker.predict`."""
        check_is_fitted(self, "estimators_")
        X = as_rows(X)
        lists = numbered_lists(qid, count(X))
        said = [within(one.predict(with_taken_names(one, X)), lists) for one in self.estimators_]
        vote = self._vote()
        return TASK.counted(vote.combine(vote.reads(said, TASK, lists)))
