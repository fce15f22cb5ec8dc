"""Estimators with a net as a parameter: cloned, copied and pickled with it.

In:  an estimator whose parameter `module` may be an ``nn.Module``.
Out: clones with a deep copy of it, and pickles that any machine can read, in every form that torch can.
"""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator

from stackfeat.nets.copies import copying, pickled, unpickled


class HasModule(BaseEstimator):
    """Base of estimators with a parameter `module`; not for direct use."""

    module: Any

    def __sklearn_clone__(self) -> Any:
        with copying(self.module):
            return super().__sklearn_clone__()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {**state, "module": pickled(self.module)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "module": unpickled(state["module"])})
