"""Early stopping looks at the inner validation rows alone, then all rows are fitted."""

from __future__ import annotations

import numpy as np
import pytest
from lightgbm import LGBMRegressor
from sklearn.linear_model import Ridge

from stackfeat.errors import MemberError
from stackfeat.members.construct import best_rounds, fit_early_stopped

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3))
Y = X[:, 0] + RNG.normal(size=300)


def model() -> LGBMRegressor:
    return LGBMRegressor(
        n_estimators=400, learning_rate=0.2, early_stopping_rounds=5, verbosity=-1, random_state=0
    )


def test_rounds_come_from_the_inner_split_and_all_rows_are_fitted() -> None:
    parts = np.arange(200), np.arange(200, 300)
    fitted = fit_early_stopped(model(), X, Y, None, parts)
    by_hand = model().fit(X[:200], Y[:200], eval_set=[(X[200:], Y[200:])])
    assert fitted.n_estimators_ == by_hand.best_iteration_ < 400
    again = LGBMRegressor(
        n_estimators=by_hand.best_iteration_, learning_rate=0.2, verbosity=-1, random_state=0
    )
    np.testing.assert_array_equal(fitted.predict(X), again.fit(X, Y).predict(X))


def test_an_estimator_without_a_best_round_is_an_error() -> None:
    with pytest.raises(MemberError, match="got Ridge"):
        best_rounds(Ridge())


def test_early_stopping_takes_catboost_with_a_parameter_that_is_a_list() -> None:
    catboost = pytest.importorskip("catboost")
    model = catboost.CatBoostRegressor(
        iterations=20, ignored_features=[1], early_stopping_rounds=3, silent=True, allow_writing_files=False
    )
    fitted = fit_early_stopped(model, X, Y, None, (np.arange(200), np.arange(200, 300)))
    assert fitted.predict(X).shape == Y.shape
