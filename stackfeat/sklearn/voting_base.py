"""What `VotingClassifier` and `VotingRegressor` share: fits on all rows, and on folds where that is needed.

In:  estimators, X, y.
Out: fitted estimators; weights or ranks fitted on predictions of rows that no estimator saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.ensemble._voting import _BaseVoting
from sklearn.model_selection import check_cv
from sklearn.utils import Bunch
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping

from stackfeat.ensemble.rank_vote import RankVote
from stackfeat.ensemble.weights import fit_simplex_weights
from stackfeat.metrics import get_metric
from stackfeat.sklearn.emission import Emission
from stackfeat.sklearn.folding import ALL, FoldWorker, KeptResults, fit_folds
from stackfeat.sklearn.routing import check_weights_supported, metadata_of, route
from stackfeat.sklearn.rows import as_rows, split_folds
from stackfeat.sklearn.views import Views
from stackfeat.task import Task

VOTE_CONSTRAINTS: dict[str, Any] = {
    "weights": ["array-like", StrOptions({"fit"}), None],
    "cv": ["cv_object"],
}


class FoldVoting(_BaseVoting):
    """Stands between scikit-learn's votes and their base: same parameters and names, own fit."""

    estimators: Any
    weights: Any
    fitted_weights_: np.ndarray | None
    rank_vote_: RankVote | None

    def _fit_votes(self, X: Any, y: np.ndarray, task: Task, fit_params: Mapping[str, Any]) -> None:
        """Fit the estimators on all rows; over folds, too, where weights or ranks are fitted."""
        names, estimators = self._validate_estimators()
        if self.weights is not None and not isinstance(self.weights, str):
            self._check_weights()
        live = {name: est for name, est in zip(names, estimators, strict=True) if est != "drop"}
        routed = route(self, fit_params, names)
        check_weights_supported(live, routed)
        needs_folds = isinstance(self.weights, str) or getattr(self, "voting", "soft") == "rank"
        X, folds = as_rows(X), None
        if needs_folds:
            cv = deepcopy(check_cv(self.cv, y, classifier=is_classifier(self)))
            folds = split_folds(cv, X, y, metadata_of(routed, "splitter", "split"))
        method = ("predict_proba" if task.is_classification else "predict") if needs_folds else None
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
            task.n_outputs if task.is_classification else 0,
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
        if getattr(self, "voting", "soft") == "rank":
            self.rank_vote_ = RankVote.fit(kept, task)
            return
        target = np.asarray(y)[rows].astype(np.int64 if task.is_classification else np.float64)
        metric = get_metric("log_loss" if task.is_classification else "rmse", task.kind)
        weight = None if weight is None else np.asarray(weight, dtype=np.float64)[rows]
        self.fitted_weights_ = fit_simplex_weights(kept, target, metric, task, weight=weight)

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
