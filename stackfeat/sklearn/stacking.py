"""`StackingClassifier` and `StackingRegressor`: scikit-learn's stacks with hidden layers and fold pipelines.

In:  estimators by name, a final estimator.
Out: predictions of K pipelines, averaged last. All that is not named here is `stacking_base`.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Self

import numpy as np
from sklearn import ensemble
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d

from stackfeat.errors import LeakWarning
from stackfeat.sklearn._compat import StrOptions, _estimator_has, _fit_context
from stackfeat.sklearn.diagnostics import diagnose_stack
from stackfeat.sklearn.stacking_base import FoldStacking, mean, most_voted, route_predict
from stackfeat.tasks.classification import of_labels
from stackfeat.tasks.task import Task

_FINAL = ("final_estimator_", "final_estimator")
_IN_SAMPLE = (
    "fit_transform of a stack gives rows by models that saw them, as in scikit-learn; use oof_, or "
    "OutOfFoldFeatures in a pipeline"
)

STACK_CONSTRAINTS: dict[str, Any] = {
    "emit": "no_validation",
    "encode": "no_validation",
    "averaging": [StrOptions({"late", "early", "refit"})],
    "gate": ["boolean"],
    "passthrough": ["boolean", list, tuple],
}


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
    classes_ : ndarray of shape (n_classes,)
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

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ensemble.StackingClassifier._parameter_constraints,
        **STACK_CONSTRAINTS,
    }

    _label_encoder: Any
    classes_: Any

    def __init__(
        self,
        estimators: Any,
        final_estimator: Any = None,
        *,
        cv: Any = None,
        stack_method: str = "auto",
        n_jobs: int | None = None,
        passthrough: Any = False,
        verbose: int = 0,
        emit: Any = "auto",
        encode: Any = "auto",
        averaging: str = "late",
        gate: bool = True,
    ) -> None:
        super().__init__(
            estimators,
            final_estimator,
            cv=cv,
            stack_method=stack_method,
            n_jobs=n_jobs,
            passthrough=passthrough,
            verbose=verbose,
        )
        self.emit = emit
        self.encode = encode
        self.averaging = averaging
        self.gate = gate

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
        check_classification_targets(y)
        if type_of_target(y) == "multilabel-indicator":
            columns = np.asarray(y).T
            self._label_encoder = [LabelEncoder().fit(column) for column in columns]
            self.classes_ = [encoder.classes_ for encoder in self._label_encoder]
            pairs = zip(self._label_encoder, columns, strict=True)
            codes = np.array([encoder.transform(column) for encoder, column in pairs]).T
            n_classes = [len(classes) for classes in self.classes_]
            self._fit_stack(X, codes, None, n_classes, fit_params)
            return self
        encoder = LabelEncoder().fit(y)
        self._label_encoder, self.classes_ = encoder, encoder.classes_
        task = of_labels(encoder.classes_.tolist())
        self._fit_stack(X, encoder.transform(y), task, len(self.classes_), fit_params)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Fit, and return in-sample columns, as scikit-learn's; warns, because `oof_` is what to learn from."""
        warnings.warn(_IN_SAMPLE, LeakWarning, stacklevel=2)
        return self.fit(X, y, **fit_params).transform(X)

    @available_if(_estimator_has("predict", delegates=_FINAL))
    def predict(self, X: Any, **predict_params: Any) -> np.ndarray:
        """Return the class of each sample: the most probable one in the mean over pipelines.

        A final estimator without probabilities is asked for decisions, else for votes; parameters
        go to its `predict`, whose votes are then counted.
        """
        check_is_fitted(self)
        params = route_predict(self, predict_params)
        codes = self._codes(X, params)
        if isinstance(self._label_encoder, list):
            pairs = zip(self._label_encoder, codes.T, strict=True)
            return np.array([encoder.inverse_transform(column) for encoder, column in pairs]).T
        return np.asarray(self._label_encoder.inverse_transform(codes))

    @property
    def _has_pipelines(self) -> bool:
        """Whether several pipelines are averaged, of one label a row."""
        single = not isinstance(self._label_encoder, list)
        return single and bool(self.fits_) and self.averaging == "late"

    def _codes(self, X: Any, params: dict[str, Any]) -> np.ndarray:
        final = self.final_estimator_
        if self._has_pipelines and not params:
            if hasattr(final, "predict_proba"):
                return np.asarray(
                    final.classes_[mean(self._final_outputs("predict_proba", X)).argmax(axis=1)]
                )
            if hasattr(final, "decision_function"):
                scores = mean(self._final_outputs("decision_function", X))
                chosen = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
                return np.asarray(final.classes_[chosen])
        return most_voted(self._final_outputs("predict", X, **params))

    @available_if(_estimator_has("predict_proba", delegates=_FINAL))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return class probabilities, the mean over pipelines, (n_samples, n_classes)."""
        proba = mean(self._final_outputs("predict_proba", X))
        if isinstance(self._label_encoder, list):
            return np.array([column[:, 0] for column in proba]).T
        return proba

    @available_if(_estimator_has("decision_function", delegates=_FINAL))
    def decision_function(self, X: Any) -> np.ndarray:
        """Return decision values of the final estimator.

        Over several pipelines they are log-odds (or log-probabilities) of the mean probabilities, so that
        they agree with `predict_proba`; a final estimator without probabilities gives mean decisions.
        """
        check_is_fitted(self)
        if not self._has_pipelines or not hasattr(self.final_estimator_, "predict_proba"):
            return mean(self._final_outputs("decision_function", X))
        logs = np.log(np.maximum(self.predict_proba(X), np.finfo(np.float64).tiny))
        return logs[:, 1] - logs[:, 0] if logs.shape[1] == 2 else logs

    @property
    def diagnostics_(self) -> dict[str, Any]:
        """What the gate did, what blocks give away, and the nested score."""
        return diagnose_stack(self)


class StackingRegressor(ensemble.StackingRegressor, FoldStacking):
    """scikit-learn's `StackingRegressor`, with hidden layers of nets and K pipelines averaged last.

    Parameters
    ----------
    estimators, final_estimator, cv, n_jobs, passthrough, verbose, emit, encode, averaging, gate
        As in `StackingClassifier`; `final_estimator` None is `RidgeCV`, or `gated_linear`.

    Attributes
    ----------
    estimators_, named_estimators_, fold_estimators_, final_estimator_, oof_, folds_, stack_method_, diagnostics_
        As in `StackingClassifier`.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ensemble.StackingRegressor._parameter_constraints,
        **STACK_CONSTRAINTS,
    }

    def __init__(
        self,
        estimators: Any,
        final_estimator: Any = None,
        *,
        cv: Any = None,
        n_jobs: int | None = None,
        passthrough: Any = False,
        verbose: int = 0,
        emit: Any = "auto",
        encode: Any = "auto",
        averaging: str = "late",
        gate: bool = True,
    ) -> None:
        super().__init__(
            estimators, final_estimator, cv=cv, n_jobs=n_jobs, passthrough=passthrough, verbose=verbose
        )
        self.emit = emit
        self.encode = encode
        self.averaging = averaging
        self.gate = gate

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Fit; parameters as in `StackingClassifier.fit`, y of shape (n_samples,)."""
        y = column_or_1d(y, warn=True)
        self._fit_stack(X, y, Task("regression"), 0, fit_params)
        return self

    def fit_transform(self, X: Any, y: Any, **fit_params: Any) -> Any:
        """Fit, and return in-sample columns, as scikit-learn's; warns, because `oof_` is what to learn from."""
        warnings.warn(_IN_SAMPLE, LeakWarning, stacklevel=2)
        return self.fit(X, y, **fit_params).transform(X)

    @available_if(_estimator_has("predict", delegates=_FINAL))
    def predict(self, X: Any, **predict_params: Any) -> Any:
        """Return values, the mean over pipelines; parameters go to the final estimator's `predict`."""
        return mean(self._final_outputs("predict", X, **route_predict(self, predict_params)))

    @property
    def diagnostics_(self) -> dict[str, Any]:
        """What the gate did, what blocks give away, and the nested score."""
        return diagnose_stack(self)
