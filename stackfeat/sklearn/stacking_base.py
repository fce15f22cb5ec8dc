"""What `StackingClassifier` and `StackingRegressor` share: the fit over folds, and predictions for new rows.

In:  estimators, X, y.
Out: a final estimator fitted on out-of-fold rows. New rows go through the models of every fold and the
     final estimator, and predictions are averaged last (``averaging="late"``). The diagram in a notebook shows
     which outputs each part passes on, and at which level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.model_selection import check_cv
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.validation import check_is_fitted

from stackfeat.sklearn._compat import (
    _BaseStacking,
    _check_feature_names_in,
    _fit_single_estimator,
    _safe_indexing,
)
from stackfeat.sklearn.emission import (
    PREDICTIONS,
    Emission,
    check_targets,
    encodings_of,
    find_net,
    net_input,
    plan_emission,
)
from stackfeat.sklearn.final_estimator import (
    GATED_FINALS,
    FinalDesign,
    fit_design,
)
from stackfeat.sklearn.folding import FoldWorker, Reading, Views, fit_folds, read
from stackfeat.sklearn.rows import (
    as_rows,
    check_weights_supported,
    count,
    first_fold_of,
    metadata_of,
    refuse_metadata,
    route,
    split_folds,
)
from stackfeat.tasks.task import Task


def route_predict(stack: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Return what the final estimator's `predict` is given."""
    if not get_config()["enable_metadata_routing"]:
        return params
    return dict(process_routing(stack, "predict", **params).final_estimator_["predict"])


def mean(outputs: Sequence[Any]) -> Any:
    """Return the mean over pipelines, also of tuples (values, spreads) and of lists (one a label)."""
    first = outputs[0]
    if len(outputs) == 1:
        return first
    if isinstance(first, tuple | list):
        return type(first)(mean([output[i] for output in outputs]) for i in range(len(first)))
    return np.mean(outputs, axis=0)


def most_voted(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return what most pipelines say of each row (and label); the lowest code of equals."""
    if len(outputs) == 1:
        return np.asarray(outputs[0])
    votes = np.stack(outputs)
    codes = np.unique(votes)
    counts = np.stack([(votes == code).sum(axis=0) for code in codes])
    return np.asarray(codes[counts.argmax(axis=0)])


def of_estimator(name: str, value: Any, estimators: Any) -> Any:
    """Return one estimator's `emit` or `encode`: of a dict by name, else the same for all."""
    if not isinstance(value, Mapping) or "tap" in value:
        return value
    unknown = set(value) - {known for known, _ in estimators}
    if unknown:
        raise ValueError(
            f"emit and encode must name estimators ({', '.join(n for n, _ in estimators)}); got {sorted(unknown)}"
        )
    return value.get(name, "auto")


def of_prefit(name: str, plan: Emission, emit: Any) -> Emission:
    """Return what a prefit estimator is read for: it has one space, so layers are read as they are."""
    if isinstance(emit, str) and emit == "auto":
        return Emission(plan.method)
    if plan.has("geometry", "aligned", "relative"):
        raise ValueError(f"layers of prefit estimators are read as they are; set encode='raw' for {name}")
    return plan


def read_prefit(estimator: Any, emission: Emission, X: Any, n_classes: int | list[int]) -> Reading:
    """Return what a prefit estimator says of rows; its net's layers as they are."""
    prediction = read(estimator, Emission(emission.method), (), X, n_classes).prediction
    net = find_net(estimator)
    if not emission.taps or net is None:
        return Reading(prediction, {})
    caught = net.embed(net_input(estimator, X), {tap.key: tap.tap for tap in emission.taps})
    return Reading(prediction, {f"{key}@raw": values for key, values in caught.items()})


def mean_of(views: list[tuple[Any, dict[str, np.ndarray]]]) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the mean of views, column by column."""
    if len(views) == 1:
        return views[0]
    base = sum(base for base, _ in views[1:]) + views[0][0]
    features = {name: np.mean([features[name] for _, features in views], axis=0) for name in views[0][1]}
    return base / len(views), features


def label(name: str, estimator: Any, emit: Any, encode: Any, method: str = "auto") -> str:
    """Return a label such as ``net: proba, penultimate@geometry, penultimate@aligned``."""
    try:
        # No target is known before a fit: the estimator says what it is for.
        plan = plan_emission(name, estimator, emit, encode, method, has_labels=not is_regressor(estimator))
    except ValueError:
        # A drawing is no place to complain: fit does.
        return name
    said = [] if plan.method is None else [plan.method.removeprefix("predict_")]
    outputs = [*said, *(f"{tap.key}@{encoding}" for tap, encoding in encodings_of(plan))]
    return f"{name}: {', '.join(outputs)}"


class FoldStacking(_BaseStacking):
    """Stands between scikit-learn's stacks and their base: same parameters and names, own fit."""

    def _fit_stack(
        self, X: Any, y: Any, task: Task | None, n_classes: int | list[int], fit_params: Mapping[str, Any]
    ) -> Any:
        """Fit estimators over folds, then the final estimator on what they say of rows they did not see."""
        refuse_metadata(self, fit_params)
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
        # Several targets, which scikit-learn's stacks take, are no task.
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
        # As scikit-learn asks it, for several targets too.
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
        assert self._task is not None
        predictions = [(int(a), int(b)) for a, b, method in ranges if method == self._task.method]
        blocks = [(name, values.shape[1]) for name, values in features.items()]
        return GATED_FINALS[self._task.family](self._task, predictions, int(base.shape[1]), blocks)

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
