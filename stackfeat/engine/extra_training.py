"""Extra training rows of a fit: which of them it may have, whether they are worth having, and its rows with them.

In:  the recipe of a fit of raw inputs, the rows and folds of the run, the fit's own rows and what it knows of them.
Out: the same with the extra rows behind its own; what was added, for the report and the audit.

``factor: auto`` asks boosting, on inner splits of the fold, whether extra rows raise the loss of rows of the training
file; then they are left out of the fold. The answer is stored once for each fold: all members follow it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stackfeat.data.samples import Samples, Table
from stackfeat.data.splits.extra_rows import ExtraRows, SplitsWithExtra
from stackfeat.data.splits.folds import Folds
from stackfeat.data.splits.holdout import InnerSplits
from stackfeat.engine.blocks import samples_of
from stackfeat.engine.recipes import ExtraFactorRecipe, FitRecipe
from stackfeat.errors import DataError
from stackfeat.members import make_member
from stackfeat.members.protocol import FitContext
from stackfeat.members.settings import EstimatorSettings, Settings
from stackfeat.meta.columns import Rows
from stackfeat.seeds import derive_seed
from stackfeat.store import EntryStore

N_SPLITS = 5

SHARE = 0.2

MOST_ROWS = 2_000
"""Of the fold, in the question whether extra rows are worth having."""

BOOSTING = {"learning_rate": 0.1, "num_leaves": 15}

ROUNDS = (10, 30, 90)
"""More rows want more rounds: either side gets those that suit it best."""


@dataclass(frozen=True)
class ExtraTraining:
    """Extra rows of one fit.

    Attributes
    ----------
    rows : ExtraRows
    fitted, judged : ndarray of int64
        Numbers of the training rows that it is fitted on, and of those that it predicts out of fold.
    numbers : ndarray of int64
        Of the extra rows that it gets.
    factor : float
    """

    rows: ExtraRows
    fitted: np.ndarray
    judged: np.ndarray
    numbers: np.ndarray
    factor: float

    @classmethod
    def of(
        cls, store: EntryStore, recipe: FitRecipe, samples: Samples, folds: Folds, fitted: np.ndarray
    ) -> ExtraTraining:
        """Return the rows that a fit may have; none where they are not worth having."""
        assert recipe.extra is not None
        rows = ExtraRows(samples_of(store, recipe.extra.samples), samples, folds.is_time)
        judged = judged_rows(recipe, folds)
        factor = recipe.extra.factor
        if factor is None:
            factor = chosen_factor(store, recipe, rows, folds, fitted, judged)
        numbers = rows.allowed(fitted, judged) if factor else np.zeros(0, dtype=np.int64)
        return cls(rows, fitted, judged, numbers, factor)

    def joined(self, own: Rows) -> Rows:
        """Return the rows of a fit with the extra rows behind them."""
        extra = self.rows.extra.take(self.numbers)
        inputs = {name: _joined(values, extra.inputs[name]) for name, values in own.inputs.items()}
        ids = None if own.ids is None else np.concatenate([own.ids, extra.ids])
        lists = None if own.lists is None or extra.query is None else np.concatenate([own.lists, extra.query])
        return Rows(own.n_rows + len(self.numbers), inputs, own.blocks, ids, lists=lists)

    def known(self, context: FitContext[Settings]) -> FitContext[Settings]:
        """Return what a fit knows of these rows; on inner splits the extra rows only train."""
        extra = self.rows.extra.take(self.numbers)
        weight = None
        if context.weight is not None or self.factor != 1:
            own, others = (
                np.ones(len(rows)) if of_file is None else of_file
                for rows, of_file in ((self.fitted, context.weight), (self.numbers, extra.weight))
            )
            weight = np.concatenate([own, self.factor * others])
        return replace(
            context,
            y=np.concatenate([context.y, extra.labels]),
            weight=weight,
            inner=SplitsWithExtra(context.inner, self.rows, self.fitted, self.numbers),
        )

    def report(self) -> dict[str, Any]:
        return {"extra": {"rows": len(self.numbers), "factor": self.factor}}


def judged_rows(recipe: FitRecipe, folds: Folds) -> np.ndarray:
    """Return the rows that a fit predicts out of fold; none of a fit on all rows."""
    if recipe.fold == "all":
        return np.zeros(0, dtype=np.int64)
    numbers = recipe.folds_left_out or [int(recipe.fold)]
    return np.concatenate([folds.splits[recipe.repeat][number][1] for number in numbers])


def _joined(own: Any, extra: Any) -> Table:
    assert isinstance(own, Table) and isinstance(extra, Table)
    return own.with_rows(extra)


def chosen_factor(
    store: EntryStore,
    recipe: FitRecipe,
    rows: ExtraRows,
    folds: Folds,
    fitted: np.ndarray,
    judged: np.ndarray,
) -> float:
    """Return 0 where extra rows raise the loss of inner rows of a fold, else 1; from the store, or for it."""
    assert recipe.extra is not None
    question = ExtraFactorRecipe(
        samples=recipe.samples,
        folds=recipe.folds,
        extra=recipe.extra.samples,
        repeat=recipe.repeat,
        fold=recipe.fold,
        seed=derive_seed(0, "extra rows", recipe.repeat, recipe.fold),
    )
    if not store.has(question.key):
        gain = inner_gain(rows, folds, fitted, judged, question.seed)
        with question.write(store) as writer:
            writer.json("gain", gain)
    return float(store.read(question.key).structure("gain", float) >= 0)


def inner_gain(rows: ExtraRows, folds: Folds, fitted: np.ndarray, judged: np.ndarray, seed: int) -> float:
    """Return by how much extra rows lower the loss of boosting on inner rows of a fold.

    It is 0 where the fold's rows cannot be divided, or no extra row may train.
    """
    rng = np.random.default_rng(seed)
    numbers = rows.allowed(fitted, judged)
    share = min(1.0, MOST_ROWS / max(len(fitted), 1))
    if share < 1:
        fitted, numbers = (
            np.sort(rng.choice(of, round(share * len(of)), replace=False)) for of in (fitted, numbers)
        )
    inner = InnerSplits(rows.train, fitted, folds.kind, seed)
    losses: list[list[list[float]]] = []
    for draw in range(1 if rows.in_time else N_SPLITS):
        try:
            of_fit, validation = (fitted[part] for part in inner(SHARE, draw))
        except DataError:
            break
        others = np.intersect1d(rows.allowed(of_fit, validation), numbers)
        if len(others):
            losses.append([_losses(rows, of_fit, more, validation, seed) for more in (others[:0], others)])
    if not losses:
        return 0.0
    without, beside = np.mean(losses, axis=0).min(axis=1)
    return float(without - beside)


def _losses(
    rows: ExtraRows, fitted: np.ndarray, numbers: np.ndarray, judged: np.ndarray, seed: int
) -> list[float]:
    """Return the mean loss on judged rows of boosting on fitted and extra rows, for each number of rounds."""
    train, extra, held = rows.train.take(fitted), rows.extra.take(numbers), rows.train.take(judged)
    task = train.task
    tables = [name for name, values in train.inputs.items() if isinstance(values, Table)]
    joined = {name: _joined(train.inputs[name], extra.inputs[name]) for name in tables}
    weights = [part.weight for part in (train, extra) if part.weight is not None]
    context = FitContext(
        task,
        np.concatenate([train.labels, extra.labels]),
        np.concatenate(weights) if weights else None,
        None,
        InnerSplits(rows.train, fitted, "kfold", seed),
        seed,
        EstimatorSettings(threads=1, seeds=1),
    )
    read, asked = (
        Rows(len(context.y), joined),
        Rows(len(judged), {name: held.inputs[name] for name in tables}),
    )
    learner, found = f"lightgbm.LGBM{task.estimator_suffix}", []
    for n_rounds in ROUNDS:
        params = {**BOOSTING, "n_estimators": n_rounds}
        fitted_member = make_member({"estimator": learner, "params": params}).fit(read, context)
        losses = task.row_loss(held.labels, fitted_member.emit(asked)[task.output], task.unit_of(held.labels))
        found.append(float(np.average(losses, weights=held.weight)))
    return found
