"""Stacks, votes and features of several columns of y, against those made by hand of scikit-learn's parts."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMRegressor
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, RidgeCV
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import (
    KFold,
    cross_val_predict,
)
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import stackfeat as sf
from stackfeat.sklearn.final_estimator import GATED_FINALS, FinalOneByOne, FinalRows
from stackfeat.tasks.multilabel import of_label_sets
from stackfeat.tasks.regression import of_values

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


def label_losses(y: np.ndarray, proba: np.ndarray) -> float:
    return float(
        np.mean([log_loss(one, said, labels=[0, 1]) for one, said in zip(y.T, proba.T, strict=True)])
    )


@pytest.mark.parametrize("n_labels", [2, 3])
def test_a_stack_of_labels_is_the_one_made_by_hand(several: SimpleNamespace, n_labels: int) -> None:
    y = several.y[:, :n_labels]
    stack = sf.StackingClassifier(LABELS, cv=FOLDS).fit(several.X, y)
    by_hand = [FOREST, MultiOutputClassifier(LINE)]
    said = [cross_val_predict(one, several.X, y, cv=FOLDS, method="predict_proba") for one in by_hand]
    oof = np.hstack([of_labels(one) for one in said])
    np.testing.assert_allclose(stack.oof_, oof, rtol=1e-12)
    final = MultiOutputClassifier(LogisticRegression()).fit(oof, y)
    views = []
    for train, _ in FOLDS.split(several.X):
        fitted = [clone(one).fit(several.X[train], y[train]) for one in by_hand]
        view = np.hstack([of_labels(one.predict_proba(several.new)) for one in fitted])
        views.append(of_labels(final.predict_proba(view)))
    proba = np.mean(views, axis=0)
    np.testing.assert_allclose(stack.predict_proba(several.new), proba, rtol=1e-10)
    np.testing.assert_array_equal(stack.predict(several.new), proba.round())
    assert stack.predict(several.new).dtype == np.int64
    np.testing.assert_allclose(stack.decision_function(several.new), np.log(proba / (1 - proba)), rtol=1e-8)
    assert (
        stack.score(several.new, several.later[:, :n_labels])
        == (stack.predict(several.new) == several.later[:, :n_labels]).all(axis=1).mean()
    )
    np.testing.assert_array_equal(stack.classes_, [[0, 1]] * n_labels)
    assert len(stack.get_feature_names_out()) == stack.transform(several.new).shape[1] == 2 * n_labels


def test_the_nested_score_of_labels_is_of_whole_sets(several: SimpleNamespace) -> None:
    stack = sf.StackingClassifier(LABELS, cv=FOLDS).fit(several.X, several.y)
    said = np.zeros(several.y.shape)
    for train, test in FOLDS.split(several.X):
        final = MultiOutputClassifier(LogisticRegression()).fit(stack.oof_[train], several.y[train])
        said[test] = of_labels(final.predict_proba(stack.oof_[test]))
    nested = stack.diagnostics_["nested"]
    assert nested["log_loss"] == pytest.approx(label_losses(several.y, said))
    assert nested["accuracy"] == pytest.approx(accuracy_score(several.y, said.round()))


def test_a_stack_of_targets_is_the_one_made_by_hand(several: SimpleNamespace) -> None:
    X, v, new = several.XV[:100], several.v[:100], several.XV[100:]
    stack = sf.StackingRegressor(VALUES, cv=FOLDS).fit(X, v)
    by_hand = [VALUES[0][1], MultiOutputRegressor(VALUES[1][1])]
    oof = np.hstack([cross_val_predict(one, X, v, cv=FOLDS) for one in by_hand])
    np.testing.assert_allclose(stack.oof_, oof, rtol=1e-12)
    # A penalty for each target, whose units differ.
    final = MultiOutputRegressor(RidgeCV()).fit(oof, v)
    views = []
    for train, _ in FOLDS.split(X):
        fitted = [clone(one).fit(X[train], v[train]) for one in by_hand]
        views.append(final.predict(np.hstack([one.predict(new) for one in fitted])))
    said = np.mean(views, axis=0)
    np.testing.assert_allclose(stack.predict(new), said, rtol=1e-10)
    assert stack.score(new, several.v[100:]) == pytest.approx(r2_score(several.v[100:], said))
    held_out = np.zeros(v.shape)
    for train, test in FOLDS.split(X):
        held_out[test] = MultiOutputRegressor(RidgeCV()).fit(oof[train], v[train]).predict(oof[test])
    nested = stack.diagnostics_["nested"]
    assert nested["rmse"] == pytest.approx(root_mean_squared_error(v, held_out))
    assert nested["r2"] == pytest.approx(r2_score(v, held_out))


def test_a_final_estimator_that_takes_all_targets_is_fitted_once(several: SimpleNamespace) -> None:
    final = KNeighborsClassifier(5)
    stack = sf.StackingClassifier(LABELS, final, cv=FOLDS, averaging="refit").fit(several.X, several.y)
    assert isinstance(stack.final_estimator_, KNeighborsClassifier)
    expected = clone(final).fit(stack.oof_, several.y)
    columns = stack.transform(several.new)
    np.testing.assert_array_equal(stack.predict(several.new), expected.predict(columns))
    np.testing.assert_allclose(stack.predict_proba(several.new), of_labels(expected.predict_proba(columns)))


@pytest.mark.parametrize("averaging", ["late", "refit"])
def test_a_final_estimator_without_probabilities_decides_by_scores(
    several: SimpleNamespace, averaging: str
) -> None:
    members = [("scores", RidgeClassifier()), ("margins", LinearSVC()), ("said", DecisionTreeClassifier())]
    stack = sf.StackingClassifier(members, LinearSVC(), cv=3, averaging=averaging).fit(several.X, several.y)
    assert stack.stack_method_ == ["decision_function", "decision_function", "predict_proba"]
    scores = stack.decision_function(several.new)
    assert not hasattr(stack, "predict_proba") and scores.shape == (60, 3)
    np.testing.assert_array_equal(stack.predict(several.new), scores > 0)
    assert stack.diagnostics_["nested"].keys() == {"accuracy"}


def test_prefit_estimators_of_labels(several: SimpleNamespace) -> None:
    fitted = clone(FOREST).fit(several.X, several.y)
    stack = sf.StackingClassifier([("forest", fitted)], cv="prefit").fit(several.X, several.y)
    np.testing.assert_array_equal(stack.oof_, of_labels(fitted.predict_proba(several.X)))
    assert roc_auc_score(several.y, stack.predict_proba(several.X)) > 0.9


def test_columns_and_sparse_rows_pass_through(several: SimpleNamespace) -> None:
    stack = sf.StackingClassifier(LABELS, cv=FOLDS, passthrough=True)
    dense = stack.fit(several.X, several.y).predict_proba(several.new)
    np.testing.assert_array_equal(stack.oof_[:, 6:], several.X)
    sparse = (
        clone(stack).fit(csr_matrix(several.X), csr_matrix(several.y)).predict_proba(csr_matrix(several.new))
    )
    np.testing.assert_allclose(sparse, dense, atol=1e-4)


@pytest.mark.parametrize("final", [None, LINE, FOREST], ids=["gated", "line", "forest"])
def test_layers_of_nets_stand_behind_the_predictions_of_all_labels(
    small: SimpleNamespace, several: SimpleNamespace, final: Any
) -> None:
    members = [("net", small.net()), ("forest", FOREST)]
    stack = sf.StackingClassifier(members, final, cv=3).fit(several.X, several.y)
    assert stack.oof_.shape[1] == len(stack.get_feature_names_out()) > 6
    assert list(stack._block_widths) == ["net/penultimate@geometry", "net/penultimate@aligned"]
    assert set(stack.diagnostics_["gate"]["targets"]) == {"target_0", "target_1", "target_2"}
    assert set(stack.diagnostics_["blocks"]) == set(stack._block_widths)
    assert roc_auc_score(several.later, stack.predict_proba(several.new)) > 0.7
    copy = pickle.loads(pickle.dumps(stack))
    np.testing.assert_array_equal(copy.predict_proba(several.new), stack.predict_proba(several.new))


def final_rows(y: np.ndarray, block: np.ndarray, base: np.ndarray) -> FinalRows:
    return FinalRows(base, {"net/fc@raw": block}, y, {}, np.arange(len(y)) % 3, None)


@pytest.mark.parametrize("family", ["classification", "regression"])
@pytest.mark.parametrize("own", [False, True], ids=["gated_linear", "other"])
def test_the_gate_opens_for_the_target_that_a_block_tells_of(family: str, own: bool) -> None:
    rng = np.random.default_rng(1)
    hidden, base = rng.normal(size=(240, 2)), rng.uniform(0.4, 0.6, size=(240, 2))
    noise = rng.normal(size=(240, 3))
    values = np.column_stack([rng.normal(size=240), 3 * hidden[:, 0] + 0.1 * rng.normal(size=240)])
    is_labels = family == "classification"
    y = (values > 0).astype(int) if is_labels else values
    task = of_label_sets(y) if is_labels else of_values(y)
    block = np.column_stack([hidden, noise])
    rows = final_rows(y, block, base)
    if own:
        one_by_one = FinalOneByOne(LINE if is_labels else Ridge(), task)
        report, final = one_by_one.fit_rows(rows, gate=True).report, one_by_one
    else:
        final = GATED_FINALS[family](task, [(0, 2)], 2, [("net/fc@raw", 5)])
        report = final.fit(np.hstack([base, block]), y, None, rows.fold_of).report()
    scales = [report["targets"][name]["scales"]["net/fc@raw"] for name in ("target_0", "target_1")]
    assert scales[0] == 0 and scales[1] > 0
    said = final.predict(np.hstack([base, block]))
    assert (said[:, 1] == y[:, 1]).mean() > 0.95 if is_labels else r2_score(y[:, 1], said[:, 1]) > 0.95


def test_blocks_of_a_final_estimator_that_only_takes_all_targets_come_in_as_they_are(
    small: SimpleNamespace, several: SimpleNamespace
) -> None:
    final = MultiOutputClassifier(LINE)
    stack = sf.StackingClassifier([("net", small.net())], final, cv=2).fit(several.X, several.y)
    assert stack.final_estimator_.n_features_in_ == stack.oof_.shape[1] and not stack.diagnostics_["gate"]


@pytest.mark.parametrize("weights", [None, [1, 3]])
def test_soft_votes_are_means_of_the_probabilities_of_labels(several: SimpleNamespace, weights: Any) -> None:
    vote = sf.VotingClassifier(LABELS, voting="soft", weights=weights).fit(several.X, several.y)
    each = [
        of_labels(clone(one).fit(several.X, several.y).predict_proba(several.new))
        for one in (FOREST, MultiOutputClassifier(LINE))
    ]
    mean = np.average(each, axis=0, weights=weights)
    np.testing.assert_allclose(vote.predict_proba(several.new), mean)
    np.testing.assert_array_equal(vote.predict(several.new), mean > 0.5)
    np.testing.assert_allclose(vote.transform(several.new), np.hstack(each))
    np.testing.assert_allclose(vote.set_params(flatten_transform=False).transform(several.new), each)


class Says(ClassifierMixin, BaseEstimator):
    """The same probability of each label for every row."""

    def __init__(self, proba: Any) -> None:
        self.proba = proba

    def fit(self, X: np.ndarray, y: np.ndarray) -> Says:
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.tile(self.proba, (len(X), 1))

    def predict(self, X: np.ndarray) -> np.ndarray:
        return (self.predict_proba(X) > 0.5).astype(int)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def test_hard_votes_are_counted_label_by_label() -> None:
    X, y = np.zeros((10, 1)), np.array([[0, 1, 0]] * 4 + [[0, 1, 1]] * 6)
    members = [("a", Says((0.9, 0.1, 0.9))), ("b", Says((0.6, 0.2, 0.4))), ("c", Says((0.1, 0.9, 0.4)))]
    assert sf.VotingClassifier(members).fit(X, y).predict(X)[0].tolist() == [1, 0, 0]
    assert sf.VotingClassifier(members, weights=[1, 1, 5]).fit(X, y).predict(X)[0].tolist() == [0, 1, 0]
    tied = {
        tie: sf.VotingClassifier([members[0], members[2]], tie=tie).fit(X, y)
        for tie in ("lowest", "soft", "prior")
    }
    # Of two votes against each other: 0; the greater mean, which is 0.5 twice, then .65; what most rows have.
    assert {tie: vote.predict(X)[0].tolist() for tie, vote in tied.items()} == {
        "lowest": [0, 0, 0],
        "soft": [0, 0, 1],
        "prior": [0, 1, 1],
    }
    np.testing.assert_allclose(tied["prior"].priors_, [[1, 0], [0, 1], [0.4, 0.6]])
    assert not hasattr(tied["prior"], "predict_proba")
    np.testing.assert_array_equal(tied["soft"].transform(X)[0], [1, 0, 1, 0, 1, 0])


def test_fitted_weights_are_the_best_out_of_fold(several: SimpleNamespace) -> None:
    noise = DummyClassifier(strategy="uniform", random_state=0)
    members = [*LABELS, ("noise", MultiOutputClassifier(noise))]
    vote = sf.VotingClassifier(members, voting="soft", weights="fit", cv=FOLDS).fit(several.X, several.y)
    by_hand = [FOREST, MultiOutputClassifier(LINE), MultiOutputClassifier(noise)]
    oof = [
        of_labels(cross_val_predict(one, several.X, several.y, cv=FOLDS, method="predict_proba"))
        for one in by_hand
    ]
    grid = [(a, b, 1 - a - b) for a in np.linspace(0, 1, 21) for b in np.linspace(0, 1 - a, 11)]
    best = min(label_losses(several.y, np.average(oof, axis=0, weights=one)) for one in grid)
    found = label_losses(several.y, np.average(oof, axis=0, weights=vote.fitted_weights_))
    assert found <= best + 1e-6 and vote.fitted_weights_.sum() == pytest.approx(1)
    values = sf.VotingRegressor([*VALUES, ("line", Ridge())], weights="fit", cv=FOLDS).fit(
        several.XV, several.v
    )
    assert values.fitted_weights_[2] > 0.8


def test_no_target_decides_the_weights_by_its_unit(several: SimpleNamespace) -> None:
    X = several.XV
    noise = np.random.default_rng(0).normal(size=(len(X), 3))
    y = np.column_stack([X[:, 0], 3 * X[:, 1], 4 * np.abs(X[:, 2])]) + noise
    members = [("line", Ridge(1e-6)), ("near", KNeighborsRegressor(5))]
    weights = [
        sf.VotingRegressor(members, weights="fit", cv=FOLDS).fit(X, y * units).fitted_weights_
        for units in ([1, 1, 1], [1, 1, 1e4], [1e4, 1, 1])
    ]
    oof = [cross_val_predict(one, X, y, cv=FOLDS) for _, one in members]
    losses = [
        np.mean(np.sqrt(np.mean(np.square(a * oof[0] + (1 - a) * oof[1] - y), axis=0)) / y.std(axis=0))
        for a in np.linspace(0, 1, 1001)
    ]
    for found in weights:
        assert found[0] == pytest.approx(np.argmin(losses) / 1000, abs=0.02)
    assert 0.1 < weights[0][0] < 0.9


def test_a_soft_vote_names_the_estimator_without_probabilities(several: SimpleNamespace) -> None:
    for weights in (None, "fit"):
        with pytest.raises(AttributeError, match=r"'svm' \(LinearSVC\) has none; use voting='hard'"):
            sf.VotingClassifier([("svm", LinearSVC()), *LABELS], voting="soft", weights=weights).fit(
                several.X, several.y
            )


@pytest.mark.parametrize("weights", [None, [1, 3]])
def test_votes_on_several_targets_are_means(several: SimpleNamespace, weights: Any) -> None:
    vote = sf.VotingRegressor(VALUES, weights=weights).fit(several.XV[:100], several.v[:100])
    each = [
        clone(one).fit(several.XV[:100], several.v[:100]).predict(several.XV[100:])
        for one in (VALUES[0][1], MultiOutputRegressor(VALUES[1][1]))
    ]
    np.testing.assert_allclose(vote.predict(several.XV[100:]), np.average(each, axis=0, weights=weights))
    np.testing.assert_allclose(vote.transform(several.XV[100:]), np.hstack(each))
    assert vote.get_feature_names_out().tolist() == [
        f"votingregressor_{name}{place}" for name in ("forest", "trees") for place in range(3)
    ]


def test_features_are_those_of_cross_val_predict(several: SimpleNamespace) -> None:
    for estimator, by_hand in ((FOREST, FOREST), (LINE, MultiOutputClassifier(LINE))):
        features = sf.OutOfFoldFeatures(estimator, cv=FOLDS)
        found = features.fit_transform(several.X, several.y[:, :2])
        said = cross_val_predict(by_hand, several.X, several.y[:, :2], cv=FOLDS, method="predict_proba")
        np.testing.assert_allclose(found, of_labels(said))
        fitted = [
            clone(by_hand).fit(several.X[train], several.y[train, :2]) for train, _ in FOLDS.split(several.X)
        ]
        expected = np.mean([of_labels(one.predict_proba(several.new)) for one in fitted], axis=0)
        np.testing.assert_allclose(features.transform(several.new), expected)
        assert features.get_feature_names_out().tolist() == ["proba_0", "proba_1"]
    labels = sf.OutOfFoldFeatures(FOREST, emit="prediction", cv=FOLDS).fit_transform(several.X, several.y)
    np.testing.assert_array_equal(labels, cross_val_predict(FOREST, several.X, several.y, cv=FOLDS))
    values = sf.OutOfFoldFeatures(VALUES[1][1], cv=FOLDS).fit_transform(several.XV, several.v)
    expected = cross_val_predict(MultiOutputRegressor(VALUES[1][1]), several.XV, several.v, cv=FOLDS)
    np.testing.assert_allclose(values, expected)


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers its rows: column 0 of X is the row's number."""

    def fit(self, X: Any, y: Any) -> Spy:
        self.seen_, self.classes_ = frozenset(X[:, 0].astype(int)), np.unique(y)
        return self

    def predict_proba(self, X: Any) -> Any:
        is_seen = np.isin(X[:, 0].astype(int), list(self.seen_))
        return np.column_stack([1.0 - is_seen, is_seen])


def test_no_label_of_a_row_was_seen_by_its_model(several: SimpleNamespace) -> None:
    numbered = np.column_stack([np.arange(90.0), several.X])
    assert not sf.OutOfFoldFeatures(Spy(), cv=3).fit_transform(numbered, several.y).any()
    assert not sf.StackingClassifier([("spy", Spy())], cv=3).fit(numbered, several.y).oof_.any()


@pytest.mark.parametrize("net", [False, True], ids=["trees", "net"])
def test_labels_that_are_noise_stay_at_chance(small: SimpleNamespace, net: bool) -> None:
    scores, nested = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(200, 4)), rng.integers(0, 2, size=(200, 3))
        member = small.net(epochs=10) if net else DecisionTreeClassifier(random_state=0)
        stack = sf.StackingClassifier([("member", member)], cv=FOLDS).fit(X, y)
        scores.append(roc_auc_score(y, stack.oof_[:, :3]))
        # Chance of a whole set of three labels is an eighth.
        nested.append(stack.diagnostics_["nested"]["accuracy"] - 0.125)
        assert roc_auc_score(y, stack.oof_[:, :3]) < 0.6
    for gains in (np.array(scores) - 0.5, np.array(nested)):
        assert gains.mean() < 3 * gains.std(ddof=1) / np.sqrt(len(gains)) + 1e-9


def test_targets_that_are_noise_stay_at_chance() -> None:
    scores = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(200, 4)), rng.normal(size=(200, 3))
        members = [("tree", DecisionTreeRegressor(random_state=0))]
        scores.append(sf.StackingRegressor(members, cv=FOLDS).fit(X, y).diagnostics_["nested"]["r2"])
    assert np.mean(scores) < 3 * np.std(scores, ddof=1) / np.sqrt(len(scores))
