"""What the final estimator of a stack reads: predictions always, hidden layers behind the gate.

In:  out-of-fold columns of predictions (and columns passed through), feature blocks, y, fold ids.
Out: a fitted `FinalDesign`: later rows become the columns that the final estimator was fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.tree import BaseDecisionTree
from sklearn.utils.validation import check_is_fitted

from stackfeat.members.construct import is_tree_model
from stackfeat.meta.gating.blocks import Block
from stackfeat.meta.gating.estimator_gate import gate_blocks
from stackfeat.meta.gating.gated_linear import GatedLinear
from stackfeat.meta.scaling import SMALLEST_PROBA, Scale, prediction_coefficients
from stackfeat.sklearn._compat import BaseForest, BaseGradientBoosting
from stackfeat.tasks.task import Task

GATE_SE = 0.5


@dataclass(frozen=True)
class FinalDesign:
    """How feature blocks stand beside predictions.

    Attributes
    ----------
    scales : dict of str to Scale or None
        Of the blocks that are read, the gate's scale included; None leaves values as they are.
    report : dict
        Of the gate; empty where there was none.
    """

    scales: Mapping[str, Scale | None]
    report: Mapping[str, Any]

    def join(self, base: Any, features: Mapping[str, np.ndarray]) -> Any:
        """Return the columns of the final estimator: base, then accepted blocks."""
        if not self.scales:
            return base
        parts = [
            features[name] if scale is None else scale.apply(features[name])
            for name, scale in self.scales.items()
        ]
        return np.hstack([np.asarray(base), *parts])


def fit_design(
    make_final: Callable[[], Any],
    base: Any,
    features: Mapping[str, np.ndarray],
    y: np.ndarray,
    fold_of: np.ndarray,
    task: Task | None,
    *,
    gate: bool,
    weight: np.ndarray | None,
) -> FinalDesign:
    """Choose the blocks that lower the cross-validated loss; without `gate` all of them enter.

    Parameters
    ----------
    make_final : callable
        Returns an unfitted final estimator.
    """
    blocks = [_block(name, values, None) for name, values in features.items()]
    if not blocks:
        return FinalDesign({}, {})
    if not gate or task is None or task.n_outputs == 0:
        return FinalDesign({block.name: Scale.fit(block.values, block.scaling) for block in blocks}, {})
    result = gate_blocks(
        make_final,
        np.asarray(base, dtype=np.float64),
        blocks,
        y,
        fold_of,
        task,
        gate_se=GATE_SE,
        weight=weight,
        linear=not is_tree(make_final()),
        seed=0,
    )
    accepted = [number for number, scale in enumerate(result.scales) if scale > 0]
    return FinalDesign(
        {result.names[number]: result.fitted[number] for number in accepted},
        {"scales": dict(zip(result.names, result.scales, strict=True)), **result.report},
    )


def _block(name: str, values: np.ndarray, task: Task | None) -> Block:
    return Block.encoded(name, values, name.rpartition("@")[2], task)


def is_tree(estimator: Any) -> bool:
    """Whether scales of columns mean nothing to an estimator."""
    kinds = (BaseForest, BaseGradientBoosting, BaseDecisionTree)
    return isinstance(estimator, kinds) or is_tree_model(type(estimator).__name__)


class GatedFinal(BaseEstimator):
    """`gated_linear` as the final estimator of a stack: it opens the gate to feature blocks itself.

    Parameters
    ----------
    task : Task
    predictions : sequence of (int, int)
        Ranges of columns that are probabilities, read as centred logarithms, or values of the target.
    n_base : int
        Columns that are always in.
    blocks : sequence of (str, int)
        Name and width of every block behind them.
    """

    def __init__(
        self,
        task: Task,
        predictions: Sequence[tuple[int, int]] = (),
        n_base: int = 0,
        blocks: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.task = task
        self.predictions = predictions
        self.n_base = n_base
        self.blocks = blocks

    def fit(self, X: Any, y: Any, sample_weight: Any = None, fold_of: Any = None) -> GatedFinal:
        """Choose penalty and blocks by cross-validation over `fold_of`, then fit on all rows."""
        base, blocks = self._split(X)
        folds = np.zeros(len(base), dtype=np.int64) if fold_of is None else np.asarray(fold_of)
        self.model_ = GatedLinear().fit(
            base,
            blocks,
            np.asarray(y),
            folds,
            self.task,
            gate_se=GATE_SE,
            weight=sample_weight,
            votes=self._votes(base.shape[1]),
            seed=0,
        )
        self.n_features_in_ = np.shape(X)[1]
        return self

    def _emit(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self.model_.predict(*self._split(X))

    def _split(self, X: Any) -> tuple[np.ndarray, list[Block]]:
        columns = np.asarray(X, dtype=np.float64)
        parts, read = [], 0
        for start, stop in self.predictions:
            whole = self.task.whole(columns[:, start:stop])
            parts += [columns[:, read:start], self.task.unbounded(whole, SMALLEST_PROBA)]
            read = stop
        base = np.hstack([*parts, columns[:, read : self.n_base]])
        starts = np.cumsum([self.n_base, *(width for _, width in self.blocks)])
        named = zip(self.blocks, starts, strict=False)
        return base, [_block(n, columns[:, i : i + w], self.task) for (n, w), i in named]

    def _votes(self, n_columns: int) -> dict[str, np.ndarray]:
        """By place the coefficients of the base that give a prediction, (n_columns, n_outputs)."""
        one, moved = np.eye(self.task.n_outputs), 0
        found: dict[str, np.ndarray] = {}
        for start, stop in self.predictions:
            found[str(len(found))] = prediction_coefficients(start + moved, one, n_columns)
            moved += len(one) - (stop - start)  # two classes have one column in X and two in the base
        return found


class GatedFinalClassifier(ClassifierMixin, GatedFinal):
    """`GatedFinal` over classes."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None, fold_of: Any = None) -> GatedFinal:
        """Fit as `GatedFinal.fit`, on class codes."""
        self.classes_ = np.arange(len(self.task.classes))
        return super().fit(X, y, sample_weight, fold_of)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities, (n_samples, n_classes)."""
        return self._emit(X)

    def predict(self, X: Any) -> np.ndarray:
        """Return class codes, (n_samples,)."""
        return np.asarray(self.classes_[self._emit(X).argmax(axis=1)])


class GatedFinalRegressor(RegressorMixin, GatedFinal):
    """`GatedFinal` over values."""

    def predict(self, X: Any) -> np.ndarray:
        """Return values, (n_samples,)."""
        return self.task.counted(self._emit(X))


# Classifiers and regressors are two classes in scikit-learn.
GATED_FINALS: dict[str, type[GatedFinalClassifier] | type[GatedFinalRegressor]] = {
    "classification": GatedFinalClassifier,
    "regression": GatedFinalRegressor,
}
"""By `Task.family`."""
