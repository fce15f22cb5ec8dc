"""`quantiles=` of the regressors: a column for each level, which never cross, learnt by what can learn them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMRegressor
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import QuantileRegressor, Ridge
from sklearn.metrics import d2_pinball_score, mean_pinball_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import stackfeat as sf
from stackfeat.errors import UsageError

LEVELS = (0.1, 0.5, 0.9)
NET = sf.NetRegressor(net_params={"hidden": [16]}, epochs=25, random_state=0)
LINE = make_pipeline(StandardScaler(), QuantileRegressor(alpha=0.0))
TREES = LGBMRegressor(n_estimators=20, num_leaves=5, verbosity=-1, n_jobs=1)


def rows(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, X[:, 0] + (0.3 + (X[:, 1] > 0)) * rng.normal(size=n)


def loss(y: np.ndarray, said: np.ndarray) -> float:
    return float(
        np.mean([mean_pinball_loss(y, one, alpha=level) for level, one in zip(LEVELS, said.T, strict=True)])
    )


def test_a_net_predicts_a_column_for_each_level() -> None:
    X, y = rows()
    net = clone(NET).set_params(quantiles=LEVELS).fit(X, y)
    said = net.predict(X)
    assert said.shape == (300, 3) and (np.diff(said, axis=1) >= 0).all()
    expected = [d2_pinball_score(y, one, alpha=level) for level, one in zip(LEVELS, said.T, strict=True)]
    assert net.score(X, y) == pytest.approx(np.mean(expected)) and net.score(X, y) > 0.2


@pytest.mark.filterwarnings("ignore:emit=")
@pytest.mark.parametrize(
    "options",
    [{}, {"emit": "prediction"}, {"final_estimator": QuantileRegressor(alpha=0.01), "averaging": "refit"}],
    ids=["gated", "predictions", "own final estimator"],
)
def test_a_stack_predicts_quantiles_that_hold_on_new_rows(options: dict[str, Any]) -> None:
    (X, y), (later, truth) = rows(), rows(2_000, 1)
    members = [("net", NET), ("trees", TREES), ("line", LINE)]
    stack = sf.StackingRegressor(members, quantiles=LEVELS, cv=3, **options)
    stack.fit(X, y)
    said = stack.predict(later)
    assert said.shape == (2_000, 3) and (np.diff(said, axis=1) >= 0).all()
    np.testing.assert_allclose((truth[:, None] <= said).mean(axis=0), LEVELS, atol=0.08)
    constant = np.tile(np.quantile(y, LEVELS), (2_000, 1))
    assert loss(truth, said) < 0.8 * loss(truth, constant)
    names = stack.get_feature_names_out()[:3].tolist()
    assert names == [f"stackingregressor_net{place}" for place in range(3)]
    assert stack.diagnostics_["nested"]["pinball"] < loss(y, np.tile(np.quantile(y, LEVELS), (300, 1)))


def test_estimators_that_were_given_stay_as_they_are() -> None:
    X, y = rows(120)
    trees = HistGradientBoostingRegressor(max_iter=5)
    stack = sf.StackingRegressor([("trees", trees), ("line", LINE)], quantiles=LEVELS, cv=2).fit(X, y)
    assert trees.loss == "squared_error" and not hasattr(trees, "n_iter_")
    np.testing.assert_array_equal(clone(stack).fit(X, y).predict(X), stack.predict(X))


def test_what_cannot_learn_a_quantile_is_named() -> None:
    X, y = rows(60)
    with pytest.raises(
        UsageError, match=r"ridge must be able to learn a quantile; got sklearn.linear_model.Ridge"
    ):
        sf.StackingRegressor([("ridge", Ridge())], quantiles=LEVELS).fit(X, y)
    with pytest.raises(UsageError, match="final_estimator must be able to learn a quantile"):
        sf.StackingRegressor([("line", LINE)], final_estimator=Ridge(), quantiles=LEVELS).fit(X, y)


@pytest.mark.parametrize(("levels", "message"), [((0.9, 0.1), "ascend"), ((0.0, 0.5), "between 0 and 1")])
def test_levels_that_make_no_sense_are_refused(levels: tuple[float, ...], message: str) -> None:
    X, y = rows(60)
    for estimator in (
        clone(NET).set_params(quantiles=levels),
        sf.StackingRegressor([("a", TREES)], quantiles=levels),
    ):
        with pytest.raises(UsageError, match=f"quantiles must .*{message}"):
            estimator.fit(X, y)


@pytest.mark.parametrize("weights", [None, [1, 2], "fit"])
def test_a_vote_averages_quantiles(weights: Any) -> None:
    (X, y), (later, truth) = rows(), rows(2_000, 1)
    vote = sf.VotingRegressor(
        [("trees", TREES), ("line", LINE)], quantiles=LEVELS, weights=weights, cv=3
    ).fit(X, y)
    each = [one.predict(later) for one in vote.estimators_]
    shares = {None: [0.5, 0.5], "fit": vote.fitted_weights_}.get(
        weights if weights != [1, 2] else "", [1 / 3, 2 / 3]
    )
    np.testing.assert_allclose(vote.predict(later), shares[0] * each[0] + shares[1] * each[1])
    np.testing.assert_array_equal(vote.transform(later), np.hstack(each))
    assert vote.get_feature_names_out().tolist()[:2] == [
        "votingregressor_trees_q0.1",
        "votingregressor_trees_q0.5",
    ]
    assert vote.score(later, truth) > 0.2 and loss(truth, vote.predict(later)) <= max(
        loss(truth, one) for one in each
    )


def test_ranks_of_quantiles_are_not_voted_on() -> None:
    X, y = rows(60)
    with pytest.raises(UsageError, match="quantiles are averaged; got voting='rank'"):
        sf.VotingRegressor([("trees", TREES), ("line", LINE)], quantiles=LEVELS, voting="rank").fit(X, y)
