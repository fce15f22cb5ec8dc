"""`stack`: what goes together loads, what does not is named; single wrong values are in wrong_configs.yaml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stackfeat.config import LoadedConfig
from stackfeat.config.checks import config_findings, needs_of, unbuilt_findings, with_remedy
from stackfeat.config.data_checks import Allowed
from stackfeat.config.problems import Finding
from stackfeat.errors import ConfigError, Problem
from stackfeat.registry.trust import Need

Load = Callable[..., LoadedConfig]
RAW = ("emit: [proba, penultimate]", "emit: [proba, {tap: penultimate, encode: [raw, geometry]}]")


@pytest.mark.parametrize(
    "stack",
    [
        "averaging: early",
        "averaging: refit",
        "averaging: early, meta_fit: all, views: all",
        "averaging: late, meta_fit: fold, average: logit, views: last",
    ],
)
def test_what_goes_together_loads(stack: str, load: Load, good: str) -> None:
    load(f"stack: {{{stack}}}\n{good}")


def test_repeats_leave_predictions_apart_that_are_averaged_as_logits(load: Load, good: str) -> None:
    stack = "stack: {averaging: refit, average: logit}\n"
    load(f"{stack}folds: {{repeats: 2}}\n{good}")
    with pytest.raises(ConfigError, match="got averaging: refit, which leaves one prediction"):
        load(f"{stack}folds: {{repeats: 2, repeats_as: blocks}}\n{good}")


def test_all_fold_models_over_time_are_averaged_early_only_on_request(load: Load, good: str) -> None:
    text = good.replace("data:\n", "data:\n  time: x\n")
    load(f"stack: {{averaging: early, views: all}}\n{text}")
    load(f"stack: {{averaging: refit}}\n{text}")
    with pytest.raises(ConfigError, match="got time folds, where only the last one knows the latest rows"):
        load(f"stack: {{averaging: early}}\n{text}")


def test_raw_activations_that_a_member_reads_are_not_averaged_early(load: Load, good: str) -> None:
    text = f"stack: {{averaging: early}}\n{good.replace(*RAW)}"
    with pytest.raises(
        ConfigError, match="meta/gated reads 'base/mlp/penultimate@raw'; got averaging: early"
    ):
        load(text)
    load(text.replace('"base/*/*"', "base/*/proba"))
    load(text.replace("early", "refit"))


@pytest.mark.parametrize("average", ["mean", "rank"])
def test_values_are_averaged_by_mean_or_rank(average: str, load: Load, good: str) -> None:
    text = good.replace("multiclass", "regression").replace("log_loss", "rmse").replace("proba", "prediction")
    text = text.replace(
        "lightgbm.LGBMClassifier, params: {class_weight: {0: 1, 1: 5}}", "lightgbm.LGBMRegressor"
    )
    load(f"stack: {{average: {average}}}\n{text}")
    with pytest.raises(ConfigError, match="logit averages probabilities; got task=regression"):
        load(f"stack: {{average: logit}}\n{text}")


def test_what_is_refused_for_want_of_trust_alone_is_listed_with_its_value_and_kind() -> None:
    params = {"steps": [["a", {"estimator": "mine:Part", "params": {"memory": "x"}}]]}
    values = {
        "metric": "mine:loss",
        "folds": {"kind": "mine:Split"},
        "levels": {"base": {"n": {"net": "mine:Net"}, "e": {"estimator": "mine:E", "params": params}}},
    }
    inner = "levels.base.e.params.steps.0.1"
    kinds = {
        "metric": ("metric", "mine:loss"),
        "folds.kind": ("splitter", "mine:Split"),
        "levels.base.n.net": ("net", "mine:Net"),
        "levels.base.e.estimator": ("estimator", "mine:E"),
        f"{inner}.estimator": ("estimator", "mine:Part"),
        f"{inner}.params.memory": ("parameter", "x"),
        "levels.base.e.params": ("parameter", params),
        "levels.base.none": ("parameter", None),
    }
    found = needs_of(
        [Finding("seed", "wrong"), *(Finding(path, "untrusted", True) for path in kinds)], values
    )
    assert {need.path: (need.what, need.value) for need in found} == kinds


def test_how_to_agree_once_is_added_to_refusals_alone_and_quotes_odd_paths() -> None:
    problems = [Problem("metric", "code needs trust.", "c.yaml", 3), Problem("seed", "wrong", "c.yaml", 1)]
    first, second = with_remedy(
        problems, [Need("metric", "metric", "m:f")], Path("my configs/c.yaml"), "it changed"
    )
    assert first == Problem(
        "metric",
        "code needs trust. It changed. To agree once, until a byte changes: stackfeat trust 'my configs/c.yaml'",
        "c.yaml",
        3,
    )
    assert second is problems[1]


def test_every_finding_is_said_once_and_patterns_are_left_out_where_members_are_wrong(
    load: Load, good: str, folder: Path
) -> None:
    config = load(good).config
    allowed = Allowed(folder, trust_code=False)
    assert config_findings(config, allowed) == []
    wrong = config.model_copy(update={"metric": "rmse", "submit": "nobody"})
    found = config_findings(wrong, allowed)
    assert len(found) == len(set(found)) and {"metric", "submit"} == {one.path for one in found}
    assert [one.path for one in config_findings(wrong, allowed, with_graph=False)] == ["metric"]


def test_options_that_are_not_built_yet_are_named_one_by_one(load: Load, good: str) -> None:
    config = load(good).config
    update = {
        "executor": config.executor.model_copy(update={"kind": "ray"}),
        "limits": config.limits.model_copy(update={"memory": "1GB", "disk": "2GB"}),
    }
    found = list(unbuilt_findings(config.model_copy(update=update)))
    assert [one.path for one in found] == ["executor.kind", "limits.memory", "limits.disk"]
    assert all("is not built yet; " in one.message for one in found)
    assert list(unbuilt_findings(config)) == []
