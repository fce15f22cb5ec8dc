"""Our classes inside scikit-learn's tools: pipelines, searches, calibration, copies on disk, noise."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn import ensemble
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.tree import DecisionTreeClassifier

import stackfeat as sf


def trees(**changed: object) -> LGBMClassifier:
    return LGBMClassifier(n_estimators=5, min_child_samples=5, verbosity=-1, n_jobs=1, **changed)


def test_boosters_keep_the_parameters_of_their_owner(small: SimpleNamespace) -> None:
    """A config's boosters search their rounds; instances are scikit-learn's, and fitted as they are."""
    model = LGBMClassifier(min_child_samples=5, verbosity=-1, n_jobs=1)
    stack = sf.StackingClassifier([("gbm", model)], cv=3).fit(small.X, small.y)
    for fitted in stack.estimators_:
        assert fitted.n_estimators_ == 100 and fitted.get_params() == model.get_params()
    by_hand = clone(model).fit(small.X, np.unique(small.y, return_inverse=True)[1])
    np.testing.assert_array_equal(
        stack.named_estimators_["gbm"].predict_proba(small.X), by_hand.predict_proba(small.X)
    )


@pytest.fixture
def pipeline(small: SimpleNamespace):
    features = make_union(sf.OutOfFoldFeatures(small.net(), cv=3), sf.OutOfFoldFeatures(trees(), cv=3))
    return make_pipeline(features, LogisticRegression(max_iter=300))


def test_a_union_of_nets_and_trees_is_scored_by_cross_validation(small: SimpleNamespace, pipeline) -> None:
    assert cross_val_score(pipeline, small.X, small.y, cv=2).mean() > 0.5


def test_a_grid_search_in_two_processes_reaches_the_net(small: SimpleNamespace, pipeline) -> None:
    inside = "featureunion__outoffoldfeatures-1__estimator__lr"
    search = GridSearchCV(pipeline, {inside: [1e-5, 0.02]}, cv=2, n_jobs=2).fit(small.X, small.y)
    alone = GridSearchCV(pipeline, {inside: [1e-5, 0.02]}, cv=2).fit(small.X, small.y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert np.array_equal(search.predict_proba(small.X), alone.predict_proba(small.X))


def test_jobs_change_nothing(small: SimpleNamespace) -> None:
    found = [
        sf.OutOfFoldFeatures(small.net(), cv=3, n_jobs=jobs).fit_transform(small.X, small.y)
        for jobs in (None, 2)
    ]
    np.testing.assert_array_equal(*found)
    with joblib.parallel_config("threading", n_jobs=2):
        third = sf.OutOfFoldFeatures(small.net(), cv=3).fit_transform(small.X, small.y)
    np.testing.assert_array_equal(found[0], third)


def test_calibration_takes_nets_and_pipelines(small: SimpleNamespace, pipeline) -> None:
    for estimator in (small.net(), pipeline):
        calibrated = CalibratedClassifierCV(estimator, cv=2).fit(small.X, small.binary)
        np.testing.assert_allclose(calibrated.predict_proba(small.X).sum(axis=1), 1)


def test_set_output_of_a_pipeline_names_the_columns(small: SimpleNamespace, pipeline) -> None:
    pipeline.set_output(transform="pandas").fit(small.X, small.y)
    columns = pipeline[:-1].transform(small.X[:5] + 0.01).columns
    assert columns[0] == "outoffoldfeatures-1__proba_0"
    assert list(columns[-3:]) == [f"outoffoldfeatures-2__proba_{i}" for i in range(3)]


def test_a_column_transformer_hands_over_some_columns(small: SimpleNamespace) -> None:
    parts = [("net", sf.OutOfFoldFeatures(small.net(), cv=2), [0, 1, 2]), ("rest", "passthrough", [3, 4])]
    model = make_pipeline(ColumnTransformer(parts), LogisticRegression(max_iter=300))
    assert model.fit(small.X, small.y).score(small.X + 1e-9, small.y) > 0.4


def test_a_transformed_target_comes_back(small: SimpleNamespace) -> None:
    model = TransformedTargetRegressor(
        small.regressor(epochs=20), func=lambda v: v / 100, inverse_func=lambda v: v * 100
    )
    assert model.fit(small.XV, small.v).score(small.XV, small.v) > 0.5


def test_copies_say_the_same(small: SimpleNamespace, pipeline, tmp_path: Path) -> None:
    pipeline.fit(small.X, small.y)
    said = pipeline.predict_proba(small.X[:20])
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    for copy in (pickle.loads(pickle.dumps(pipeline)), joblib.load(tmp_path / "pipeline.joblib")):
        np.testing.assert_array_equal(copy.predict_proba(small.X[:20]), said)
    np.testing.assert_array_equal(clone(pipeline).fit(small.X, small.y).predict_proba(small.X[:20]), said)


def test_noise_stays_at_chance_where_scikit_learns_stack_learns_it_by_heart() -> None:
    rng = np.random.default_rng(0)
    X, noise = rng.normal(size=(300, 5)), rng.integers(0, 2, 300)
    tree, line = DecisionTreeClassifier(random_state=0), LogisticRegression()
    ours = make_pipeline(sf.OutOfFoldFeatures(tree, cv=5), line)
    honest = line.fit(ours[0].fit_transform(X, noise), noise).score(ours[0].oof_, noise)
    theirs = ensemble.StackingClassifier([("tree", tree)], cv=5)
    in_sample = theirs.fit_transform(X, noise)
    assert line.fit(in_sample, noise).score(in_sample, noise) == 1.0
    spread = 0.5 / np.sqrt(300)
    assert abs(honest - 0.5) < 3 * spread
    assert abs(cross_val_score(ours, X, noise, cv=5).mean() - 0.5) < 3 * spread


def test_stacks_take_boosting_and_scikit_learn_pipelines(small: SimpleNamespace) -> None:
    members = [("gbm", trees()), ("net", small.net()), ("pipe", make_pipeline(LogisticRegression()))]
    assert sf.StackingClassifier(members, cv=2).fit(small.X, small.y).score(small.X, small.y) > 0.5
    values = [("gbm", LGBMRegressor(n_estimators=20, verbosity=-1, n_jobs=1)), ("net", small.regressor())]
    assert sf.StackingRegressor(values, cv=2).fit(small.XV, small.v).score(small.XV, small.v) > 0.3


def test_skorch_nets_are_members(small: SimpleNamespace) -> None:
    skorch = pytest.importorskip("skorch")
    from torch import nn

    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(dim=1))
    net = skorch.NeuralNetClassifier(module, max_epochs=2, verbose=0, train_split=None)
    X = small.X.astype(np.float32)
    stack = sf.StackingClassifier([("skorch", net), ("tree", DecisionTreeClassifier(max_depth=3))], cv=2)
    assert stack.fit(X, small.y).predict_proba(X).shape == (150, 3)


@pytest.mark.parametrize(
    ("package", "name"), [("xgboost", "XGBClassifier"), ("catboost", "CatBoostClassifier")]
)
def test_other_boosters_are_members(small: SimpleNamespace, package: str, name: str) -> None:
    kind = getattr(pytest.importorskip(package), name)
    values = {"iterations": 5, "verbose": 0, "allow_writing_files": False}
    model = kind(n_estimators=5) if package == "xgboost" else kind(**values)
    stack = sf.StackingClassifier([("boost", model), ("line", LogisticRegression(max_iter=300))], cv=2)
    assert stack.fit(small.X, small.y).predict_proba(small.X).shape == (150, 3)
