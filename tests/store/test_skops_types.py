"""The list of types that saved estimators may hold: enough for every class of the allow-list, and no more."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from stackfeat.errors import MemberError
from stackfeat.registry.allowed import (
    ALLOWED_ESTIMATORS,
    SAVED_LOSSES,
    SAVED_NODES,
    SAVED_PARTS,
    is_allowed_path,
    public_path,
)
from stackfeat.registry.parameter_kinds import SCORE_FUNCTIONS
from stackfeat.store.skops_file import (
    is_known_estimator,
    is_known_function,
    load_object,
    save_object,
    unknown_types,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
TARGETS = (RNG.integers(0, 3, 60), RNG.integers(0, 2, 60), RNG.normal(size=60), RNG.random(60) + 0.1)
UNSAVED = {
    "sklearn.cluster.Birch": "skops does not write it",
    "sklearn.cluster.BisectingKMeans": "holds a function of scikit-learn",
    "sklearn.cluster.FeatureAgglomeration": "holds a function that pools columns",
    "sklearn.model_selection.TunedThresholdClassifierCV": "holds a scorer that it predicts with",
    "sklearn.preprocessing.SplineTransformer": "holds a function of scipy",
}
"""Classes of the allow-list that cannot be saved with their defaults; such a member cannot score later data."""
PARAMS: tuple[dict[str, Any], ...] = (
    {},
    {"estimator": LogisticRegression()},
    {"estimator": Ridge()},
    {"estimators": [("a", LogisticRegression()), ("b", LogisticRegression())]},
    {"estimators": [("a", Ridge()), ("b", Ridge())]},
    {"steps": [("a", LogisticRegression())]},
    {"base_estimator": LogisticRegression()},
    {"estimator": LogisticRegression(), "param_grid": {"C": [1.0, 2.0]}},
    {"estimator": LogisticRegression(), "param_distributions": {"C": [1.0, 2.0]}, "n_iter": 2},
)


def made(path: str) -> Iterator[Any]:
    """Yield estimators of a class, as few parameters as it takes."""
    module, _, name = path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    for params in PARAMS:
        try:
            model = cls(**params)
        except TypeError:
            continue
        few = {"iterations": 3, "verbose": 0, "allow_writing_files": False} if "CatBoost" in path else {}
        few |= {"n_estimators": 3, "verbose": -1} if "LGBM" in path else {}
        yield model.set_params(**few)


def fitted(path: str) -> Iterator[Any]:
    """Yield what a class gives on tiny rows, alone or as a step before a linear model."""
    rows = np.abs(X) if any(word in path for word in ("NB", "NMF", "Chi2", "Latent")) else X
    for model in made(path):
        for y in TARGETS:
            both = model if hasattr(type(model), "predict") else make_pipeline(model, LogisticRegression())
            try:
                yield both.fit(rows, y)
            except Exception:
                continue


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted(path for path in ALLOWED_ESTIMATORS if "sklearn." in path or "." in path)
)
def test_what_every_allowed_class_is_made_of_is_on_the_list(path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model in fitted(path):
            try:
                data = save_object(model)
                unknown = unknown_types(data)
                if not unknown:
                    assert type(load_object(data)) is type(model)
            except MemberError:
                unknown = ["cannot be written"]
            assert bool(unknown) == (path in UNSAVED), unknown


@pytest.mark.parametrize(
    "path",
    [
        "sklearn.linear_model.LogisticRegression",
        "sklearn.ensemble.GradientBoostingClassifier",
        "sklearn.ensemble.HistGradientBoostingRegressor",
        "sklearn.neighbors.KNeighborsClassifier",
        "sklearn.neural_network.MLPClassifier",
        "sklearn.gaussian_process.GaussianProcessClassifier",
        "sklearn.calibration.CalibratedClassifierCV",
        "sklearn.ensemble.StackingClassifier",
        "sklearn.decomposition.PCA",
        "sklearn.cluster.BisectingKMeans",
        "sklearn.feature_selection.SelectKBest",
        "sklearn.model_selection.TunedThresholdClassifierCV",
    ],
)
def test_what_common_classes_are_made_of_is_on_the_list(path: str) -> None:
    test_what_every_allowed_class_is_made_of_is_on_the_list(path)


def test_the_list_holds_classes_and_nothing_that_calls_what_it_is_given() -> None:
    for name in sorted(SAVED_PARTS | SAVED_LOSSES):
        module, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(module), attribute, None)
        # A class of another version of scikit-learn may be absent.
        assert found is None or inspect.isclass(found), name
    known = {name for names in SAVED_NODES.values() for name in names}
    assert not {name for name in known if name.startswith(("functools.", "operator.", "io.", "os."))}
    assert "builtins.super" not in known and not {
        name for name in known if "PyFunc" in name or "_Scorer" in name
    }
    assert not {"FunctionNode", "MethodNode", "PartialNode", "OperatorFuncNode"} & set(SAVED_NODES)
    assert "ConstructorFromReduceNode" not in SAVED_NODES


def test_an_estimator_is_known_by_the_module_that_defines_it() -> None:
    assert is_known_estimator("sklearn.linear_model._logistic.LogisticRegression")
    for name in (
        "sklearn.linear_model._ridge.LogisticRegression",
        "sklearn.linear_model.LogisticRegression",
        "sklearn.linear_model._logistic.sub.LogisticRegression",
        "sklearn.utils._testing.LogisticRegression",
        "os.LogisticRegression",
        "LogisticRegression",
        "",
        "..",
    ):
        assert not is_known_estimator(name), name


@pytest.mark.parametrize("name", SCORE_FUNCTIONS)
def test_a_function_that_scores_columns_is_known_by_the_module_that_defines_it(name: str) -> None:
    function = getattr(importlib.import_module("sklearn.feature_selection"), name)
    assert is_known_function(f"{function.__module__}.{name}")
    loaded = load_object(save_object(SelectKBest(function, k=2).fit(np.abs(X), TARGETS[1])))
    assert loaded.score_func is function and loaded.transform(X).shape == (60, 2)
    for other in ("sklearn.feature_selection", "sklearn.feature_selection._base", "os", "sklearn.utils", ""):
        assert not is_known_function(f"{other}.{name}"), other
    for other in ("SelectKBest", "f_oneway", "_chisquare", "os.system"):
        assert not is_known_function(f"{function.__module__}.{other}"), other


def test_a_search_is_saved_without_the_scorers_it_chose_by() -> None:
    for scoring in ("neg_log_loss", {"a": "accuracy", "b": "roc_auc"}):
        refit = True if isinstance(scoring, str) else "b"
        search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, scoring=scoring, refit=refit, cv=2)
        data = save_object(search.fit(X, TARGETS[1]))
        assert unknown_types(data) == [] and b"_Scorer" not in schema_of(data)
        loaded = load_object(data)
        np.testing.assert_array_equal(loaded.predict_proba(X), search.predict_proba(X))


def schema_of(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return file.read("schema.json")


def test_trees_over_categories_predict_the_same_without_their_check_of_numbers() -> None:
    """The one function in them, a partial of `check_array`, is left out when they are saved."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    frame = pd.DataFrame(X, columns=list("abcd"))
    frame.loc[::7, "b"] = np.nan
    frame["e"] = pd.Categorical.from_codes(RNG.integers(0, 3, 60), categories=["x", "y", "z"])
    for cls, y in ((HistGradientBoostingClassifier, TARGETS[0]), (HistGradientBoostingRegressor, TARGETS[2])):
        model = cls(max_iter=4, categorical_features="from_dtype").fit(frame, y)
        data = save_object(model)
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            schema = file.read("schema.json").decode()
        assert "PartialNode" not in schema and "check_array" not in schema and json.loads(schema)
        loaded = load_object(data)
        for part in (frame, frame[:1], frame[["e", "a", "b", "c", "d"]][["a", "b", "c", "d", "e"]]):
            np.testing.assert_array_equal(loaded.predict(part), model.predict(part))


def test_estimators_of_the_table_are_those_of_configs() -> None:
    for name in (
        "sklearn.svm._classes.SVC",
        "lightgbm.sklearn.LGBMClassifier",
        "catboost.core.CatBoostRegressor",
    ):
        assert is_allowed_path(public_path(name)) and is_known_estimator(name)
