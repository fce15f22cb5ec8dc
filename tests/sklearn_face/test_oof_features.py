"""OutOfFoldFeatures: which model speaks of which row, names, warnings, messages."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    RepeatedKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_predict,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

import stackfeat as sf
from stackfeat.encodings.diagnostics import compare_random_cv, probe_losses
from stackfeat.errors import LeakWarning, StackfeatError
from stackfeat.sklearn.emission import Emission
from stackfeat.tasks.task import Task


def test_rows_are_those_of_cross_val_predict(small: SimpleNamespace) -> None:
    cv = StratifiedKFold(3)
    line = LogisticRegression(max_iter=500)
    found = sf.OutOfFoldFeatures(line, cv=cv).fit_transform(small.X, small.y)
    wanted = cross_val_predict(line, small.X, small.y, cv=cv, method="predict_proba")
    np.testing.assert_array_equal(found, wanted)
    svc = sf.OutOfFoldFeatures(LinearSVC(), cv=cv).fit_transform(small.X, small.y)
    wanted = cross_val_predict(LinearSVC(), small.X, small.y, cv=cv, method="decision_function")
    np.testing.assert_array_equal(svc, wanted)
    values = sf.OutOfFoldFeatures(Ridge(), cv=3).fit_transform(small.XV, small.v)
    np.testing.assert_array_equal(values[:, 0], cross_val_predict(Ridge(), small.XV, small.v, cv=3))


def test_groups_stay_whole_where_random_folds_are_compared(small: SimpleNamespace) -> None:
    groups = np.arange(150) // 5
    features = sf.OutOfFoldFeatures(small.net(), "penultimate", "geometry", cv=GroupKFold(3))
    found = features.fit_transform(small.X, small.y, groups=groups).astype(np.float32)
    options = {"task": Task("multiclass", (0, 1, 2)), "seed": 0}
    losses = probe_losses(found, small.y, features.folds_, group=groups, **options)
    assert losses is not None
    measured = features.diagnostics_["penultimate@geometry"]
    assert measured["random_cv_gain"] == compare_random_cv(*losses)[0]


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers its rows: column 0 of X is the row's number."""

    def fit(self, X: Any, y: Any) -> Any:
        self.seen_ = frozenset(X[:, 0].astype(int))
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: Any) -> Any:
        is_seen = np.isin(X[:, 0].astype(int), list(self.seen_))
        return np.column_stack([1.0 - is_seen, is_seen])


@pytest.mark.parametrize(
    "cv", [3, RepeatedKFold(n_splits=3, n_repeats=2, random_state=0), TimeSeriesSplit(3)]
)
def test_no_row_comes_from_a_model_that_saw_it(small: SimpleNamespace, cv: Any) -> None:
    numbered = np.column_stack([np.arange(150.0), small.X])
    features = sf.OutOfFoldFeatures(Spy(), cv=cv)
    found = features.fit_transform(numbered, small.binary)
    covered = features.folds_ >= 0
    assert (found[covered] == 0).all() and np.isnan(found[~covered]).all()
    with pytest.warns(LeakWarning, match="rows it was fitted on"):
        assert features.transform(numbered).max() > 0


def test_rows_predicted_several_times_get_the_mean(small: SimpleNamespace) -> None:
    line = LogisticRegression(max_iter=500)
    cv = RepeatedKFold(n_splits=3, n_repeats=2, random_state=0)
    found = sf.OutOfFoldFeatures(line, cv=cv).fit_transform(small.X, small.y)
    total = np.zeros((150, 3))
    for train, test in cv.split(small.X):
        total[test] += line.fit(small.X[train], small.y[train]).predict_proba(small.X[test])
    np.testing.assert_allclose(found, total / 2, rtol=1e-12)


def test_new_rows_are_the_mean_of_fold_models_or_of_the_first(small: SimpleNamespace) -> None:
    features = sf.OutOfFoldFeatures(LogisticRegression(max_iter=500), cv=3).fit(small.X[:120], small.y[:120])
    said = [model.predict_proba(small.X[120:]) for model in features.estimators_]
    np.testing.assert_allclose(features.transform(small.X[120:]), np.mean(said, axis=0))
    features.set_params(views="first")
    np.testing.assert_array_equal(features.transform(small.X[120:]), said[0])


def test_layers_of_nets_are_encoded_within_their_fold(small: SimpleNamespace) -> None:
    net = make_pipeline(StandardScaler(), small.net(seeds=2))
    features = sf.OutOfFoldFeatures(
        net, emit=("proba", "penultimate"), encode=["geometry", "aligned", "relative", "raw"], cv=3
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)  # quick nets
        found = features.fit_transform(small.X, small.y)
    names = [name.partition("#")[0] for name in features.get_feature_names_out()]
    assert list(dict.fromkeys(names))[3:] == [
        f"penultimate@{e}" for e in ("geometry", "aligned", "relative", "raw")
    ]
    assert found.shape == (150, len(names)) and np.isfinite(found).all()
    new = features.transform(small.X + 0.01)
    assert new.shape == found.shape
    assert set(features.diagnostics_) == {n for n in names if "@" in n}
    assert features.diagnostics_["penultimate@aligned"]["held_out_cosine"] > 0.5
    own = [i for i, name in enumerate(names) if name == "penultimate@geometry"]
    options = {"task": Task("multiclass", (0, 1, 2)), "group": None, "seed": 0}
    losses = probe_losses(found[:, own].astype(np.float32), small.y, features.folds_, **options)
    assert losses is not None
    measured = features.diagnostics_["penultimate@geometry"]
    assert (measured["random_cv_gain"], measured["random_cv_se"]) == compare_random_cv(*losses)
    raw = [i for i, name in enumerate(names) if name.endswith("@raw")]
    by_hand = features.estimators_[0][:-1].transform(small.X[features.folds_ == 0])
    first = features.estimators_[0][-1].embed(by_hand)["penultimate"]
    np.testing.assert_array_equal(found[features.folds_ == 0][:, raw[:8]], first.astype(np.float32))


def test_the_sample_weight_and_groups_reach_estimator_and_splitter(small: SimpleNamespace) -> None:
    groups = np.arange(150) // 10
    weight = np.linspace(0.1, 3, 150)
    line = LogisticRegression(max_iter=500)
    features = sf.OutOfFoldFeatures(line, cv=GroupKFold(3))
    found = features.fit_transform(small.X, small.y, sample_weight=weight, groups=groups)
    for train, test in GroupKFold(3).split(small.X, groups=groups):
        fitted = line.fit(small.X[train], small.y[train], sample_weight=weight[train])
        np.testing.assert_array_equal(found[test], fitted.predict_proba(small.X[test]))
    with sklearn.config_context(enable_metadata_routing=True):
        routed = sf.OutOfFoldFeatures(line.set_fit_request(sample_weight=True), cv=GroupKFold(3))
        again = routed.fit_transform(small.X, small.y, sample_weight=weight, groups=groups)
    np.testing.assert_array_equal(again, found)


def test_labels_name_the_columns_and_binary_has_one(small: SimpleNamespace) -> None:
    labels = np.array(["low", "mid", "top"])[small.y]
    features = sf.OutOfFoldFeatures(LogisticRegression(max_iter=500), cv=3).fit(small.X, labels)
    assert features.get_feature_names_out().tolist() == ["proba_low", "proba_mid", "proba_top"]
    two = sf.OutOfFoldFeatures(LogisticRegression(max_iter=500), cv=3).fit(small.X, labels == "top")
    assert two.get_feature_names_out().tolist() == ["proba_True"]


def test_set_output_gives_frames(small: SimpleNamespace) -> None:
    frame = pd.DataFrame(small.X, columns=[f"c{i}" for i in range(8)], index=np.arange(150) + 7)
    features = sf.OutOfFoldFeatures(KNeighborsClassifier(), cv=3).set_output(transform="pandas")
    found = features.fit_transform(frame, small.y)
    assert list(found.columns) == ["proba_0", "proba_1", "proba_2"] and found.index.equals(frame.index)
    assert list(features.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        features.transform(frame[frame.columns[::-1]])
    polars = pytest.importorskip("polars")
    features.set_output(transform="polars")
    assert isinstance(features.fit_transform(frame, small.y), polars.DataFrame)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"emit": "penultimat"}, "for an estimator that is no net"),
        ({"emit": "prob"}, "Did you mean 'proba'"),
        ({"emit": ("proba", "decision")}, "one of proba, prediction, decision at most"),
        ({"encode": "geometri"}, "Did you mean 'geometry'"),
        ({"encode": "reference"}, "use 'aligned'"),
        ({"cv": [(np.arange(100), np.arange(50, 150))] * 2}, "must not predict rows that it trains on"),
        ({"views": "last"}, "'views' parameter"),
    ],
)
def test_what_cannot_be_is_said(small: SimpleNamespace, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sf.OutOfFoldFeatures(LogisticRegression(), **changed).fit(small.X, small.y)


def test_metadata_that_nobody_takes_is_refused(small: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="enable_metadata_routing=True"):
        sf.OutOfFoldFeatures(LogisticRegression()).fit(small.X, small.y, colour=small.y)
    with pytest.raises(ValueError, match="in regression the output is 'prediction'"):
        sf.OutOfFoldFeatures(Ridge(), emit="proba").fit(small.XV, small.v)


def test_several_targets_have_a_column_each(small: SimpleNamespace) -> None:
    both = np.column_stack([small.v, -small.v])
    features = sf.OutOfFoldFeatures(small.regressor(), encode="aligned", cv=KFold(3))
    found = features.fit_transform(small.XV, both)
    assert features.get_feature_names_out()[:3].tolist() == [
        "prediction#000",
        "prediction#001",
        "penultimate@aligned#000",
    ]
    assert np.isfinite(found).all()


class TestLayersThemselves:
    NET = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))

    @pytest.mark.parametrize("emit", [NET[1], (NET[1],), sf.Tap(NET[1]), {"tap": NET[1]}, [sf.Tap("1")]])
    def test_they_are_emitted_by_their_names(self, emit: Any) -> None:
        net = sf.NetClassifier(self.NET, epochs=1)
        given, named = (Emission.plan("net", net, how, "raw", has_labels=True) for how in (emit, "1"))
        assert given == named

    def test_what_a_tap_says_beside_its_layer_is_kept(self) -> None:
        net = sf.NetClassifier(self.NET, epochs=1)
        plan = Emission.plan(
            "net", net, [sf.Tap(self.NET[1], side="input", pool="max")], "raw", has_labels=True
        )
        assert [(tap.tap, tap.pool) for tap in plan.taps] == [("1:input", "max")]

    @pytest.mark.parametrize(
        ("module", "emit", "message"),
        [
            (NET, nn.ReLU(), "a layer that is given itself must be one of Sequential"),
            (
                "mlp",
                NET[1],
                "each fold builds a net of its own from 'mlp'; got a layer itself; give its name",
            ),
            (NET, sf.Tap(type=nn.Linear), "emit must name a layer"),
            (NET, (object(),), "a tap must be text, a Tap or a layer"),
        ],
    )
    def test_others_are_refused_before_a_fit(self, module: Any, emit: Any, message: str) -> None:
        features = sf.OutOfFoldFeatures(sf.NetClassifier(module, epochs=1), emit=emit)
        with pytest.raises(StackfeatError, match=message):
            features.fit(np.zeros((6, 4), np.float32), [0, 1, 0, 1, 0, 1])
        repr(features), features._repr_html_()
