"""`stack`: what goes together loads, what does not is named; single wrong values are in wrong_configs.yaml."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stackfeat.config import LoadedConfig
from stackfeat.errors import ConfigError

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
