"""Names of columns that LightGBM and XGBoost refuse are no matter of the ensemble's user."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

import stackfeat as sf
from stackfeat.sklearn.column_names import REFUSED, taken_names, with_taken_names

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(60, 3))
Y = (VALUES[:, 0] > 0).astype(int)
BOOSTERS = {
    "lightgbm": LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1),
    "xgboost": XGBClassifier(n_estimators=3, n_jobs=1),
}
NAMES = {
    "brackets": ["a[0]", "b", "c"],
    "json": ["a,b", 'b:"', "{c}"],
    "less": ["a<1", "b", "c"],
    "twice in the end": ["a b", "a_b", "c\n"],
    "empty": ["", "b", "c"],
}


def ensembles(booster: Any) -> list[Any]:
    pair = [("boost", booster), ("line", LogisticRegression())]
    return [
        sf.VotingClassifier(pair),
        sf.VotingClassifier(pair, voting="soft", weights="fit"),
        sf.StackingClassifier(pair, cv=3),
        sf.OutOfFoldFeatures(booster, cv=3),
    ]


@pytest.mark.parametrize("library", BOOSTERS)
@pytest.mark.parametrize("kind", NAMES)
def test_any_names_give_what_plain_ones_give(kind: str, library: str) -> None:
    frame, plain = pd.DataFrame(VALUES, columns=NAMES[kind]), pd.DataFrame(VALUES, columns=["x", "y", "z"])
    pairs = zip(ensembles(BOOSTERS[library]), ensembles(BOOSTERS[library]), strict=True)
    for given_names, expected in pairs:
        given_names.fit(frame, Y)
        expected.fit(plain, Y)
        assert list(given_names.feature_names_in_) == NAMES[kind]
        np.testing.assert_array_equal(
            given_names.transform(frame.head(20)), expected.transform(plain.head(20))
        )
        again = pickle.loads(pickle.dumps(given_names))
        np.testing.assert_array_equal(again.transform(frame.head(9)), given_names.transform(frame.head(9)))
    assert list(frame.columns) == NAMES[kind]


def test_names_that_are_taken_reach_the_estimator() -> None:
    frame = pd.DataFrame(VALUES, columns=["a b", "c|d", "e"])
    vote = sf.VotingClassifier([("boost", BOOSTERS["xgboost"])]).fit(frame, Y)
    assert list(vote.estimators_[0].feature_names_in_) == ["a b", "c|d", "e"]
    assert with_taken_names(LogisticRegression(), frame) is frame
    assert with_taken_names(BOOSTERS["xgboost"], VALUES) is VALUES


@given(st.lists(st.text("ab_[{<, \n", max_size=3), min_size=1, max_size=6))
@settings(max_examples=80)
def test_names_that_are_taken_are_different_and_hold_nothing_refused(names: list[str]) -> None:
    for refusal in REFUSED.values():
        taken = taken_names(names, refusal)
        read = [name.translate(str.maketrans(dict.fromkeys(refusal.as_underscore, "_"))) for name in taken]
        assert len(set(read)) == len(names) and all(taken)
        assert not set("".join(taken)) & set(refusal.characters)
        assert taken_names(taken, refusal) == taken
