"""The first config of arrays: which of them are inputs, and nets that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.config import RunConfig, load_config
from stackfeat.config.scaffold import Wishes, scaffold_config
from stackfeat.errors import DataError
from stackfeat.members.net_options import NetOptions
from stackfeat.pipeline.file_checks import check_files

N = 60


def config_of(folder: Path, preset: str = "good", **arrays: Any) -> RunConfig:
    """Write a training and a test file, and load the config that `init` writes for them."""
    given = {"id": np.arange(N), "y": np.arange(N) % 3, **arrays}
    np.savez(folder / "train.npz", **given)
    later = {name: array for name, array in given.items() if name != "y"} | {"id": N + np.arange(N)}
    np.savez(folder / "test.npz", **later)
    text = scaffold_config(folder / "train.npz", "y", folder / "test.npz", wishes=Wishes(preset=preset))
    (folder / "config.yaml").write_text(text)
    loaded = load_config(folder / "config.yaml")
    assert check_files(loaded).problems == []
    return loaded.config


def draw(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).integers(1, 200, (N, *shape)).astype(dtype)


@pytest.mark.parametrize("preset", ["quick", "good", "best"])
@pytest.mark.parametrize(
    ("array", "name", "nets"),
    [
        (draw(12, 12, dtype="uint8"), "image", {"cnn"}),
        (draw(12, 12, 3, dtype="uint8"), "image", {"cnn"}),
        (draw(9, 2), "sequence", {"tcn", "gru", "transformer_encoder", "inception_time"}),
        (draw(9, dtype="int64"), "tokens", {"tcn", "gru", "transformer_encoder", "inception_time"}),
    ],
)
def test_an_array_is_read_by_nets_of_its_kind(
    array: np.ndarray, name: str, nets: set[str], preset: str, tmp_path: Path
) -> None:
    config = config_of(tmp_path, preset, data=array, label_names=np.array(["a", "b", "c"]))
    assert config.data.inputs is not None and set(config.data.inputs) == {name}
    found = [one.net for one in config.levels["base"].values() if isinstance(one, NetOptions)]
    assert set(found) <= nets and (preset != "best" or set(found) == nets)
    assert len(found) == len(config.levels["base"]) and (len(found) == 1) == (preset == "quick")


def test_a_long_limit_does_not_repeat_nets_of_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", id=np.arange(N), y=np.arange(N) % 3, data=draw(12, 12, dtype="uint8"))
    repeats = []
    for limit in (None, "2h"):
        text = scaffold_config(tmp_path / "train.npz", "y", wishes=Wishes(preset="best", limit=limit))
        (tmp_path / "config.yaml").write_text(text)
        repeats.append(load_config(tmp_path / "config.yaml").config.folds.repeats)
    assert repeats[0] == repeats[1]


def test_lengths_groups_and_columns_beside_an_array_are_found(tmp_path: Path) -> None:
    lengths, ages = 1 + np.arange(N) % 9, 20 + np.arange(N) % 17
    config = config_of(tmp_path, X=draw(9, 2), length=lengths, patient=np.arange(N) // 4, age=ages)
    inputs = config.data.inputs
    assert inputs is not None and inputs["sequence"].lengths == "length"
    # The test file has the same patients.
    assert inputs["columns"].columns == ("patient", "age") and config.data.group is None
    far = config_of(tmp_path, X=draw(9, 2), length=lengths + 1, age=ages)
    assert far.data.inputs is not None and far.data.inputs["sequence"].lengths is None


def test_several_views_are_read_side_by_side_and_by_estimators(tmp_path: Path) -> None:
    config = config_of(tmp_path, left=draw(5), right=draw(3), scan=draw(12, 12, dtype="uint8"))
    assert config.data.inputs is not None
    assert {name: one.array for name, one in config.data.inputs.items()} == {
        "left": "left",
        "right": "right",
        "scan": "scan",
    }
    base = config.levels["base"]
    assert {one.net for one in base.values() if isinstance(one, NetOptions)} == {"fusion"}
    assert {"gbm", "linear"} <= set(base)


def test_columns_of_a_table_need_no_inputs(tmp_path: Path) -> None:
    assert config_of(tmp_path, X=draw(5)).data.inputs is None


def test_a_file_of_both_parts_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X=draw(9, 2), y=np.arange(N) % 2, is_test=np.arange(N) > 40)
    with pytest.raises(DataError, match="holds both training and test rows"):
        scaffold_config(tmp_path / "t.npz", "y")
