"""Which parameters ask a class for a quantile: it learns that one, and what cannot learn one is refused."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from stackfeat.members.construct import construct
from stackfeat.meta.by_level import ByLevel
from stackfeat.registry.quantile_learners import (
    QUANTILE_LEARNERS,
    learns_quantiles,
    quantile_params,
    quantile_problem,
)

LEVELS = (0.1, 0.5, 0.9)
FEW: dict[str, dict[str, Any]] = {
    "lightgbm.LGBMRegressor": {"n_estimators": 60, "num_leaves": 5},
    "xgboost.XGBRegressor": {"n_estimators": 60, "max_depth": 3},
    "catboost.CatBoostRegressor": {"iterations": 120, "depth": 3},
    "sklearn.ensemble.HistGradientBoostingRegressor": {"max_iter": 60, "max_leaf_nodes": 6},
    "sklearn.ensemble.GradientBoostingRegressor": {"n_estimators": 60, "max_depth": 3},
    "sklearn.linear_model.QuantileRegressor": {"alpha": 0.0},
    "sklearn.dummy.DummyRegressor": {},
}
"""What is enough for a test."""


@pytest.mark.parametrize("path", QUANTILE_LEARNERS)
def test_as_many_targets_lie_below_its_predictions_as_the_level_says(path: str) -> None:
    if find_spec(path.split(".")[0]) is None:
        pytest.skip(f"needs {path.split('.')[0]}")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(800, 2))
    y = X[:, 0] + (1 + 0.5 * (X[:, 1] > 0)) * rng.normal(size=800)
    made = [construct(path, {**FEW[path], **quantile_params(path, one)}, seed=0, threads=1) for one in LEVELS]
    said = ByLevel(made).fit(X, y, np.ones(800)).predict(X)
    np.testing.assert_allclose((y[:, None] <= said).mean(axis=0), LEVELS, atol=0.04)


def test_many_fits_look_like_one() -> None:
    path = "sklearn.ensemble.HistGradientBoostingRegressor"
    made = ByLevel([construct(path, quantile_params(path, one), seed=0, threads=1) for one in LEVELS])
    assert made.get_params()["quantile"] == 0.1
    made.set_params(max_iter=3)
    assert [one.max_iter for one in made.learners] == [3, 3, 3]
    assert [one.quantile for one in made.learners] == [0.1, 0.5, 0.9]


def test_what_cannot_learn_a_quantile_is_refused_and_those_that_can_are_named() -> None:
    assert not learns_quantiles("sklearn.linear_model.Ridge")
    place, message = quantile_problem("sklearn.linear_model.Ridge", {}) or ("", "")
    assert place == "estimator" and "must be able to learn a quantile" in message
    assert all(path in message for path in ("gated_linear", *QUANTILE_LEARNERS))


def test_a_parameter_that_the_run_sets_is_refused() -> None:
    path = "lightgbm.LGBMRegressor"
    assert quantile_problem(path, {"learning_rate": 0.1}) is None
    assert quantile_problem(path, {"alpha": 0.3}) == (
        "params.alpha",
        f"is set by the run, which fits {path} once for each of quantiles; got 0.3. Remove it",
    )
