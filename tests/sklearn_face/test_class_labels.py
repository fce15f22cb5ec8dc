"""Votes, stacks and out-of-fold features weigh classes by the labels of y, as a config does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import stackfeat as sf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
CODES = (X[:, 0] + RNG.normal(size=200) > 0).astype(int)
LABELS = {
    "numbers": np.array([1, 2]),
    "words": np.array(["bad", "good"]),
    "truth values": np.array([False, True]),
    "signs": np.array([-1, 1]),
    "objects": np.array(["x", "y"], dtype=object),
}


def members(first: Any) -> dict[str, Any]:
    plain = LogisticRegression(class_weight={first: 20})
    return {
        "alone": plain,
        "in a pipeline": make_pipeline(StandardScaler(), plain),
        "in a search": GridSearchCV(LogisticRegression(), {"class_weight": [{first: 20}]}, cv=2),
        "net": sf.NetClassifier(
            net_params={"hidden": [4]},
            epochs=40,
            lr=0.05,
            batch_size=32,
            class_weight={first: 20},
            random_state=0,
        ),
    }


def first_share(ensemble: Any, y: np.ndarray) -> float:
    """The mean probability of the first class."""
    if isinstance(ensemble, sf.OutOfFoldFeatures):
        return float(1 - ensemble.fit_transform(X, y)[:, 0].mean())
    return float(ensemble.fit(X, y).predict_proba(X)[:, 0].mean())


@pytest.mark.parametrize("name", ["alone", "in a pipeline", "in a search", "net"])
@pytest.mark.parametrize("kind", LABELS)
def test_a_weight_of_the_first_class_makes_it_likely(kind: str, name: str) -> None:
    y = LABELS[kind][CODES]
    member = members(LABELS[kind].tolist()[0])[name]
    expected = float(clone(member).fit(X, y).predict_proba(X)[:, 0].mean())
    assert expected > 0.8
    before = repr(member.get_params())
    vote = sf.VotingClassifier([("a", member)], voting="soft")
    assert first_share(vote, y) == pytest.approx(expected, abs=1e-6)
    assert first_share(sf.OutOfFoldFeatures(member, emit="proba", cv=3), y) == pytest.approx(
        expected, abs=0.06
    )
    assert repr(member.get_params()) == before, "the caller's own estimator is as it was"


@pytest.mark.parametrize("kind", LABELS)
def test_a_final_estimator_weighs_by_label_too(kind: str) -> None:
    y, first = LABELS[kind][CODES], LABELS[kind].tolist()[0]
    plain = [("a", LogisticRegression())]
    stack = sf.StackingClassifier(plain, LogisticRegression(class_weight={first: 20}), cv=3)
    assert first_share(stack, y) > 0.8
    assert stack.diagnostics_["nested"]["log_loss"] > 0.3, "fitted anew for each fold, on codes once more"
    weighted = [("a", LogisticRegression(class_weight={first: 20}))]
    assert sf.StackingClassifier(weighted, cv=3).fit(X, y).oof_[:, 0].mean() < 0.3


@pytest.mark.parametrize("kind", ["numbers", "words"])
def test_a_weight_of_no_class_is_refused_before_anything_is_fitted(kind: str) -> None:
    y = LABELS[kind][CODES]
    for wrong in (LogisticRegression(class_weight={"goodd": 3}), sf.NetClassifier(class_weight={"goodd": 3})):
        with pytest.raises(ValueError, match=r"class_weight must name classes \(.*\); got 'goodd'\."):
            sf.VotingClassifier([("a", wrong)]).fit(X, y)
    with pytest.raises(ValueError, match="class_weight must name classes"):
        sf.NetClassifier(class_weight={"goodd": 3}).fit(X, y)
