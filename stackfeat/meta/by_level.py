"""One estimator for each quantile, behind the face of a single one.

In:  unfitted estimators, each of which learns a quantile; columns, values, row weights.
Out: a prediction with a column for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from stackfeat.meta.estimator_io import as_taken, fit_estimator


class ByLevel:
    """Estimators that are fitted to the same rows; parameters are those of the first, and are set in all.

    Parameters
    ----------
    learners : sequence of estimators
        In the order of the levels.
    """

    def __init__(self, learners: Sequence[Any]) -> None:
        self.learners = tuple(learners)

    @property
    def estimator(self) -> Any:
        """One of them, which says what all are like."""
        return self.learners[0]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        params: dict[str, Any] = self.estimator.get_params(deep=deep)
        return params

    def set_params(self, **params: Any) -> Self:
        for learner in self.learners:
            learner.set_params(**params)
        return self

    def fit(self, columns: Any, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        for learner in self.learners:
            fit_estimator(learner, columns, y, sample_weight)
        return self

    def predict(self, columns: Any) -> np.ndarray:
        """Return a column for each, float64 (n_rows, n_levels); they may cross."""
        said = [np.asarray(one.predict(as_taken(one, columns))).reshape(-1) for one in self.learners]
        return np.column_stack(said).astype(np.float64, copy=False)
