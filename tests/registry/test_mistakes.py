"""Wrong parameters are named at their place, and what is right for a library is right here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from stackfeat.registry.mistakes import estimator_mistakes, net_mistakes, tap_mistake
from stackfeat.registry.names import NET_FACTS
from stackfeat.registry.parameter_kinds import RANGES

FOREST = {"estimator": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimator": 3}}


def said(path: str, params: Any, folder: Path | None = None) -> dict[str, str]:
    return {".".join(map(str, place)): text for place, text in estimator_mistakes(path, params, folder)}


@pytest.mark.parametrize(
    ("path", "params", "place", "message"),
    [
        (
            "sklearn.linear_model.Ridge",
            {"alfa": 1},
            "alfa",
            "has no parameter 'alfa'; it takes alpha, .*Did you mean 'alpha'?",
        ),
        ("sklearn.linear_model.LogisticRegression", {"C": 0}, "C", "must be a number above 0; got 0"),
        (
            "sklearn.svm.SVC",
            {"kernel": "rfb"},
            "kernel",
            "must be one of linear, .*; got 'rfb'. Did you mean 'rbf'?",
        ),
        (
            "sklearn.tree.DecisionTreeClassifier",
            {"max_depth": "deep"},
            "max_depth",
            "whole number of at least 1 or null",
        ),
        (
            "sklearn.tree.DecisionTreeClassifier",
            {"min_samples_split": 1},
            "min_samples_split",
            "of at least 2 or a fraction",
        ),
        (
            "sklearn.ensemble.BaggingClassifier",
            {"estimator": FOREST},
            "estimator.params.n_estimator",
            "Did you mean 'n_estimators'?",
        ),
        (
            "sklearn.pipeline.Pipeline",
            {"steps": [["a", FOREST]]},
            "steps.0.1.params.n_estimator",
            "Did you mean",
        ),
        ("sklearn.ensemble.VotingClassifier", {}, "", "needs estimators; got no params"),
        (
            "lightgbm.LGBMClassifier",
            {"num_leafs": 7},
            "num_leafs",
            "has no parameter 'num_leafs'. Did you mean 'num_leaf",
        ),
        (
            "lightgbm.LGBMClassifier",
            {"subsample": 80},
            "subsample",
            "must be a number above 0 and at most 1; got 80",
        ),
        (
            "xgboost.XGBRegressor",
            {"colsample_by_tree": 0.5},
            "colsample_by_tree",
            "Did you mean 'colsample_bytree'?",
        ),
        ("catboost.CatBoostClassifier", {"depth": 30}, "depth", "of at least 1 and at most 16; got 30"),
        (
            "gated_linear",
            {"penalty": [1]},
            "penalty",
            "it takes penalties, scales, max_blocks. Did you mean 'penalties'?",
        ),
    ],
)
def test_a_mistake_is_named_at_its_place(path: str, params: Any, place: str, message: str) -> None:
    found = said(path, params)
    assert list(found) == [place]
    assert re.search(message.replace("?", r"\?"), found[place]), found


@pytest.mark.parametrize(
    ("name", "params", "place", "message"),
    [
        (
            "mlp",
            {"hiden": [8]},
            "hiden",
            "mlp has no parameter 'hiden'; it takes hidden, .* Did you mean 'hidden'?",
        ),
        ("mlp", {"hidden": 32}, "hidden", "must be a list of whole numbers of at least 1; got 32"),
        ("mlp", {"hidden": [64, 0]}, "hidden", r"got \[64, 0\]"),
        ("mlp", {"dropout": 1.5}, "dropout", "of at least 0 and below 1; got 1.5"),
        ("tabm", {"k": 0}, "k", "must be a whole number of at least 1; got 0"),
        (
            "gru",
            {"bidirectional": True},
            "bidirectional",
            "gru has no parameter 'bidirectional'; it takes width",
        ),
        ("cnn", {"width": "wide"}, "width", "must be a whole number of at least 1; got 'wide'"),
    ],
)
def test_a_mistake_of_a_net_is_named(name: str, params: Any, place: str, message: str) -> None:
    ((found, text),) = net_mistakes(name, params, NET_FACTS)
    assert ".".join(map(str, found)) == place
    assert re.search(message.replace("?", r"\?"), text), text


def test_facts_of_the_run_are_neither_missing_nor_offered(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "class Net:\n    def __init__(self, n_features, n_outputs, width):\n        pass\n"
    )
    assert list(net_mistakes("own:Net", {"width": 3}, NET_FACTS, tmp_path)) == []
    ((place, text),) = net_mistakes("own:Net", {}, NET_FACTS, tmp_path)
    assert (place, text) == ((), "own:Net needs width; got no params. Add it")
    ((place, text),) = net_mistakes("own:Net", {"widht": 3}, NET_FACTS, tmp_path)
    assert text == "own:Net has no parameter 'widht'; it takes width. Did you mean 'width'?"
    assert list(net_mistakes("timm:resnet18", {"anything": 1}, NET_FACTS, tmp_path)) == []


def test_parameters_that_people_use_are_right() -> None:
    rows = YAML(typ="safe").load(Path(__file__).with_name("honest_parameters.yaml").read_text())
    assert len(rows) > 40
    for path, params in rows:
        assert said(path, params) == {}, path


X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
BEYOND = [
    ("lightgbm", {"learning_rate": 0}),
    ("lightgbm", {"num_leaves": 1}),
    ("lightgbm", {"subsample": 1.5, "subsample_freq": 1}),
    ("lightgbm", {"colsample_bytree": 0}),
    ("lightgbm", {"reg_lambda": -1}),
    ("lightgbm", {"max_bin": 1}),
    ("xgboost", {"learning_rate": -1}),
    ("xgboost", {"subsample": 1.5}),
    ("xgboost", {"colsample_bytree": 2}),
    ("xgboost", {"max_depth": -1}),
    ("xgboost", {"max_bin": 1}),
    ("catboost", {"iterations": 0}),
    ("catboost", {"depth": 17}),
    ("catboost", {"l2_leaf_reg": -1}),
    ("catboost", {"rsm": 0}),
]
CLASSES = {"lightgbm": "LGBMClassifier", "xgboost": "XGBClassifier", "catboost": "CatBoostClassifier"}


@pytest.mark.parametrize(("library", "params"), BEYOND)
def test_what_is_out_of_range_fails_in_the_library_too(
    library: str, params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = next(iter(params))
    assert list(said(f"{library}.{CLASSES[library]}", params)) == [name]
    cls = getattr(pytest.importorskip(library), CLASSES[library])
    with pytest.raises(Exception, match=r".+"):
        cls(**params).fit(X, Y)


@pytest.mark.parametrize("library", sorted(CLASSES))
def test_the_ends_of_ranges_are_legal_in_the_library(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cls = getattr(pytest.importorskip(library), CLASSES[library])
    quiet = {"lightgbm": {"verbosity": -1}, "xgboost": {}, "catboost": {"verbose": False}}[library]
    few = {"iterations" if library == "catboost" else "n_estimators": 2, **quiet}
    for name in ("subsample", "reg_lambda", "l2_leaf_reg", "max_depth", "max_bin"):
        range_ = RANGES[library].get(name)
        least = {"> 0, <= 1": 1, ">= 0": 0, ">= 1, <= 16": 1, "> 1": 2, ">= 2": 2, ">= 1": 1}.get(str(range_))
        if least is not None:
            params = {**few, name: least}
            assert said(f"{library}.{CLASSES[library]}", params) == {}
            cls(**params).fit(X, Y)


CODE = """
from torch import nn

class Own(nn.Module):
    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features, 4), nn.ReLU())
        self.add_module("last", nn.Linear(4, n_outputs))

    def forward(self, x):
        return self.last(mark("between", self.body(x)))

class Derived(Own):
    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        self.extra = nn.Linear(1, 1)

class Dynamic(nn.Module):
    def __init__(self, n):
        super().__init__()
        for i in range(n):
            setattr(self, f"fc{i}", nn.Linear(1, 1))

class Elsewhere(somewhere.Net):
    pass

def factory(n_features):
    return Own(n_features, 1)
"""


@pytest.mark.parametrize(
    ("net", "tap", "says"),
    [
        ("own:Own", "boddy.0", "has no layer 'boddy'; it names body, last, between|Did you mean 'body'"),
        ("own:Own", "lats:input", "Did you mean 'last'?"),
        ("own:Derived", "exrta", "Did you mean 'extra'?"),
        ("mlp", "block.0", "it names blocks, embedding, head. Did you mean 'blocks'?"),
        ("realmlp", "hed:input", "Did you mean 'head'?"),
        ("gru", "rnn[0]", "gru has no layer 'rnn'; it names"),
    ],
)
def test_a_layer_that_a_net_does_not_have_is_named(net: str, tap: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CODE)
    assert re.search(says.replace("?", r"\?"), tap_mistake(net, tap, tmp_path) or "")


@pytest.mark.parametrize(
    ("net", "tap"),
    [
        ("own:Own", "body.0"),
        ("own:Own", "last:input"),
        ("own:Own", "between"),
        ("own:Derived", "body.1#0"),
        ("own:Dynamic", "fc7"),
        ("own:Elsewhere", "anything"),
        ("own:factory", "anything"),
        ("own:Own", "b*.0"),
        ("own:Own", "relu()#0"),
        ("mlp", "penultimate"),
        ("mlp", "blocks.0"),
        ("timm:resnet18", "layer4"),
    ],
)
def test_a_layer_that_may_be_there_is_left_to_the_net(net: str, tap: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(CODE)
    assert tap_mistake(net, tap, tmp_path) is None
