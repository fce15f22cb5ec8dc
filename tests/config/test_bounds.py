"""A config of any size or shape is read, or refused, soon and with a message that can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stackfeat.config import load_config
from stackfeat.errors import ConfigError

HEAD = (
    'task: multiclass\nmetric: log_loss\ndata: {train: "sklearn:iris"}\nlevels:\n  base:\n    a: {net: mlp}\n'
)


def refused(folder: Path, text: str, overrides: tuple[str, ...] = ()) -> ConfigError:
    (folder / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(folder / "c.yaml", overrides=overrides)
    assert len(str(error.value)) < 50_000
    return error.value


def test_each_cannot_double_the_members_level_by_level_for_ever(tmp_path: Path) -> None:
    levels = "".join(f"  l{i}:\n    m: {{estimator: gated_linear, each: '*/*/*'}}\n" for i in range(60))
    assert "at most 2,000 members" in str(refused(tmp_path, HEAD + levels))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("".join(f"    m{i}: {{net: mlp}}\n" for i in range(600)), "at most 500 members; got 601"),
        ("".join(f"k{i}: 1\n" for i in range(3_000)), "'k0' is not an option here"),
        ("".join(f"    m{i}: 1\n" for i in range(400)), "a member has exactly one of"),
        (
            f"  l:\n    m: {{vote: soft, inputs: [{', '.join(f'x{i}/y/z' for i in range(3_000))}]}}\n",
            "and 2900 more",
        ),
        (f"  l:\n    m: {{vote: soft, inputs: ['base/{'*a' * 1_900}b/*']}}\n", "matches no block"),
    ],
)
def test_what_is_wrong_many_times_is_said_a_hundred_times_at_most(
    text: str, message: str, tmp_path: Path
) -> None:
    error = refused(tmp_path, HEAD + text)
    assert message in str(error)
    assert len(error.problems) <= 101


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("a." * 100_000 + "b=1", "at most 50 parts"),
        ("x" * 5_000 + "=1", "500 characters"),
        ("seed=" + "9" * 100_000, "4,096 characters"),
        ("seed=0x" + "f" * 400, "whole numbers must be at most"),
        ("data.drop=[" + "x," * 20_000 + "]", "at most 10,000 values"),
        ("data.drop=" + "[" * 10_000, "at most 50 levels"),
        ("x" * 100_000, "must be written path.to.option=value"),
    ],
)
def test_an_argument_of_any_size_is_answered_in_a_line(argument: str, message: str, tmp_path: Path) -> None:
    assert message in str(refused(tmp_path, HEAD, (argument,)))


HOSTILE: list[Any] = [
    "1e400",
    "0x" + "f" * 99,
    "2024-01-01",
    "!!binary R0lG",
    "'\\0'",
    "[[[]]]",
    "{a: {b: 1}}",
    "-1",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "key",
    ["task", "metric", "seed", "data", "data.train", "folds", "folds.n", "levels", "limits.time", "executor"],
)
def test_a_value_of_another_kind_is_refused_at_every_key(key: str, value: str, tmp_path: Path) -> None:
    assert key.split(".")[0] in str(refused(tmp_path, HEAD, (f"{key}={value}",)))
