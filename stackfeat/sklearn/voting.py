"""`VotingClassifier` and `VotingRegressor`: scikit-learn's votes with fitted weights, ranks and tie rules.

In:  estimators by name.
Out: one prediction. Weights and ranks are fitted on out-of-fold rows by the loop over folds; the votes
     themselves are those of `meta.votes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar, Self

import numpy as np
from sklearn import ensemble
from sklearn.model_selection import check_cv
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d

from stackfeat.meta.votes import VOTES
from stackfeat.meta.votes.hard import HardVote
from stackfeat.meta.votes.soft import GivenWeightVote
from stackfeat.meta.votes.vote import Vote, VoteTarget
from stackfeat.meta.votes.weighted import WeightedVote
from stackfeat.metrics.registry import get_metric
from stackfeat.sklearn._compat import StrOptions, _BaseVoting, _fit_context
from stackfeat.sklearn.emission import Emission
from stackfeat.sklearn.folding import ALL, FoldWorker, KeptResults, Views, fit_folds
from stackfeat.sklearn.rows import (
    as_rows,
    check_weights_supported,
    metadata_of,
    refuse_metadata,
    route,
    split_folds,
)
from stackfeat.tasks.classification import of_labels
from stackfeat.tasks.task import Task

VOTE_CONSTRAINTS: dict[str, Any] = {
    "weights": ["array-like", StrOptions({"fit"}), None],
    "cv": ["cv_object"],
}


class FoldVoting(_BaseVoting):
    """Stands between scikit-learn's votes and their base: same parameters and names, own fit."""

    estimators: Any
    weights: Any
    voting: str
    fitted_weights_: np.ndarray | None
    rank_vote_: Vote | None
    priors_: np.ndarray

    def _fit_votes(self, X: Any, y: np.ndarray, task: Task, fit_params: Mapping[str, Any]) -> None:
        """Fit the estimators on all rows; over folds, too, where weights or ranks are fitted."""
        names, estimators = self._validate_estimators()
        if self.weights is not None and not isinstance(self.weights, str):
            self._check_weights()
        live = {name: est for name, est in zip(names, estimators, strict=True) if est != "drop"}
        routed = route(self, fit_params, names)
        check_weights_supported(live, routed)
        needs_folds = isinstance(self.weights, str) or VOTES[self.voting].is_fitted
        X, folds = as_rows(X), None
        if needs_folds:
            cv = deepcopy(check_cv(self.cv, y, classifier=task.is_stratified))
            folds = split_folds(cv, X, y, metadata_of(routed, "splitter", "split"))
        method = task.method if needs_folds else None
        messages = {
            name: self._log_message(name, i + 1, len(names)) for i, name in enumerate(names) if self.verbose
        }
        worker = FoldWorker(
            live,
            {name: Emission(method) for name in live},
            {name: metadata_of(routed, name, "fit") for name in live},
            X,
            y,
            folds,
            task,
            len(task.classes),
            messages,
        )
        results = fit_folds(worker, n_jobs=self.n_jobs)
        self.estimators_ = [results.values[f"{name}/{ALL}"].estimator for name in live]
        self._note_estimators()
        self.fitted_weights_, self.rank_vote_ = None, None
        if folds is not None:
            self._fit_on_oof(worker, results, y, task, fit_params.get("sample_weight"))

    def _check_weights(self) -> None:
        if len(self.weights) != len(self.estimators):
            raise ValueError(
                "Number of `estimators` and weights must be equal; got "
                f"{len(self.weights)} weights, {len(self.estimators)} estimators"
            )

    def _note_estimators(self) -> None:
        self.named_estimators_ = Bunch()
        fitted = iter(self.estimators_)
        for name, given in self.estimators:
            self.named_estimators_[name] = given if isinstance(given, str) else next(fitted)
            if hasattr(self.named_estimators_[name], "feature_names_in_"):
                self.feature_names_in_ = self.named_estimators_[name].feature_names_in_

    def _fit_on_oof(
        self, worker: FoldWorker, results: KeptResults, y: np.ndarray, task: Task, weight: Any
    ) -> None:
        """Fit weights or ranks on predictions of rows that no estimator saw."""
        assert worker.folds is not None
        said = [
            Views.of(name, emission, worker.folds, results, worker.n_classes).oof_prediction()
            for name, emission in worker.emissions.items()
        ]
        rows = np.flatnonzero(said[0][1])
        kept = [np.asarray(values, dtype=np.float64).reshape(len(values), -1)[rows] for values, _ in said]
        weight = None if weight is None else np.asarray(weight, dtype=np.float64)[rows]
        metric = get_metric(task.row_metric, task.kind)
        labels = task.as_y(np.asarray(y)[rows])
        target = VoteTarget(task, labels, weight, metric)
        if VOTES[self.voting].is_fitted:
            self.rank_vote_ = VOTES[self.voting].fit(kept, target, {})
        else:
            self.fitted_weights_ = np.asarray(WeightedVote.fit(kept, target, {}).weights)

    def _vote(self) -> Vote:
        """Return the vote that was fitted, or the one that the parameters say."""
        kind = VOTES[self.voting]
        if not issubclass(kind, GivenWeightVote):
            assert self.rank_vote_ is not None
            return self.rank_vote_
        weights = self._weights_not_none
        options = {
            "weights": None if weights is None else [float(weight) for weight in weights],
            "tie": getattr(self, "tie", None),
        }
        return kind.of(len(self.estimators_), getattr(self, "priors_", None), options)

    @property
    def _weights_not_none(self) -> Any:
        """Weights of estimators that are not dropped, fitted ones included."""
        if isinstance(self.weights, str):
            return self.fitted_weights_
        if self.weights is None:
            return None
        pairs = zip(self.estimators, self.weights, strict=False)
        return [weight for (_, est), weight in pairs if not isinstance(est, str)]

    def get_metadata_routing(self) -> MetadataRouter:
        """Say who asks for which metadata, the splitter included."""
        router = super().get_metadata_routing()
        if hasattr(self.cv, "split"):
            router.add(splitter=self.cv, method_mapping=MethodMapping().add(caller="fit", callee="split"))
        return router


class VotingClassifier(ensemble.VotingClassifier, FoldVoting):
    """scikit-learn's `VotingClassifier`, with fitted weights, votes by rank, and rules for ties.

    Parameters
    ----------
    estimators : list of (str, estimator)
        ``"drop"`` leaves one out.
    voting : {"hard", "soft", "rank"}, default="hard"
        ``rank``: mean of ranks among out-of-fold probabilities; two classes alone. Good where estimators
        are on different scales and the metric is one of ranking.
    weights : array, "fit" or None, default=None
        ``fit``: the weights of at least 0 and sum 1 that minimise the log-loss of out-of-fold probabilities.
    n_jobs : int or None, default=None
    flatten_transform : bool, default=True
    verbose : bool, default=False
    tie : {"lowest", "soft", "prior"}, default="lowest"
        Hard votes that are equal: the lowest class as in scikit-learn, the greatest mean probability, or the
        most frequent class.
    cv : int, splitter, iterable or None, default=None
        Folds for ``weights="fit"`` and ``voting="rank"``.

    Attributes
    ----------
    fitted_weights_ : ndarray of shape (n_estimators,) or None
    rank_vote_ : RankVote or None
    estimators_, named_estimators_, le_, classes_, n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> vote = VotingClassifier(
    ...     [("tree", DecisionTreeClassifier(random_state=0)), ("line", LogisticRegression(max_iter=500))],
    ...     voting="soft", weights="fit",
    ... ).fit(X, y)
    >>> vote.fitted_weights_.shape
    (2,)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ensemble.VotingClassifier._parameter_constraints,
        **VOTE_CONSTRAINTS,
        "voting": [StrOptions({"hard", "soft", "rank"})],
        "tie": [StrOptions({"soft", "prior", "lowest"})],
    }

    def __init__(
        self,
        estimators: Any,
        *,
        voting: str = "hard",
        weights: Any = None,
        n_jobs: int | None = None,
        flatten_transform: bool = True,
        verbose: bool = False,
        tie: str = "lowest",
        cv: Any = None,
    ) -> None:
        super().__init__(
            estimators,
            voting=voting,
            weights=weights,
            n_jobs=n_jobs,
            flatten_transform=flatten_transform,
            verbose=verbose,
        )
        self.tie = tie
        self.cv = cv

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Fit the estimators on all rows; for fitted weights and ranks also over folds.

        Parameters
        ----------
        X : whatever the estimators take
        y : array of shape (n_samples,)
        **fit_params : dict
            ``sample_weight`` and ``groups``; with metadata routing whatever is asked for.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If ``voting="rank"`` and there are more than two classes.
        """
        refuse_metadata(self, fit_params)
        X = as_rows(X)
        y_type = type_of_target(y, input_name="y")
        if y_type in ("unknown", "continuous"):
            raise ValueError(
                f"Unknown label type: {y_type}. Maybe you are trying to fit a classifier, which expects discrete "
                "classes, on a regression target with continuous values."
            )
        # A type of target as scikit-learn names it, which may be no task at all.
        if y_type not in ("binary", "multiclass"):
            raise NotImplementedError(
                f"{type(self).__name__} only supports binary or multiclass classification. Multilabel and "
                "multi-output classification are not supported."
            )
        if not VOTES[self.voting].serves(y_type):
            raise ValueError(f"voting={self.voting!r} must have two classes; got more; use voting='soft'")
        self.le_ = LabelEncoder().fit(y)
        self.classes_ = self.le_.classes_
        codes = self.le_.transform(y)
        task = of_labels(self.classes_.tolist())
        totals = np.asarray(task.class_totals(codes, fit_params.get("sample_weight")))
        self.priors_ = totals / totals.sum()
        self._fit_votes(X, codes, task, fit_params)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the winner of each row's vote."""
        check_is_fitted(self)
        vote = self._vote()
        if isinstance(vote, HardVote):
            # The labels that estimators give count, not the greatest of their probabilities.
            said = list(np.asarray(self._predict(X)).T)
            codes = vote.winners(said, len(self.classes_), lambda: list(self._collect_probas(X)))
        else:
            codes = np.asarray(self.predict_proba(X)).argmax(axis=1)
        return np.asarray(self.le_.inverse_transform(codes))

    def _check_voting(self) -> bool:
        if not VOTES.get(self.voting, Vote).gives_probabilities:
            raise AttributeError(f"predict_proba is not available when voting={self.voting!r}")
        return True

    @available_if(_check_voting)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the weighted mean of probabilities, or of ranks, (n_samples, n_classes)."""
        check_is_fitted(self)
        return self._vote().combine(list(self._collect_probas(X)))

    def transform(self, X: Any) -> Any:
        """Return what each estimator says: labels (hard), else probabilities."""
        check_is_fitted(self)
        if not VOTES[self.voting].gives_probabilities:
            return self._predict(X)
        probas = self._collect_probas(X)
        return np.hstack(probas) if self.flatten_transform else probas

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return names of the columns of `transform`."""
        if VOTES[self.voting].is_fitted and not self.flatten_transform:
            raise ValueError(
                f"get_feature_names_out must have flatten_transform=True with voting={self.voting!r}"
            )
        return np.asarray(super().get_feature_names_out(input_features))


class VotingRegressor(ensemble.VotingRegressor, FoldVoting):
    """scikit-learn's `VotingRegressor`, with fitted weights and votes by rank.

    Parameters
    ----------
    estimators, weights, n_jobs, verbose, cv
        As in `VotingClassifier`; ``weights="fit"`` minimises the squared error of out-of-fold predictions.
    voting : {"soft", "rank"}, default="soft"
        The mean of values; or of ranks, which goes through a monotone map back to values.

    Attributes
    ----------
    fitted_weights_, rank_vote_, estimators_, named_estimators_
        As in `VotingClassifier`.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ensemble.VotingRegressor._parameter_constraints,
        **VOTE_CONSTRAINTS,
        "voting": [StrOptions({"soft", "rank"})],
    }

    def __init__(
        self,
        estimators: Any,
        *,
        weights: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
        voting: str = "soft",
        cv: Any = None,
    ) -> None:
        super().__init__(estimators, weights=weights, n_jobs=n_jobs, verbose=verbose)
        self.voting = voting
        self.cv = cv

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Fit the estimators on all rows; for fitted weights and ranks also over folds."""
        refuse_metadata(self, fit_params)
        self._fit_votes(X, column_or_1d(y, warn=True), Task("regression"), fit_params)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the weighted mean of values, or of ranks, (n_samples,)."""
        check_is_fitted(self)
        columns = np.asarray(self._predict(X), dtype=np.float64).T
        return self._vote().combine([column[:, None] for column in columns])[:, 0]
