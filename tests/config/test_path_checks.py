"""Paths stay inside the config's folder, links followed, unless the user allows another folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stackfeat.config import LoadedConfig
from stackfeat.errors import ConfigError

Load = Callable[..., LoadedConfig]


@pytest.fixture
def outside(tmp_path: Path, folder: Path) -> Path:
    """A folder beside the project, and a link into it."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "secret.csv").write_text("a,label\n1,2\n")
    (folder / "link.csv").symlink_to(other / "secret.csv")
    (folder / "link").symlink_to(other)
    return other


def ways_out(outside: Path) -> list[str]:
    return [
        "../other/secret.csv",
        str(outside / "secret.csv"),
        "link.csv",
        "link/secret.csv",
        "link/../other/secret.csv",
    ]


@pytest.mark.parametrize("way", range(5))
@pytest.mark.parametrize("role", ["train", "test", "sample_submission"])
def test_no_way_leads_out_of_the_folder(load: Load, good: str, outside: Path, way: int, role: str) -> None:
    path = ways_out(outside)[way]
    text = good.replace("  test: test.csv\n", "").replace("  train:", f"  {role}: {path}\n  train:", 1)
    text = text.replace("  train: train.csv\n", "") if role == "train" else text
    with pytest.raises(ConfigError, match=f"c.yaml:4: data.{role}: paths stay inside .* --data-root DIR"):
        load(text)


@pytest.mark.parametrize("way", range(5))
def test_a_data_root_lets_paths_out(
    load: Load, good: str, outside: Path, way: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = good.replace("train.csv", ways_out(outside)[way])
    load(text, data_roots=[outside])
    monkeypatch.setenv("STACKFEAT_DATA_ROOTS", f"/nowhere:{outside}")
    load(text)
    with pytest.raises(ConfigError, match="there is no file"):
        load(good.replace("train.csv", str(outside / "no.csv")))


def test_a_folder_whose_name_begins_alike_is_outside(load: Load, good: str, folder: Path) -> None:
    twin = folder.with_name(f"{folder.name}2")
    twin.mkdir()
    (twin / "train.csv").write_text("a\n")
    with pytest.raises(ConfigError, match="paths stay inside"):
        load(good.replace("train.csv", f"../{twin.name}/train.csv"))


def test_a_path_that_comes_back_inside_is_fine(load: Load, good: str, folder: Path) -> None:
    load(good.replace("train.csv", f"../{folder.name}/train.csv"))
    load(good.replace("train.csv", str(folder / "train.csv")))


@pytest.mark.parametrize("path", ['"a\\0b"', "loop.csv", "x" * 5000])
def test_paths_that_cannot_be_are_explained(load: Load, good: str, folder: Path, path: str) -> None:
    (folder / "loop.csv").symlink_to("loop.csv")
    with pytest.raises(ConfigError, match=r"data\.train: "):
        load(good.replace("train.csv", path))


@pytest.mark.parametrize("place", ["outputs.dir", "store"])
def test_results_and_store_leave_the_folder_only_by_the_users_word(
    load: Load, good: str, outside: Path, place: str
) -> None:
    key = {"outputs.dir": "outputs: {dir: ../other/x}", "store": "store: ../other/x"}[place]
    with pytest.raises(ConfigError, match=f"{place}: paths stay inside .* --set {place}="):
        load(f"{key}\n{good}")
    load(f"{key}\n{good}", data_roots=[outside])
    load(good, overrides=[f"{place}=../other/x"])
    with pytest.raises(ConfigError, match="must be a folder; got the file"):
        load(good, overrides=[f"{place}=train.csv"])


@pytest.mark.parametrize(
    ("results", "store"),
    [("x", "x"), ("x/tmp", "x"), ("x/entries/a", "x"), ("x", "x/oof"), ("x", "x/predictor/store")],
)
def test_results_and_store_are_not_inside_each_other(load: Load, good: str, results: str, store: str) -> None:
    with pytest.raises(ConfigError, match="results and store need folders of their own"):
        load(f"{good}\noutputs: {{dir: {results}}}\nstore: {store}\n")
    load(f"{good}\noutputs: {{dir: x}}\nstore: x/.stackfeat\n")


def test_a_config_names_no_store_on_the_network(load: Load, good: str) -> None:
    with pytest.raises(ConfigError, match=r"store: must be a folder; got the address 's3://bucket/store'"):
        load(f"{good}\nstore: s3://bucket/store\n")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("train.csv/store", "'.*/train.csv/store', which is below the file '.*/train.csv'"),
        ("pipe", "the pipe or device '.*/pipe'"),
        ("broken", "the broken link '.*/broken'"),
        ("broken/a/b", "which is below the broken link"),
    ],
)
@pytest.mark.parametrize("place", ["outputs.dir", "store"])
def test_a_folder_to_write_to_lies_below_folders_alone(
    load: Load, good: str, folder: Path, place: str, path: str, what: str
) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "broken").symlink_to(folder / "nowhere")
    key = {"outputs.dir": f"outputs: {{dir: {path}}}", "store": f"store: {path}"}[place]
    with pytest.raises(ConfigError, match=f"{place}: must be a folder; got .*{what}.*Choose another name"):
        load(f"{key}\n{good}")


def test_data_in_a_pipe_is_said_to_be_no_regular_file(load: Load, good: str, folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    with pytest.raises(
        ConfigError, match=r"must be a regular file; got 'pipe.csv', a pipe or device"
    ) as caught:
        load(good.replace("train.csv", "pipe.csv"))
    assert "Did you mean" not in str(caught.value)
