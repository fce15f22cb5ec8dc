"""`VotingClassifier` and `VotingRegressor`: scikit-learn's votes with fitted weights, ranks and tie rules.

In:  estimators by name.
Out: one prediction. Weights and ranks are fitted on out-of-fold rows by the loop over folds; the votes
     themselves are those of `meta.votes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass
from functools import cache, partial
from typing import Any, ClassVar, Self

import numpy as np
from sklearn import ensemble
from sklearn.model_selection import check_cv
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

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
from stackfeat.sklearn.quantiles import ScoreOfLevels, at_all_levels, read_levels
from stackfeat.sklearn.targets import (
    column_ends,
    has_columns,
    note_targets,
    probabilities,
    read_label_sets,
    read_values,
)
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
        if task.n_targets > 1 and not VOTES[self.voting].takes_targets:
            raise UsageError(
                f"voting={self.voting!r} must have one column of y; got {task.n_targets}; use voting='soft'"
            )
        self._task = task
        note_targets(self, task)
        live = self._live(fit_params)
        if task.has_label_sets and VOTES[self.voting].gives_probabilities:
            for name, estimator in live.items():
                if not hasattr(estimator, task.method):
                    raise AttributeError(
                        f"estimators of a soft vote must have {task.method}; {name!r} ({type(estimator).__name__}) "
                        "has none; use voting='hard', or CalibratedClassifierCV around it"
                    )
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
        worker = FoldWorker(live, emissions, params, X, y, folds, task, messages)
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
        values = task.as_y(np.asarray(y)[rows])
        if task.n_targets > 1 and not task.has_label_sets:
            # Each target in units of its spread, or that with the largest numbers would decide alone.
            spread = np.std(values, axis=0)
            spread[spread == 0] = 1.0
            values, kept = values / spread, [one / spread for one in kept]
        target = VoteTarget(task, values, weight, metric)
        if VOTES[self.voting].is_fitted:
            self.rank_vote_ = VOTES[self.voting].fit(kept, target, {})
        else:
            self.fitted_weights_ = np.asarray(WeightedVote.fit(kept, target, {}).weights)

    def _predict(self, X: Any) -> np.ndarray:
        """Return what each estimator predicts, (n_samples, n_estimators); (n_targets, ...) of several."""
        said = [estimator.predict(with_taken_names(estimator, X)) for estimator in self.estimators_]
        return np.asarray(said).T

    def _beside(self, X: Any) -> np.ndarray:
        """Return the columns that each estimator predicts beside those of the others."""
        said = self._predict(X)
        return said if said.ndim == 2 else np.hstack(list(said.T))

    @property
    def _live_names(self) -> list[str]:
        return [name for name, estimator in self.estimators if not isinstance(estimator, str)]

    def _by_target(self, names: Sequence[str]) -> np.ndarray:
        """Return a name for each of several targets of each estimator, given those of the estimators."""
        ends = column_ends(self._task, self._task.n_targets)
        return np.asarray([f"{name}{end}" for name in names for end in ends], dtype=object)

    def _vote(self) -> Vote:
        """Return the vote that was fitted, or the one that the parameters say."""
        kind = VOTES[self.voting]
        if not issubclass(kind, GivenWeightVote):
            assert self.rank_vote_ is not None
            return self.rank_vote_
        return kind.of(len(self.estimators_), None, self._vote_options)

    @property
    def _vote_options(self) -> dict[str, Any]:
        weights = self._weights_not_none
        given = None if weights is None else [float(weight) for weight in weights]
        return {"weights": given, "tie": getattr(self, "tie", None)}

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
    targets_ : ndarray of shape (n_labels,)
        Names of the columns of y, of several alone, whose places are then the `classes_`.
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
        y : array of shape (n_samples,), or (n_samples, n_labels) of 0 and 1
        **fit_params : dict
            ``sample_weight`` and ``groups``; with metadata routing whatever is asked for.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If ``voting="rank"`` and there are more than two classes, or several columns of y.
        """
        X = as_rows(X)
        if has_columns(y):
            codes, task = read_label_sets(self, y)
            self.classes_ = np.arange(task.n_targets)
            return self._fit_labels(X, codes, task, fit_params)
        y_type = type_of_target(y, input_name="y")
        if y_type in ("unknown", "continuous"):
            raise ValueError(
                f"Unknown label type: {y_type}. Maybe you are trying to fit a classifier, which expects discrete "
                "classes, on a regression target with continuous values."
            )
        if not VOTES[self.voting].serves(y_type):
            raise ValueError(f"voting={self.voting!r} must have two classes; got more; use voting='soft'")
        self.le_ = LabelEncoder().fit(y)
        self.classes_ = self.le_.classes_
        codes = self.le_.transform(y)
        return self._fit_labels(X, codes, of_labels(self.classes_.tolist()), fit_params)

    def _fit_labels(self, X: Any, codes: np.ndarray, task: Task, fit_params: Mapping[str, Any]) -> Self:
        weight = fit_params.get("sample_weight")
        parts = enumerate(task.parts)
        totals = np.asarray(
            [part.class_totals(task.part_of_y(codes, place), weight) for place, part in parts]
        )
        shares = totals / totals.sum(axis=1, keepdims=True)
        self.priors_ = shares if task.n_targets > 1 else shares[0]
        self._fit_votes(X, codes, task, fit_params)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the winner of each row's vote; of label sets whether each label wins, (n_samples, n_labels)."""
        check_is_fitted(self)
        kind = VOTES[self.voting]
        if issubclass(kind, HardVote):
            codes = self._winners(X, kind)
        else:
            codes = self._task.decided(np.asarray(self.predict_proba(X)))
        return codes if self._task.has_label_sets else np.asarray(self.le_.inverse_transform(codes))

    def _winners(self, X: Any, kind: type[HardVote]) -> np.ndarray:
        """Return the class, or 0 or 1 for each label, that most estimators predict."""
        # The labels that estimators give count, not the greatest of their probabilities.
        said, probas = np.asarray(self._predict(X)).T, cache(lambda: self._collect_probas(X))
        found = []
        for place, (part, priors) in enumerate(
            zip(self._task.parts, np.atleast_2d(self.priors_), strict=True)
        ):
            chosen = [np.asarray(self._task.part_of_y(one, place), dtype=np.int64) for one in said]
            vote = kind.of(len(chosen), priors, self._vote_options)
            found.append(vote.winners(chosen, part.n_outputs, partial(self._of_part, probas, place)))
        return np.column_stack(found) if self._task.n_targets > 1 else found[0]

    def _of_part(self, probas: Callable[[], Any], place: int) -> list[np.ndarray]:
        return [self._task.part_of_prediction(one, place) for one in probas()]

    def _collect_probas(self, X: Any) -> np.ndarray:
        """Return the probabilities of each estimator, (n_estimators, n_samples, n_classes)."""
        said = [estimator.predict_proba(with_taken_names(estimator, X)) for estimator in self.estimators_]
        pairs = zip(self.estimators_, said, strict=True)
        return np.asarray([probabilities(estimator, one, self._task) for estimator, one in pairs])

    def _check_voting(self) -> bool:
        if not VOTES.get(self.voting, Vote).gives_probabilities:
            raise AttributeError(f"predict_proba is not available when voting={self.voting!r}")
        return True

    @available_if(_check_voting)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the weighted mean of probabilities, or of ranks, (n_samples, n_classes) or (n_samples, n_labels)."""
        check_is_fitted(self)
        return self._vote().combine(list(self._collect_probas(X)))

    def transform(self, X: Any) -> Any:
        """Return what each estimator says: labels (hard), else probabilities."""
        check_is_fitted(self)
        if not VOTES[self.voting].gives_probabilities:
            return self._beside(X)
        probas = self._collect_probas(X)
        return np.hstack(list(probas)) if self.flatten_transform else probas

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return names of the columns of `transform`."""
        if VOTES[self.voting].is_fitted and not self.flatten_transform:
            raise ValueError(
                f"get_feature_names_out must have flatten_transform=True with voting={self.voting!r}"
            )
        names = super().get_feature_names_out(input_features)
        if self._task.n_targets == 1:
            return np.asarray(names)
        return self._by_target([f"{type(self).__name__.lower()}_{name}" for name in self._live_names])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = VOTES[self.voting].takes_targets
        return tags


@dataclass(eq=False, repr=False)
class VotingRegressor(ScoreOfLevels, ensemble.VotingRegressor, FoldVoting):
    """scikit-learn's `VotingRegressor`, with fitted weights and votes by rank.

    Parameters
    ----------
    estimators, weights, n_jobs, verbose, cv
        As in `VotingClassifier`; ``weights="fit"`` minimises the squared error of out-of-fold predictions; of
        several targets the mean of their RMSE, each in units of its standard deviation.
    voting : {"soft", "rank"}, default="soft"
        The mean of values; or of ranks, which goes through a monotone map back to values.
    quantiles : sequence of float or None, default=None
        As in `StackingRegressor`; fitted weights minimise the pinball loss, and ranks are not voted on.

    Attributes
    ----------
    fitted_weights_, rank_vote_, targets_, estimators_, named_estimators_
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
        values, task = read_values(y) if self.quantiles is None else read_levels(y, self.quantiles)
        if not VOTES[self.voting].serves(task.kind):
            raise UsageError(f"quantiles are averaged; got voting={self.voting!r}; use voting='soft'")
        self._fit_votes(as_rows(X), values, task, fit_params)
        return self

    def _live(self, fit_params: Mapping[str, Any]) -> dict[str, Any]:
        return at_all_levels(super()._live(fit_params), self.quantiles)

    def transform(self, X: Any) -> np.ndarray:
        """Return what each estimator says, (n_samples, n_estimators).

        Of several targets, or of quantiles, the columns of one estimator stand beside those of the next.
        """
        check_is_fitted(self)
        return self._beside(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return names of the columns of `transform`."""
        names = super().get_feature_names_out(input_features)
        if self._task.is_by_level:
            return np.asarray(
                [f"{name}_{column}" for name in names for column in self._task.columns], dtype=object
            )
        return np.asarray(names) if self._task.n_targets == 1 else self._by_target(names)

    def predict(self, X: Any) -> np.ndarray:
        """Return the weighted mean of values, or of ranks, (n_samples,) or (n_samples, n_targets or n_levels)."""
        check_is_fitted(self)
        columns = np.asarray(self._predict(X), dtype=np.float64).T
        return self._task.counted(self._vote().combine([self._task.whole(column) for column in columns]))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self.quantiles is None and VOTES[self.voting].takes_targets
        return tags
