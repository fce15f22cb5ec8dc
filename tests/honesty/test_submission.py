"""Which member is submitted, and that test rows stand on their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

COLUMNS = [f"x{j}" for j in range(5)]
GIVEN = '''
"""Members whose probabilities stand in the file, so that scores can be chosen freely."""
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Given(ClassifierMixin, BaseEstimator):
    def __init__(self, column="p"):
        self.column = column

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        p = X[self.column].to_numpy()
        return np.column_stack([1 - p, p])
'''


def given(column: str, *inputs: str) -> dict[str, Any]:
    options = {"estimator": "given:Given", "params": {"column": column}, "prepare": "none"}
    return {**options, "inputs": list(inputs)} if inputs else options


def squash(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def paired_gap(y: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """How many standard errors `second` is worse than `first` in log-loss, paired over rows."""
    losses = [-np.log(np.where(y == 1, p, 1 - p)) for p in (first, second)]
    change = losses[1] - losses[0]
    return float(change.mean() / (change.std(ddof=1) / len(y) ** 0.5))


@pytest.fixture
def guesses() -> pd.DataFrame:
    """`good`: informative; `same`: a little worse, by half an error; `less`: by three; `poor`: a coin."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(200) % 2)
    logit = 2.0 * (y - 0.5) + rng.normal(size=200)
    noise = rng.normal(size=(500, 200))
    gaps = np.array([paired_gap(y, squash(logit), squash(logit + 0.05 * values)) for values in noise])
    same, less = (noise[np.argmin(np.abs(gaps - wanted))] for wanted in (0.5, 2.5))
    return pd.DataFrame(
        {
            "id": [f"r{i}" for i in range(200)],
            "good": squash(logit),
            "same": squash(logit + 0.05 * same),
            "less": squash(logit + 0.05 * less),
            "poor": rng.uniform(0.45, 0.55, 200),
            "y": y,
        }
    )


SOFT = {"vote": "soft", "inputs": ["base/same/proba"]}
GREEDY = {"vote": "greedy", "inputs": ["base/same/proba"]}
HARD = {"vote": "hard", "inputs": ["base/good/proba"]}


@pytest.mark.parametrize(
    ("later", "metric", "expected"),
    [
        ({"soft": SOFT, "greedy": GREEDY}, "log_loss", "meta/greedy"),
        ({"soft": SOFT, "model": given("good", "base/poor/proba", "table")}, "log_loss", "meta/soft"),
        ({"model": given("good", "base/poor/proba", "table")}, "log_loss", "base/good"),
        ({"soft": {"vote": "soft", "inputs": ["base/less/proba"]}}, "log_loss", "base/good"),
        ({"hard": HARD}, "log_loss", "base/good"),
    ],
    ids=[
        "greedy_first",
        "then_soft",
        "then_the_lower_level",
        "not_a_worse_vote",
        "no_hard_vote_for_probabilities",
    ],
)
def test_auto_prefers_greedy_then_soft_then_lower_levels_within_one_error(
    arena: Any, guesses: pd.DataFrame, later: dict[str, Any], metric: str, expected: str
) -> None:
    base = {name: given(name) for name in ("good", "same", "less", "poor")}
    ran = arena.run({"base": base, "meta": later}, guesses, metric=metric, code={"given": GIVEN})
    assert ran.result.submitted == expected


def test_the_submission_holds_the_chosen_members_test_rows(arena: Any, guesses: pd.DataFrame) -> None:
    test = guesses.drop(columns="y").iloc[:50]
    ran = arena.run({"base": {"good": given("good")}}, guesses, test, code={"given": GIVEN})
    np.testing.assert_allclose(ran.submission.loc[test["id"], "y"], test["good"], atol=1e-12)


def test_a_test_row_does_not_depend_on_other_test_rows_or_their_order(
    arena: Any, make_rows: Callable[..., pd.DataFrame]
) -> None:
    train, test = make_rows(90, 1), make_rows(60, 2, prefix="t").drop(columns="y")
    levels = {
        "base": {
            "log": {"estimator": "sklearn.linear_model.LogisticRegression", "params": {"C": 1.0}},
            "gbm": {"estimator": "lightgbm.LGBMClassifier", "params": {"n_estimators": 10}},
            "mlp": {
                "net": "mlp",
                "params": {"hidden": [8]},
                "train": {"epochs": 2},
                "emit": ["proba", {"tap": "penultimate", "encode": ["geometry"]}],
            },
        },
        "meta": {"gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]}},
        "final": {"greedy": {"vote": "greedy", "inputs": ["*/*/proba"]}},
    }
    whole = arena.run(levels, train, test)
    part = arena.run(levels, train, test.sample(frac=0.3, random_state=0))
    for member in whole.members:
        few = part.test(member)
        pd.testing.assert_frame_equal(few, whole.test(member).loc[few.index], rtol=0, atol=1e-12)
        pd.testing.assert_frame_equal(part.oof(member), whole.oof(member), check_exact=True)
