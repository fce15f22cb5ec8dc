"""`NetClassifier` and `NetRegressor`: nets as scikit-learn estimators.

In:  X (2-D, N-D, DataFrame, dict of arrays) and labels, or values of one or several targets.
Out: classes and probabilities, or values. Everything else is in `net_base`.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from stackfeat.sklearn._compat import Interval, StrOptions, _fit_context
from stackfeat.sklearn.inputs import check_weight, n_rows_of
from stackfeat.sklearn.net_base import BaseNet
from stackfeat.tasks.classification import of_labels
from stackfeat.tasks.regression import of_values

SMALLEST = np.finfo(np.float64).tiny


class NetClassifier(ClassifierMixin, BaseNet):
    """A PyTorch net as a classifier, trained as the pipeline trains its members.

    Parameters
    ----------
    module : str, class, callable or nn.Module, default="mlp"
        A name of the table of nets, ``"pkg.mod:Net"``, a class or factory, or a module. Of `n_features`,
        `n_outputs`, `cardinalities` and `shapes` the constructor gets those that its signature names.
        A module is never trained itself: every fit starts from a deep copy.
    net_params : dict, optional
        Further arguments of the constructor.
    epochs, batch_size, lr, weight_decay, schedule, warmup, clip_norm, label_smoothing, loss, patience, \
validation_fraction, amp, channels_last, folds_at_once, ema, mixup, cutmix
        As ``train`` of a config.
    early_stopping : {"auto", "fixed", "refit", "inner"} or bool, default="auto"
        ``auto``: ``refit`` where `patience` is given, else all epochs. ``refit`` finds the best epoch on a
        stratified share of the rows and trains again on all of them; ``inner`` keeps that model.
        True is ``refit`` with a patience of 10 unless given, False is ``fixed``.
    class_weight : {"none", "balanced"}, dict or None, default=None
    scaling : {"quantile", "standard", "none"}, default="quantile"
        Preparation of 2-D numeric columns. ``none`` hands the array to the net as it is.
    output : {"auto", "logits", "proba", "log_proba"}, default="auto"
        What ``forward`` returns; ``auto`` looks at the output of a few rows.
    seeds : int, default=1
        Nets whose predictions are averaged.
    warm_start : bool, default=False
        Whether a further `fit` goes on from the weights (and the preparation of columns) of the last.
    device : str, default="auto"
    threads : int, default=1
        Threads of torch; results may depend on it.
    random_state : int, RandomState or None, default=None
    verbose : int, default=0
        1 prints a line a fit, 2 a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
    module_ : nn.Module
    fitted_ : FittedNets
    n_iter_ : int
        Epochs.
    loss_curve_, validation_curve_ : list of float

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NetClassifier("mlp", net_params={"hidden": [16]}, epochs=20, random_state=0).fit(X, y)
    >>> net.predict_proba(X[:2]).shape
    (2, 3)
    >>> net.embed(X[:2])["penultimate"].shape
    (2, 16)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseNet._parameter_constraints,
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"none", "balanced"}), None],
    }

    def __init__(
        self,
        module: Any = "mlp",
        *,
        net_params: dict[str, Any] | None = None,
        epochs: int = 60,
        batch_size: int = 256,
        lr: float = 5e-3,
        weight_decay: float = 1e-2,
        schedule: str = "cosine",
        warmup: float = 0.0,
        clip_norm: float | None = 1.0,
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        loss: str = "auto",
        patience: int | None = None,
        early_stopping: str | bool = "auto",
        validation_fraction: float = 0.15,
        amp: str = "auto",
        channels_last: str = "auto",
        folds_at_once: str = "auto",
        ema: float | None = None,
        mixup: float | None = None,
        cutmix: float | None = None,
        scaling: str = "quantile",
        output: str = "auto",
        seeds: int = 1,
        warm_start: bool = False,
        device: str = "auto",
        threads: int | None = 1,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            module,
            net_params=net_params,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=warmup,
            clip_norm=clip_norm,
            loss=loss,
            patience=patience,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            amp=amp,
            channels_last=channels_last,
            folds_at_once=folds_at_once,
            ema=ema,
            mixup=mixup,
            cutmix=cutmix,
            scaling=scaling,
            output=output,
            seeds=seeds,
            warm_start=warm_start,
            device=device,
            threads=threads,
            random_state=random_state,
            verbose=verbose,
        )
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the net.

        Parameters
        ----------
        X : array of shape (n_samples, ...), DataFrame, or dict of them
            2-D numbers and DataFrames are prepared as a table (missing values filled in, categories
            encoded); arrays of more dimensions reach the net as they are.
        y : array of shape (n_samples,)
            Labels of at least two classes.
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X, y or parameters cannot be used.
        MemberError
            If the net cannot be built, run or trained.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X = self._checked(X, reset=True)
        y = column_or_1d(y, warn=True)
        check_consistent_length(np.empty(n_rows_of(X)), y)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} must have at least 2 classes in y; got 1 class: {classes[0]!r}; "
                "add rows of another class"
            )
        weight = check_weight(sample_weight, len(y))
        if isinstance(self.class_weight, dict):
            by_class = compute_sample_weight(self.class_weight, y)
            weight = by_class if weight is None else weight * by_class
        self.classes_ = classes
        return self._fit_nets(X, codes.astype(np.int64), of_labels(classes.tolist()), weight)

    def _loss_options(self) -> dict[str, Any]:
        return {"class_weight": "balanced" if self.class_weight == "balanced" else "none"}

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return class probabilities.

        Parameters
        ----------
        X : as in `fit`

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Columns in the order of `classes_`; the same bits for a row in any company.
        """
        return self._emit(X)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`."""
        return np.asarray(np.log(np.maximum(self._emit(X), SMALLEST)))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return log-odds: (n_samples,) of ``classes_[1]``, or centred log-probabilities per class."""
        logs = self.predict_log_proba(X)
        return logs[:, 1] - logs[:, 0] if logs.shape[1] == 2 else logs - logs.mean(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each sample, shape (n_samples,)."""
        proba = self._emit(X)
        return np.asarray(self.classes_[proba.argmax(axis=1)])


class NetRegressor(RegressorMixin, BaseNet):
    """A PyTorch net as a regressor of one or several targets, which it standardises.

    Parameters
    ----------
    module, net_params, epochs, batch_size, lr, weight_decay, schedule, warmup, clip_norm, loss, patience, \
early_stopping, validation_fraction, amp, channels_last, folds_at_once, ema, mixup, cutmix, \
scaling, output, seeds, warm_start, device, threads, random_state, verbose
        As in `NetClassifier`; `loss` is ``mse``, ``mae`` or ``huber``, and ``auto`` is ``mse``. With several
        targets a row's loss is the mean over them.

    Attributes
    ----------
    n_features_in_, feature_names_in_, module_, fitted_, n_iter_, loss_curve_, validation_curve_
        As in `NetClassifier`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 3))
    >>> net = NetRegressor(net_params={"hidden": [16]}, epochs=20, random_state=0).fit(X, X[:, :2])
    >>> net.predict(X[:4]).shape
    (4, 2)
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the net.

        Parameters
        ----------
        X : as in `NetClassifier.fit`
        y : array of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X, y or parameters cannot be used.
        MemberError
            If the net cannot be built, run or trained.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X = self._checked(X, reset=True)
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        y = column_or_1d(y, warn=True) if y.ndim == 1 or y.shape[1] == 1 else y
        check_consistent_length(np.empty(n_rows_of(X)), y)
        return self._fit_nets(X, y, of_values(y), check_weight(sample_weight, len(y)))

    def predict(self, X: Any) -> np.ndarray:
        """Return values, float64 of shape (n_samples,) or (n_samples, n_targets)."""
        values = self._emit(X)
        return self.task_.counted(values)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
