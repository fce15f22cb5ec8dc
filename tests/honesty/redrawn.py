"""Redrawn labels: the exact test of whether out-of-fold predictions know the labels of their own rows.

In:  real columns, a law that says how the label of a row is drawn given its columns, a stack.
Out: how much better its predictions score on the labels that it was given than on redraws of them.

Given the columns, labels of different rows are independent. An honest out-of-fold prediction of row i is made of the
labels of other rows, so label i and a redraw of it score alike in expectation, whatever the prediction is worth. The
loss of the law itself, which knows no label, is taken off first: a difference of losses varies far less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from stackfeat.pipeline.distil import opened

N_REDRAWS = 200
LIMIT = 3.0


@dataclass(frozen=True)
class Law:
    """How labels are drawn given the columns.

    Attributes
    ----------
    columns : DataFrame of n_rows
    values : ndarray of shape (n_rows, n_classes), or (n_rows, 1)
        Class probabilities, or the mean of a normal target with deviation 1.
    """

    columns: pd.DataFrame
    values: np.ndarray

    @classmethod
    def over(cls, columns: pd.DataFrame, n_classes: int, n_rows: int, strength: float = 1.5) -> Law:
        """A law with interactions, over rows drawn once; ``n_classes`` 0: a value."""
        rows = np.random.default_rng(7).choice(len(columns), n_rows, replace=len(columns) < n_rows)
        columns = columns.iloc[np.sort(rows)].reset_index(drop=True)
        ranks = columns.rank(pct=True).to_numpy() * 2 - 1
        rng = np.random.default_rng(11)
        hidden = np.tanh(2 * ranks @ rng.normal(size=(ranks.shape[1], 6)) / ranks.shape[1] ** 0.5)
        hidden = np.column_stack([hidden, hidden[:, :3] * hidden[:, 3:]])
        scores = strength * hidden @ rng.normal(size=(9, max(n_classes, 1)))
        return cls(columns, np.asarray(softmax(scores, axis=1)) if n_classes else scores)

    @property
    def task(self) -> str:
        n_outputs = self.values.shape[1]
        return "regression" if n_outputs == 1 else "binary" if n_outputs == 2 else "multiclass"

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Labels of all rows, drawn anew."""
        if self.task == "regression":
            return self.values[:, 0] + rng.normal(size=len(self.values))
        draws = rng.random((len(self.values), 1))
        return (draws > self.values.cumsum(axis=1)[:, :-1]).sum(axis=1)

    def labelled(self, y: np.ndarray) -> pd.DataFrame:
        """The columns, and labels beside them."""
        return self.columns.assign(y=y)

    def losses(self, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        if self.task == "regression":
            return (y - prediction[:, 0]) ** 2
        return -np.log(np.clip(prediction[np.arange(len(y)), y], 1e-6, None))

    def advantage(
        self, y: np.ndarray, prediction: np.ndarray, rng: np.random.Generator
    ) -> tuple[float, float]:
        """How much less a prediction loses on these labels than on redraws, beside the law; deviation of redraws."""

        def excess(labels: np.ndarray) -> float:
            return float((self.losses(labels, prediction) - self.losses(labels, self.values)).mean())

        redrawn = [excess(self.draw(rng)) for _ in range(N_REDRAWS)]
        return float(np.mean(redrawn)) - excess(y), float(np.std(redrawn, ddof=1))


def advantages(
    law: Law, predict: Callable[[pd.DataFrame, int], Mapping[str, np.ndarray]], n_draws: int
) -> pd.DataFrame:
    """Return the mean advantage of each kind over draws of the labels, its standard error, their ratio.

    ``predict(frame, draw)`` gives out-of-fold predictions by kind; the frame is ``law.labelled(y)``. Of one
    honest prediction all that varies is the label, so that the spread over redraws is the error of a draw.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for draw in range(n_draws):
        rng = np.random.default_rng([draw, len(law.columns)])
        y = law.draw(rng)
        for kind, prediction in predict(law.labelled(y), draw).items():
            found.setdefault(kind, []).append(law.advantage(y, prediction, rng))
    lines = {}
    for kind, values in found.items():
        mean, deviation = np.array(values).T
        lines[kind] = mean.mean(), np.sqrt((deviation**2).sum() * (1 + 1 / N_REDRAWS)) / len(mean)
    table = pd.DataFrame(lines, index=["advantage", "se"]).T
    return table.assign(z=table["advantage"] / table["se"])


def of_stack(
    arena: Any, levels: Mapping[str, Any], law: Law, students: Sequence[str] = (), **others: Any
) -> Any:
    """Return a function that runs a stack on labels, and gives the out-of-fold predictions of its members.

    ``students`` of the submitted member, and their controls, are fitted beside them.
    """

    def predict(frame: pd.DataFrame, draw: int) -> dict[str, np.ndarray]:
        frame = frame.assign(id=[f"r{i}" for i in range(len(frame))])
        metric = "rmse" if law.task == "regression" else "log_loss"
        # Folds by class would depend on the labels.
        options = {"task": law.task, "metric": metric, "seed": draw, "folds": {"kind": "kfold", "n": 3}}
        ran = arena.run(levels, frame, **{**options, **others})
        found = {member: ran.oof(member).loc[frame["id"]].to_numpy() for member in ran.members}
        for student in students:
            with opened(ran.result.folder, student) as school:
                rows, one, control = school.out_of_fold(school.paths())
                assert (school.train.ids == frame["id"]).all() and len(rows) == len(frame)
            found |= {f"student {student}": one, f"control {student}": control}
        return found

    return predict


def of_decisions(arena: Any, levels: Mapping[str, Any], law: Law) -> Any:
    """Return a function that runs a stack under F1, and gives the labels that its thresholds decide out of fold.

    A label stands for a probability of four fifths, so that a loss is a count of errors.
    """

    def predict(frame: pd.DataFrame, draw: int) -> dict[str, np.ndarray]:
        frame = frame.assign(id=[f"r{i}" for i in range(len(frame))])
        ran = arena.run(levels, frame, metric="f1", seed=draw, folds={"kind": "kfold", "n": 3})
        fold_of, found = ran.fold_of.loc[frame["id"]], {}
        for member in ran.members:
            rules = ran.scores["members"][member.replace(".", "/")]["fold_decisions"]
            thresholds = np.array([rules[str(fold)]["numbers"][0] for fold in fold_of])
            decided = ran.oof(member).loc[frame["id"]].to_numpy()[:, 1] > thresholds
            found[f"threshold {member}"] = np.column_stack([1 - decided, decided]) * 0.6 + 0.2
        return found

    return predict
