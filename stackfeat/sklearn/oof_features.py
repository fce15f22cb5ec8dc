"""`OutOfFoldFeatures`: a transformer whose training rows are made by models that never saw their labels.

In:  an estimator, X and y.
Out: in `fit_transform` one row per sample by the model of its fold; in `transform` rows of new samples
     by the models of all folds.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.validation import check_is_fitted

from stackfeat.engine.blocks import mean_of_views
from stackfeat.errors import LeakWarning
from stackfeat.sklearn._compat import HasMethods, StrOptions, _fit_context, _VisualBlock
from stackfeat.sklearn.emission import METHODS, Emission, Reading, label
from stackfeat.sklearn.folding import FoldWorker, add_splitter, split_folds
from stackfeat.sklearn.inputs import as_rows, check_width, fingerprint, route
from stackfeat.sklearn.targets import note_targets, read_classes, read_values
from stackfeat.tasks.task import Task

ESTIMATOR = "estimator"


@dataclass(eq=False, repr=False)
class OutOfFoldFeatures(TransformerMixin, BaseEstimator):
    """Predictions and hidden layers of an estimator as features that no label leaks into.

    `fit_transform` gives for every row what the model of its fold says, which was fitted without it, as
    `sklearn.preprocessing.TargetEncoder` does; `transform` is for new rows. So a pipeline that is
    scored on its training rows, or tuned by cross-validation, is judged honestly.

    Parameters
    ----------
    estimator : estimator
        Any of scikit-learn's kind; hidden layers are read of `NetClassifier` and `NetRegressor`, also as the
        last step of a pipeline.
    emit : {"auto", "proba", "decision", "prediction"}, tap, dict or sequence of them, default="auto"
        ``auto``: probabilities (else decision values, else predictions), and of nets the penultimate
        layer. A layer of the estimator's module goes by its name. A dict has the keys of a tap in a config:
        ``{"tap": "blocks.*", "last": 2, "pool": "mean"}``.
    encode : "auto", str or sequence of str, default="auto"
        How a layer becomes columns: ``geometry``, ``aligned``, ``relative``, ``raw``; ``auto`` is the
        first two. Activations of different folds share no columns unless they are encoded.
    cv : int, splitter or iterable, default=5
        Rows that no fold predicts (splitters over time) are NaN in `fit_transform`; rows predicted
        several times get the mean.
    views : {"mean", "first"}, default="mean"
        New rows: the mean over the models of all folds, or the first fold's alone.
    n_jobs : int or None, default=None
        Fits at a time, in the joblib backend in use.
    verbose : int, default=0
        As in `StackingClassifier`.

    Attributes
    ----------
    oof_ : ndarray of shape (n_samples, n_columns)
        What `fit_transform` returned.
    folds_ : ndarray of shape (n_samples,)
        The (first) fold that predicted each row, -1 where none did.
    estimators_ : list of estimator
        One for each fold.
    diagnostics_ : dict
        Of each output: how well a row's fold can be guessed from it, and what is past its threshold.
    classes_ : ndarray
        Classification alone.
    targets_ : ndarray of shape (n_targets,)
        Names of the columns of y, of several alone.
    n_features_in_ : int
    feature_names_in_ : ndarray

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> features = OutOfFoldFeatures(DecisionTreeClassifier(random_state=0), cv=3)
    >>> features.fit_transform(X, y).shape
    (150, 3)
    >>> features.get_feature_names_out().tolist()
    ['proba_0', 'proba_1', 'proba_2']
    """

    estimator: Any
    emit: Any = "auto"
    encode: Any = "auto"
    cv: Any = 5
    _: KW_ONLY
    views: str = "mean"
    n_jobs: int | None = None
    verbose: int = 0

    _expected_failures: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("check_transformer_general", "check_transformer_data_not_an_array"),
        "fit_transform gives out-of-fold rows and transform rows of new samples, as TargetEncoder does: for the rows "
        "it was fitted on the two differ",
    )
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": [HasMethods("fit")],
        "emit": "no_validation",
        "encode": "no_validation",
        "cv": ["cv_object"],
        "views": [StrOptions({"mean", "first"})],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Fit the estimator for every fold; parameters as in `fit_transform`."""
        self.fit_transform(X, y, **fit_params)
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> np.ndarray:
        """Fit the estimator for every fold, and return the rows that each says of those it did not see.

        Parameters
        ----------
        X : whatever the estimator takes
        y : array of shape (n_samples,), or of several columns (n_samples, n_targets)
            Of a classifier 0 and 1 in a column for each label.
        **fit_params : dict
            ``sample_weight`` for the estimator and ``groups`` for the splitter; with metadata routing
            whatever they ask for.

        Returns
        -------
        ndarray of shape (n_samples, n_columns)

        Raises
        ------
        ValueError
            If y is missing, the splitter cannot be used, or the estimator cannot emit what is asked for.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X, name = as_rows(X), type(self.estimator).__name__
        check_width(self, X, reset=True)
        codes, task = self._target(y)
        params, of_split = route(self, fit_params, {ESTIMATOR: self.estimator})
        emission = Emission.plan(
            name, self.estimator, self.emit, self.encode, has_labels=task.output == "proba"
        )
        cv = check_cv(self.cv, codes, classifier=task.is_stratified)
        folds = split_folds(cv, X, codes, of_split)
        live, emissions = {ESTIMATOR: self.estimator}, {ESTIMATOR: emission}
        worker = FoldWorker(live, emissions, params, X, codes, folds, task)
        self.fits_ = worker.run(n_jobs=self.n_jobs, verbose=self.verbose, whole=False)[ESTIMATOR]
        self.estimators_ = [fit.estimator for fit in self.fits_.fits]
        self.folds_ = folds.fold_of(0)
        oof = self.fits_.oof()
        outputs = self._outputs(oof)
        note_targets(self, task)
        self.columns_ = {output: values.shape[1] for output, values in outputs.items()}
        self.oof_ = np.hstack(list(outputs.values()))
        group = of_split.get("groups")
        self.diagnostics_ = self.fits_.diagnose(oof.columns, codes, self.folds_, group)
        self._fitted_rows = fingerprint(X)
        return self.oof_.copy()

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of new rows.

        Parameters
        ----------
        X : as in `fit_transform`

        Returns
        -------
        ndarray of shape (n_samples, n_columns)

        Warns
        -----
        LeakWarning
            If X is what was fitted on: models of other folds saw these rows' labels.
        """
        check_is_fitted(self)
        X = as_rows(X)
        check_width(self, X, reset=False)
        if fingerprint(X) == self._fitted_rows:
            warnings.warn(
                "transform got the rows it was fitted on: most fold models saw their labels, so these features "
                "are in-sample; use fit_transform, or oof_",
                LeakWarning,
                stacklevel=2,
            )
        folds = range(1) if self.views == "first" else range(len(self.estimators_))
        views = [np.hstack(list(self._outputs(self.fits_.read(X, fold)).values())) for fold in folds]
        return np.asarray(mean_of_views(views), dtype=np.result_type(views[0], np.float32))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return a name for each column, such as ``proba_1`` or ``penultimate@aligned#007``."""
        check_is_fitted(self)
        task, names = self.fits_.task, list[str]()
        for output, width in self.columns_.items():
            if width > 1 and width == len(task.targets):
                names += [f"{output}_{target}" for target in task.targets]
            elif output == "proba" and hasattr(self, "classes_"):
                labels = self.classes_[1:] if width == 1 else self.classes_
                names += [f"proba_{label}" for label in labels]
            elif width == 1:
                names.append(output)
            else:
                digits = max(3, len(str(width - 1)))
                names += [f"{output}#{j:0{digits}d}" for j in range(width)]
        return np.asarray(names, dtype=object)

    def get_metadata_routing(self) -> MetadataRouter:
        """Say who asks for which metadata: the estimator's `fit`, the splitter's `split`."""
        router = MetadataRouter(owner=self)
        router.add(
            estimator=self.estimator,
            method_mapping=MethodMapping()
            .add(caller="fit", callee="fit")
            .add(caller="fit_transform", callee="fit"),
        )
        return add_splitter(router, self.cv, "fit", "fit_transform")

    def _target(self, y: Any) -> tuple[np.ndarray, Task]:
        """Return what estimators are fitted on: class codes, or values as they are."""
        # What kind of task it is, the estimator decides.
        if not is_classifier(self.estimator):
            return read_values(y)
        self.classes_, codes, task = read_classes(self, y)
        return codes, task

    def _outputs(self, reading: Reading) -> dict[str, np.ndarray]:
        """Return the columns of each output: of a prediction first, then of the taps."""
        method = self.fits_.emission.method
        if method is None:
            return reading.columns
        (word,) = (word for word in METHODS if METHODS[word] == method)
        columns = prediction_columns(reading.prediction, method, self.fits_.task)
        return {word: columns, **reading.columns}

    def _sk_visual_block_(self) -> Any:
        """Draw the estimator with what is emitted of it."""
        name = label(ESTIMATOR, self.estimator, self.emit, self.encode)
        return _VisualBlock("parallel", [self.estimator], names=[name])

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "oof_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


def prediction_columns(prediction: Any, method: str, task: Task) -> np.ndarray:
    """Return one column per class (of two: of the second), per label or per target, float64.

    Labels become certain probabilities, so that fold models can be averaged.
    """
    values, n_classes = np.asarray(prediction), len(task.classes)
    if method == METHODS["prediction"] and n_classes:
        shares = (values[:, None] == np.arange(n_classes)).astype(np.float64)
        shares[np.isnan(values)] = np.nan
        return shares[:, 1:] if n_classes == 2 else shares
    columns = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    return columns[:, 1:] if method == METHODS["proba"] and n_classes == 2 else columns
