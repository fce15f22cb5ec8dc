"""Packed files are read like plain ones, in memory and within limits; whatever is wrong with one is one line."""

from __future__ import annotations

import bz2
import gzip
import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.data.files import packing
from stackfeat.data.files.packing import PACKINGS, content_of, unpacked_name
from stackfeat.data.files.tables import format_of, holds, is_called_like_data, read_frame
from stackfeat.data.options import DataOptions
from stackfeat.data.schema.load import load, read_sample
from stackfeat.errors import DataError, MissingExtraError

OPTIONS = DataOptions(train="train.csv", target="y")
TEXT = ("id,a,y\n" + "".join(f"{i},{i / 8},{i % 2}\n" for i in range(40))).encode()


def as_zip(content: bytes, **more: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, held in {"train.csv": content, **more}.items():
            archive.writestr(name, held)
    return file.getvalue()


def as_zstd(content: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    packed: bytes = zstandard.ZstdCompressor(level=3).compress(content)
    return packed


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zip": as_zip,
    ".bz2": bz2.compress,
    ".zst": as_zstd,
}
of_every_packing = pytest.mark.parametrize("suffix", PACKINGS)


def test_every_packing_has_a_row_and_stands_in_the_docs() -> None:
    assert list(PACK) == list(PACKINGS)
    page = (Path(__file__).parents[3] / "docs/config.md").read_text("utf-8")
    assert all(f"`{suffix}`" in page for suffix in PACKINGS)


@of_every_packing
@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_packed_file_is_read_like_the_plain_one(suffix: str, separator: str, tmp_path: Path) -> None:
    text = TEXT.replace(b",", separator.encode())
    (tmp_path / "train.csv").write_bytes(text)
    (tmp_path / f"PACKED.CSV{suffix.upper()}").write_bytes(PACK[suffix](text))
    plain, packed = (
        load(DataOptions(train=name, target="y", id="id"), tmp_path, "binary", "log_loss")
        for name in ("train.csv", f"PACKED.CSV{suffix.upper()}")
    )
    assert plain.schema == packed.schema and plain.guesses == packed.guesses
    np.testing.assert_array_equal(plain.train.labels, packed.train.labels)
    np.testing.assert_array_equal(plain.train.ids, packed.train.ids)


@of_every_packing
def test_a_name_says_what_is_inside(suffix: str) -> None:
    assert format_of(f"a/train.csv{suffix}") is format_of("train.csv")
    assert holds(f"oof_{{fold}}.tsv{suffix}", "table") and is_called_like_data(Path(f"x.csv{suffix}"))
    assert not is_called_like_data(Path(f"config.txt{suffix}"))
    assert format_of(f"train.parquet{suffix}") is format_of(f"train{suffix}") is None
    assert unpacked_name(f"b/train.csv{suffix}") == Path("b/train.csv")


@of_every_packing
def test_files_of_every_role_may_be_packed(suffix: str, tmp_path: Path) -> None:
    for name in ("train", "test", "sample"):
        (tmp_path / f"{name}.csv{suffix}").write_bytes(PACK[suffix](TEXT))
    roles = {"train": "train", "test": "test", "sample_submission": "sample"}
    given = {role: f"{name}.csv{suffix}" for role, name in roles.items()}
    options = DataOptions(target="y", id="id", **given)
    with pytest.warns(UserWarning, match="40 ids are in both"):
        data = load(options, tmp_path, "binary", "log_loss")
    assert data.test is not None and data.test.n_rows == 40
    sample = read_sample(options, tmp_path)
    assert sample is not None and list(sample.columns) == ["id", "a", "y"]


@of_every_packing
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_file_is_one_line(suffix: str, damage: str, tmp_path: Path) -> None:
    rows = "".join(
        f"{i},{value!r},{i % 2}\n" for i, value in enumerate(np.random.default_rng(0).random(5_000))
    )
    packed = PACK[suffix](b"id,a,y\n" + rows.encode())
    half = len(packed) // 2
    content = {
        "cut": packed[: 2 * half // 3 * 2],
        "flipped": packed[:half] + bytes([packed[half] ^ 255]) + packed[half + 1 :],
        "empty": b"",
        "other": b"id,a,y\n1,2,0\n",
    }[damage]
    path = tmp_path / f"train.csv{suffix}"
    path.write_bytes(content)
    if (suffix, damage) == (".zst", "flipped"):
        # Without a checksum, which is an option of the format, a changed byte of a literal is a changed cell.
        path.write_bytes(packed[:8] + bytes([packed[8] ^ 255]) + packed[9:])
    with pytest.raises(DataError, match=rf"train.csv{suffix}: ") as error:
        read_frame(path, OPTIONS)
    assert "\n" not in str(error.value)


@of_every_packing
def test_a_bomb_is_refused_before_it_fills_the_memory(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SMALL_BYTES", 2**20)
    path = tmp_path / f"train.csv{suffix}"
    path.write_bytes(PACK[suffix](b"0" * 2**26))
    with pytest.raises(
        DataError, match=r"must not unpack to more than [\d,]{9,10} bytes; got more from [\d,]+ packed"
    ):
        content_of(path)
    monkeypatch.setattr(packing, "MOST_BYTES", len(TEXT) - 1)
    path.write_bytes(PACK[suffix](TEXT))
    with pytest.raises(DataError, match=f"more than {len(TEXT) - 1:,} bytes"):
        content_of(path)
    monkeypatch.setattr(packing, "MOST_BYTES", len(TEXT))
    assert content_of(path) == TEXT


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.csv", "b.csv"], r"must hold one file; got 'a.csv', 'b.csv'; pack the data file alone"),
        ([], r"must hold one file; got none"),
        (["folder/"], r"must hold one file; got none"),
    ],
)
def test_a_zip_file_holds_one_file(names: list[str], message: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "train.csv.zip", "w") as archive:
        for name in names:
            archive.writestr(name, TEXT if not name.endswith("/") else b"")
    with pytest.raises(DataError, match=message):
        read_frame(tmp_path / "train.csv.zip", OPTIONS)


@pytest.mark.parametrize("name", ["../../evil.csv", "/tmp/evil.csv", "C:\\evil.csv", "train.csv"])
def test_names_inside_a_zip_file_lead_nowhere(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "train.csv.zip", "w") as archive:
        archive.writestr(name, TEXT)
        archive.writestr("__MACOSX/._train.csv", b"what the Finder knows of it")
    assert len(read_frame(folder / "train.csv.zip", OPTIONS)) == 40
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "train.csv.zip"]


def test_a_locked_zip_file_is_refused(tmp_path: Path) -> None:
    packed = bytearray(as_zip(TEXT))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        packed[packed.index(mark) + (6 if mark[2] == 3 else 8)] |= 1
    (tmp_path / "train.csv.zip").write_bytes(packed)
    with pytest.raises(DataError, match=r"must be a whole zip file; got: .*password"):
        read_frame(tmp_path / "train.csv.zip", OPTIONS)


@of_every_packing
def test_parts_written_one_after_the_other_are_one_file(suffix: str, tmp_path: Path) -> None:
    if suffix == ".zip":
        pytest.skip("a zip file has a table of contents")
    path = tmp_path / f"train.csv{suffix}"
    path.write_bytes(PACK[suffix](TEXT[:100]) + PACK[suffix](TEXT[100:]))
    assert content_of(path) == TEXT


def test_what_unpacking_needs_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "train.csv.zst"
    path.write_bytes(b"(\xb5/\xfd")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    with pytest.raises(
        MissingExtraError, match=r"unpacking zst needs zstandard; install it .*stackfeat\[zstd\]"
    ):
        content_of(path)


@of_every_packing
def test_pandas_writes_what_is_read(suffix: str, tmp_path: Path) -> None:
    if suffix == ".zst":
        pytest.importorskip("zstandard")
    frame = pd.DataFrame({"id": range(30), "a": np.arange(30) / 7, "y": [0, 1] * 15})
    frame.to_csv(tmp_path / f"train.csv{suffix}", index=False)
    read = read_frame(tmp_path / f"train.csv{suffix}", OPTIONS)
    np.testing.assert_array_equal(read["a"].astype(float), frame["a"])
