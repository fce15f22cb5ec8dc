"""The gate for any estimator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from scipy.special import expit
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from stackfeat.meta.columns import join
from stackfeat.meta.gating.blocks import Block
from stackfeat.meta.gating.estimator_gate import choose_penalty, gate_blocks, has_free_penalty, is_linear
from stackfeat.meta.scaling import scaled
from stackfeat.tasks.task import Task

TWO = Task("binary", (0, 1))
VALUES = Task("regression")


def sample(task, n=500, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=n)
    base = pd.DataFrame({"a": hidden + 1.5 * rng.normal(size=n), "b": rng.normal(size=n)})
    useful = np.column_stack([hidden + 0.2 * rng.normal(size=n), rng.normal(size=n)])
    y = (hidden > 0).astype(int) if task.classes else hidden * 3
    return base, [Block("noise", rng.normal(size=(n, 10))), Block("useful", useful)], y, np.arange(n) % 4


def design_of(result, base, blocks):
    """Base and the accepted blocks, as the gate scaled them."""
    accepted = [n for n, scale in enumerate(result.scales) if scale > 0]
    return join(base, [scaled(blocks[n].values, result.fitted[n]) for n in accepted])


@pytest.mark.parametrize(
    ("task", "make"),
    [
        (TWO, LogisticRegression),
        (TWO, lambda: make_pipeline(StandardScaler(), LogisticRegression())),
        (TWO, RidgeClassifier),
        (VALUES, Ridge),
    ],
)
def test_linear_estimators_get_scaled_blocks(task, make):
    base, blocks, y, folds = sample(task)
    weight = np.random.default_rng(0).uniform(0.5, 1, size=len(y))
    result = gate_blocks(
        make, base.to_numpy(), blocks, y, folds, task, gate_se=0.5, weight=weight, linear=True, seed=0
    )
    assert result.scales[1] > result.scales[0]
    assert result.scales[0] == 0.0
    design = design_of(result, base.to_numpy(), blocks)
    np.testing.assert_allclose(design[:, -2:].std(axis=0), result.scales[1])


def test_scores_without_a_scale_take_what_makes_them_larger():
    """A limit: margins of LinearSVC are no log-odds, and noise that widens them lowers the emitted log-loss."""
    base, blocks, y, folds = sample(TWO)
    result = gate_blocks(LinearSVC, base.to_numpy(), blocks, y, folds, TWO, gate_se=0.5, linear=True, seed=0)
    assert result.scales == (1.0, 1.0)
    gains = {step["block"]: step["gain"] for step in result.report["steps"]}
    assert gains["useful"] > 10 * gains["noise"] > 0


class Labels(RidgeClassifier):
    """Gives labels alone."""

    @property
    def decision_function(self):
        raise AttributeError("labels alone")

    def predict(self, X):
        return (X @ self.coef_.ravel() + self.intercept_ > 0).astype(int)


def shares(positive):
    return np.column_stack([1 - positive, positive])


@pytest.mark.parametrize(
    ("make", "emit"),
    [
        (lambda: KNeighborsClassifier(3), lambda knn, X: knn.predict_proba(X)),  # sure of rows that it misses
        (RidgeClassifier, lambda ridge, X: shares(expit(ridge.decision_function(X)))),
        (Labels, lambda labels, X: shares(labels.predict(X))),
    ],
)
def test_an_estimator_is_judged_by_the_log_loss_of_what_it_emits(make, emit):
    base, blocks, y, folds = sample(TWO, 200)
    X = base.to_numpy()
    result = gate_blocks(make, X, blocks, y, folds, TWO, gate_se=0.5, linear=True, seed=0)
    emitted = np.zeros((200, 2))
    for fold in range(4):
        inside = folds == fold
        emitted[inside] = emit(make().fit(X[~inside], y[~inside]), X[inside])
    expected = log_loss(y, np.clip(emitted, 1e-15, 1))
    assert result.report["base_loss"] == pytest.approx(expected, rel=1e-9)


def test_at_most_eight_blocks_are_tried():
    base, blocks, y, folds = sample(TWO, 200)
    rng = np.random.default_rng(0)
    many = [*(Block(f"noise{number}", rng.normal(size=(200, 2))) for number in range(12)), blocks[1]]
    result = gate_blocks(LogisticRegression, base, many, y, folds, TWO, gate_se=0.5, linear=True, seed=0)
    assert result.scales[-1] > 0
    assert len(result.report["steps"]) <= 8


def test_linear_models_are_known_also_inside_others():
    inner = LogisticRegression()
    found = [
        inner,
        Ridge(),
        LinearSVC(),
        LinearDiscriminantAnalysis(),
        make_pipeline(StandardScaler(), inner),
    ]
    assert all(is_linear(one) for one in [*found, GridSearchCV(inner, {"C": [1.0]})])
    others = [
        LGBMClassifier(),
        KNeighborsClassifier(),
        make_pipeline(StandardScaler(), SVC()),
        MLPRegressor(),
    ]
    assert not any(is_linear(one) for one in others)


def test_arrays_are_blocks_that_are_scaled_already():
    base, blocks, y, folds = sample(VALUES)
    values = [block.values for block in blocks]
    result = gate_blocks(Ridge, base.to_numpy(), values, y, folds, VALUES, gate_se=0.5, linear=True, seed=0)
    assert result.scales[0] == 0 < result.scales[1]
    design = design_of(result, base.to_numpy(), blocks)
    np.testing.assert_allclose(design[:, 2:], result.scales[1] * values[1])


def test_no_blocks_no_fits():
    base, _, y, folds = sample(TWO)
    result = gate_blocks(pytest.fail, base, [], y, folds, TWO, gate_se=0.5, linear=True, seed=0)
    assert result.scales == ()


RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 30))
FOLDS = np.arange(200) % 4
LOGISTIC = "sklearn.linear_model.LogisticRegression"


def test_only_linear_models_without_a_given_penalty_have_a_free_one() -> None:
    assert has_free_penalty(LOGISTIC, {})
    assert not has_free_penalty(LOGISTIC, {"C": 1.0})
    assert has_free_penalty("sklearn.linear_model.Ridge", {"solver": "svd"})
    assert not has_free_penalty("sklearn.linear_model.Lasso", {})
    assert not has_free_penalty("own.module:Ridge", {})


def test_the_choice_is_that_of_scikit_learns_grid_search_over_the_same_folds() -> None:
    y = (X[:, 0] + RNG.normal(size=200) > 0).astype(int)

    def make(params: Mapping[str, Any]) -> LogisticRegression:
        return LogisticRegression(max_iter=1000, **params)

    chosen = choose_penalty(make, LOGISTIC, X, y, FOLDS, Task("binary", (0, 1)), weight=None, seed=0)
    grid = {"C": [0.001, 0.01, 0.1, 1.0, 10.0]}
    search = GridSearchCV(make({}), grid, scoring="neg_log_loss", cv=GroupKFold(4)).fit(X, y, groups=FOLDS)
    assert chosen == search.best_params_


def test_noise_gets_the_strongest_penalty() -> None:
    y = RNG.normal(size=200)
    chosen = choose_penalty(
        lambda params: Ridge(**params),
        "sklearn.linear_model.Ridge",
        X,
        y,
        FOLDS,
        Task("regression"),
        weight=None,
        seed=0,
    )
    assert chosen == {"alpha": 1000.0}
