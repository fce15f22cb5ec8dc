"""What a plan makes optimistic or unsaveable is said before it is computed."""

from __future__ import annotations

from typing import Any

from stackfeat.config import RunConfig
from stackfeat.engine.graph import Graph, build_graph
from stackfeat.engine.plan_warnings import warn_of_averaging, warn_of_inputs, warn_of_unsaveable

BASE: dict[str, Any] = {"mlp": {"net": "mlp"}, "gbm": {"estimator": "lightgbm.LGBMClassifier"}}


def graph(levels: dict[str, Any]) -> Graph:
    config = RunConfig(task="multiclass", metric="log_loss", data={"train": "a.csv"}, levels=levels)
    return build_graph(config.levels, "multiclass")


def test_raw_activations_are_warned_of_with_the_remedy() -> None:
    levels = {"base": {"mlp": {"net": "mlp", "emit": ["proba", {"tap": "penultimate", "encode": "raw"}]}}}
    assert "base/mlp/penultimate@raw: activations of different folds" in warn_of_inputs(graph(levels), 500)[0]


def test_raw_columns_beside_predictions_are_warned_of_on_few_rows_unless_nested() -> None:
    trees = {"estimator": "lightgbm.LGBMClassifier", "inputs": ["base/*/proba", "table"], "nested": False}
    honest = graph({"base": BASE, "meta": {"trees": trees | {"nested": "auto"}}})
    assert not warn_of_inputs(honest, 500)
    made = graph({"base": BASE, "meta": {"trees": trees, "plain": trees | {"inputs": ["base/*/proba"]}}})
    (text,) = warn_of_inputs(made, 500)
    assert text.startswith(
        "meta/trees: raw columns or ungated activations beside predictions make an out-of-fold score optimistic"
    )
    assert not warn_of_inputs(made, 100_000)


def test_a_plain_stack_has_nothing_to_warn_of() -> None:
    made = graph({"base": BASE, "meta": {"m": {"estimator": "gated_linear", "inputs": ["base/*/*"]}}})
    assert warn_of_unsaveable(made, ["base/gbm"], trust_code=False) == []


def test_averaging_that_was_measured_harmful_is_warned_of_with_the_number() -> None:
    members = {
        "trees": {"estimator": "lightgbm.LGBMClassifier", "inputs": ["base/*/proba"]},
        "forest": {"estimator": "sklearn.ensemble.RandomForestClassifier", "inputs": ["base/*/proba"]},
        "log": {"estimator": "sklearn.linear_model.LogisticRegression", "inputs": ["base/*/proba"]},
        "gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]},
    }
    made = graph({"base": BASE, "meta": members})
    assert warn_of_averaging(made, "late") == []
    (early,) = warn_of_averaging(made, "early")
    assert early.startswith(
        "meta/trees, meta/forest: with trees as meta-learners averaging: early lost to late"
    )
    assert "by 0.001 to 0.115" in early and "Use averaging: late" in early
    trees, features = warn_of_averaging(made, "refit")
    assert "averaging: refit lost to late" in trees and "0.18" in trees
    assert features.startswith("meta/gated: features of a refitted net") and "96 % to 61 %" in features
    linear = graph({"base": BASE, "meta": {"log": members["log"]}})
    assert warn_of_averaging(linear, "early") == warn_of_averaging(linear, "refit") == []
