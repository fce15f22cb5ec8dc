"""What differs between configs, as a person reads it."""

from __future__ import annotations

from stackfeat.config.differences import ABSENT, Difference, differences


def test_a_changed_option_is_named_with_both_values() -> None:
    one = {"seed": 1, "levels": {"base": {"mlp": {"net": "mlp", "train": {"lr": 0.1, "epochs": 5}}}}}
    two = {"seed": 1, "levels": {"base": {"mlp": {"net": "mlp", "train": {"lr": 0.2, "epochs": 5}}}}}
    assert differences(one, two) == [Difference("levels.base.mlp.train.lr", ("0.1", "0.2"))]
    assert differences(one, one) == []


def test_a_member_that_only_one_has_is_one_difference() -> None:
    one = {
        "levels": {"base": {"gbm": {"estimator": "lightgbm.LGBMClassifier", "params": {}, "inputs": None}}}
    }
    two = {"levels": {"base": {}}}
    (found,) = differences(one, two)
    assert found.path == "levels.base.gbm"
    assert found.values == ('{"estimator": "lightgbm.LGBMClassifier"}', ABSENT)


def test_names_places_and_empty_options_of_other_versions_do_not_count() -> None:
    one = {
        "name": "a",
        "store": "x",
        "outputs": {"dir": "r"},
        "executor": {"jobs": 1},
        "interval": None,
        "drop": [],
    }
    assert differences(one, {"name": "b", "cache": "off"}) == []


def test_three_configs_stand_side_by_side() -> None:
    found = differences(
        {"seed": 1, "inputs": ["a"]}, {"seed": 1, "inputs": ["a", "b"]}, {"seed": 2, "inputs": ["a"]}
    )
    assert found == [
        Difference("seed", ("1", "1", "2")),
        Difference("inputs", ('["a"]', '["a", "b"]', '["a"]')),
    ]


def test_options_of_another_kind_and_long_texts_are_no_trouble() -> None:
    (found,) = differences({"levels": {"base": {}}}, {"levels": "x" * 5000})
    assert found.values[0] == "{}" and len(found.values[1]) < 200
