"""Estimators are saved without pickle, and only known types are constructed."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import Booster, LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from stackfeat.errors import MemberError, TrustError
from stackfeat.store import skops_file

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 4))
CODES = (X[:, 0] + RNG.normal(size=80) > 0).astype(int)

MODELS = [
    LGBMClassifier(n_estimators=3, verbosity=-1, min_child_samples=5),
    LGBMRegressor(n_estimators=3, verbosity=-1),
    LogisticRegression(),
    RidgeCV(),
    SGDClassifier(loss="log_loss"),
    ExtraTreesClassifier(5),
    RandomForestClassifier(5),
    GradientBoostingRegressor(n_estimators=3),
    HistGradientBoostingClassifier(max_iter=3),
    HistGradientBoostingRegressor(max_iter=3),
    KNeighborsClassifier(),
    GaussianNB(),
    GaussianProcessRegressor(),
    MLPClassifier((5,), max_iter=10),
    SVC(),
    SVR(),
    CalibratedClassifierCV(LogisticRegression(), cv=2),
    make_pipeline(StandardScaler(), LogisticRegression()),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_loaded_estimators_predict_the_same_bits(model: object) -> None:
    fitted = model.fit(X, CODES)  # type: ignore[attr-defined]
    loaded = skops_file.load_object(skops_file.save_object(fitted))
    method = "predict_proba" if hasattr(fitted, "predict_proba") else "predict"
    np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(fitted, method)(X))


def test_a_booster_writes_its_trees_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, written = LGBMRegressor(n_estimators=3, verbosity=-1).fit(X, CODES), []
    to_string = Booster.model_to_string

    def counted(booster: Booster, *values: Any, **named: Any) -> str:
        written.append(booster)
        return str(to_string(booster, *values, **named))

    monkeypatch.setattr(Booster, "model_to_string", counted)
    skops_file.save_object(fitted)
    assert written == [fitted.booster_]


@pytest.mark.parametrize("skops", [SimpleNamespace(), SimpleNamespace(_persist=SimpleNamespace())])
def test_a_skops_of_other_private_names_saves_all_the_same(
    skops: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    skops.dumps = importlib.import_module("skops.io").dumps
    monkeypatch.setattr(skops_file, "_skops_io", lambda: skops)
    assert skops_file.unsaveable(LogisticRegression()) is None


class Own(LogisticRegression):
    """A user's class."""


def test_other_types_need_trust() -> None:
    data = skops_file.save_object(Own().fit(X, CODES))
    with pytest.raises(TrustError, match=r"must hold known types only; got .*Own.*--trust-code"):
        skops_file.load_object(data)
    name = f"{Own.__module__}.{Own.__qualname__}"
    assert type(skops_file.load_object(data, [name])).__name__ == "Own"


def test_an_estimator_that_cannot_be_saved_says_so_before_the_run() -> None:
    broken = LogisticRegression(C=open)  # type: ignore[arg-type]
    broken.hook = (line for line in "generators cannot be saved")
    assert "cannot be saved" in (skops_file.unsaveable(broken) or "")
    assert skops_file.unsaveable(LogisticRegression()) is None
    with pytest.raises(MemberError, match="cannot be saved by skops"):
        skops_file.save_object(broken)


def test_boosting_over_native_categories_is_saved_and_loaded() -> None:
    frame = pd.DataFrame({"x": X[:, 0], "c": pd.Categorical.from_codes(CODES, ["a", "b"])})
    for model in (HistGradientBoostingClassifier(max_iter=3), LGBMClassifier(n_estimators=3, verbosity=-1)):
        data = skops_file.save_object(model.fit(frame, CODES))
        assert skops_file.unknown_types(data) == []
        np.testing.assert_array_equal(
            skops_file.load_object(data).predict_proba(frame), model.predict_proba(frame)
        )
