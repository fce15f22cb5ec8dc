"""What the final estimator of a stack reads: predictions always, hidden layers behind the gate.

In:  out-of-fold rows: predictions (and columns passed through), feature blocks, y, fold ids.
Out: a fitted `FinalDesign`: later rows become the columns that the final estimator was fitted on; the score of the
     final estimator on folds that it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.metrics import accuracy_score, r2_score, root_mean_squared_error
from sklearn.utils.validation import check_is_fitted

from stackfeat.encodings import ENCODINGS
from stackfeat.members.estimator import report_of
from stackfeat.meta.columns import join
from stackfeat.meta.gating.blocks import Block
from stackfeat.meta.gating.estimator_gate import gate_blocks, is_linear
from stackfeat.meta.gating.gated_linear import GatedLinear
from stackfeat.meta.scaling import SMALLEST_PROBA, Scale, prediction_coefficients, scaled
from stackfeat.sklearn._compat import _safe_indexing
from stackfeat.sklearn.targets import OneByOne, probabilities
from stackfeat.tasks.task import Task

GATE_SE = 0.5


@dataclass(frozen=True)
class FinalRows:
    """Out-of-fold rows that a final estimator is fitted on.

    Attributes
    ----------
    base : array, or sparse matrix
        Predictions, and columns passed through: always in.
    features : mapping of str to ndarray
        Feature blocks.
    y : array
    params : mapping of str to array
        What `fit` is given besides, such as weights.
    fold_of : int array
        The fold that each row is of, -1 where none predicts it.
    group : array or None
    clusters : int array or None
        Numbers of groups, or of blocks of time: standard errors are over these, not over rows.
    """

    base: Any
    features: Mapping[str, np.ndarray]
    y: Any
    params: Mapping[str, Any]
    fold_of: np.ndarray
    group: Any
    clusters: np.ndarray | None = None

    def part(self, task: Task, place: int) -> FinalRows:
        """Return the same rows with one target of several."""
        return replace(self, y=task.part_of_y(self.y, place))

    def take(self, rows: np.ndarray) -> FinalRows:
        """Return some of the rows."""
        return FinalRows(
            self.base[rows],
            {name: values[rows] for name, values in self.features.items()},
            _safe_indexing(self.y, rows),
            {name: _safe_indexing(value, rows) for name, value in self.params.items()},
            self.fold_of[rows],
            None if self.group is None else _safe_indexing(self.group, rows),
            None if self.clusters is None else self.clusters[rows],
        )


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

    @classmethod
    def fit(cls, make_final: Callable[[], Any], rows: FinalRows, task: Task, *, gate: bool) -> FinalDesign:
        """Choose the blocks that lower the cross-validated loss; without `gate` all of them enter.

        Parameters
        ----------
        make_final : callable
            Returns an unfitted final estimator.
        """
        blocks = [_block(name, values, None) for name, values in rows.features.items()]
        if not blocks or not gate:
            return cls({block.name: Scale.fit(block.values, block.scaling) for block in blocks}, {})
        result = gate_blocks(
            make_final,
            np.asarray(rows.base, dtype=np.float64),
            blocks,
            np.asarray(rows.y),
            rows.fold_of,
            task,
            gate_se=GATE_SE,
            weight=rows.params.get("sample_weight"),
            clusters=rows.clusters,
            linear=is_linear(make_final()),
            seed=0,
        )
        chosen = zip(result.names, result.scales, result.fitted, strict=True)
        return cls(
            {name: fitted for name, scale, fitted in chosen if scale > 0},
            {"scales": dict(zip(result.names, result.scales, strict=True)), **result.report},
        )

    def join(self, base: Any, features: Mapping[str, np.ndarray]) -> Any:
        """Return the columns of the final estimator: base, then accepted blocks."""
        return join(base, [scaled(features[name], scale) for name, scale in self.scales.items()])


def _block(name: str, values: np.ndarray, task: Task | None) -> Block:
    return Block.encoded(name, values, ENCODINGS[name.rpartition("@")[2]], task)


@dataclass(eq=False, repr=False)
class FinalOneByOne(OneByOne):
    """A final estimator that is fitted for each of several targets, each with its own choice of blocks.

    Attributes
    ----------
    designs_ : list of FinalDesign
        One for each target.
    widths_ : dict of str to int
        Columns of the blocks that stand behind the base.
    """

    def fit_rows(self, rows: FinalRows, *, gate: bool) -> FinalDesign:
        """Fit on out-of-fold rows, and return the design that gives it all columns and says what was chosen."""
        self.designs_, self.estimators_ = [], []
        self.widths_ = {name: values.shape[1] for name, values in rows.features.items()}
        for place, part in enumerate(self.task.parts):
            own = rows.part(self.task, place)
            make = partial(self.copy, part)
            design = FinalDesign.fit(make, own, part, gate=gate)
            self.designs_.append(design)
            columns = design.join(own.base, own.features)
            self.estimators_.append(self.fit_part(columns, own.y, part, own.params))
        reports = [dict(design.report) for design in self.designs_]
        return FinalDesign(dict.fromkeys(rows.features), report_of(reports, self.task))

    def columns(self, X: Any, place: int) -> Any:
        if not self.widths_:
            return X
        starts = X.shape[1] - np.cumsum([0, *reversed(self.widths_.values())])[::-1]
        pairs = zip(self.widths_, pairwise(starts), strict=True)
        features = {name: X[:, start:stop] for name, (start, stop) in pairs}
        return self.designs_[place].join(X[:, : starts[0]], features)


def nested_score(stack: Any, rows: FinalRows) -> dict[str, float]:
    """Fit the final estimator (gate included) without each fold, and score it on all of them together.

    Returns
    -------
    dict of str to float
        ``accuracy`` and, with probabilities, ``log_loss``; or ``rmse`` and ``r2``; or ``pinball``. Of several
        targets scikit-learn's means over them, of label sets its accuracy of whole sets.
    """
    # A classifier and a regressor have other methods, and other scores in scikit-learn.
    with_proba = is_classifier(stack) and hasattr(stack.final_estimator_, "predict_proba")
    task, n_rows, y = stack._task, len(rows.fold_of), rows.y
    n_columns = task.n_outputs if with_proba or task.is_by_level or task.n_targets > 1 else 0
    said: np.ndarray = np.zeros((n_rows, n_columns) if n_columns else n_rows)
    for fold in np.unique(rows.fold_of):
        inside = np.flatnonzero(rows.fold_of == fold)
        held_out = rows.take(inside)
        design, final = stack._fit_final(rows.take(np.flatnonzero(rows.fold_of != fold)))
        columns = design.join(held_out.base, held_out.features)
        if with_proba:
            proba = probabilities(final, final.predict_proba(columns), task)
            said[inside] = proba if task.has_label_sets else task.placed(proba, final.classes_)
        else:
            said[inside] = final.predict(columns)
    if task.is_by_level:
        return {"pinball": float(task.row_loss(y, said).mean())}
    # Scores of values, or of classes.
    if not is_classifier(stack):
        return {"rmse": float(root_mean_squared_error(y, said)), "r2": float(r2_score(y, said))}
    codes = task.decided(said) if with_proba else said.astype(np.int64)
    scores = {"accuracy": float(accuracy_score(y, codes))}
    if with_proba:
        scores["log_loss"] = float(task.row_loss(y, said).mean())
    return scores


@dataclass(eq=False, repr=False)
class GatedFinal(BaseEstimator):
    """`gated_linear` as the final estimator of a stack: it opens the gate to feature blocks itself.

    Parameters
    ----------
    task : Task
    predictions : sequence of (int, int)
        Ranges of columns that are probabilities, read as centred logarithms, or values of the targets.
    n_base : int
        Columns that are always in.
    blocks : sequence of (str, int)
        Name and width of every block behind them.

    Attributes
    ----------
    models_ : list of GatedLinear
        One for each target; each reads what is said of all of them.
    """

    task: Task
    predictions: Sequence[tuple[int, int]] = ()
    n_base: int = 0
    blocks: Sequence[tuple[str, int]] = ()

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, fold_of: Any = None, clusters: Any = None
    ) -> GatedFinal:
        """Choose penalty and blocks by cross-validation over `fold_of`, then fit on all rows.

        Standard errors of gains are over `clusters`, where there are any.
        """
        base, blocks = self._split(X)
        folds = np.zeros(len(base), dtype=np.int64) if fold_of is None else np.asarray(fold_of)
        votes = self._votes(base.shape[1])
        self.models_ = [
            GatedLinear().fit(
                base,
                [block.part(self.task, place) for block in blocks],
                self.task.part_of_y(np.asarray(y), place),
                folds,
                part,
                gate_se=GATE_SE,
                weight=sample_weight,
                clusters=clusters,
                votes={name: self.task.part_of_scores(vote, place) for name, vote in votes.items()},
                seed=0,
            )
            for place, part in enumerate(self.task.parts)
        ]
        self.n_features_in_ = np.shape(X)[1]
        return self

    def report(self) -> dict[str, Any]:
        """Return what was chosen; of several targets for each by its name."""
        return report_of([model.report() for model in self.models_], self.task)

    def _emit(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        base, blocks = self._split(X)
        return self.task.joined(
            [
                model.predict(base, [block.part(self.task, place) for block in blocks])
                for place, model in enumerate(self.models_)
            ]
        )

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

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, fold_of: Any = None, clusters: Any = None
    ) -> GatedFinal:
        """Fit as `GatedFinal.fit`, on class codes."""
        self.classes_ = np.arange(self.task.n_outputs)
        return super().fit(X, y, sample_weight, fold_of, clusters)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities, (n_samples, n_classes) or (n_samples, n_labels)."""
        return self._emit(X)

    def predict(self, X: Any) -> np.ndarray:
        """Return class codes, (n_samples,), or labels, (n_samples, n_labels)."""
        return self.task.decided(self._emit(X))


class GatedFinalRegressor(RegressorMixin, GatedFinal):
    """`GatedFinal` over values."""

    def predict(self, X: Any) -> np.ndarray:
        """Return values, (n_samples,) or (n_samples, n_targets)."""
        return self.task.counted(self._emit(X))


# Classifiers and regressors are two classes in scikit-learn.
GATED_FINALS: dict[str, type[GatedFinalClassifier] | type[GatedFinalRegressor]] = {
    "classification": GatedFinalClassifier,
    "regression": GatedFinalRegressor,
}
"""By `Task.family`."""
