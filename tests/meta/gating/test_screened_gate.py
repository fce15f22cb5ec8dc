"""The gate of estimators that are no linear models: what it lets in, and what it may cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostClassifier
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from stackfeat.meta.gating.blocks import Block
from stackfeat.meta.gating.estimator_gate import GateResult, gate_blocks
from stackfeat.meta.gating.screened_gate import FREE, SHARE, Budget, rounds_of, shortened
from stackfeat.tasks.task import Task

TWO = Task("binary", (0, 1))
THREE = Task("multiclass", (0, 1, 2))
VALUES = Task("regression")


def trees(task: Task) -> Callable[[], Any]:
    cls = LGBMClassifier if task.classes else LGBMRegressor
    return lambda: cls(n_estimators=40, num_leaves=7, n_jobs=1, verbose=-1, random_state=0)


def gate(make: Callable[[], Any], rows: tuple[Any, Any, Any, Any], task: Task, **given: Any) -> GateResult:
    base, blocks, y, folds = rows
    return gate_blocks(
        make, base, blocks, y, folds, task, **{"gate_se": 0.5, "linear": False, "seed": 0, **given}
    )


def sample(
    task: Task, seed: int = 0, n: int = 600, told_by: Callable[..., Any] = lambda hidden: hidden
) -> Any:
    """A base that knows a part of the target, a block of noise, and one that knows the rest."""
    rng = np.random.default_rng(seed)
    known, hidden = rng.normal(size=(2, n))
    base = pd.DataFrame({"known": known, "noise": rng.normal(size=n)})
    useful = np.column_stack([hidden, rng.normal(size=(n, 3))])
    target = known + 1.5 * told_by(hidden) + 0.5 * rng.normal(size=n)
    n_classes = len(task.classes or ())
    cuts = np.quantile(target, np.arange(1, n_classes) / n_classes) if n_classes else []
    y = np.searchsorted(cuts, target) if n_classes else target
    blocks = [Block("noise", rng.normal(size=(n, 10))), Block("useful", useful)]
    return base, blocks, y, np.arange(n) % 4


MAKERS = {
    "lightgbm": trees(TWO),
    "xgboost": lambda: XGBClassifier(n_estimators=40, n_jobs=1),
    "catboost": lambda: CatBoostClassifier(
        iterations=40, verbose=False, thread_count=1, allow_writing_files=False
    ),
    "histogram": lambda: HistGradientBoostingClassifier(max_iter=40, random_state=0),
    "forest": lambda: ExtraTreesClassifier(60, random_state=0),
    "neighbours": lambda: KNeighborsClassifier(15),
    "tree": lambda: DecisionTreeClassifier(max_depth=3, random_state=0),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_block_that_knows_more_enters_whatever_the_estimator(name: str) -> None:
    assert gate(MAKERS[name], sample(TWO), TWO).scales == (0.0, 1.0)


@pytest.mark.parametrize("task", [TWO, THREE, VALUES], ids=lambda task: task.kind)
@pytest.mark.parametrize("told_by", [lambda hidden: hidden, lambda hidden: hidden**2], ids=["line", "square"])
def test_planted_information_is_found_at_every_seed(task: Task, told_by: Callable[..., Any]) -> None:
    for seed in range(5):
        result = gate(trees(task), sample(task, seed, told_by=told_by), task)
        assert result.scales == (0.0, 1.0)
        assert result.report["loss"] < 0.9 * result.report["base_loss"]


def test_missing_values_of_the_base_and_weights_are_no_obstacle() -> None:
    base, blocks, y, folds = sample(TWO)
    base.iloc[::7, 0] = np.nan
    weight = np.random.default_rng(1).uniform(0.5, 2.0, len(y))
    assert gate(trees(TWO), (base, blocks, y, folds), TWO, weight=weight).scales == (0.0, 1.0)


def test_noise_rarely_enters() -> None:
    """Of 60 gates over three blocks each, half of them on random labels; trials by whole fits let noise into 14."""
    entered = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        base, (_, useful), y, folds = sample(TWO, seed, 300)
        noise = [Block(f"noise{number}", rng.normal(size=(300, 6))) for number in range(3)]
        entered += any(gate(trees(TWO), (base, noise, y, folds), TWO).scales)
        labels = rng.permutation(y)
        entered += any(gate(trees(TWO), (base, [*noise[:2], useful], labels, folds), TWO).scales)
    assert entered <= 6


def test_a_block_that_says_what_the_base_says_stays_out() -> None:
    entered = 0
    for seed in range(10):
        base, _, y, folds = sample(TWO, seed)
        turned = np.tanh(base.to_numpy() @ np.random.default_rng(seed).normal(size=(2, 6)))
        entered += any(gate(trees(TWO), (base, [Block("turned", turned)], y, folds), TWO).scales)
    assert entered <= 1


class Counted(ClassifierMixin, BaseEstimator):
    """A booster that counts rounds x rows x columns; it predicts by the last column."""

    work: list[int] = []  # noqa: RUF012

    def __init__(self, n_estimators: int = 300, learning_rate: float = 0.1) -> None:
        self.n_estimators, self.learning_rate = n_estimators, learning_rate

    def fit(self, X: Any, y: Any) -> Counted:
        self.work.append(self.n_estimators * np.size(X))
        self.tree_ = DecisionTreeClassifier(max_depth=2).fit(X, y)
        self.classes_ = self.tree_.classes_
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        return self.tree_.predict_proba(X)


@pytest.mark.parametrize("n_blocks", [1, 4])
@pytest.mark.parametrize("width", [3, 300])
@pytest.mark.parametrize("n_base", [3, 40])
def test_all_trials_cost_less_than_a_part_of_one_fit(n_base: int, width: int, n_blocks: int) -> None:
    rng = np.random.default_rng(0)
    n, task = 3000, TWO
    hidden = rng.normal(size=(n_blocks, n))
    y = (hidden.sum(axis=0) > 0).astype(int)
    blocks = [
        Block(f"block{number}", np.column_stack([one, rng.normal(size=(n, width - 1))]))
        for number, one in enumerate(hidden)
    ]
    Counted.work.clear()
    result = gate(Counted, (rng.normal(size=(n, n_base)), blocks, y, np.arange(n) % 4), task)
    assert any(result.scales)
    assert sum(Counted.work) <= max(SHARE * 300 * n * n_base, FREE)
    assert sum(Counted.work) == pytest.approx(result.report["work"] * 300 * n * n_base, rel=0.01)


def test_the_first_block_that_gains_nothing_ends_the_search() -> None:
    rng = np.random.default_rng(0)
    Counted.work.clear()
    noise = [Block(f"noise{number}", rng.normal(size=(500, 5))) for number in range(20)]
    y = (rng.normal(size=500) > 0).astype(int)
    result = gate(Counted, (rng.normal(size=(500, 4)), noise, y, np.arange(500) % 4), TWO)
    (step,) = result.report["steps"]
    assert not step["accepted"] and step["judged_by"] == "proxy"
    assert len(Counted.work) == 2, "the base alone, once for each half"


def test_the_same_rows_give_the_same_choice() -> None:
    first, second = (gate(trees(THREE), sample(THREE, n=2500), THREE) for _ in range(2))
    assert first.report == second.report


def test_a_class_that_one_half_does_not_have_is_fine() -> None:
    base, blocks, y, folds = sample(TWO)
    result = gate(trees(THREE), (base, blocks, np.where(folds == 0, 2, y), folds), THREE)
    assert np.isfinite(result.report["loss"])


def test_a_half_without_two_classes_lets_nothing_in() -> None:
    base, blocks, _, folds = sample(TWO)
    result = gate(unfit, (base, blocks, folds % 2, folds), TWO)
    assert result.scales == (0.0, 0.0) and result.report["base_loss"] is None


def unfit() -> Any:
    class Unfit(DecisionTreeClassifier):
        def fit(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("no fit is worth anything here")

    return Unfit()


@pytest.mark.parametrize(
    ("estimator", "rounds", "rate"),
    [
        (LGBMClassifier(n_estimators=400, learning_rate=0.05), 400, 0.3),
        (LGBMClassifier(n_estimators=20, learning_rate=0.05), 20, 0.1),
        (XGBClassifier(n_estimators=200, learning_rate=0.02), 200, 0.3),
        (CatBoostClassifier(iterations=500, learning_rate=0.03), 500, 0.3),
        (HistGradientBoostingClassifier(), 100, 0.3),
        (GradientBoostingRegressor(), 100, 0.3),
        (AdaBoostClassifier(), 50, 1.0),
        (LGBMClassifier(n_estimators=8, learning_rate=0.05), 8, 0.05),
    ],
)
def test_few_rounds_learn_faster(estimator: Any, rounds: int, rate: float) -> None:
    assert rounds_of(estimator) == rounds
    short = shortened(estimator)
    assert rounds_of(short) == min(rounds, 10)
    assert short.get_params()["learning_rate"] == pytest.approx(rate)


def test_an_estimator_without_rounds_is_fitted_as_it_is() -> None:
    net = MLPClassifier(max_iter=150)
    assert rounds_of(net) == 1
    assert shortened(net).get_params() == MLPClassifier(max_iter=150).get_params()


@pytest.mark.parametrize("rounds", [1, 30, 400, 5000])
@pytest.mark.parametrize("n_rows", [50, 3_000, 1_000_000])
@pytest.mark.parametrize(("n_base", "widest"), [(1, 1), (3, 600), (200, 30)])
def test_a_budget_keeps_to_its_share(rounds: int, n_rows: int, n_base: int, widest: int) -> None:
    budget = Budget.of(n_rows, n_base, widest, rounds)
    assert 1 <= budget.n_columns <= widest
    assert budget.n_trials >= 1 and budget.n_rows <= n_rows
    # Without blocks, then with one block more each time, on as many rows as there are in both halves.
    width = sum(n_base + trial * budget.n_columns for trial in range(budget.n_trials + 1))
    assert min(rounds, 10) * budget.n_rows * width <= max(SHARE * rounds * n_rows * n_base, FREE)
