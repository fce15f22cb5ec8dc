"""Named inputs in a config: options that go together, files that exist and lie where they may."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stackfeat.config import LoadedConfig
from stackfeat.errors import ConfigError

Load = Callable[..., LoadedConfig]


def text(good: str, given: str) -> str:
    return good.replace("id: row_id", f"id: row_id\n  inputs: {{x: {given}}}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{array: X}", r"names an array of a npz file; got 'X' and train.csv.*'\{name\}_X.npy'"),
        ("{array: '{name}_Y.npy'}", r"there is no file 'train_Y.npy'.*Did you mean 'train_X.npy'\?"),
        ("{array: ../X.npy}", r"paths stay inside the config's folder.*got '\.\./X.npy'"),
        ("{array: '{name}_X.npy', size: 4}", r"is for inputs with column \(image files\); got an input of array"),
        ("{array: '{name}_X.npy', kind: imge}", r"Did you mean 'image'"),
        ("{array: '{name}_X.npy', kind: image, lengths: x}", r"only sequences and tokens have lengths"),
        ("{array: '{name}_X.npy', kind: tokens, normalize: unit}", r"for images and sequences; got kind=tokens"),
        ("{array: '{name}_X.npy', kind: sequence, channels: last}", r"only images have channels"),
        ("{array: '{name}_X.npy', kind: table, stream: true}", r"tables are held in memory"),
        ("{array: '{name}_X.npy', lengths: '{name}_L.npy'}", r"there is no file 'train_L.npy'"),
        ("{columns: [x], normalize: none}", r"is for inputs with array and column; got an input of columns"),
        ("{columns: [x], kind: image}", r"is for inputs with array; got an input of columns"),
        ("{columns: []}", r"must name at least one column"),
        ("{column: x, root: images}", r"image files need a size in pixels"),
        ("{column: x, root: imgs, size: 8}", r"there is no folder 'imgs'.*Did you mean 'images'"),
        ("{column: x, root: loop, size: 8}", r"root: must be the path of a folder; got 'loop'|there is no folder"),
        ("{column: x, root: " + "x" * 300 + ", size: 8}", r"root: must be the path of a folder; got 'xxx.*too long"),
        ("{array: " + "x" * 300 + ".npy}", r"array: must be the path of a file; got 'xxx.*too long"),
        ("{column: x, root: .., size: 8}", r"paths stay inside the config's folder"),
        ("{column: x, root: images, size: 8, mode: L, normalize: imagenet}", r"means of three colours; got mode=L"),
        ("{column: x, root: images, size: 2}", r"greater than or equal to 4|at least 4"),
        ("{column: x, array: y}", r"exactly one of columns, array, column"),
    ],
)  # fmt: skip
def test_a_wrong_input_is_explained(given: str, message: str, load: Load, good: str, folder: Path) -> None:
    (folder / "images").mkdir()
    (folder / "loop").symlink_to("loop")
    for name in ("train", "test"):
        np.save(folder / f"{name}_X.npy", np.zeros((60, 4, 4)))
    with pytest.raises(ConfigError, match=message):
        load(text(good, given))


@pytest.mark.parametrize(
    "given",
    [
        "{array: '{name}_X.npy', kind: sequence, normalize: none, stream: true}",
        "{array: '{name}_X.npy', lengths: row_id}",
        "{column: x, root: images, size: 8, normalize: imagenet, broken: error}",
    ],
)
def test_a_good_input_loads(given: str, load: Load, good: str, folder: Path) -> None:
    (folder / "images").mkdir()
    for name in ("train", "test"):
        np.save(folder / f"{name}_X.npy", np.zeros((60, 4, 4)))
    inputs = load(text(good, given)).config.data.inputs
    assert inputs is not None and list(inputs) == ["x"]


def test_a_built_in_set_has_no_arrays(load: Load, good: str) -> None:
    edited = good.replace("train.csv", "sklearn:iris").replace("  test: test.csv\n", "")
    with pytest.raises(ConfigError, match=r"arrays are read from files; got sklearn:iris"):
        load(text(edited.replace("target: label", "target: target"), "{array: X}"))


@pytest.mark.parametrize(("column", "role"), [("label", "target"), ("row_id", "id")])
def test_a_role_has_no_type(column: str, role: str, load: Load, good: str) -> None:
    with pytest.raises(ConfigError, match=rf"types.{column}: a role has no type; '{column}' is data.{role}"):
        load(good.replace("id: row_id", f"id: row_id\n  types: {{{column}: text}}"))
