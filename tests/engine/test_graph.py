"""The graph: what members read and hand on, and what is wrong with a config's levels."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackfeat.config import RunConfig
from stackfeat.engine.graph import Graph, build_graph, graph_problems, match_block, match_segment


def config(levels: dict[str, Any], **values: Any) -> RunConfig:
    options = {"task": "multiclass", "metric": "log_loss", "data": {"train": "train.csv"}} | values
    return RunConfig(levels=levels, **options)


def graph(levels: dict[str, Any], task: str = "multiclass", **values: Any) -> Graph:
    return build_graph(config(levels, task=task).levels, task, **values)


BASE = {"mlp": {"net": "mlp"}, "gbm": {"estimator": "lightgbm.LGBMClassifier"}}


def test_a_net_hands_on_predictions_and_both_encodings_of_its_penultimate_layer() -> None:
    outputs = graph({"base": BASE}).node("base/mlp").outputs
    assert [output.name for output in outputs] == ["proba", "penultimate@geometry", "penultimate@aligned"]


def test_predictions_left_out_of_emit_are_not_handed_on() -> None:
    node = graph({"base": {"mlp": {"net": "mlp", "emit": ["penultimate"]}}}).node("base/mlp")
    assert node.prediction is None
    assert [output.kind for output in node.outputs] == ["feature", "feature"]


def test_inputs_keep_the_order_of_patterns_and_name_each_block_once() -> None:
    levels = {
        "base": BASE,
        "meta": {"m": {"estimator": "gated_linear", "inputs": ["base/gbm/*", "base/*/proba", "table"]}},
    }
    node = graph(levels).node("meta/m")
    assert node.blocks == ("base/gbm/proba", "base/mlp/proba")
    assert node.raw == ("table",)


def test_each_makes_a_member_for_every_block() -> None:
    per = {"estimator": "sklearn.linear_model.LogisticRegression", "each": "base/*/*@*"}
    names = [node.name for node in graph({"base": BASE, "meta": {"per": per}}).nodes]
    assert names == ["mlp", "gbm", "per:mlp.penultimate@geometry", "per:mlp.penultimate@aligned"]


def test_each_puts_the_level_in_front_where_two_levels_would_collide() -> None:
    soft = {"vote": "soft", "inputs": ["a/x/proba"]}
    levels = {
        "a": {"x": {"estimator": "lightgbm.LGBMClassifier"}},
        "b": {"x": soft},
        "c": {"per": {"estimator": "gated_linear", "each": "*/x/proba"}},
    }
    assert [node.name for node in graph(levels).nodes[2:]] == ["per:a.x.proba", "per:b.x.proba"]


def test_an_excluded_member_takes_with_it_what_reads_nothing_else() -> None:
    levels = {
        "base": BASE,
        "meta": {
            "one": {"estimator": "gated_linear", "inputs": ["base/mlp/*"]},
            "two": {"estimator": "gated_linear", "inputs": ["base/*/proba"]},
        },
        "final": {"soft": {"vote": "soft", "inputs": ["meta/*"]}},
    }
    left = graph(levels, excluded={"base/mlp"})
    assert [node.full_name for node in left.nodes] == ["base/gbm", "meta/two", "final/soft"]
    assert left.node("meta/two").blocks == ("base/gbm/proba",)


def test_upstream_is_all_that_a_member_needs_in_order() -> None:
    levels = {
        "base": BASE,
        "meta": {"m": {"estimator": "gated_linear", "inputs": ["base/gbm/proba"]}},
        "final": {"soft": {"vote": "soft", "inputs": ["meta/*"]}},
    }
    assert [node.full_name for node in graph(levels).upstream("final/soft")] == [
        "base/gbm",
        "meta/m",
        "final/soft",
    ]


def test_fitted_levels_cover_one_time_fold_fewer_each_and_plain_votes_do_not() -> None:
    levels = {
        "base": BASE,
        "meta": {"m": {"estimator": "gated_linear", "inputs": ["base/*/proba"]}},
        "final": {
            "soft": {"vote": "soft", "inputs": ["meta/*"]},
            "greedy": {"vote": "greedy", "inputs": ["meta/*", "base/*"]},
        },
    }
    first = {node.full_name: node.first_fold for node in graph(levels).nodes}
    assert first == {"base/mlp": 0, "base/gbm": 0, "meta/m": 1, "final/soft": 1, "final/greedy": 2}


@pytest.mark.parametrize(
    ("levels", "path", "message"),
    [
        (
            {"base": BASE, "meta": {"m": {"estimator": "gated_linear", "inputs": ["bsae/*/proba"]}}},
            "levels.meta.m.inputs.0",
            "matches no block.*Blocks there are: base/mlp/proba",
        ),
        (
            {"base": BASE, "final": {"v": {"vote": "soft", "inputs": ["base/*/*"]}}},
            "levels.final.v.inputs",
            "takes predictions only; got the feature block 'base/mlp/penultimate@geometry'",
        ),
        (
            {"base": BASE, "final": {"v": {"vote": "soft", "inputs": ["base/*/prediction"]}}},
            "levels.final.v.inputs.0",
            "the output is 'proba'",
        ),
        (
            {"base": BASE, "meta": {"m": {"estimator": "gated_linear"}}},
            "levels.meta.m.inputs",
            "names its inputs",
        ),
        (
            {"base": {"g": {"estimator": "lightgbm.LGBMClassifier", "inputs": ["tabel"]}}},
            "levels.base.g.inputs.0",
            "Did you mean 'table'",
        ),
        (
            {
                "base": {
                    "mlp": {
                        "net": "mlp",
                        "emit": ["penultimate", {"tap": "penultimate", "encode": "raw"}, "penultimate"],
                    }
                }
            },
            "levels.base.mlp.emit",
            "named once; got 'penultimate@aligned' twice",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_path(levels: dict[str, Any], path: str, message: str) -> None:
    problems = dict(graph_problems(config(levels)))
    assert path in problems
    assert re.search(message, problems[path], re.DOTALL)


def test_proba_in_a_regression_is_an_error_that_says_so() -> None:
    levels = {"base": {"mlp": {"net": "mlp", "emit": ["proba"]}}}
    problems = graph_problems(config(levels, task="regression", metric="rmse"))
    assert problems == [
        ("levels.base.mlp.emit.0", "in a regression task the output is 'prediction'; got 'proba'")
    ]


def test_too_few_time_folds_for_the_levels_is_an_error() -> None:
    levels = {"base": BASE, "a": {"m": {"estimator": "gated_linear", "inputs": ["base/*/proba"]}}}
    levels["b"] = {"m": {"estimator": "gated_linear", "inputs": ["a/*"]}}
    problems = graph_problems(config(levels, folds={"kind": "time", "n": 2}))
    assert problems[0][0] == "folds.n"
    assert "at least 3" in problems[0][1]


BLOCKS = dict.fromkeys(
    [
        "base/mlp/proba",
        "base/mlp/penultimate@geometry",
        "base/gbm/proba",
        "meta/per:mlp.penultimate@geometry/proba",
        "meta/logit/proba",
    ]
)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("base/*/proba", ["base/mlp/proba", "base/gbm/proba"]),
        ("base/*/*@*", ["base/mlp/penultimate@geometry"]),
        ("meta/*", ["meta/per:mlp.penultimate@geometry/proba", "meta/logit/proba"]),
        ("base/mlp", ["base/mlp/proba"]),
        ("meta/per:*/*", ["meta/per:mlp.penultimate@geometry/proba"]),
        ("*/???/proba", ["base/mlp/proba", "base/gbm/proba"]),
        ("base/mlp/proba/more", []),
        ("base", []),
    ],
)
def test_patterns_select_blocks_segment_by_segment(pattern: str, found: list[str]) -> None:
    assert match_block(pattern, BLOCKS) == found


def test_brackets_are_literal() -> None:
    assert match_segment("lstm[0]@*", "lstm[0]@raw")
    assert not match_segment("lstm[0]", "lstm0")


@given(st.text(alphabet="ab.[](+|^$\\@#", max_size=8))
def test_text_without_wildcards_matches_itself_alone(text: str) -> None:
    assert match_segment(text, text)
    assert not match_segment(text, text + "x")
    assert match_segment("*", text)
