"""`TapFeatures`: layers of a net that is trained already, as a transformer without labels.

In:  a module (a frozen backbone), X.
Out: one column for each unit of each tap. Nothing is learnt, so nothing can leak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import TransformerMixin

from stackfeat.errors import UsageError
from stackfeat.nets.copies import is_module
from stackfeat.sklearn._compat import Interval, StrOptions, _fit_context
from stackfeat.sklearn.inputs import check_inputs, take
from stackfeat.sklearn.module_parameter import HasModule


@dataclass(eq=False, repr=False)
class TapFeatures(TransformerMixin, HasModule):
    """Layers of a trained module as columns.

    Parameters
    ----------
    module : nn.Module
        Used as it is, in eval mode and without gradients; it is never trained or changed. `clone` copies it.
    taps : str, Tap, sequence of them, or mapping of name to tap, default="penultimate"
        As in `stackfeat.extract`.
    pool : {"auto", "flatten", "mean", "max", "cls", "last"}, default="auto"
        How values of more than two dimensions become columns.
    batch_size : int, default=256
        Rows a pass; the last pass is padded, so a row's columns do not depend on the rows beside it.
    device : str, default="auto"

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray

    Examples
    --------
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> features = TapFeatures(net, taps="1").fit(np.zeros((5, 3)))
    >>> features.transform(np.zeros((5, 3))).shape
    (5, 4)
    >>> features.get_feature_names_out().tolist()
    ['1#000', '1#001', '1#002', '1#003']
    """

    module: Any
    taps: Any = "penultimate"
    _: KW_ONLY
    pool: str = "auto"
    batch_size: int = 256
    device: str = "auto"

    _expected_failures: ClassVar[Mapping[str, str]] = {
        "check_estimators_overwrite_params": "joblib's hash of an nn.Module differs from that of its deep copy "
        "before anything is called, so the check takes the module for changed; a test of ours compares weights and "
        "hash before and after"
    }
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "module": "no_validation",
        "taps": "no_validation",
        "pool": [StrOptions({"auto", "flatten", "mean", "max", "cls", "last"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check X and the taps on one row; nothing is learnt, and y is not looked at.

        Parameters
        ----------
        X : array of shape (n_samples, ...), or dict of them
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        UsageError
            If `module` is no module, or there are no taps.
        LayerNotFoundError, TapError
            If a tap cannot be read.
        """
        first = take(self._checked(X, reset=True), np.arange(1))
        self._columns = {name: values.shape[1] for name, values in self._read(first).items()}
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the taps' columns side by side, float32 of shape (n_samples, n_columns)."""
        return np.hstack(list(self._read(self._checked(X, reset=False)).values()))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return a name for each column: the tap's name and a number."""
        if not hasattr(self, "_columns"):
            raise UsageError("the width of taps must be known; it is not before fit; call fit(X) first")
        return np.asarray(
            [f"{name}#{j:03d}" for name, width in self._columns.items() for j in range(width)], dtype=object
        )

    def _checked(self, X: Any, *, reset: bool) -> Any:
        if not is_module(self.module):
            raise UsageError(
                f"module must be a trained nn.Module; got module={self.module!r}; for a net that is to be "
                "trained use OutOfFoldFeatures(NetClassifier(...))"
            )
        return check_inputs(self, X, reset=reset, allow_nan=False)

    def _read(self, X: Any) -> dict[str, np.ndarray]:
        from stackfeat.layers.extraction.extract import extract

        if isinstance(self.taps, list | tuple | Mapping) and not self.taps:
            raise UsageError(f"taps must name at least one; got taps={self.taps!r}; use 'penultimate'")

        def as_input(values: Any) -> np.ndarray:
            # Integers stay what they are: codes for embeddings.
            array = np.asarray(values)
            return array.astype(np.float32) if np.issubdtype(array.dtype, np.floating) else array

        inputs = {name: as_input(v) for name, v in X.items()} if isinstance(X, dict) else as_input(X)
        found = extract(
            self.module,
            inputs,
            self.taps,
            batch_size=int(self.batch_size),
            device=self.device,
            pool=self.pool,
        )
        return {name: values.reshape(len(values), -1) for name, values in found.items()}

    def __sklearn_clone__(self) -> Any:
        copied = super().__sklearn_clone__()
        copied.taps = self._lasting_taps()
        return copied

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "taps": self._lasting_taps()}

    def _lasting_taps(self) -> Any:
        """Return the taps with names for layers: a copy of the net holds other layers than those given."""
        from stackfeat.layers.taps.tap import holds_layers, taps_by_name

        if is_module(self.module) and holds_layers(self.taps):
            return taps_by_name(self.module, self.taps)
        return self.taps

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags
