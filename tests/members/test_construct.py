"""Estimators by path and params: seeded, with threads set, nested, with messages for mistakes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.errors import ConfigError, TrustError
from stackfeat.members.class_labels import with_class_codes
from stackfeat.members.construct import construct, is_tree_model
from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.registry.parameters import object_problems
from stackfeat.store.skops_file import load_object, save_object
from stackfeat.tasks.task import Task


def test_seed_and_threads_are_set_where_params_do_not() -> None:
    model = construct("lightgbm.LGBMClassifier", {"n_estimators": 3}, seed=7, threads=2)
    assert (model.random_state, model.n_jobs, model.n_estimators) == (7, 2, 3)
    assert construct("lightgbm.LGBMClassifier", {"random_state": 1}, seed=7, threads=2).random_state == 1


def test_scikit_learn_estimators_keep_no_jobs_which_is_one_thread() -> None:
    assert construct("sklearn.linear_model.LogisticRegression", {}, seed=7, threads=2).n_jobs is None


def test_params_may_hold_estimators() -> None:
    inner = {"estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 2}}
    model = construct("sklearn.ensemble.BaggingClassifier", {"estimator": inner}, seed=7, threads=1)
    assert model.estimator.max_depth == 2
    assert model.estimator.random_state == 7


def test_a_wrong_param_is_named() -> None:
    with pytest.raises(ConfigError, match=r"must take its params; got \['n_trees'\]"):
        construct("sklearn.ensemble.ExtraTreesClassifier", {"n_trees": 3}, seed=0, threads=1)


def test_code_outside_the_trusted_packages_is_refused() -> None:
    with pytest.raises(TrustError, match="--trust-code"):
        construct("subprocess:Popen", {}, seed=0, threads=1)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("lightgbm.LGBMRegressor", True),
        ("sklearn.ensemble.HistGradientBoostingClassifier", True),
        ("sklearn.ensemble.RandomForestClassifier", False),
        ("gated_linear", False),
    ],
)
def test_models_with_native_categories_are_known(path: str, expected: bool) -> None:
    assert is_tree_model(path) is expected


def test_names_that_boosting_libraries_would_swallow_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no parameter 'n_estimatrs'\. Did you mean 'n_estimators'"):
        construct("lightgbm.LGBMClassifier", {"n_estimatrs": 40}, seed=0, threads=1)
    known = {"num_iterations": 5, "early_stopping_rounds": 3, "bagging_fraction": 0.5, "lambda_l1": 1.0}
    construct("lightgbm.LGBMClassifier", known, seed=0, threads=1)


def test_xgboost_is_told_of_categories() -> None:
    pytest.importorskip("xgboost")
    assert construct("xgboost.XGBClassifier", {}, seed=7, threads=2).enable_categorical is True
    given = construct("xgboost.XGBClassifier", {"enable_categorical": False}, seed=7, threads=2)
    assert given.enable_categorical is False


def test_catboost_which_lists_only_what_was_set_gets_a_seed_and_threads() -> None:
    pytest.importorskip("catboost")
    model = construct("catboost.CatBoostClassifier", {"iterations": 3}, seed=7, threads=2)
    assert model.get_params() == {
        "iterations": 3,
        "random_seed": 7,
        "thread_count": 2,
        "verbose": False,
        "allow_writing_files": False,
    }
    given = construct("catboost.CatBoostRegressor", {"random_state": 1, "silent": True}, seed=7, threads=2)
    assert "random_seed" not in given.get_params() and "verbose" not in given.get_params()


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("lightgbm.LGBMRegressor", {"n_estimators": 2, "verbosity": -1}),
        ("xgboost.XGBRegressor", {"n_estimators": 2}),
        ("catboost.CatBoostRegressor", {"iterations": 2}),
    ],
)
def test_monotone_constraints_may_be_a_list(path, params):
    pytest.importorskip(path.partition(".")[0])
    X = np.random.default_rng(0).normal(size=(60, 2))
    estimator = construct(path, {**params, "monotone_constraints": [1, 0]}, seed=0, threads=1)
    assert estimator.fit(X, X[:, 0]).predict(X).shape == (60,)


def test_ranges_in_a_grid_are_tuples():
    scaler = {"estimator": "sklearn.preprocessing.MinMaxScaler"}
    values = {"estimator": scaler, "param_grid": {"scaler__feature_range": [[0, 1], [0, 2]]}}
    search = construct("sklearn.model_selection.GridSearchCV", values, seed=0, threads=1)
    assert list(search.param_grid["scaler__feature_range"]) == [(0, 1), (0, 2)]


SEARCH = "sklearn.model_selection.GridSearchCV"


def searched(inner: str, params: dict[str, object], grid: object, task: Task) -> Any:
    values = {"estimator": {"estimator": inner, "params": params}, "param_grid": grid, "cv": 2}
    return with_class_codes(construct(SEARCH, values, seed=0, threads=1), task)


@pytest.mark.parametrize("library", ["xgboost.XGBClassifier", "catboost.CatBoostClassifier"])
def test_a_grid_holds_lists_of_signs_for_every_booster(library: str) -> None:
    pytest.importorskip(library.partition(".")[0])
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
    model = searched(
        library, {"n_estimators": 2}, {"monotone_constraints": [[1, -1], [0, 0]]}, Task("binary", (0, 1))
    )
    model.fit(X, y)
    assert list(model.best_params_["monotone_constraints"]) in ([1, -1], [0, 0])
    loaded = load_object(save_object(model))
    assert not object_problems(loaded) and (loaded.predict(X) == model.predict(X)).all()


def test_a_grid_weighs_classes_by_label() -> None:
    X, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2
    task = Task("binary", ("bad", "good"))
    grid = [{"class_weight": [{"bad": 1, "good": 3}, "balanced", None]}, {"C": [1.0]}]
    model = searched("sklearn.linear_model.LogisticRegression", {}, grid, task)
    assert model.param_grid == [{"class_weight": [{0: 1, 1: 3}, "balanced", None]}, {"C": [1.0]}]
    assert not np.isnan(model.fit(X, y).cv_results_["mean_test_score"]).any()


OWN = """
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.gaussian_process.kernels import RBF

class NoParams:
    def fit(self, X, y):
        return self
    def predict_proba(self, X):
        return np.tile(0.5, (len(X), 2))

class NoFit(BaseEstimator):
    pass

class Whole(BaseEstimator):
    def fit(self, X, y):
        return self

class Around(Whole):
    def __init__(self, kernel=None):
        self.kernel = kernel

class Raises(BaseEstimator):
    def __init__(self):
        raise KeyError("x")

def make():
    return NoParams()
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "NoParams",
            "a NoParams without get_params, set_params. Let its class inherit sklearn.base.BaseEstimator",
        ),
        ("make", "own_estimators:make, a NoParams without get_params"),
        ("NoFit", "a NoFit without fit"),
    ],
)
def test_a_class_that_is_no_estimator_is_refused(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_estimators.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_estimators", raising=False)
    with pytest.raises(
        ConfigError, match=rf"must have the methods fit, get_params, set_params; got .*{message}"
    ):
        construct(f"own_estimators:{name}", {}, seed=0, threads=1, trust_code=True)
    assert construct("own_estimators:Whole", {}, seed=0, threads=1, trust_code=True).get_params() == {}
    kernel = {"kernel": {"estimator": "sklearn.gaussian_process.kernels.RBF", "params": {}}}
    assert construct("own_estimators:Around", kernel, seed=0, threads=1, trust_code=True).kernel is not None
    for own in (name, "Raises"):
        # It is said when the member is fitted, and that ends no run.
        options = EstimatorOptions(estimator=f"own_estimators:{own}")
        assert options.why_unsaveable(True) is None
