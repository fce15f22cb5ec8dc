"""`NetRegressor`: a net as a scikit-learn regressor of one or several targets.

In:  X (2-D, N-D, DataFrame, dict of arrays) and values.
Out: values on the scale of y. Everything but the target is in `net_base`.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from stackfeat.sklearn.inputs import check_weight, n_rows_of
from stackfeat.sklearn.net_base import BaseNet
from stackfeat.task import Task


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
        task = Task("regression", n_targets=1 if y.ndim == 1 else y.shape[1])
        return self._fit_nets(X, y, task, check_weight(sample_weight, len(y)))

    def predict(self, X: Any) -> np.ndarray:
        """Return values, float64 of shape (n_samples,) or (n_samples, n_targets)."""
        values = self._emit(X)
        return values[:, 0] if values.shape[1] == 1 else values

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
