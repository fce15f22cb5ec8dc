"""scikit-learn's own checks over transformers, stacks and votes."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import stackfeat as sf

NET = sf.NetClassifier(net_params={"hidden": [8]}, epochs=2, random_state=0)
TREES = [("tree", DecisionTreeClassifier(max_depth=4, random_state=0)), ("line", LogisticRegression())]
VALUES = [("tree", DecisionTreeRegressor(max_depth=4, random_state=0)), ("line", Ridge())]

ESTIMATORS = [
    sf.OutOfFoldFeatures(LogisticRegression(), cv=3),
    sf.OutOfFoldFeatures(DecisionTreeRegressor(random_state=0), cv=2, views="first"),
    sf.OutOfFoldFeatures(NET, encode="geometry", cv=2),
    sf.StackingClassifier(TREES, cv=3),
    sf.StackingRegressor(VALUES, cv=3),
    sf.StackingRegressor(VALUES, cv=2, averaging="early", passthrough=True),
    sf.VotingClassifier(TREES),
    sf.VotingClassifier(TREES, voting="soft", weights="fit", cv=2),
    sf.VotingClassifier(TREES, tie="prior"),
    sf.VotingRegressor(VALUES),
    sf.VotingRegressor(VALUES, weights="fit", cv=2),
]
IN_OTHER_SETTINGS = [
    sf.StackingClassifier(TREES, cv=2, averaging="refit", stack_method="predict"),
    sf.StackingClassifier([("net", NET)], LogisticRegression(), cv=2, gate=False, encode="geometry"),
]


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=sf.expected_failed_checks)
def test_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(IN_OTHER_SETTINGS, expected_failed_checks=sf.expected_failed_checks)
def test_checks_of_scikit_learn_in_other_settings(estimator: Any, check: Any) -> None:
    check(estimator)


class AnyWidth(nn.Module):
    """A frozen net for tables of any width."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 2)

    def forward(self, x: Any) -> Any:
        return self.head(x.float().mean(dim=1, keepdim=True))


@parametrize_with_checks(
    [sf.TapFeatures(AnyWidth(), taps="head")], expected_failed_checks=sf.expected_failed_checks
)
def test_checks_of_scikit_learn_over_a_frozen_net(estimator: Any, check: Any) -> None:
    check(estimator)


def test_what_may_fail_is_little_and_has_a_reason() -> None:
    for estimator in (*ESTIMATORS, *IN_OTHER_SETTINGS):
        expected = sf.expected_failed_checks(estimator)
        assert all(len(reason) > 40 for reason in expected.values())
        if isinstance(estimator, sf.OutOfFoldFeatures):
            assert all(name.startswith("check_transformer") for name in expected)


@pytest.mark.parametrize("kind", [sf.StackingClassifier, sf.VotingClassifier])
def test_stacks_and_votes_of_estimators_may_fail_nothing(kind: Any) -> None:
    assert sf.expected_failed_checks(kind(TREES)) == {}
