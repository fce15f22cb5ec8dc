"""RunConfig: what is written reads back equal, the schema knows every option, and options are found at any place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stackfeat.config import LoadedConfig, RunConfig, dump_config, json_schema
from stackfeat.config.run_config import (
    MOST_JOBS,
    MOST_MEMBERS,
    ExecutorOptions,
    LimitOptions,
    homes_of,
    kinds_with,
    member_kind,
    options_class,
    parse_seconds,
    value_at,
)
from stackfeat.config.yaml_file import parse_yaml
from stackfeat.members import MEMBERS
from stackfeat.members.net_options import NetOptions
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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("8h30m", 30_600),
        ("10m", 600),
        ("10min", 600),
        ("90s", 90),
        ("90", 90),
        ("1d 2h 3m 4s", 93_784),
        ("1.5h", 5_400),
        ("0.5d", 43_200),
        (12, 12),
        (0.25, 0.25),
    ],
)
def test_times_are_read_as_people_write_them(text: str | float, seconds: float) -> None:
    assert parse_seconds(text) == seconds
    assert LimitOptions(time=text).seconds == ExecutorOptions(timeout=text).timeout_seconds == seconds


@pytest.mark.parametrize(
    "text", ["", "h", "10x", "1m2h", "-5", "1:30", "10m10m", "ten", 0, -1, "0s", "inf", float("inf")]
)
def test_what_is_no_time_above_zero_is_refused(text: str | float) -> None:
    with pytest.raises(ValidationError, match=r"must look like 8h30m, 10m or 90s|must be a time above zero"):
        LimitOptions(time=text)
    assert LimitOptions().seconds is None and ExecutorOptions().timeout_seconds is None


@pytest.mark.parametrize("jobs", [0, -1, MOST_JOBS + 1, "two"])
def test_numbers_of_processes_that_no_machine_has_are_refused(jobs: Any) -> None:
    assert ExecutorOptions(jobs=MOST_JOBS).jobs == MOST_JOBS and ExecutorOptions(jobs=1).jobs == 1
    with pytest.raises(ValidationError, match="jobs"):
        ExecutorOptions(jobs=jobs)


@pytest.mark.parametrize(
    ("value", "is_right"), [(0, True), (0.5, True), ("column", True), (0.51, False), (-0.1, False)]
)
def test_at_most_half_of_the_rows_are_held_out(value: Any, is_right: bool) -> None:
    if is_right:
        assert small(stack={"holdout": value}).stack.holdout == value
    else:
        with pytest.raises(ValidationError, match=r"must be a share from 0 to 0\.5, or column; got "):
            small(stack={"holdout": value})


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({}, "must name at least one level with one member"),
        ({"base": {}}, "level 'base' has no members"),
        ({"base": {"a/b": {"net": "mlp"}}}, "names use letters, digits.*got 'a/b'"),
        ({"base": {"a:": {"net": "mlp"}}}, "names use letters, digits.*got 'a:'"),
        ({"a:b": {"a": {"net": "mlp"}}}, "names use letters, digits.*got 'a:b'"),
        ({"*": {"a": {"net": "mlp"}}}, r"names use letters, digits.*got '\*'"),
        (
            {"base": {f"m{i}": {"net": "mlp"} for i in range(MOST_MEMBERS + 1)}},
            f"at most {MOST_MEMBERS} members; got {MOST_MEMBERS + 1}. Make several runs",
        ),
    ],
)
def test_levels_hold_members_with_plain_names_and_not_too_many(levels: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        small(levels=levels)


def test_results_go_to_a_folder_of_the_runs_name_unless_one_is_given() -> None:
    assert small(name="try").run_dir == "runs/try"
    assert small(name="try", outputs={"dir": "elsewhere"}).run_dir == "elsewhere"


def test_a_value_is_found_by_keys_and_indexes_and_what_is_not_there_is_none() -> None:
    values = {"a": [{"b": 1}, ("x", "y")], 3: "three"}
    assert value_at(values, []) is values
    assert value_at(values, ["a", 0, "b"]) == 1
    assert value_at(values, ["a", 1, -1]) == "y"
    assert value_at(values, [3]) == "three"
    for keys in (["b"], ["a", 2], ["a", -3], ["a", "0"], ["a", 0, "b", "c"], ["a", 0, 0]):
        assert value_at(values, keys) is None, keys


def test_a_member_is_of_the_one_kind_that_it_names() -> None:
    assert [member_kind({kind: "x"}) for kind in MEMBERS] == list(MEMBERS)
    assert member_kind({"net": "mlp", "vote": "soft"}) is None
    assert member_kind({"params": {}}) is member_kind(None) is member_kind("net") is None


def test_an_option_in_the_wrong_place_is_found_where_it_is_legal() -> None:
    assert homes_of("lr", NetOptions) == ["train.lr"]
    assert homes_of("qqq", NetOptions) == []
    assert "vote" in kinds_with("weights") and kinds_with("qqq") == []
    assert kinds_with("params") == [kind for kind in MEMBERS if "params" in MEMBERS[kind].names()]
