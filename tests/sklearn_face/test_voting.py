"""Votes: fitted weights, ranks, ties; everything else is judged by scikit-learn's own tests."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

import stackfeat as sf
from stackfeat.members.vote_options import VoteOptions
from stackfeat.meta.votes.hard import HardVote
from stackfeat.meta.votes.soft import SoftVote
from stackfeat.meta.votes.vote import VoteTarget
from stackfeat.tasks.task import Task

MEMBERS = [
    ("line", LogisticRegression(max_iter=500)),
    ("near", KNeighborsClassifier(15)),
    ("tree", DecisionTreeClassifier(max_depth=3, random_state=0)),
]


def test_fitted_weights_minimise_the_loss_out_of_fold(small: SimpleNamespace) -> None:
    cv = StratifiedKFold(3)
    vote = sf.VotingClassifier(MEMBERS, voting="soft", weights="fit", cv=cv).fit(small.X, small.y)
    oof = [cross_val_predict(m, small.X, small.y, cv=cv, method="predict_proba") for _, m in MEMBERS]

    def loss(weights: np.ndarray) -> float:
        return log_loss(small.y, np.clip(np.average(oof, axis=0, weights=weights), 1e-15, 1))

    bounds = [(1e-9, 1)] * 3
    best = minimize(lambda w: loss(w / w.sum()), np.full(3, 1 / 3), bounds=bounds).x
    assert vote.fitted_weights_.sum() == pytest.approx(1)
    assert loss(vote.fitted_weights_) <= loss(best / best.sum()) + 1e-4
    by_hand = np.average(
        [m.predict_proba(small.X) for m in vote.estimators_], axis=0, weights=vote.fitted_weights_
    )
    np.testing.assert_allclose(vote.predict_proba(small.X), by_hand)


def test_fitted_weights_of_values_leave_a_useless_regressor_out(small: SimpleNamespace) -> None:
    members = [("ridge", Ridge()), ("mean", DummyRegressor())]
    vote = sf.VotingRegressor(members, weights="fit", cv=3).fit(small.XV, small.v)
    assert vote.fitted_weights_[0] > 0.95


class Says(ClassifierMixin, BaseEstimator):
    """Gives the same probabilities for every row."""

    def __init__(self, proba: tuple[float, ...] = (0.5, 0.5)) -> None:
        self.proba = proba

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Says:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.tile(self.proba, (len(X), 1))

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def test_ties_are_broken_as_asked_for() -> None:
    X, y = np.zeros((10, 1)), np.array([0, 1, 1, 1, 2, 2, 2, 2, 2, 2])
    members = [("a", Says((0.5, 0.45, 0.05))), ("b", Says((0.0, 0.6, 0.4))), ("c", Says((0.1, 0.3, 0.6)))]
    said = {
        tie: sf.VotingClassifier(members, tie=tie).fit(X, y).predict(X)[0]
        for tie in ("lowest", "soft", "prior")
    }
    assert said == {"lowest": 0, "soft": 1, "prior": 2}
    heavy = sf.VotingClassifier(members, tie="soft", weights=[3, 1, 1]).fit(X, y)
    assert heavy.predict(X)[0] == 0


@pytest.mark.parametrize("voting_weights", [None, [1e9, 1e9]])
def test_the_prior_that_breaks_ties_counts_weights(voting_weights: list[float] | None) -> None:
    X, y = np.zeros((10, 1)), np.repeat([0, 1], [6, 4])
    weight = np.where(y == 1, 10.0, 1.0)
    members = [("no", Says((0.9, 0.1))), ("yes", Says((0.4, 0.6)))]
    vote = sf.VotingClassifier(members, tie="prior", weights=voting_weights)
    assert vote.fit(X, y).predict(X)[0] == 0
    assert vote.fit(X, y, sample_weight=weight).predict(X)[0] == 1
    np.testing.assert_allclose(vote.priors_, [6 / 46, 40 / 46])


def test_ranks_do_not_depend_on_scales(small: SimpleNamespace) -> None:
    vote = sf.VotingClassifier(MEMBERS, voting="rank", cv=3).fit(small.X, small.binary)
    proba = vote.predict_proba(small.X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_array_equal(vote.predict_proba(small.X[:7]), proba[:7])
    assert vote.transform(small.X).shape == (150, 6) and len(vote.get_feature_names_out()) == 6
    assert vote.score(small.X, small.binary) > 0.7
    values = sf.VotingRegressor([("a", Ridge()), ("b", Ridge(10))], voting="rank", cv=3).fit(
        small.XV, small.v
    )
    assert values.score(small.XV, small.v) > 0.9
    with pytest.raises(ValueError, match="voting='rank' must have two classes"):
        sf.VotingClassifier(MEMBERS, voting="rank").fit(small.X, small.y)


def test_nets_vote(small: SimpleNamespace) -> None:
    vote = sf.VotingClassifier([("net", small.net()), *MEMBERS], voting="soft", weights="fit", cv=2)
    assert vote.fit(small.X, small.y).score(small.X, small.y) > 0.6


@pytest.mark.parametrize("weights", [None, [3, 1, 2]])
def test_the_same_votes_are_counted_as_in_a_run(small: SimpleNamespace, weights: list[int] | None) -> None:
    soft = sf.VotingClassifier(MEMBERS, voting="soft", weights=weights).fit(small.X, small.y)
    inputs = [member.predict_proba(small.X) for member in soft.estimators_]
    codes = soft.le_.transform(small.y)
    target = VoteTarget(Task("multiclass", tuple(soft.classes_.tolist())), codes)
    given = VoteOptions(vote="soft", inputs=(), weights=weights).taken()
    expected = SoftVote.fit(inputs, target, given).combine(inputs)
    np.testing.assert_array_equal(soft.predict_proba(small.X), expected)
    for tie in ("lowest", "soft", "prior"):
        hard = sf.VotingClassifier(MEMBERS, weights=weights, tie=tie).fit(small.X, small.y)
        given = VoteOptions(vote="hard", inputs=(), weights=weights, tie=tie).taken()
        winners = HardVote.fit(inputs, target, given).combine(inputs).argmax(axis=1)
        np.testing.assert_array_equal(hard.le_.transform(hard.predict(small.X)), winners)
    ranked = sf.VotingClassifier(MEMBERS, voting="rank", cv=3).fit(small.X, small.binary)
    inputs = [member.predict_proba(small.X) for member in ranked.estimators_]
    np.testing.assert_array_equal(ranked.predict_proba(small.X), ranked.rank_vote_.combine(inputs))
