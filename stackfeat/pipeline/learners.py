"""Learners of students: what is fitted on rows with hard and soft labels, and can be one file that runs no code.

In:  columns, targets and weights of rows; rows to judge by.
Out: for each number of rounds, or passes, what it predicts for those rows; the model to keep, as `students` reads it.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, ClassVar

import numpy as np

from stackfeat.data.prepare.estimator import ScaledPrepare, TreePrepare
from stackfeat.data.prepare.plain_columns import PlainColumns, ScaledColumns, TreeColumns
from stackfeat.data.samples import Table
from stackfeat.members.boosters import booster_of
from stackfeat.members.construct import construct
from stackfeat.members.rounds import best_rounds, validation_keywords
from stackfeat.pipeline.students import Layers, StudentModel, Trees
from stackfeat.store.booster_text import plain_text
from stackfeat.tasks.task import Task

MOST_TREES = 6_000
"""With more of them one row takes more than a millisecond."""


@dataclass(frozen=True)
class Lesson:
    """Rows to learn from, or to be judged by.

    Attributes
    ----------
    columns : float64 array (n_rows, n_columns)
    y : array (n_rows,)
        On the scale of members.
    weight : float64 array (n_rows,)
    """

    columns: np.ndarray
    y: np.ndarray
    weight: np.ndarray

    def with_rows(self, columns: np.ndarray, prediction: np.ndarray, weight: float, task: Task) -> Lesson:
        """Return these rows and others, which a prediction labels."""
        rows, y, shares = task.as_rows(prediction)
        return Lesson(
            np.vstack([self.columns, columns[rows]]),
            np.concatenate([self.y, y]),
            np.concatenate([self.weight, weight * shares]),
        )


@dataclass(frozen=True)
class Rounds:
    """A learner fitted for more and more rounds: how many suit the rows to be judged, and what it says after any."""

    best: int
    predict: Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Learner(ABC):
    """A kind of student.

    Attributes
    ----------
    task : Task
    loss : str
        That of the run: of `task.losses`.
    """

    task: Task
    loss: str
    threads: int

    name: ClassVar[str]

    @abstractmethod
    def columns(self, table: Table) -> PlainColumns:
        """Learn how a table becomes columns from rows to be learnt from."""

    @abstractmethod
    def path(self, lesson: Lesson, judged: Lesson, categories: Sequence[int], seed: int) -> Rounds:
        """Fit until rows to be judged get no better."""

    @abstractmethod
    def fit(self, lesson: Lesson, n_rounds: int, categories: Sequence[int], seed: int) -> StudentModel:
        """Fit for a number of rounds."""


class BoostedStudent(Learner):
    """LightGBM, whose model is text."""

    name = "lightgbm"
    params: ClassVar[dict[str, Any]] = {"learning_rate": 0.06, "colsample_bytree": 0.8}

    def columns(self, table: Table) -> PlainColumns:
        return TreeColumns.of(TreePrepare().fit(table), table)

    def path(self, lesson: Lesson, judged: Lesson, categories: Sequence[int], seed: int) -> Rounds:
        most = max(20, min(1_500, MOST_TREES // max(1, len(self.task.classes))))
        found = self._made(seed, n_estimators=most, early_stopping_rounds=40)
        known = np.isin(self.task.strata(judged.y), self.task.strata(lesson.y))
        keywords = {"categorical_feature": list(categories), "sample_weight": lesson.weight}
        valid = judged.columns[known], judged.y[known], judged.weight[known]
        keywords |= validation_keywords(found, *valid, keywords)
        _quietly(lambda: found.fit(lesson.columns, lesson.y, **keywords))
        n_fitted = int(found.n_estimators_)

        def predict(n_rounds: int) -> np.ndarray:
            fitted = found
            if n_rounds > n_fitted < most:
                fitted = self._fitted(lesson, n_rounds, categories, seed)
            return self._ask(fitted, judged.columns, n_rounds)

        return Rounds(best_rounds(found), predict)

    def fit(self, lesson: Lesson, n_rounds: int, categories: Sequence[int], seed: int) -> StudentModel:
        fitted = self._fitted(lesson, n_rounds, categories, seed)
        return Trees.of(plain_text(fitted.booster_.model_to_string()), self.task)

    def _fitted(self, lesson: Lesson, n_rounds: int, categories: Sequence[int], seed: int) -> Any:
        made = self._made(seed, n_estimators=n_rounds)
        keywords = {"categorical_feature": list(categories), "sample_weight": lesson.weight}
        _quietly(lambda: made.fit(lesson.columns, lesson.y, **keywords))
        return made

    def _made(self, seed: int, **more: Any) -> Any:
        path = f"lightgbm.LGBM{self.task.estimator_suffix}"
        booster = booster_of(path)
        assert booster is not None
        own = {"objective": "regression_l1"} if booster.judge({}, self.loss) else {}
        return construct(path, {**self.params, **own, **more}, seed=seed, threads=self.threads)

    def _ask(self, fitted: Any, columns: np.ndarray, n_rounds: int) -> np.ndarray:
        said = getattr(fitted, self.task.method)(columns, num_iteration=n_rounds)
        return self.task.placed(said, seen_classes(fitted))


class NetStudent(Learner):
    """A small net of scikit-learn, whose weights are arrays."""

    name = "mlp"
    params: ClassVar[dict[str, Any]] = {"hidden_layer_sizes": [128, 64], "alpha": 1e-4, "batch_size": 128}
    most: ClassVar[int] = 100
    patience: ClassVar[int] = 8

    def columns(self, table: Table) -> PlainColumns:
        return ScaledColumns.of(ScaledPrepare().fit(table), table)

    def path(self, lesson: Lesson, judged: Lesson, categories: Sequence[int], seed: int) -> Rounds:
        made, losses, said = self._made(seed, lesson), list[float](), list[np.ndarray]()

        def one_more() -> None:
            self._pass(made, lesson)
            said.append(self._ask(made, judged.columns).astype(np.float32))
            loss = self.task.row_loss(judged.y, said[-1].astype(np.float64))
            losses.append(float(np.average(loss, weights=judged.weight)))

        while len(losses) < self.most and len(losses) - int(np.argmin(losses or [0.0])) <= self.patience:
            one_more()
        best = int(np.argmin(losses)) + 1

        def predict(n_rounds: int) -> np.ndarray:
            while len(said) < n_rounds:
                one_more()
            return said[n_rounds - 1].astype(np.float64)

        return Rounds(best, predict)

    def fit(self, lesson: Lesson, n_rounds: int, categories: Sequence[int], seed: int) -> StudentModel:
        made = self._made(seed, lesson)
        for _ in range(n_rounds):
            self._pass(made, lesson)
        centre, spread = self._unit(lesson)
        # What the last layer gives is in units of the target's spread.
        weights, biases = [*made.coefs_], [*made.intercepts_]
        weights[-1], biases[-1] = weights[-1] * spread, biases[-1] * spread + centre
        return Layers.of(weights, biases, self.task)

    def _made(self, seed: int, lesson: Lesson) -> Any:
        path = f"sklearn.neural_network.MLP{self.task.estimator_suffix}"
        made = construct(path, self.params, seed=seed, threads=self.threads)
        made.unit_ = self._unit(lesson)
        return made

    def _unit(self, lesson: Lesson) -> tuple[float, float]:
        """Return mean and spread of a target of values; classes have none."""
        centre, spread = self.task.standardisation(lesson.y, lesson.weight)
        return float(centre), float(spread)

    def _pass(self, made: Any, lesson: Lesson) -> None:
        centre, spread = made.unit_
        y = (lesson.y - centre) / spread
        keywords = {"classes": np.unique(y)} if "classes" in signature(made.partial_fit).parameters else {}
        _quietly(lambda: made.partial_fit(lesson.columns, y, sample_weight=lesson.weight, **keywords))

    def _ask(self, made: Any, columns: np.ndarray) -> np.ndarray:
        centre, spread = made.unit_
        said = self.task.placed(getattr(made, self.task.method)(columns), seen_classes(made))
        return np.asarray(said * spread + centre)


LEARNERS: dict[str, type[Learner]] = {one.name: one for one in (BoostedStudent, NetStudent)}
"""By the name of ``--student``."""


def seen_classes(fitted: Any) -> np.ndarray | None:
    """Return the codes of the classes that an estimator has learnt; None of values."""
    classes = getattr(fitted, "classes_", None)
    return None if classes is None else np.asarray(classes, dtype=np.int64)


def _quietly(fit: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit()
