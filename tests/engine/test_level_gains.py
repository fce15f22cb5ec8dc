"""What levels gain, with the best of each chosen by other folds."""

from __future__ import annotations

import numpy as np
import pytest

from stackfeat.data.splits.folds import Folds
from stackfeat.engine.judged import Judged
from stackfeat.engine.level_gains import level_gains
from stackfeat.metrics.metric import Metric
from stackfeat.tasks.task import Task

MSE = Metric(
    name="mse",
    needs="value",
    greater_is_better=False,
    tasks=("regression",),
    row_values=lambda y, prediction, task: (prediction - y) ** 2,
)


def judged_and_folds(n_rows: int = 300) -> tuple[np.ndarray, Judged, Folds]:
    y = np.random.default_rng(0).normal(size=n_rows)
    task = Task("regression")
    rows = np.arange(n_rows)
    splits = tuple((rows[rows % 3 != k], rows[rows % 3 == k]) for k in range(3))
    return y, Judged(MSE, task, y, None, None), Folds("kfold", (splits,), n_rows)


def test_a_gain_is_that_of_the_best_members_paired() -> None:
    y, judged, folds = judged_and_folds()
    rng = np.random.default_rng(1)
    good, bad, better = (y + scale * rng.normal(size=300) for scale in (0.5, 1.0, 0.4))
    rows = np.arange(300)
    base, top = level_gains(
        {"base": [bad[:, None], good[:, None]], "top": [better[:, None]]}, judged, folds, rows, 0
    )
    assert (base.level, base.n_members, base.gain, base.se) == ("base", 2, None, None)
    assert base.score == pytest.approx(np.mean((good - y) ** 2))
    change = (good - y) ** 2 - (better - y) ** 2
    assert top.gain == pytest.approx(change.mean())
    assert top.se == pytest.approx(change.std(ddof=1) / np.sqrt(300), rel=0.2)


def test_the_luck_of_the_best_of_many_is_no_gain() -> None:
    y, judged, folds = judged_and_folds()
    rng = np.random.default_rng(2)
    first = (y + rng.normal(size=300))[:, None]
    many = [(y + rng.normal(size=300))[:, None] for _ in range(200)]
    luckiest = min(np.mean((one[:, 0] - y) ** 2) for one in many)
    _, top = level_gains({"base": [first], "top": many}, judged, folds, np.arange(300), 0)
    assert top.score is not None and top.score > luckiest + 0.05
    assert top.gain is not None and top.se is not None and abs(top.gain) < 3 * top.se


def test_rows_without_earlier_ones_choose_nothing() -> None:
    y, judged, _ = judged_and_folds()
    third = np.arange(300) // 100
    splits = tuple((np.flatnonzero(third < k), np.flatnonzero(third == k)) for k in (1, 2))
    time = Folds("time", (splits,), 300)
    rows = np.flatnonzero(third > 0)
    found = level_gains(
        {"base": [y[rows, None]], "top": [y[rows, None] + 1]}, judged.take(rows), time, rows, 0
    )
    # Of two folds in time the first has no predicted rows before it.
    assert found[1].gain == pytest.approx(-1.0)
    assert level_gains({"base": [y[100:200, None]]}, judged.take(rows[:100]), time, rows[:100], 0) == []
