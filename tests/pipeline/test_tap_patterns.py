"""Taps that are patterns without `last`: a block for every layer, known once the net is built."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ruamel.yaml import YAML

Project = Any
LAYERS = ["blocks.0.2", "blocks.1.2"]


def patterned(make_config: Any, add_net: Any, emit: list[Any], inputs: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = add_net(make_config())
    config["levels"]["base"]["mlp"]["params"] = {"hidden": [6, 5]}
    config["levels"]["base"]["mlp"]["emit"] = emit
    config["levels"]["meta"]["gated"]["inputs"] = inputs
    return config


def test_a_pattern_gives_the_blocks_of_the_layers_written_out(
    build: Any, make_config: Any, add_net: Any
) -> None:
    options = {"encode": ["geometry", "aligned"], "pool": "mean"}
    inputs = ["base/mlp/proba", "base/mlp/*@geometry", "base/mlp/blocks.1.2@aligned"]
    written = [{"tap": name, **options} for name in LAYERS]
    first = build(config=patterned(make_config, add_net, ["proba", *written], inputs))
    config = patterned(make_config, add_net, ["proba", {"tap": "blocks.*.2", **options}], inputs)
    second = build(config=config)
    before = second.cli("check", second.folder / "c.yaml")
    assert before.code == 0 and "gives proba, blocks.*.2@geometry, blocks.*.2@aligned" in before.out
    for project in (first, second):
        said = project.run()
        assert said.code == 0, said.err
    assert first.outputs() == second.outputs()
    resolved = YAML(typ="safe").load((second.run_folder / "config.yaml").read_text())
    assert [item["tap"] for item in resolved["levels"]["base"]["mlp"]["emit"][1:]] == LAYERS
    # What it means is stored: check knows the blocks and that nothing is left to compute; so does a second run.
    after = second.cli("check", second.folder / "c.yaml")
    assert "blocks.0.2@geometry, blocks.0.2@aligned, blocks.1.2@geometry" in after.out
    assert "0 jobs to compute" in after.out
    assert second.run().code == 0 and second.outputs() == first.outputs()


def test_a_function_or_every_tensor_of_a_layer_is_a_block(build: Any, make_config: Any, add_net: Any) -> None:
    options = {"encode": ["geometry", "aligned"]}
    outputs = []
    for tap in ("blocks.0.0", "blocks.0.0.linear()", "blocks.0.0[*]"):
        emit = ["proba", {"tap": tap, **options}]
        inputs = ["base/mlp/proba", "base/mlp/*@geometry", "base/mlp/*@aligned"]
        project = build(config=patterned(make_config, add_net, emit, inputs))
        said = project.run()
        assert said.code == 0, said.err
        outputs.append((project.run_folder / "oof" / "meta.gated.csv").read_text())
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_pattern_as_text_and_one_member_for_every_block(build: Any, make_config: Any, add_net: Any) -> None:
    config = patterned(make_config, add_net, ["proba", "blocks.*.0:input"], ["base/mlp/proba"])
    linear = config["levels"]["base"]["linear"]
    config["levels"]["meta"]["per"] = {**linear, "each": "base/mlp/*@geometry"}
    project = build(config=config)
    said = project.run()
    assert said.code == 0, said.err
    members = set(json.loads((project.run_folder / "scores.json").read_text())["members"])
    assert {f"meta/per:mlp.blocks.{i}.0:input@geometry" for i in (0, 1)} <= members


@pytest.mark.parametrize(
    ("emit", "inputs", "said"),
    [
        (["proba", "block.*"], ["base/mlp/proba"], "block.*"),
        (
            ["proba", {"tap": "blocks.*.2", "name": "n"}],
            ["base/mlp/proba"],
            "levels.base.mlp.emit.1.name: a pattern without last",
        ),
        (["proba", "blocks.*.2"], ["base/mlp/blocks.7.2@geometry"], "blocks.7.2@geometry' matches no block"),
        (["proba", "blocks.*.2", "blocks.0.2"], ["base/mlp/proba"], "each output is named once"),
    ],
)
def test_what_a_pattern_cannot_mean_is_said(
    build: Any, make_config: Any, add_net: Any, emit: list[Any], inputs: list[str], said: str
) -> None:
    project = build(config=patterned(make_config, add_net, emit, inputs))
    answer = project.run()
    assert answer.code == 2, answer.out + answer.err
    assert said in answer.err
    assert not (project.run_folder / "leaderboard.csv").exists()
