"""Image files named by a column: squares of one size; unreadable ones are named, not fatal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.data.files.fingerprint import fingerprint
from stackfeat.data.files.images import read_image
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import ArrayInput
from stackfeat.data.schema.load import LoadedData, load
from stackfeat.errors import DataError, DataWarning

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of different shapes and modes, a plain colour each; the last is turned by its camera."""
    (tmp_path / "images" / "more").mkdir(parents=True)
    rows = ["path,age,y"]
    for i, (mode, size) in enumerate(
        [
            ("RGB", (8, 8)),
            ("L", (16, 8)),
            ("RGBA", (8, 20)),
            ("P", (9, 9)),
            ("RGB", (30, 10)),
            ("RGB", (8, 12)),
        ]
    ):
        name = f"more/{i}.png" if i % 2 else f"{i}.jpg" if mode == "RGB" else f"{i}.png"
        image = Image.new("RGB", size, (40 * i, 100, 250 - 40 * i)).convert(mode)
        image.save(tmp_path / "images" / name)
        rows.append(f"{name},{i},{i % 2}")
    (tmp_path / "train.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def options(**given: Any) -> DataOptions:
    image = {"column": "path", "root": "images", "size": 8, **given}
    return DataOptions.model_validate(
        {"train": "train.csv", "target": "y", "inputs": {"image": image, "table": {"columns": ["*"]}}}
    )


def read(folder: Path, **given: Any) -> LoadedData:
    return load(options(**given), folder, "binary", "log_loss")


def pixels(data: LoadedData) -> np.ndarray:
    values = data.train.inputs["image"]
    assert isinstance(values, ArrayInput) and values.kind == "image"
    return values[:]


@pytest.mark.parametrize("resize", ["short_side", "stretch", "pad"])
@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_images_become_squares_of_one_size(folder: Path, resize: str, mode: str, channels: int) -> None:
    data = read(folder, resize=resize, mode=mode)
    values = pixels(data)
    assert values.shape == (6, channels, 8, 8) and values.dtype == np.uint8
    middle = values[:, :, 4, 4].astype(int)
    if mode == "RGB":
        for i in (0, 2, 3, 4, 5):
            assert np.abs(middle[i] - [40 * i, 100, 250 - 40 * i]).max() < 40
    bars = values[4][:, 0].max(axis=(0, 1))
    assert (bars == 0) if resize == "pad" else (bars > 0)
    assert "path" not in data.train.inputs["table"].code_names  # type: ignore[union-attr]


def test_the_short_side_is_scaled_and_the_middle_is_kept(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png", 10).min() == 255
    assert read_image(tmp_path / "wide.png", 30, resize="stretch")[:, :, 0].max() == 0


def test_a_photograph_is_turned_the_way_its_camera_says(tmp_path: Path) -> None:
    values = np.zeros((8, 8), dtype=np.uint8)
    values[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    turned = read_image(tmp_path / "a.png", 8, "L")[0]
    assert turned[0, 0] == 0 and turned[7, 7] == 255


def test_broken_files_are_all_named_and_black(folder: Path) -> None:
    (folder / "images/0.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    (folder / "images/more/3.png").unlink()
    with pytest.warns(
        DataWarning, match=r"2 of 6 images cannot be read: .*0\.jpg.*no such file: more/3\.png"
    ):
        values = pixels(read(folder))
    assert not values[[0, 3]].any() and values[[1, 2, 4, 5]].any(axis=(1, 2, 3)).all()
    with pytest.raises(DataError, match=r"2 of 6 images.*0\.jpg.*repair them, or set broken: warn"):
        read(folder, broken="error")


def test_a_wrong_root_is_an_error_whatever_broken_says(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"more than half of the images cannot be read \(6 of 6\).*correct root"
    ):
        read(folder, root="empty")
    with pytest.raises(DataError, match=r"root must be a folder; got .*nowhere, which is not there"):
        read(folder, root="nowhere")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("../secret.png", r"image paths stay inside .*got '\.\./secret\.png' in row 3"),
        ("", r"got none in row 3"),
    ],
)
def test_paths_stay_inside_the_root(folder: Path, cell: str, message: str) -> None:
    lines = (folder / "train.csv").read_text().splitlines()
    lines[3] = f"{cell},2,0"
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=message):
        read(folder)


def test_a_missing_column_is_named(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"column must be a column of the file; got 'paths'.*Did you mean 'path'"
    ):
        read(folder, column="paths")


def test_a_picture_that_unpacks_to_gigabytes_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (12, 12)).save(tmp_path / "a.png")
    with pytest.raises(Image.DecompressionBombWarning):
        read_image(tmp_path / "a.png", 8)


def test_images_left_on_disk_are_the_same(folder: Path) -> None:
    lazy = read(folder, stream=True)
    assert lazy.train.inputs["image"].is_lazy  # type: ignore[union-attr]
    np.testing.assert_array_equal(pixels(lazy), pixels(read(folder)))


def test_the_fingerprint_covers_the_pictures(folder: Path) -> None:
    first = fingerprint(folder / "train.csv", options(), folder=folder)
    (folder / "images" / "unused.png").write_bytes(b"x")
    assert fingerprint(folder / "train.csv", options(), folder=folder) == first
    Image.new("RGB", (8, 8)).save(folder / "images/0.jpg")
    assert fingerprint(folder / "train.csv", options(), folder=folder) != first
