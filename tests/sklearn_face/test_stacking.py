"""Stacks: what the final estimator sees, pipelines averaged last, gates, splitters, messages."""

from __future__ import annotations

import pickle
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, RepeatedStratifiedKFold, StratifiedKFold, TimeSeriesSplit
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import stackfeat as sf
from stackfeat.errors import LeakWarning

LINE = LogisticRegression(max_iter=500)
TREE = DecisionTreeClassifier(max_depth=4, random_state=0)
MEMBERS = [("tree", TREE), ("line", LINE)]


def test_refit_is_scikit_learns_stack(small: SimpleNamespace) -> None:
    cv = StratifiedKFold(3)
    ours = sf.StackingClassifier(MEMBERS, LINE, cv=cv, averaging="refit").fit(small.X[:100], small.y[:100])
    theirs = ensemble.StackingClassifier(MEMBERS, LINE, cv=cv).fit(small.X[:100], small.y[:100])
    np.testing.assert_allclose(ours.predict_proba(small.X[100:]), theirs.predict_proba(small.X[100:]))
    np.testing.assert_array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())


def test_late_averages_what_the_final_estimator_says_of_every_fold(small: SimpleNamespace) -> None:
    cv, X, y, new = StratifiedKFold(3), small.X[:100], small.y[:100], small.X[100:]
    stack = sf.StackingClassifier(MEMBERS, LINE, cv=cv).fit(X, y)
    oof = np.zeros((100, 6))
    views = []
    for train, test in cv.split(X, y):
        fitted = [clone(model).fit(X[train], y[train]) for _, model in MEMBERS]
        oof[test] = np.hstack([model.predict_proba(X[test]) for model in fitted])
        views.append(np.hstack([model.predict_proba(new) for model in fitted]))
    np.testing.assert_array_equal(stack.oof_, oof)
    final = clone(LINE).fit(oof, y)
    by_hand = np.mean([final.predict_proba(view) for view in views], axis=0)
    np.testing.assert_allclose(stack.predict_proba(new), by_hand)
    np.testing.assert_array_equal(stack.predict(new), by_hand.argmax(axis=1))
    early = sf.StackingClassifier(MEMBERS, LINE, cv=cv, averaging="early").fit(X, y)
    np.testing.assert_allclose(early.predict_proba(new), final.predict_proba(np.mean(views, axis=0)))
    assert len(stack.fold_estimators_["tree"]) == 3 and len(stack.estimators_) == 2


@pytest.mark.parametrize("final", [None, LINE, TREE])
def test_layers_stand_behind_predictions_and_pass_the_gate(small: SimpleNamespace, final: Any) -> None:
    stack = sf.StackingClassifier([("net", small.net()), ("tree", TREE)], final, cv=3).fit(small.X, small.y)
    names = stack.get_feature_names_out()
    assert names[0] == "stackingclassifier_net0" and names[6].startswith(
        "stackingclassifier_net/penultimate@"
    )
    assert len(names) == stack.oof_.shape[1] == stack.transform(small.X[:3]).shape[1]
    gate = stack.diagnostics_["gate"]["scales"]
    assert set(gate) <= {"net/penultimate@geometry", "net/penultimate@aligned"}
    assert set(stack.diagnostics_["blocks"]) == {"net/penultimate@geometry", "net/penultimate@aligned"}
    copy = pickle.loads(pickle.dumps(stack))
    np.testing.assert_array_equal(copy.predict_proba(small.X[:20]), stack.predict_proba(small.X[:20]))


def test_the_gate_keeps_noise_out_and_can_be_left_open(small: SimpleNamespace) -> None:
    members = [("net", small.net(epochs=1)), ("tree", TREE)]
    gated = sf.StackingClassifier(members, LINE, cv=3).fit(small.X, small.noise)
    assert all(scale == 0 for scale in gated.design_.report["scales"].values())
    open_ = sf.StackingClassifier(members, LINE, cv=3, gate=False).fit(small.X, small.noise)
    assert open_.final_estimator_.n_features_in_ == open_.oof_.shape[1]


def test_emit_and_encode_are_for_all_or_by_name(small: SimpleNamespace) -> None:
    members = [("net", small.net()), ("tree", TREE)]
    by_name = sf.StackingClassifier(
        members, LINE, cv=2, emit={"net": ["penultimate"]}, encode={"net": "aligned"}, gate=False
    ).fit(small.X, small.y)
    assert by_name.stack_method_ == ["predict_proba"]
    assert list(by_name._block_widths) == ["net/penultimate@aligned"]
    for_all = sf.StackingClassifier(members, LINE, cv=2, emit=("proba", "penultimate"), encode="geometry")
    assert list(for_all.fit(small.X, small.y)._block_widths) == ["net/penultimate@geometry"]


def test_the_nested_score_is_of_folds_the_final_estimator_did_not_see(small: SimpleNamespace) -> None:
    cv = StratifiedKFold(3)
    stack = sf.StackingClassifier(MEMBERS, LINE, cv=cv).fit(small.X, small.y)
    said = np.zeros((150, 3))
    for train, test in cv.split(small.X, small.y):
        said[test] = clone(LINE).fit(stack.oof_[train], small.y[train]).predict_proba(stack.oof_[test])
    nested = stack.diagnostics_["nested"]
    assert nested["log_loss"] == pytest.approx(log_loss(small.y, said))
    assert nested["accuracy"] == pytest.approx((said.argmax(axis=1) == small.y).mean())
    values = sf.StackingRegressor([("r", Ridge())], cv=3).fit(small.XV, small.v).diagnostics_["nested"]
    assert values["r2"] > 0.9


def test_diagnostics_are_those_of_the_last_fit(small: SimpleNamespace) -> None:
    stack = sf.StackingClassifier(MEMBERS, LINE, cv=3).fit(small.X, small.noise)
    of_noise = stack.diagnostics_["nested"]["accuracy"]
    assert stack.fit(small.X, small.binary).diagnostics_["nested"]["accuracy"] > of_noise


def test_splitters_repeat_keep_groups_and_follow_time(small: SimpleNamespace) -> None:
    repeated = RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0)
    stack = sf.StackingClassifier(MEMBERS, cv=repeated).fit(small.X, small.y)
    assert len(stack.fold_estimators_["tree"]) == 6
    groups = np.arange(150) // 5
    grouped = sf.StackingClassifier(MEMBERS, cv=GroupKFold(3)).fit(small.X, small.y, groups=groups)
    for fold, (_, test) in enumerate(GroupKFold(3).split(small.X, groups=groups)):
        assert (grouped.folds_[test] == fold).all()
    later = sf.StackingClassifier(MEMBERS, cv=TimeSeriesSplit(3)).fit(small.X, small.y)
    assert np.isnan(later.oof_[later.folds_ < 0]).all() and (later.folds_ < 0).sum() == 39
    assert later.predict(small.X).shape == (150,)


def test_weights_reach_estimators_and_the_final_one(small: SimpleNamespace) -> None:
    weight = np.where(small.y == 2, 20.0, 1.0)
    plain = sf.StackingClassifier(MEMBERS, LINE, cv=3).fit(small.X, small.y)
    heavy = sf.StackingClassifier(MEMBERS, LINE, cv=3).fit(small.X, small.y, sample_weight=weight)
    assert heavy.predict_proba(small.X)[:, 2].mean() > plain.predict_proba(small.X)[:, 2].mean() + 0.1


def test_passthrough_of_some_columns(small: SimpleNamespace) -> None:
    stack = sf.StackingClassifier(MEMBERS, LINE, cv=2, passthrough=[1, 4]).fit(small.X, small.y)
    np.testing.assert_array_equal(stack.oof_[:, -2:], small.X[:, [1, 4]])
    assert list(stack.get_feature_names_out()[-2:]) == ["x1", "x4"]


def test_prefit_estimators_are_not_fitted_again(small: SimpleNamespace) -> None:
    tree, net = clone(TREE).fit(small.X, small.y), small.net().fit(small.X, small.y)
    stack = sf.StackingClassifier([("tree", tree), ("net", net)], cv="prefit").fit(small.X, small.y)
    assert stack.estimators_[0] is tree and stack.oof_.shape == (150, 6)
    raw = sf.StackingClassifier(
        [("net", net)], cv="prefit", emit=["proba", "penultimate"], encode="raw", gate=False
    ).fit(small.X, small.y)
    np.testing.assert_array_equal(raw.oof_[:, 3:], net.embed(small.X)["penultimate"])
    with pytest.raises(ValueError, match="set encode='raw'"):
        sf.StackingClassifier([("net", net)], cv="prefit", emit=["penultimate"]).fit(small.X, small.y)


def test_regressors_stack_with_layers(small: SimpleNamespace) -> None:
    members = [("net", small.regressor()), ("tree", DecisionTreeRegressor(max_depth=3, random_state=0))]
    stack = sf.StackingRegressor(members, cv=3).fit(small.XV, small.v)
    assert type(stack.final_estimator_).__name__ == "GatedFinalRegressor"
    assert stack.predict(small.XV).shape == (120,)
    dropped = clone(stack).set_params(net="drop").fit(small.XV, small.v)
    assert dropped.named_estimators_["net"] == "drop" and dropped.oof_.shape == (120, 1)


def test_fit_transform_warns_that_its_rows_are_in_sample(small: SimpleNamespace) -> None:
    with pytest.warns(LeakWarning, match="use oof_"):
        sf.StackingClassifier(MEMBERS, cv=2).fit_transform(small.X, small.y)


def test_the_drawing_names_levels_and_taps(small: SimpleNamespace) -> None:
    stack = sf.StackingClassifier([("net", small.net()), ("tree", TREE)])
    html = stack._repr_html_()
    assert "level 0 / net: proba, penultimate@geometry, penultimate@aligned" in html
    assert "level 0 / tree: proba" in html and "level 1 / final_estimator" in html
    assert "estimator: proba, penultimate@geometry" in sf.OutOfFoldFeatures(small.net())._repr_html_()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"averaging": "last"}, "'averaging' parameter"),
        (
            {"emit": {"nett": "proba"}},
            r"must name estimators \(net, tree\); got \['nett'\]. Did you mean 'net'",
        ),
        (
            {"encode": {"trea": "raw"}},
            r"must name estimators \(net, tree\); got \['trea'\]. Did you mean 'tree'",
        ),
        ({"emit": {"net": {"tap": "blocks.0", "pol": "mean"}}}, r"got 'pol'. Did you mean 'pool'"),
        ({"emit": {"net": {"pool": "mean"}}}, "a dict must say which layer"),
        ({"emit": {"tap": "blocks.0", "pool": "men"}}, "emit: pool: Input should be 'auto', .*; got 'men'"),
        ({"emit": 3}, "must be 'auto', of proba, prediction, decision, or a layer; got 3"),
        ({"emit": []}, "must name at least one output"),
        ({"emit": {"net": "blocks.*"}}, "must say how many of the last"),
        ({"emit": {"tree": "penultimate"}}, "for an estimator that is no net"),
        ({"encode": {"net": "geometri"}}, "Did you mean 'geometry'"),
    ],
)
def test_what_cannot_be_is_said(small: SimpleNamespace, changed: dict[str, Any], message: str) -> None:
    members = [("net", small.net()), ("tree", TREE)]
    with pytest.raises(ValueError, match=message):
        sf.StackingClassifier(members, cv=2, **changed).fit(small.X, small.y)


@pytest.mark.parametrize("emit", ["penultimate", ("proba", "penultimate"), ["blocks.0"], {"tap": "blocks.0"}])
def test_layers_of_no_net_at_all_are_refused(emit: Any, small: SimpleNamespace) -> None:
    message = "of proba, prediction, decision where no estimator is a net; got .* for tree, line"
    with pytest.raises(ValueError, match=message):
        sf.StackingClassifier(MEMBERS, cv=2, emit=emit).fit(small.X, small.y)
    with pytest.raises(ValueError, match=r"got 'prob' .*Did you mean 'proba'"):
        sf.StackingClassifier(MEMBERS, cv=2, emit="prob").fit(small.X, small.y)


def test_who_has_no_layers_where_nothing_else_is_asked_for_is_said(small: SimpleNamespace) -> None:
    members = [("net", small.net()), ("tree", TREE)]
    with pytest.warns(UserWarning, match="emit='penultimate': tree have no layers that can be read"):
        stack = sf.StackingClassifier(members, LINE, cv=2, emit="penultimate", encode="geometry", gate=False)
        stack.fit(small.X, small.y)
    assert stack.stack_method_ == ["predict_proba"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        sf.StackingClassifier(members, LINE, cv=2, emit=("proba", "penultimate"), encode="geometry").fit(
            small.X, small.y
        )


def test_a_word_that_is_taken_for_a_layer_is_corrected(small: SimpleNamespace) -> None:
    for word, meant in (("penultimat", "penultimate"), ("probas", "proba")):
        with pytest.raises(LookupError, match=f"got layer='{word}'.*Did you mean '{meant}'"):
            sf.OutOfFoldFeatures(small.net(), cv=2, emit=word).fit(small.X, small.y)


@pytest.mark.parametrize("kind", [">f4", ">f8"])
def test_columns_of_the_other_byte_order_are_the_same_columns(small: SimpleNamespace, kind: str) -> None:
    X, y = pd.DataFrame(small.X[:60].astype(kind)), small.y[:60]
    for ensemble_of in (sf.StackingClassifier, sf.VotingClassifier):
        fitted, wanted = (ensemble_of(MEMBERS).fit(rows, y) for rows in (X, X.astype(kind.replace(">", "="))))
        np.testing.assert_array_equal(fitted.transform(X), wanted.transform(X.astype(kind[1:])))


def test_categories_of_pandas_reach_estimators_as_they_are(small: SimpleNamespace) -> None:
    codes = (small.X[:60, 0] > 0).astype(int)
    X = pd.DataFrame({"kind": pd.Categorical(np.array(["a", "b"])[codes]), "value": small.X[:60, 1]})
    seen: list[Any] = []

    class Looks(DecisionTreeClassifier):
        def fit(self, X: pd.DataFrame, y: np.ndarray, **others: Any) -> Any:
            seen.append(X["kind"].dtype)
            return super().fit(X[["value"]].to_numpy(), y, **others)

        def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
            return super().predict_proba(X[["value"]].to_numpy())

    sf.StackingClassifier([("looks", Looks())], cv=2).fit(X, small.y[:60])
    assert seen and all(kind == X["kind"].dtype for kind in seen)
