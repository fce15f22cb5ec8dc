"""`VotingClassifier` and `VotingRegressor`: scikit-learn's votes with fitted weights, ranks and tie rules.

In:  estimators by name.
Out: one prediction. Weights and ranks are fitted on out-of-fold rows by the loop over folds; the votes
     themselves are those of `meta.votes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Self

import numpy as np
from sklearn import ensemble
from sklearn.model_selection import check_cv
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d

from stackfeat.data.splits.folds import Folds
from stackfeat.errors import UsageError
from stackfeat.meta.votes import VOTES
from stackfeat.meta.votes.hard import HardVote
from stackfeat.meta.votes.soft import GivenWeightVote
from stackfeat.meta.votes.vote import Vote, VoteTarget
from stackfeat.meta.votes.weighted import WeightedVote
from stackfeat.metrics.registry import get_metric
from stackfeat.sklearn._compat import StrOptions, _BaseVoting, _fit_context
from stackfeat.sklearn.column_names import with_taken_names
from stackfeat.sklearn.emission import Emission
from stackfeat.sklearn.folding import FoldEnsemble, FoldFits, FoldWorker, split_folds
from stackfeat.sklearn.inputs import as_rows, count, route
from stackfeat.sklearn.quantiles import ScoreOfLevels, at_all_levels, task_of_levels
from stackfeat.tasks.classification import of_labels
from stackfeat.tasks.task import Task

VOTE_CONSTRAINTS: dict[str, Any] = {
    "weights": ["array-like", StrOptions({"fit"}), None],
    "cv": ["cv_object"],
}


@dataclass(eq=False, repr=False)
class FoldVoting(FoldEnsemble, _BaseVoting):
    """Stands between scikit-learn's votes and their base: same parameters and names, own fit."""

    estimators: Any
    _: KW_ONLY
    weights: Any = None
    n_jobs: int | None = None
    verbose: bool = False
    cv: Any = None

    def _fit_votes(self, X: Any, y: np.ndarray, task: Task, fit_params: Mapping[str, Any]) -> None:
        """Fit the estimators on all rows; over folds, too, where weights or ranks are fitted."""
        live = self._live(fit_params)
        if not isinstance(self.weights, str | None) and len(self.weights) != len(self.estimators):
            raise ValueError(
                "Number of `estimators` and weights must be equal; got "
                f"{len(self.weights)} weights, {len(self.estimators)} estimators"
            )
        params, of_split = route(self, fit_params, live)
        needs_folds = isinstance(self.weights, str) or VOTES[self.voting].is_fitted
        folds = Folds("none", ((),), count(X))
        if needs_folds:
            cv = deepcopy(check_cv(self.cv, y, classifier=task.is_stratified))
            folds = split_folds(cv, X, y, of_split)
        emissions = dict.fromkeys(live, Emission(task.method if needs_folds else None))
        names = [name for name, _ in self.estimators]
        messages = {name: self._log_message(name, i + 1, len(names)) for i, name in enumerate(names)}
        worker = FoldWorker(live, emissions, params, X, y, folds, task, len(task.classes), messages)
        fits = worker.run(n_jobs=self.n_jobs)
        self.estimators_ = [one.whole.estimator for one in fits.values() if one.whole]
        self._note_estimators(X)
        self.fitted_weights_: np.ndarray | None = None
        self.rank_vote_: Vote | None = None
        if needs_folds:
            self._fit_on_oof(fits, folds, y, task, fit_params.get("sample_weight"))

    def _fit_on_oof(
        self, fits: Mapping[str, FoldFits], folds: Folds, y: np.ndarray, task: Task, weight: Any
    ) -> None:
        """Fit weights or ranks on predictions of rows that no estimator saw."""
        rows = np.flatnonzero(folds.fold_of(0) >= 0)
        said = [np.asarray(one.oof().prediction, dtype=np.float64) for one in fits.values()]
        kept = [task.whole(values)[rows] for values in said]
        weight = None if weight is None else np.asarray(weight, dtype=np.float64)[rows]
        metric = get_metric(task.row_metric, task.kind)
        target = VoteTarget(task, task.as_y(np.asarray(y)[rows]), weight, metric)
        if VOTES[self.voting].is_fitted:
            self.rank_vote_ = VOTES[self.voting].fit(kept, target, {})
        else:
            self.fitted_weights_ = np.asarray(WeightedVote.fit(kept, target, {}).weights)

    def _predict(self, X: Any) -> np.ndarray:
        """Return what each estimator predicts, (n_samples, n_estimators)."""
        said = [estimator.predict(with_taken_names(estimator, X)) for estimator in self.estimators_]
        return np.asarray(said).T

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
        return self.fitted_weights_ if isinstance(self.weights, str) else super()._weights_not_none


@dataclass(eq=False, repr=False)
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

    _: KW_ONLY
    voting: str = "hard"
    flatten_transform: bool = True
    tie: str = "lowest"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ensemble.VotingClassifier._parameter_constraints,
        **VOTE_CONSTRAINTS,
        "voting": [StrOptions({"hard", "soft", "rank"})],
        "tie": [StrOptions({"soft", "prior", "lowest"})],
    }

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

    def _collect_probas(self, X: Any) -> np.ndarray:
        """Return the probabilities of each estimator, (n_estimators, n_samples, n_classes)."""
        said = [estimator.predict_proba(with_taken_names(estimator, X)) for estimator in self.estimators_]
        return np.asarray(said)

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
        return np.hstack(list(probas)) if self.flatten_transform else probas

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return names of the columns of `transform`."""
        if VOTES[self.voting].is_fitted and not self.flatten_transform:
            raise ValueError(
                f"get_feature_names_out must have flatten_transform=True with voting={self.voting!r}"
            )
        return np.asarray(super().get_feature_names_out(input_features))


@dataclass(eq=False, repr=False)
class VotingRegressor(ScoreOfLevels, ensemble.VotingRegressor, FoldVoting):
    """scikit-learn's `VotingRegressor`, with fitted weights and votes by rank.

    Parameters
    ----------
    estimators, weights, n_jobs, verbose, cv
        As in `VotingClassifier`; ``weights="fit"`` minimises the squared error of out-of-fold predictions.
    voting : {"soft", "rank"}, default="soft"
        The mean of values; or of ranks, which goes through a monotone map back to values.
    quantiles : sequence of float or None, default=None
        As in `StackingRegressor`; fitted weights minimise the pinball loss, and ranks are not voted on.

    Attributes
    ----------
    fitted_weights_, rank_vote_, estimators_, named_estimators_
        As in `VotingClassifier`.
    """

    _: KW_ONLY
    voting: str = "soft"
    quantiles: Any = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ensemble.VotingRegressor._parameter_constraints,
        **VOTE_CONSTRAINTS,
        "voting": [StrOptions({"soft", "rank"})],
        "quantiles": ["array-like", None],
    }

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Fit the estimators on all rows; for fitted weights and ranks also over folds."""
        task = self._task_of_votes()
        if not VOTES[self.voting].serves(task.kind):
            raise UsageError(f"quantiles are averaged; got voting={self.voting!r}; use voting='soft'")
        self._fit_votes(as_rows(X), column_or_1d(y, warn=True), task, fit_params)
        return self

    def _task_of_votes(self) -> Task:
        return Task("regression") if self.quantiles is None else task_of_levels(self.quantiles)

    def _live(self, fit_params: Mapping[str, Any]) -> dict[str, Any]:
        return at_all_levels(super()._live(fit_params), self.quantiles)

    def transform(self, X: Any) -> np.ndarray:
        """Return what each estimator says, (n_samples, n_estimators); of quantiles those of one beside another's."""
        if self.quantiles is None:
            return np.asarray(super().transform(X))
        check_is_fitted(self)
        return np.hstack(list(self._predict(X).T))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return names of the columns of `transform`."""
        names = super().get_feature_names_out(input_features)
        if self.quantiles is None:
            return np.asarray(names)
        columns = self._task_of_votes().columns
        return np.asarray([f"{name}_{column}" for name in names for column in columns], dtype=object)

    def predict(self, X: Any) -> np.ndarray:
        """Return the weighted mean of values, or of ranks, (n_samples,); of quantiles (n_samples, n_levels)."""
        check_is_fitted(self)
        task, columns = self._task_of_votes(), np.asarray(self._predict(X), dtype=np.float64).T
        return task.counted(self._vote().combine([task.whole(column) for column in columns]))
