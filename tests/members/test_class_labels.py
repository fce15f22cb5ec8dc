"""What parameters say of labels reaches an estimator that is fitted on class codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, RandomizedSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stackfeat.errors import UsageError
from stackfeat.members.class_labels import with_class_codes
from stackfeat.members.construct import construct
from stackfeat.tasks.task import Task

WORDS = Task("binary", ("bad", "good"))
Weights = dict[Any, float]


def line(weights: Any) -> LogisticRegression:
    return LogisticRegression(class_weight=weights)


def coded(estimator: Any, task: Task = WORDS) -> Any:
    return with_class_codes(estimator, task)


@pytest.mark.parametrize(
    ("classes", "weights", "expected"),
    [
        (("bad", "good"), {"good": 2.0}, {1: 2.0}),
        ((1, 2), {1: 20, 2: 1}, {0: 20, 1: 1}),
        ((3, 5), {"3": 2.0}, {0: 2.0}),
        ((False, True), {True: 4}, {1: 4}),
        ((False, True), {"False": 4}, {0: 4}),
        ((False, True), {1: 4}, {1: 4}),
        ((0.5, 1.0, 2.0), {2.0: 3}, {2: 3}),
        ((10, 20), {np.int64(20): 3}, {1: 3}),
        (("a", "b"), {np.str_("b"): 3}, {1: 3}),
        (("bad", "good"), "balanced", "balanced"),
        (("bad", "good"), None, None),
    ],
)
def test_a_weight_is_found_by_label_or_by_its_text(classes: Any, weights: Any, expected: Any) -> None:
    task = Task("binary" if len(classes) == 2 else "multiclass", classes)
    assert coded(line(weights), task).class_weight == expected


INSIDE: dict[str, tuple[Any, Any]] = {
    "pipeline": (make_pipeline(StandardScaler(), line({"good": 3})), lambda e: e.steps[-1][1].class_weight),
    "calibrated": (CalibratedClassifierCV(line({"good": 3})), lambda e: e.estimator.class_weight),
    "bagging": (BaggingClassifier(line({"good": 3})), lambda e: e.estimator.class_weight),
    "forest": (RandomForestClassifier(class_weight={"good": 3}), lambda e: e.class_weight),
    "boosting": (LGBMClassifier(class_weight={"good": 3}), lambda e: e.class_weight),
    "vote": (
        VotingClassifier([("a", line(None)), ("b", make_pipeline(line({"good": 3})))]),
        lambda e: e.estimators[1][1].steps[0][1].class_weight,
    ),
    "grid": (
        GridSearchCV(line(None), {"class_weight": [{"good": 3}, None]}),
        lambda e: e.param_grid["class_weight"][0],
    ),
    "grids": (
        GridSearchCV(make_pipeline(line(None)), [{"logisticregression__class_weight": [{"good": 3}]}]),
        lambda e: e.param_grid[0]["logisticregression__class_weight"][0],
    ),
    "drawn": (
        RandomizedSearchCV(line(None), {"class_weight": [{"good": 3}]}),
        lambda e: e.param_distributions["class_weight"][0],
    ),
    "estimators in a grid": (
        GridSearchCV(make_pipeline(line(None)), {"logisticregression": [line({"good": 3})]}),
        lambda e: e.param_grid["logisticregression"][0].class_weight,
    ),
}


@pytest.mark.parametrize("name", INSIDE)
def test_labels_are_found_wherever_an_estimator_on_the_same_classes_stands(name: str) -> None:
    estimator, read = INSIDE[name]
    assert read(coded(estimator)) == {1: 3}


def test_estimators_on_classes_of_another_making_keep_theirs() -> None:
    task = Task("multiclass", (1, 2, 3))
    assert coded(OneVsRestClassifier(line({1: 5})), task).estimator.class_weight == {1: 5}
    grid = {"estimator__class_weight": [{1: 5}]}
    assert coded(GridSearchCV(OneVsRestClassifier(line(None)), grid), task).param_grid == grid
    deep = {"onevsrestclassifier__estimator__class_weight": [{1: 5}]}
    assert coded(GridSearchCV(make_pipeline(OneVsRestClassifier(line(None))), deep), task).param_grid == deep


class Remembers(LogisticRegression):
    """An estimator of which a parameter holds the estimator itself."""

    def __init__(self, class_weight: Any = None, record: Any = None) -> None:
        super().__init__(class_weight=class_weight)
        self.record = record


def test_an_estimator_that_holds_itself_is_changed_once() -> None:
    estimator = Remembers({"good": 3}, [])
    estimator.record.append(estimator)
    assert coded(estimator).class_weight == {1: 3}


def test_single_labels_are_translated_and_values_of_regression_are_not() -> None:
    assert coded(DummyClassifier(strategy="constant", constant="good")).constant == 1
    assert coded(FixedThresholdClassifier(line(None), pos_label="bad")).pos_label == 0
    assert coded(DummyClassifier(strategy="prior")).constant is None
    assert coded(Ridge(), Task("regression")).alpha == 1.0
    assert with_class_codes(line({1: 2}), None).class_weight == {1: 2}


@pytest.mark.parametrize(
    "estimator",
    [
        line({"goood": 2}),
        make_pipeline(line({"goood": 2})),
        GridSearchCV(line(None), {"class_weight": [{"goood": 2}]}),
    ],
)
def test_a_weight_of_what_is_no_class_is_refused(estimator: Any) -> None:
    with pytest.raises(
        UsageError, match=r"class_weight must name classes \(bad, good\); got 'goood'. Did you mean 'good'"
    ):
        coded(estimator)


def test_catboost_weighs_classes_by_label() -> None:
    params = {"class_weights": {"bad": 20.0, "good": 1.0}, "iterations": 20}
    estimator = coded(construct("catboost.CatBoostClassifier", params, seed=0, threads=1))
    random = np.random.default_rng(0)
    X, y = random.normal(size=(200, 2)), np.arange(200) % 2
    assert estimator.fit(X, y).predict_proba(X)[:, 0].mean() > 0.8
