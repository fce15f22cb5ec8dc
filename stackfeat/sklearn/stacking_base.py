"""What `StackingClassifier` and `StackingRegressor` share: the fit over folds, and views of new rows.

In:  estimators, X, y.
Out: a final estimator fitted on out-of-fold rows. New rows go through the models of every fold and the
     final estimator, and predictions are averaged last (``averaging="late"``).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone, is_classifier
from sklearn.ensemble._base import _fit_single_estimator
from sklearn.ensemble._stacking import _BaseStacking
from sklearn.model_selection import check_cv
from sklearn.utils import Bunch, _safe_indexing
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, _raise_for_params
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from stackfeat.sklearn.emission import (
    PREDICTIONS,
    Emission,
    check_targets,
    find_net,
    plan_emission,
)
from stackfeat.sklearn.final import FinalDesign, GatedFinalClassifier, GatedFinalRegressor, fit_design
from stackfeat.sklearn.folding import FoldWorker, Reading, fit_folds
from stackfeat.sklearn.picture import label
from stackfeat.sklearn.routing import check_weights_supported, metadata_of, route
from stackfeat.sklearn.rows import as_rows, count, first_fold_of, split_folds
from stackfeat.sklearn.stack_parts import mean_of, of_estimator, of_prefit, read_prefit
from stackfeat.sklearn.views import Views
from stackfeat.task import Task


class FoldStacking(_BaseStacking):
    """Stands between scikit-learn's stacks and their base: same parameters and names, own fit."""

    def _fit_stack(
        self, X: Any, y: Any, task: Task | None, n_classes: int | list[int], fit_params: Mapping[str, Any]
    ) -> Any:
        """Fit estimators over folds, then the final estimator on what they say of rows they did not see."""
        _raise_for_params(fit_params, self, "fit", allow=["sample_weight", "groups"])
        names, estimators = self._validate_estimators()
        self._validate_final_estimator()
        live = {name: est for name, est in zip(names, estimators, strict=True) if est != "drop"}
        routed = route(self, fit_params, names)
        check_weights_supported(live, routed)
        X = as_rows(X)
        self._task, self._n_classes = task, n_classes
        self._emissions = {name: self._plan(name, est) for name, est in live.items()}
        if self.cv == "prefit":
            readings, covered = self._read_prefit(live, X)
        else:
            readings, covered = self._fit_over_folds(live, X, y, routed)
        self._note_estimators(names, estimators)
        self.stack_method_ = [e.method for e in self._emissions.values() if e.method is not None]
        base, features = self._meta(X, readings)
        self._fit_final(base, features, y, covered, fit_params)
        return self

    def _plan(self, name: str, estimator: Any) -> Emission:
        emit = self._emit_of(name, estimator)
        encode = of_estimator(name, self.encode, self.estimators)
        plan = plan_emission(name, estimator, emit, encode, self.stack_method, has_labels=is_classifier(self))
        if self.cv == "prefit":
            return of_prefit(name, plan, emit)
        check_targets(name, plan, self._task)
        return plan

    def _emit_of(self, name: str, estimator: Any) -> Any:
        emit = of_estimator(name, self.emit, self.estimators)
        if self.emit is not emit or emit == "auto" or find_net(estimator) is not None:
            return emit
        # Said for all estimators: layers are those of nets.
        items = [emit] if isinstance(emit, str) else list(emit)
        return [item for item in items if isinstance(item, str) and item in PREDICTIONS] or "auto"

    def _fit_over_folds(
        self, live: Mapping[str, Any], X: Any, y: Any, routed: Any
    ) -> tuple[dict[str, Reading], np.ndarray]:
        cv = deepcopy(check_cv(self.cv, y=y, classifier=is_classifier(self)))
        folds = split_folds(cv, X, y, metadata_of(routed, "splitter", "split"))
        params = {name: metadata_of(routed, name, "fit") for name in live}
        worker = FoldWorker(live, self._emissions, params, X, y, folds, self._task, self._n_classes)
        results = fit_folds(worker, n_jobs=self.n_jobs, verbose=self.verbose)
        self.fits_ = {
            name: Views.of(name, emission, folds, results, self._n_classes)
            for name, emission in self._emissions.items()
        }
        self.estimators_ = [views.whole.estimator for views in self.fits_.values() if views.whole]
        self.fold_estimators_ = {
            name: [fit.estimator for fit in views.fits] for name, views in self.fits_.items()
        }
        self.folds_ = first_fold_of(folds)
        readings = {}
        for name, views in self.fits_.items():
            prediction = None if views.emission.method is None else views.oof_prediction()[0]
            readings[name] = Reading(prediction, views.oof_features())
        return readings, self.folds_ >= 0

    def _read_prefit(self, live: Mapping[str, Any], X: Any) -> tuple[dict[str, Reading], np.ndarray]:
        for estimator in live.values():
            check_is_fitted(estimator)
        self.fits_, self.fold_estimators_ = {}, {}
        self.estimators_ = list(live.values())
        readings = self._readings(X)
        n_rows = count(X)
        self.folds_ = np.zeros(n_rows, dtype=np.int64)
        return readings, np.ones(n_rows, dtype=bool)

    def _note_estimators(self, names: Any, estimators: Any) -> None:
        self.named_estimators_ = Bunch()
        fitted = iter(self.estimators_)
        for name, given in zip(names, estimators, strict=True):
            self.named_estimators_[name] = "drop" if isinstance(given, str) else next(fitted)
            if hasattr(self.named_estimators_[name], "feature_names_in_"):
                self.feature_names_in_ = self.named_estimators_[name].feature_names_in_

    def _meta(self, X: Any, readings: Mapping[str, Reading]) -> tuple[Any, dict[str, np.ndarray]]:
        """Return the columns of predictions (and those passed through), and the feature blocks by name."""
        said = [reading.prediction for reading in readings.values() if reading.prediction is not None]
        passed = X
        if not isinstance(self.passthrough, bool) and self.passthrough:
            passed = _safe_indexing(X, self.passthrough, axis=1)
        features = {
            f"{name}/{output}": values
            for name, reading in readings.items()
            for output, values in reading.columns.items()
        }
        if said or self.passthrough:
            base = self._concatenate_predictions(passed, said)
        else:
            base = np.zeros((len(next(iter(features.values()))), 0))
            self._n_feature_outs: list[int] = []
        if features and issparse(base):
            raise ValueError(
                "passthrough of a sparse X beside hidden layers is not possible; use X.toarray()"
            )
        return base, features

    def _fit_final(
        self,
        base: Any,
        features: dict[str, np.ndarray],
        y: Any,
        covered: np.ndarray,
        fit_params: Mapping[str, Any],
    ) -> None:
        self._block_widths = {name: values.shape[1] for name, values in features.items()}
        self.oof_ = np.hstack([np.asarray(base), *features.values()]) if features else base
        params = {name: value for name, value in fit_params.items() if name != "groups"}
        if not covered.all():
            rows = np.flatnonzero(covered)
            base, y = base[rows], _safe_indexing(y, rows)
            features = {name: values[rows] for name, values in features.items()}
            params = {name: _safe_indexing(value, rows) for name, value in params.items()}
        self._rows_of_final = (base, features, y, params, self.folds_[covered])
        self.design_, self.final_estimator_ = self._fit_one_final(*self._rows_of_final)

    def _fit_one_final(
        self,
        base: Any,
        features: Mapping[str, np.ndarray],
        y: Any,
        params: Mapping[str, Any],
        fold_of: np.ndarray,
    ) -> tuple[FinalDesign, Any]:
        """Fit a final estimator, with its choice of blocks, on some out-of-fold rows."""
        final = clone(self.final_estimator_)
        if features and self.final_estimator is None and self.gate:
            final = self._gated_final(base, features)
            design = FinalDesign(dict.fromkeys(features), {})
            final.fit(design.join(base, features), y, params.get("sample_weight"), fold_of)
            return FinalDesign(design.scales, final.model_.report()), final
        design = fit_design(
            lambda: clone(self.final_estimator_),
            base,
            features,
            np.asarray(y) if features else y,
            fold_of,
            self._task,
            gate=self.gate,
            weight=params.get("sample_weight"),
        )
        return design, _fit_single_estimator(final, design.join(base, features), y, fit_params=dict(params))

    def _gated_final(self, base: Any, features: Mapping[str, np.ndarray]) -> Any:
        starts = np.cumsum([0, *self._n_feature_outs])
        ranges = zip(starts, starts[1:], self.stack_method_, strict=False)
        kind, read = (
            (GatedFinalClassifier, "predict_proba")
            if is_classifier(self)
            else (GatedFinalRegressor, "predict")
        )
        predictions = [(int(a), int(b)) for a, b, method in ranges if method == read]
        assert self._task is not None
        blocks = [(name, values.shape[1]) for name, values in features.items()]
        return kind(self._task, predictions, int(base.shape[1]), blocks)

    def _readings(self, X: Any, fold: int = -1) -> dict[str, Reading]:
        """Return what the estimators of one fold (-1: those fitted on all rows) say of new rows."""
        if self.fits_:
            return {name: views.view(fold, X) for name, views in self.fits_.items()}
        pairs = zip(self._emissions.items(), self.estimators_, strict=True)
        return {name: read_prefit(est, emission, X, self._n_classes) for (name, emission), est in pairs}

    def _meta_views(self, X: Any) -> list[tuple[Any, dict[str, np.ndarray]]]:
        """Return base columns and feature blocks of new rows, as each pipeline sees them."""
        X = as_rows(X)
        if not self.fits_ or self.averaging == "refit":
            return [self._meta(X, self._readings(X))]
        n_folds = next(iter(self.fits_.values())).folds.n_folds
        views = [self._meta(X, self._readings(X, fold)) for fold in range(n_folds)]
        return views if self.averaging == "late" else [mean_of(views)]

    def _transform(self, X: Any) -> Any:
        check_is_fitted(self)
        base, features = mean_of(self._meta_views(X))
        return np.hstack([np.asarray(base), *features.values()]) if features else base

    def _final_outputs(self, method: str, X: Any, **params: Any) -> list[Any]:
        """Return what the final estimator says of every view of the rows."""
        check_is_fitted(self)
        call = getattr(self.final_estimator_, method)
        return [call(self.design_.join(base, features), **params) for base, features in self._meta_views(X)]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return names of the columns of `transform`: predictions, feature blocks, columns passed through."""
        check_is_fitted(self, "n_features_in_")
        given = _check_feature_names_in(self, input_features, generate_names=bool(self.passthrough))
        prefix, names = type(self).__name__.lower(), []
        said = [name for name, emission in self._emissions.items() if emission.method is not None]
        for name, width in zip(said, self._n_feature_outs, strict=False):
            names += [f"{prefix}_{name}"] if width == 1 else [f"{prefix}_{name}{i}" for i in range(width)]
        if self.passthrough:
            chosen = given
            if not isinstance(self.passthrough, bool):
                chosen = [item if isinstance(item, str) else given[item] for item in self.passthrough]
            names += list(chosen)
        for name, width in self._block_widths.items():
            names += [f"{prefix}_{name}#{i:03d}" for i in range(width)]
        return np.asarray(names, dtype=object)

    def _sk_visual_block_with_final_estimator(self, final_estimator: Any) -> Any:
        """Draw the levels, and what each estimator hands on to the next."""
        block = super()._sk_visual_block_with_final_estimator(final_estimator)
        first, last = block.estimators
        first.names = [
            name
            if isinstance(est, str)
            else label(name, est, self._emit_of(name, est), of_estimator(name, self.encode, self.estimators))
            for name, est in self.estimators
        ]
        first.names = [f"level 0 / {name}" for name in first.names]
        last.names = ["level 1 / final_estimator"]
        return block

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def get_metadata_routing(self) -> MetadataRouter:
        """Say who asks for which metadata, the splitter included."""
        router = super().get_metadata_routing()
        if hasattr(self.cv, "split"):
            router.add(splitter=self.cv, method_mapping=MethodMapping().add(caller="fit", callee="split"))
        return router
