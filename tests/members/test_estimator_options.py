"""Options of estimators: what follows from the name of a learner before anything is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stackfeat.members.estimator_options import FEW_TREES, EstimatorOptions
from stackfeat.members.settings import RunSettings

RUN = RunSettings(threads=2, seed_copies=3, gate_se=0.7)


def options(estimator: str, **values: Any) -> EstimatorOptions:
    return EstimatorOptions(estimator=estimator, **values)


def problems(made: EstimatorOptions, task: str = "binary", trust_code: bool = False) -> list[Any]:
    return list(made.code_problems(task, Path(), trust_code))


@pytest.mark.parametrize(
    ("name", "task", "right"),
    [
        ("xgboost.XGBClassifier", "regression", "xgboost.XGBRegressor"),
        ("lightgbm.LGBMRegressor", "multiclass", "lightgbm.LGBMClassifier"),
        ("sklearn.linear_model.RidgeClassifier", "regression", "sklearn.linear_model.Ridge"),
        ("sklearn.linear_model.RidgeClassifierCV", "regression", "sklearn.linear_model.RidgeCV"),
        ("sklearn.linear_model.LogisticRegression", "regression", "sklearn.linear_model.Ridge"),
        ("sklearn.svm.SVR", "binary", "sklearn.svm.SVC"),
        ("sklearn.svm:NuSVC", "regression", "sklearn.svm.NuSVR"),
    ],
)
def test_an_estimator_of_the_other_kind_of_task_is_refused_with_the_right_one(
    name: str, task: str, right: str
) -> None:
    ((place, message, is_trust),) = problems(options(name), task)
    assert place == "estimator" and not is_trust
    assert f"for task {task}; got {name}. Try {right}" in message
    assert problems(options(right), task) == []


def test_where_no_estimator_is_the_counterpart_none_is_made_up() -> None:
    ((_, message, _),) = problems(options("sklearn.linear_model.HuberRegressor"), "binary")
    assert message.endswith("got sklearn.linear_model.HuberRegressor. Name a classifier")
    assert problems(options("sklearn.linear_model.HuberRegressor"), "regression") == []


def test_estimators_inside_parameters_are_found_at_any_depth() -> None:
    inner = {"estimator": "own.code:Inner", "params": {"base": [{"estimator": "own.more:Deep"}]}}
    made = options("sklearn.ensemble.BaggingClassifier", params={"estimator": inner})
    found = {place: is_trust for place, _, is_trust in problems(made)}
    assert found == {"params.estimator.estimator": True, "params.estimator.params.base.0.estimator": True}


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("lightgbm.LGBMClassifier", {}, {"n_estimators": FEW_TREES}),
        ("lightgbm.LGBMClassifier", {"n_estimators": 7}, {"n_estimators": 7}),
        ("catboost.CatBoostClassifier", {"iterations": 900}, {"iterations": FEW_TREES}),
        ("sklearn.ensemble.HistGradientBoostingClassifier", {}, {"max_iter": FEW_TREES}),
        ("sklearn.ensemble.StackingClassifier", {"cv": 3}, {"cv": 3}),
        ("sklearn.linear_model.Ridge", {"alpha": 2.0}, {"alpha": 2.0}),
        ("own:Trees", {"n_estimators": 500}, {"n_estimators": FEW_TREES}),
        ("xgboost.XGBClassifier", {"n_estimators": "many"}, {"n_estimators": "many"}),
    ],
)
def test_a_reduced_estimator_has_few_trees_where_it_has_any(name: str, params: Any, expected: Any) -> None:
    made = options(name, params=params, seeds=4)
    reduced = made.reduced()
    assert (reduced.params, reduced.seeds) == (expected, 1)
    assert made.params == params and made.seeds == 4, "the options themselves stay"


@pytest.mark.parametrize(
    ("name", "is_tree"),
    [
        ("sklearn.ensemble.RandomForestClassifier", True),
        ("sklearn.tree.DecisionTreeRegressor", True),
        ("mine.trees:XGBLike", True),
        ("mine.Forest:Linear", False),
        ("sklearn.ensemble.VotingClassifier", False),
        ("gated_linear", False),
    ],
)
def test_trees_are_known_by_the_name_of_the_class_alone(name: str, is_tree: bool) -> None:
    assert options(name).is_tree_learner is is_tree


def test_keys_of_fits_hold_the_gate_only_where_there_are_blocks() -> None:
    made = options("sklearn.linear_model.Ridge", seeds=2)
    base = made.settings(RUN, has_blocks=False, has_features=False)
    assert (base.gate_se, base.version, base.seeds, base.threads) == (None, None, 6, 2)
    votes = made.settings(RUN, has_blocks=True, has_features=False)
    assert (votes.gate_se, votes.version) == (0.7, None)
    gated = made.settings(RUN, has_blocks=True, has_features=True)
    assert gated.version is not None
    assert (
        options("sklearn.linear_model.Ridge", gate=False)
        .settings(RUN, has_blocks=True, has_features=True)
        .version
        is None
    )
    assert options("gated_linear").settings(RUN, has_blocks=False, has_features=False).version is not None


def test_libraries_are_those_that_the_learner_is_of() -> None:
    assert "scikit-learn" in options("sklearn.linear_model.Ridge").libraries()
    assert "lightgbm" in options("lightgbm.LGBMClassifier").libraries()
    assert "lightgbm" not in options("gated_linear").libraries()
