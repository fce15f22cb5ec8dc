"""The penalty of a linear meta-learner comes from cross-validation grouped on the folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold

from stackfeat.meta.gating.estimator_gate import choose_penalty, has_free_penalty
from stackfeat.tasks.task import Task

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
