"""`StackingClassifier` and `StackingRegressor`: scikit-learn's stacks with hidden layers and fold pipelines.

In:  estimators by name, a final estimator, X, y.
Out: a final estimator fitted on out-of-fold rows. New rows go through the models of every fold and the
     final estimator, and predictions are averaged last (``averaging="late"``). The diagram in a notebook shows
     which outputs each part passes on, and at which level.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import hstack, issparse
from sklearn import ensemble, get_config
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from stackfeat.encodings.encoding import Raw
from stackfeat.engine.judged import number_clusters
from stackfeat.errors import LeakWarning
from stackfeat.members.class_labels import with_class_codes
from stackfeat.registry.resolve import suggest
from stackfeat.sklearn._compat import (
    StrOptions,
    _BaseStacking,
    _check_feature_names_in,
    _estimator_has,
    _fit_context,
    _fit_single_estimator,
    _safe_indexing,
)
from stackfeat.sklearn.averaging import mean, mean_of, most_voted
from stackfeat.sklearn.emission import METHODS, Emission, Reading, find_net, label, listed, net_input, read
from stackfeat.sklearn.final_estimator import (
    GATED_FINALS,
    FinalDesign,
    FinalOneByOne,
    FinalRows,
    nested_score,
)
from stackfeat.sklearn.folding import FoldEnsemble, FoldWorker, split_folds
from stackfeat.sklearn.inputs import as_rows, count, route
from stackfeat.sklearn.quantiles import ScoreOfLevels, at_all_levels, at_levels, read_levels
from stackfeat.sklearn.targets import (
    SMALLEST_SHARE,
    column_ends,
    has_columns,
    note_targets,
    probabilities,
    read_label_sets,
    read_values,
    takes_all,
)
from stackfeat.tasks.classification import of_labels
from stackfeat.tasks.task import Task

_FINAL = ("final_estimator_", "final_estimator")


def _final_has(method: str) -> Callable[[Any], bool]:
    """Whether a stack has a method: that of its final estimator. What None stands for, before a fit, has it."""

    def check(stack: Any) -> bool:
        final = vars(stack).get("final_estimator_", stack.final_estimator)
        return final is None or bool(getattr(final, method))

    return check


STACK_CONSTRAINTS: dict[str, Any] = {
    "emit": "no_validation",
    "encode": "no_validation",
    "averaging": [StrOptions({"late", "early", "refit"})],
    "gate": ["boolean"],
    "passthrough": ["boolean", list, tuple],
}


def route_predict(stack: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Return what the final estimator's `predict` is given."""
    if not get_config()["enable_metadata_routing"]:
        return params
    return dict(process_routing(stack, "predict", **params).final_estimator_["predict"])


def of_estimator(name: str, value: Any, estimators: Any) -> Any:
    """Return one estimator's `emit` or `encode`: of a dict by name, else the same for all."""
    if not isinstance(value, Mapping) or "tap" in value:
        return value
    known = [one for one, _ in estimators]
    unknown = sorted(str(one) for one in value if one not in known)
    if unknown:
        raise ValueError(
            f"emit and encode must name estimators ({', '.join(known)}); got {unknown}.{suggest(unknown[0], known)}"
        )
    return value.get(name, "auto")


def read_prefit(estimator: Any, emission: Emission, X: Any, task: Task) -> Reading:
    """Return what a prefit estimator says of rows; its net's layers as they are."""
    said, net = read(estimator, emission, None, X, task), find_net(estimator)
    if not emission.taps or net is None:
        return said
    caught = net.embed(net_input(estimator, X), {tap.key: tap.tap for tap in emission.taps})
    return Reading(said.prediction, {f"{key}@{Raw.name}": values for key, values in caught.items()})


@dataclass(eq=False, repr=False)
class FoldStacking(FoldEnsemble, _BaseStacking):
    """Stands between scikit-learn's stacks and their base: same parameters and names, own fit."""

    estimators: Any
    final_estimator: Any = None
    _: KW_ONLY
    cv: Any = None
    n_jobs: int | None = None
    passthrough: Any = False
    verbose: int = 0
    emit: Any = "auto"
    encode: Any = "auto"
    averaging: str = "late"
    gate: bool = True

    def _fit_stack(self, X: Any, y: Any, task: Task, fit_params: Mapping[str, Any]) -> Self:
        """Fit estimators over folds, then the final estimator on what they say of rows they did not see."""
        live = self._live(fit_params)
        self._validate_final_estimator()
        self._unfitted_final = with_class_codes(vars(self)["final_estimator_"], task)
        params, of_split = route(self, fit_params, live)
        X = as_rows(X)
        self._task = task
        note_targets(self, task)
        self._diagnostics: dict[str, Any] = {}
        self._check_layers(live)
        self._emissions = {name: self._plan(name, estimator) for name, estimator in live.items()}
        self.stack_method_ = [plan.method for plan in self._emissions.values() if plan.method is not None]

        if self.cv == "prefit":
            for estimator in live.values():
                check_is_fitted(estimator)
            self.fits_, self.fold_estimators_ = {}, {}
            self.estimators_ = list(live.values())
            self.folds_ = np.zeros(count(X), dtype=np.int64)
            readings, is_time = self._readings(X), False
        else:
            # As scikit-learn asks it, which has plain folds for several columns of y.
            cv = deepcopy(check_cv(self.cv, y=y, classifier=is_classifier(self)))
            folds = split_folds(cv, X, y, of_split)
            worker = FoldWorker(live, self._emissions, params, X, y, folds, task)
            self.fits_ = worker.run(n_jobs=self.n_jobs, verbose=self.verbose)
            self.fold_estimators_ = {
                name: [fit.estimator for fit in fits.fits] for name, fits in self.fits_.items()
            }
            self.estimators_ = [fits.whole.estimator for fits in self.fits_.values() if fits.whole]
            self.folds_, is_time = folds.fold_of(0), folds.is_time
            readings = {name: fits.oof() for name, fits in self.fits_.items()}
        self._note_estimators(X)

        base, features = self._meta(X, readings)
        self._block_widths = {name: values.shape[1] for name, values in features.items()}
        self.oof_ = np.hstack([np.asarray(base), *features.values()]) if features else base
        weights = {name: value for name, value in fit_params.items() if name != "groups"}
        group = of_split.get("groups")
        of_group = None if group is None else np.asarray(group)
        clusters = number_clusters(of_group, None, self.folds_, is_time)
        rows = FinalRows(base, features, y, weights, self.folds_, group, clusters)
        covered = np.flatnonzero(self.folds_ >= 0)
        self._rows_of_final = rows if len(covered) == len(self.folds_) else rows.take(covered)
        self.design_, self.final_estimator_ = self._fit_final(self._rows_of_final)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Fit, and return in-sample columns, as scikit-learn's; warns, because `oof_` is what to learn from."""
        warnings.warn(
            "fit_transform of a stack gives rows by models that saw them, as in scikit-learn; use oof_, or "
            "OutOfFoldFeatures in a pipeline",
            LeakWarning,
            stacklevel=2,
        )
        return self.fit(X, y, **fit_params).transform(X)

    @property
    def diagnostics_(self) -> dict[str, Any]:
        """What the gate did, what blocks give away, and the nested score (of fitted estimators)."""
        if not self._diagnostics:
            rows = self._rows_of_final
            blocks: dict[str, Any] = {}
            for name, fits in self.fits_.items():
                columns = {output: rows.features[f"{name}/{output}"] for output in fits.emission.outputs}
                found = fits.diagnose(columns, rows.y, rows.fold_of, rows.group)
                blocks |= {f"{name}/{output}": values for output, values in found.items()}
            self._diagnostics = {
                "gate": dict(self.design_.report),
                "blocks": blocks,
                "nested": nested_score(self, rows) if self.fits_ else {},
            }
        return self._diagnostics

    def _plan(self, name: str, estimator: Any) -> Emission:
        emit = self._emit_of(name, estimator)
        encode = of_estimator(name, self.encode, self.estimators)
        # Before a fit no target is known: the class says what it is for.
        plan = Emission.plan(name, estimator, emit, encode, self.stack_method, has_labels=is_classifier(self))
        if self.cv != "prefit":
            return plan
        # A prefit estimator has one space, so layers are read as they are.
        if isinstance(emit, str) and emit == "auto":
            return Emission(plan.method)
        if any(encoding.has_common_columns for encoding in plan.encodings):
            raise ValueError(f"layers of prefit estimators are read as they are; set encode='raw' for {name}")
        return plan

    def _check_layers(self, live: Mapping[str, Any]) -> None:
        """Refuse, or say, that layers are asked of estimators that have none."""
        if isinstance(self.emit, Mapping) and "tap" not in self.emit:
            return
        items = listed(self.emit)
        layers = [item for item in items if not (isinstance(item, str) and item in (*METHODS, "auto"))]
        if not items:
            raise ValueError("emit must name at least one output; got none; use 'auto'")
        without = [name for name, estimator in live.items() if find_net(estimator) is None]
        if layers and len(without) == len(live):
            near = suggest(layers[0], METHODS) if isinstance(layers[0], str) else ""
            raise ValueError(
                f"emit must be of {', '.join(METHODS)} where no estimator is a net; got {layers[0]!r} for "
                f"{', '.join(without)}.{near}"
            )
        if without and layers == items:
            warnings.warn(
                f"emit={self.emit!r}: {', '.join(without)} have no layers that can be read, so their predictions are "
                "passed on; name outputs by estimator in a dict to say so",
                UserWarning,
                stacklevel=4,
            )

    def _emit_of(self, name: str, estimator: Any) -> Any:
        emit = of_estimator(name, self.emit, self.estimators)
        if self.emit is not emit or emit == "auto" or find_net(estimator) is not None:
            return emit
        # Said for all estimators: layers are those of nets.
        items = [emit] if isinstance(emit, str) else list(emit)
        return [item for item in items if isinstance(item, str) and item in METHODS] or "auto"

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

    def _fit_final(self, rows: FinalRows) -> tuple[FinalDesign, Any]:
        """Fit a final estimator, with its choice of blocks, on some out-of-fold rows."""
        # No other final estimator learns all quantiles.
        is_own, task = self._task.is_by_level, self._task
        if self.final_estimator is None and (is_own or (rows.features and self.gate)):
            gated, design = self._gated_final(rows), FinalDesign(dict.fromkeys(rows.features), {})
            columns, weight = design.join(rows.base, rows.features), rows.params.get("sample_weight")
            gated.fit(columns, rows.y, weight, rows.fold_of, rows.clusters)
            return FinalDesign(design.scales, gated.report()), gated
        final, gate = partial(clone, self._unfitted_final), self.gate
        if task.n_targets > 1:
            # What is chosen, blocks or the penalty of the default, is chosen for each target.
            chooses = self.final_estimator is None or (gate and bool(rows.features))
            if not takes_all(self._unfitted_final, chooses=chooses):
                one_by_one = FinalOneByOne(self._unfitted_final, task)
                return one_by_one.fit_rows(rows, gate=gate), one_by_one
            gate = False
        design = FinalDesign.fit(final, rows, task, gate=gate)
        columns = design.join(rows.base, rows.features)
        return design, _fit_single_estimator(final(), columns, rows.y, fit_params=dict(rows.params))

    def _concatenate_predictions(self, X: Any, predictions: list[Any]) -> Any:
        """As scikit-learn's, which would take the probabilities of two labels for those of two classes."""
        if not self._task.has_label_sets:
            return super()._concatenate_predictions(X, predictions)
        self._n_feature_outs = [said.shape[1] for said in predictions]
        columns = [*predictions, X] if self.passthrough else predictions
        return hstack(columns, format=X.format) if self.passthrough and issparse(X) else np.hstack(columns)

    def _gated_final(self, rows: FinalRows) -> Any:
        starts = np.cumsum([0, *self._n_feature_outs])
        ranges = zip(starts, starts[1:], self.stack_method_, strict=False)
        predictions = [(int(a), int(b)) for a, b, method in ranges if method == self._task.method]
        blocks = list(self._block_widths.items())
        return GATED_FINALS[self._task.family](self._task, predictions, int(rows.base.shape[1]), blocks)

    def _readings(self, X: Any, fold: int = -1) -> dict[str, Reading]:
        """Return what the estimators of one fold (-1: those fitted on all rows) say of new rows."""
        if self.fits_:
            return {name: fits.read(X, fold) for name, fits in self.fits_.items()}
        pairs = zip(self._emissions.items(), self.estimators_, strict=True)
        return {name: read_prefit(one, emission, X, self._task) for (name, emission), one in pairs}

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
            names += [f"{prefix}_{name}{end}" for end in column_ends(self._task, width)]
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


@dataclass(eq=False, repr=False)
class StackingClassifier(ensemble.StackingClassifier, FoldStacking):
    """scikit-learn's `StackingClassifier`, with hidden layers of nets and K pipelines averaged last.

    Parameters
    ----------
    estimators : list of (str, estimator)
        ``"drop"`` leaves one out.
    final_estimator : estimator or None, default=None
        None is scikit-learn's `LogisticRegression`; where a hidden layer is emitted and `gate` is true it is
        `gated_linear` over centred log-probabilities.
    cv : int, splitter, iterable, "prefit" or None, default=None
        Splitters may repeat, keep groups whole (``fit(X, y, groups=...)``) or follow time; rows that no
        fold predicts are left out of the final fit.
    stack_method : {"auto", "predict_proba", "decision_function", "predict"}, default="auto"
    n_jobs : int or None, default=None
        Fits at a time, in the joblib backend in use.
    passthrough : bool or list of columns, default=False
    verbose : int, default=0
        1 shows on standard error which fits are done: a bar, or a line for each estimator; above, joblib's too.
    emit : "auto", words, taps, or dict of estimator name to them, default="auto"
        What is handed on; see `OutOfFoldFeatures`. ``auto``: predictions, and the penultimate layer of nets.
    encode : "auto", encodings, or dict of estimator name to them, default="auto"
    averaging : {"late", "early", "refit"}, default="late"
        New rows: the models of every fold and the final estimator, averaged last; means of fold models
        before the final estimator; or estimators fitted on all rows, as in scikit-learn.
    gate : bool, default=True
        Whether a hidden layer enters only where it lowers the cross-validated loss; predictions always do.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), or (n_labels, 2) of label sets
    targets_ : ndarray of shape (n_targets,)
        Names of the columns of y, of several alone.
    estimators_, named_estimators_
        Fitted on all rows.
    fold_estimators_ : dict of str to list of estimator
    final_estimator_ : estimator
    oof_ : ndarray of shape (n_samples, n_columns)
        What the final estimator was given to choose from; NaN in rows that no fold predicts.
    folds_ : ndarray of shape (n_samples,)
    stack_method_ : list of str
    diagnostics_ : dict
        ``gate``: gains of blocks; ``blocks``: how well folds can be told apart; ``nested``: scores of the
        final estimator on rows of folds that it was not fitted on. Computed when first asked for.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> stack = StackingClassifier(
    ...     [("tree", DecisionTreeClassifier(random_state=0)), ("line", LogisticRegression(max_iter=500))]
    ... ).fit(X, y)
    >>> stack.oof_.shape, len(stack.fold_estimators_["tree"])
    ((150, 6), 5)
    """

    _: KW_ONLY
    stack_method: str = "auto"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ensemble.StackingClassifier._parameter_constraints,
        **STACK_CONSTRAINTS,
    }

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Fit the estimators over folds, and the final estimator on what they say of rows they did not see.

        Parameters
        ----------
        X : whatever the estimators take
        y : array of shape (n_samples,), or (n_samples, n_labels) of 0 and 1
        **fit_params : dict
            ``sample_weight`` and ``groups``; with metadata routing whatever is asked for.

        Returns
        -------
        self
        """
        if has_columns(y):
            codes, task = read_label_sets(self, y)
            self.classes_ = np.tile([0, 1], (task.n_targets, 1))
            return self._fit_stack(X, codes, task, fit_params)
        check_classification_targets(y)
        encoder = LabelEncoder().fit(y)
        self._label_encoder, self.classes_ = encoder, encoder.classes_
        return self._fit_stack(X, encoder.transform(y), of_labels(encoder.classes_.tolist()), fit_params)

    @available_if(_final_has("predict"))
    def predict(self, X: Any, **predict_params: Any) -> np.ndarray:
        """Return the class of each sample: the most probable one in the mean over pipelines.

        A final estimator without probabilities is asked for decisions, else for votes; parameters
        go to its `predict`, whose votes are then counted.
        """
        check_is_fitted(self)
        params = route_predict(self, predict_params)
        codes = self._codes(X, params)
        if self._task.has_label_sets:
            return codes
        return np.asarray(self._label_encoder.inverse_transform(codes))

    @property
    def _has_pipelines(self) -> bool:
        """Whether several pipelines are averaged."""
        return bool(self.fits_) and self.averaging == "late"

    def _codes(self, X: Any, params: dict[str, Any]) -> np.ndarray:
        final, has_sets = self.final_estimator_, self._task.has_label_sets
        if not self._has_pipelines or params:
            return most_voted(self._final_outputs("predict", X, **params))
        if hasattr(final, "predict_proba"):
            said = self._task.decided(self.predict_proba(X))
        elif hasattr(final, "decision_function"):
            scores = mean(self._final_outputs("decision_function", X))
            is_sign = has_sets or scores.ndim == 1
            said = (scores > 0).astype(np.int64) if is_sign else scores.argmax(axis=1)
        else:
            return most_voted(self._final_outputs("predict", X))
        return said if has_sets else np.asarray(final.classes_[said])

    @available_if(_final_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the mean probabilities over pipelines, (n_samples, n_classes) or (n_samples, n_labels)."""
        said = self._final_outputs("predict_proba", X)
        return np.asarray(mean([probabilities(self.final_estimator_, one, self._task) for one in said]))

    @available_if(_estimator_has("decision_function", delegates=_FINAL))
    def decision_function(self, X: Any) -> np.ndarray:
        """Return decision values of the final estimator.

        Over several pipelines they are log-odds (or log-probabilities) of the mean probabilities, so that
        they agree with `predict_proba`; a final estimator without probabilities gives mean decisions.
        """
        check_is_fitted(self)
        if not self._has_pipelines or not hasattr(self.final_estimator_, "predict_proba"):
            return mean(self._final_outputs("decision_function", X))
        proba = self.predict_proba(X)
        if self._task.has_label_sets:
            return self._task.unbounded(proba, SMALLEST_SHARE)
        logs = np.log(np.maximum(proba, np.finfo(np.float64).tiny))
        return logs[:, 1] - logs[:, 0] if logs.shape[1] == 2 else logs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@dataclass(eq=False, repr=False)
class StackingRegressor(ScoreOfLevels, ensemble.StackingRegressor, FoldStacking):
    """scikit-learn's `StackingRegressor`, with hidden layers of nets and K pipelines averaged last.

    Parameters
    ----------
    estimators, final_estimator, cv, n_jobs, passthrough, verbose, emit, encode, averaging, gate
        As in `StackingClassifier`; `final_estimator` None is `RidgeCV`, or `gated_linear`.
    quantiles : sequence of float or None, default=None
        Levels between 0 and 1, ascending. Nets are told them, boosting and `QuantileRegressor`, also at the end of a
        pipeline, are fitted once for each; `final_estimator` None is then `gated_linear`. `predict` gives a column
        for each level; they never cross.

    Attributes
    ----------
    targets_, estimators_, named_estimators_, fold_estimators_, final_estimator_, oof_, folds_, stack_method_, \
diagnostics_
        As in `StackingClassifier`.
    """

    _: KW_ONLY
    quantiles: Any = None

    stack_method: ClassVar[str] = "predict"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ensemble.StackingRegressor._parameter_constraints,
        **STACK_CONSTRAINTS,
        "quantiles": ["array-like", None],
    }

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Fit; parameters as in `StackingClassifier.fit`, y of shape (n_samples,) or (n_samples, n_targets)."""
        values, task = read_values(y) if self.quantiles is None else read_levels(y, self.quantiles)
        return self._fit_stack(X, values, task, fit_params)

    def _live(self, fit_params: Mapping[str, Any]) -> dict[str, Any]:
        return at_all_levels(super()._live(fit_params), None if self.cv == "prefit" else self.quantiles)

    def _validate_final_estimator(self) -> None:
        super()._validate_final_estimator()
        if self.quantiles is not None and self.final_estimator is not None:
            self.final_estimator_ = at_levels("final_estimator", self.final_estimator_, self.quantiles)

    fit_transform = FoldStacking.fit_transform

    @available_if(_final_has("predict"))
    def predict(self, X: Any, **predict_params: Any) -> Any:
        """Return values, the mean over pipelines; parameters go to the final estimator's `predict`."""
        return mean(self._final_outputs("predict", X, **route_predict(self, predict_params)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self.quantiles is None
        return tags
