"""y of several columns: label sets in classifiers, several targets in regressors, as in scikit-learn."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostClassifier
from lightgbm import LGBMClassifier, LGBMRegressor
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    get_scorer,
    roc_auc_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    TimeSeriesSplit,
    cross_val_predict,
    cross_val_score,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_classifier_multioutput

import stackfeat as sf
from stackfeat.errors import UsageError

FOREST = RandomForestClassifier(10, max_depth=4, random_state=0)
LINE = LogisticRegression()
LABELS = [("forest", FOREST), ("line", LINE)]
VALUES = [
    ("forest", RandomForestRegressor(10, random_state=0)),
    ("trees", LGBMRegressor(n_estimators=5, verbosity=-1, n_jobs=1)),
]
FOLDS = KFold(3)


def of_labels(proba: list[np.ndarray]) -> np.ndarray:
    """The probability of each label of what forests and `MultiOutputClassifier` give."""
    return np.column_stack([one[:, 1] for one in proba])


def test_a_net_of_labels_gives_what_scikit_learns_does(
    small: SimpleNamespace, several: SimpleNamespace
) -> None:
    net = small.net(epochs=40).fit(several.X, several.y)
    theirs = MLPClassifier((8,), max_iter=400, random_state=0).fit(several.X, several.y)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        ours, expected = getattr(net, method)(several.new), getattr(theirs, method)(several.new)
        assert ours.shape == expected.shape == (60, 3) and ours.dtype.kind == expected.dtype.kind
    np.testing.assert_array_equal(net.classes_, theirs.classes_)
    proba = net.predict_proba(several.new)
    np.testing.assert_array_equal(net.predict(several.new), proba.round())
    np.testing.assert_allclose(net.decision_function(several.new), np.log(proba / (1 - proba)))
    assert net.score(several.new, several.later) == accuracy_score(several.later, net.predict(several.new))
    assert (
        roc_auc_score(several.later, proba)
        > roc_auc_score(several.later, theirs.predict_proba(several.new)) - 0.05
    )


def test_nets_read_layers_that_learnt_all_labels(small: SimpleNamespace, several: SimpleNamespace) -> None:
    net = small.net().fit(several.X, several.y)
    assert net.embed(several.new)["penultimate"].shape == (60, 8)
    copy = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(copy.predict_proba(several.new), net.predict_proba(several.new))
    again = clone(net).set_params(warm_start=True)
    named = pd.DataFrame(several.y, columns=["a", "b", "c"])
    assert again.fit(several.X, named).fit(several.X, several.y).targets_.tolist() == [
        "target_0",
        "target_1",
        "target_2",
    ]
    with pytest.raises(UsageError, match=r"warm_start .*got 2, before 3"):
        again.fit(several.X, several.y[:, :2])


@pytest.mark.parametrize("given", [{"class_weight": "balanced"}, {"mixup": 0.2}, {"label_smoothing": 0.1}])
def test_options_that_need_classes_are_refused_for_labels(
    small: SimpleNamespace, several: SimpleNamespace, given: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(given))} needs classes; got task=multilabel"):
        small.net(**given).fit(several.X, several.y)
    with pytest.raises(UsageError, match="needs classes; got task=multilabel"):
        sf.StackingClassifier([("net", small.net(**given))], cv=2).fit(several.X, several.y)
    with pytest.raises(UsageError, match="class_weight must be of one label a row"):
        small.net(class_weight={0: 1, 1: 2}).fit(several.X, several.y)


def test_weights_of_rows_count_for_every_label(small: SimpleNamespace, several: SimpleNamespace) -> None:
    weight = np.where(several.y[:, 0] == 1, 20.0, 1.0)
    plain, heavy = (
        small.net(epochs=20).fit(several.X, several.y, sample_weight=one) for one in (None, weight)
    )
    assert (heavy.predict_proba(several.new) - plain.predict_proba(several.new))[:, 0].mean() > 0.1


@pytest.mark.parametrize("kind", [sf.NetClassifier, sf.NetRegressor])
def test_one_column_is_no_column(small: SimpleNamespace, several: SimpleNamespace, kind: Any) -> None:
    make = small.net if kind is sf.NetClassifier else small.regressor
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        column = make().fit(several.X, several.y[:, :1])
    np.testing.assert_array_equal(
        column.predict(several.new), make().fit(several.X, several.y[:, 0]).predict(several.new)
    )
    assert column.predict(several.new).shape == (60,) and not hasattr(column, "targets_")


@pytest.mark.parametrize(
    "ensemble",
    [
        sf.StackingClassifier([("line", LINE)], cv=2),
        sf.VotingClassifier([("line", LINE)]),
        sf.StackingRegressor([("line", Ridge())], cv=2),
        sf.VotingRegressor([("line", Ridge())]),
    ],
    ids=lambda one: type(one).__name__,
)
def test_one_column_is_no_column_in_ensembles_either(ensemble: Any, several: SimpleNamespace) -> None:
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        column = clone(ensemble).fit(several.X, several.y[:, :1])
    np.testing.assert_array_equal(
        column.predict(several.new), clone(ensemble).fit(several.X, several.y[:, 0]).predict(several.new)
    )
    # A fit on one column forgets the columns of an earlier one.
    assert not hasattr(clone(ensemble).fit(several.X, several.y).fit(several.X, several.y[:, 0]), "targets_")


@pytest.mark.parametrize(
    "member",
    [
        LINE,
        make_pipeline(StandardScaler(), LINE),
        LGBMClassifier(n_estimators=3, verbosity=-1, n_jobs=1),
        CatBoostClassifier(iterations=3, verbose=False, allow_writing_files=False, thread_count=1),
        GridSearchCV(LINE, {"C": [0.1, 1.0]}, cv=2),
    ],
    ids=["line", "pipeline", "lightgbm", "catboost", "search"],
)
def test_members_of_one_target_are_fitted_one_by_one(several: SimpleNamespace, member: Any) -> None:
    columns = [f"x[{place}]" for place in range(6)]
    X, new = pd.DataFrame(several.X, columns=columns), pd.DataFrame(several.new, columns=columns)
    vote = sf.VotingClassifier([("member", member)], voting="soft").fit(X, several.y)
    assert [type(one) for one in vote.estimators_[0].estimators_] == [type(member)] * 3
    expected = [clone(member).fit(several.X, one).predict_proba(several.new)[:, 1] for one in several.y.T]
    np.testing.assert_allclose(vote.predict_proba(new), np.column_stack(expected), rtol=1e-6)
    assert vote.n_features_in_ == 6
    # CatBoost does not tell the names of its columns.
    assert list(getattr(vote, "feature_names_in_", columns)) == columns


def test_weights_of_labels_in_parameters_are_those_of_each_label(several: SimpleNamespace) -> None:
    line = LogisticRegression(class_weight={0: 1, 1: 5})
    vote = sf.VotingClassifier([("line", line)], voting="soft").fit(several.X, several.y)
    expected = [clone(line).fit(several.X, one).predict_proba(several.new)[:, 1] for one in several.y.T]
    np.testing.assert_allclose(vote.predict_proba(several.new), np.column_stack(expected))
    forest = clone(FOREST).set_params(class_weight=[{0: 1, 1: 5}] * 3)
    at_once = sf.VotingClassifier([("forest", forest)], voting="soft").fit(several.X, several.y)
    expected_at_once = of_labels(clone(forest).fit(several.X, several.y).predict_proba(several.new))
    np.testing.assert_allclose(at_once.predict_proba(several.new), expected_at_once)


def test_weights_and_groups_reach_members_and_folds(several: SimpleNamespace) -> None:
    weight, groups = np.random.default_rng(0).uniform(0.1, 3, 90), np.arange(90) // 5
    stack = sf.StackingClassifier(LABELS, cv=GroupKFold(3))
    stack.fit(several.X, several.y, sample_weight=weight, groups=groups)
    oof = np.zeros((90, 3))
    for fold, (train, test) in enumerate(GroupKFold(3).split(several.X, groups=groups)):
        assert (stack.folds_[test] == fold).all()
        for label in range(3):
            line = clone(LINE).fit(several.X[train], several.y[train, label], sample_weight=weight[train])
            oof[test, label] = line.predict_proba(several.X[test])[:, 1]
    np.testing.assert_allclose(stack.oof_[:, 3:], oof)
    final = LogisticRegression().fit(stack.oof_, several.y[:, 1], sample_weight=weight)
    np.testing.assert_allclose(stack.final_estimator_.estimators_[1].coef_, final.coef_)
    with pytest.raises(TypeError, match="KNeighborsClassifier does not support sample weights"):
        sf.StackingClassifier([("near", KNeighborsClassifier())]).fit(
            several.X, several.y, sample_weight=weight
        )


def test_a_label_that_no_row_of_a_fold_has_gets_a_small_share(several: SimpleNamespace) -> None:
    y = several.y.copy()
    y[:, 2] = 0
    y[0, 2] = 1
    members = [*LABELS, ("margins", LinearSVC())]
    with_rare = sf.StackingClassifier(members, cv=FOLDS, emit={"line": "proba"}).fit(several.X, y)
    in_first = with_rare.folds_ == 0
    # The fold of the only row with the label knows none: a forest says 0, others half a row of 60.
    np.testing.assert_array_equal(with_rare.oof_[in_first, 2], 0.0)
    np.testing.assert_allclose(with_rare.oof_[in_first, 5], 0.5 / 60.5)
    np.testing.assert_allclose(with_rare.oof_[in_first, 8], np.log(0.5 / 60))
    vote = sf.VotingClassifier(LABELS, voting="soft", weights="fit", cv=FOLDS).fit(several.X, y)
    assert np.isfinite(vote.predict_proba(several.new)).all() and not vote.predict(several.new)[:, 2].any()


def test_rows_that_no_fold_predicts_are_left_out(several: SimpleNamespace) -> None:
    for ensemble, X, y in (
        (sf.StackingClassifier(LABELS, cv=TimeSeriesSplit(3)), several.X, several.y),
        (sf.StackingRegressor(VALUES, cv=TimeSeriesSplit(3)), several.XV, several.v),
    ):
        stack = ensemble.fit(X, y)
        assert (
            np.isnan(stack.oof_[stack.folds_ < 0]).all() and np.isfinite(stack.oof_[stack.folds_ >= 0]).all()
        )
        assert stack.predict(X).shape == y.shape


def test_columns_of_y_name_the_columns_that_come_out(
    small: SimpleNamespace, several: SimpleNamespace
) -> None:
    y = pd.DataFrame(several.y, columns=["sea", "sky", "wood"])
    v = pd.DataFrame(several.v, columns=["low", "mid", "high"])
    stack = sf.StackingClassifier(LABELS, cv=3).fit(several.X, y)
    assert stack.targets_.tolist() == ["sea", "sky", "wood"]
    assert stack.get_feature_names_out()[2:4].tolist() == [
        "stackingclassifier_forest_wood",
        "stackingclassifier_line_sea",
    ]
    for voting in ("hard", "soft"):
        vote = sf.VotingClassifier([*LABELS, ("none", "drop")], voting=voting).fit(several.X, y)
        assert vote.get_feature_names_out()[2:4].tolist() == [
            "votingclassifier_forest_wood",
            "votingclassifier_line_sea",
        ]
    regressors = sf.StackingRegressor(VALUES, cv=3), sf.VotingRegressor(VALUES)
    for regressor in regressors:
        names = regressor.fit(several.XV, v).get_feature_names_out()
        assert names[0].endswith("regressor_forest_low") and regressor.targets_.tolist() == [
            "low",
            "mid",
            "high",
        ]
    features = sf.OutOfFoldFeatures(small.net(), encode="aligned", cv=2).set_output(transform="pandas")
    frame = features.fit_transform(several.X, y)
    assert list(frame.columns[:4]) == ["proba_sea", "proba_sky", "proba_wood", "penultimate@aligned#000"]
    assert list(features.transform(several.new).columns) == list(frame.columns)
    assert small.regressor().fit(several.XV, v).targets_.tolist() == ["low", "mid", "high"]
    with pytest.raises(UsageError, match=r"columns of y must have different names; got \['a', 'a', 'b'\]"):
        small.net().fit(several.X, y.set_axis(["a", "a", "b"], axis=1))


@pytest.mark.parametrize("form", ["lists", "bool", "float", "frame", "polars", "sparse"])
def test_labels_may_come_in_any_form(several: SimpleNamespace, form: str) -> None:
    polars = pytest.importorskip("polars") if form == "polars" else None
    given = {
        "lists": lambda: several.y.tolist(),
        "bool": lambda: several.y.astype(bool),
        "float": lambda: several.y.astype(float),
        "frame": lambda: pd.DataFrame(several.y).astype("boolean"),
        "polars": lambda: polars.DataFrame(several.y, schema=["a", "b", "c"]),
        "sparse": lambda: csr_matrix(several.y),
    }[form]()
    expected = sf.VotingClassifier(LABELS).fit(several.X, several.y).predict(several.new)
    np.testing.assert_array_equal(
        sf.VotingClassifier(LABELS).fit(several.X, given).predict(several.new), expected
    )


@pytest.mark.parametrize(
    "estimator",
    [
        sf.NetClassifier(net_params={"hidden": [8]}, epochs=2, random_state=0),
        sf.VotingClassifier(LABELS, voting="soft"),
        sf.VotingClassifier(LABELS),
    ],
    ids=["net", "soft", "hard"],
)
def test_the_check_of_scikit_learn_for_several_outputs(estimator: Any) -> None:
    check_classifier_multioutput(type(estimator).__name__, estimator)


@pytest.mark.parametrize(
    "make",
    [
        lambda small: small.net(),
        lambda small: sf.StackingClassifier(LABELS, cv=2),
        lambda small: sf.VotingClassifier(LABELS, voting="soft"),
        lambda small: make_pipeline(sf.OutOfFoldFeatures(FOREST, cv=2), MultiOutputClassifier(LINE)),
    ],
    ids=["net", "stack", "vote", "features"],
)
def test_labels_in_searches_and_cross_validation(
    small: SimpleNamespace, several: SimpleNamespace, make: Any
) -> None:
    model = make_pipeline(StandardScaler(), make(small))
    proba = cross_val_predict(make(small), several.X, several.y, cv=FOLDS, method="predict_proba")
    assert np.shape(proba) in ((90, 3), (3, 90, 2))
    scores = cross_val_score(model, several.X, several.y, cv=FOLDS, scoring="roc_auc")
    assert np.isfinite(scores).all() and scores.mean() > 0.5
    search = GridSearchCV(model, {"standardscaler__with_mean": [True, False]}, cv=2).fit(several.X, several.y)
    assert search.predict(several.new).shape == (60, 3) and 0 <= search.best_score_ <= 1
    assert clone(search).fit(several.X, several.y).best_score_ == search.best_score_


def test_scorers_take_two_labels_of_a_stack_for_labels(several: SimpleNamespace) -> None:
    stack = sf.StackingClassifier(LABELS, cv=2).fit(several.X, several.y[:, :2])
    later, proba = several.later[:, :2], stack.predict_proba(several.new)
    assert get_scorer("roc_auc")(stack, several.new, later) == pytest.approx(roc_auc_score(later, proba))
    precision = average_precision_score(later, proba)
    assert get_scorer("average_precision")(stack, several.new, later) == pytest.approx(precision)


def test_a_stack_stands_in_a_stack(several: SimpleNamespace) -> None:
    inner = sf.StackingClassifier(LABELS, cv=2)
    outer = sf.StackingClassifier(
        [("inner", inner), ("vote", sf.VotingClassifier(LABELS, voting="soft"))], cv=2
    )
    # What takes all labels by itself is not taken apart.
    fitted = outer.fit(several.X, several.y).named_estimators_
    assert isinstance(fitted["inner"], sf.StackingClassifier) and isinstance(
        fitted["vote"], sf.VotingClassifier
    )
    assert roc_auc_score(several.later, outer.predict_proba(several.new)) > 0.7


@pytest.mark.parametrize(
    "make",
    [
        lambda small: small.net(),
        lambda small: sf.StackingClassifier(LABELS),
        lambda small: sf.VotingClassifier(LABELS),
        lambda small: sf.OutOfFoldFeatures(FOREST),
    ],
    ids=["net", "stack", "vote", "features"],
)
def test_columns_that_are_no_labels_are_refused(
    small: SimpleNamespace, several: SimpleNamespace, make: Any
) -> None:
    message = r"y of several columns must be 0 and 1, .*got 2 in column 1; .*MultiLabelBinarizer"
    with pytest.raises(UsageError, match=message):
        make(small).fit(several.X, several.y + np.array([0, 1, 0]))
    with pytest.raises(UsageError, match=r"must be 0 and 1, .*got 'yes' in column 0"):
        make(small).fit(several.X, np.where(several.y > 0, "yes", "no")[several.y[:, 0].argsort()[::-1]])
    with pytest.raises(ValueError, match=r"y contains NaN"):
        make(small).fit(several.X, np.where(several.y > 0, np.nan, 0.0))
    with pytest.raises(ValueError, match=r"[Ss]equence of sequences are no longer supported"):
        make(small).fit(several.X, [[1, 2], [1]] * 45)


def test_ranks_and_quantiles_are_of_one_column(several: SimpleNamespace, small: SimpleNamespace) -> None:
    with pytest.raises(
        UsageError, match=r"voting='rank' must have one column of y; got 3; use voting='soft'"
    ):
        sf.VotingClassifier(LABELS, voting="rank").fit(several.X, several.y)
    with pytest.raises(UsageError, match=r"voting='rank' must have one column of y; got 3"):
        sf.VotingRegressor(VALUES, voting="rank").fit(several.XV, several.v)
    for one in (
        small.regressor(quantiles=(0.1, 0.9)),
        sf.StackingRegressor([("trees", VALUES[1][1])], quantiles=(0.1, 0.9)),
        sf.VotingRegressor([("trees", VALUES[1][1])], quantiles=(0.1, 0.9)),
    ):
        with pytest.raises(UsageError, match=r"quantiles are of one target; got y of shape \(150, 3\)"):
            one.fit(several.XV, several.v)
        assert not one.__sklearn_tags__().target_tags.multi_output


def test_tags_say_what_is_taken(small: SimpleNamespace) -> None:
    for one in (small.net(), sf.StackingClassifier(LABELS), sf.VotingClassifier(LABELS)):
        assert one.__sklearn_tags__().classifier_tags.multi_label
    for one in (
        sf.VotingClassifier(LABELS, voting="rank"),
        small.net(class_weight="balanced"),
        small.net(class_weight={0: 1, 1: 2}),
        small.net(mixup=0.2),
    ):
        assert not one.__sklearn_tags__().classifier_tags.multi_label
    assert small.net(class_weight="none").__sklearn_tags__().classifier_tags.multi_label
    for one in (small.regressor(), sf.StackingRegressor(VALUES), sf.VotingRegressor(VALUES)):
        assert one.__sklearn_tags__().target_tags.multi_output
