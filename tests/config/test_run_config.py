"""RunConfig: what is written reads back equal, the schema knows every option, and options are found at any place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stackfeat.config import LoadedConfig, RunConfig, dump_config, json_schema
from stackfeat.config.run_config import options_class
from stackfeat.config.yaml_file import parse_yaml
from stackfeat.members import MEMBERS
from stackfeat.members.options import MemberOptions
from stackfeat.options import Options

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=10)
_NUMBERS = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
_SCALARS = (
    st.none()
    | st.booleans()
    | _NUMBERS
    | _TEXT
    | st.sampled_from(["no", "007", "1e-3", "2020-01-01", "~", "8h30m"])
)
_PARAMS = st.dictionaries(
    _TEXT, st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5), max_size=4
)


def small(**options: Any) -> RunConfig:
    member = {"estimator": "lightgbm.LGBMClassifier", "params": options.pop("params", {})}
    values = {
        "task": "multiclass",
        "metric": "log_loss",
        "data": {"train": "a.csv", **options.pop("data", {})},
    }
    return RunConfig.model_validate({**values, "levels": {"base": {"m": member}}, **options})


def test_a_resolved_config_loads_back_to_an_equal_one(load: Callable[..., LoadedConfig], good: str) -> None:
    first = load(good).config
    second = load(dump_config(first)).config
    assert second == first
    assert dump_config(second) == dump_config(first)
    assert "early_stopping_fraction: 0.15" in dump_config(first)
    assert "as: auto" in dump_config(first)


def test_the_documented_example_round_trips() -> None:
    values = parse_yaml(Path(__file__).with_name("example.yaml").read_text()).values
    config = RunConfig.model_validate(values)
    assert RunConfig.model_validate(parse_yaml(dump_config(config)).values) == config


@settings(max_examples=60)
@given(_PARAMS, _TEXT, st.none() | st.booleans() | _NUMBERS | _TEXT)
def test_any_values_round_trip(params: dict[str, Any], target: str, positive: Any) -> None:
    config = small(params=params, data={"target": target, "positive": positive})
    again = RunConfig.model_validate(parse_yaml(dump_config(config)).values)
    assert again == config
    assert type(again.data.positive) is type(config.data.positive)


def test_whole_numbers_as_keys_of_params_stay_numbers() -> None:
    config = small(params={"class_weight": {0: 1.0, 1: 5.0, "0": 3}})
    text = dump_config(config)
    assert "'0'" in text
    assert RunConfig.model_validate(
        parse_yaml(dump_config(small(params={"w": {0: 1, 2: 3}}))).values
    ) == small(params={"w": {0: 1, 2: 3}})


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from nodes(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from nodes(value)


def test_the_schema_is_sound_and_mentions_every_option() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    kinds = {"string", "number", "integer", "boolean", "array", "object", "null"}
    for node in nodes(schema):
        if isinstance(node.get("type"), str) and "properties" not in node.get("type", ""):
            assert node["type"] in kinds
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/$defs/") in schema["$defs"]
    definitions = {**schema["$defs"], "RunConfig": schema}
    stages = [options for options in Options.__subclasses__() if options is not MemberOptions]
    for options in [*stages, *MEMBERS.values()]:
        definition = definitions[options.__name__]
        assert set(definition["properties"]) == set(options.names())
        assert definition["additionalProperties"] is False


def test_the_schema_lets_one_value_stand_for_a_list() -> None:
    definitions = json_schema()["$defs"]
    for name, field in [
        ("VoteOptions", "inputs"),
        ("DataOptions", "drop"),
        ("TapOptions", "encode"),
        ("NetOptions", "emit"),
    ]:
        alternatives = definitions[name]["properties"][field]["anyOf"]
        assert any("array" not in json.dumps(alternative) for alternative in alternatives), name


def test_options_are_found_at_any_place() -> None:
    values = {"levels": {"a": {"m": {"net": "mlp", "emit": [{"tap": "x"}]}}}}
    taps = options_class(["levels", "a", "m", "emit", 0], values)
    assert taps is not None and "encode" in taps.names()
    inputs = options_class(["data", "inputs", "image"], values)
    assert inputs is not None and "array" in inputs.names()
    assert options_class(["levels", "a", "m", "params"], values) is None
