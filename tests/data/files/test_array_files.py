"""npz and npy files: plain arrays come back as they were written, and a file that lies is refused by its header."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.data.files.array_files import ArchiveFile, Npy, Npz
from stackfeat.data.options import DataOptions, InputOptions
from stackfeat.data.schema.load import load
from stackfeat.errors import DataError
from tests.data.files.reading import read, refusal


def test_npz_columns_are_numbered(tmp_path: Path) -> None:
    X, y = np.arange(12.0).reshape(6, 2), np.arange(6) % 2
    np.savez(tmp_path / "train.npz", X=X, y=y, id=np.arange(6) + 100, label_names=np.array(["a", "b"]))
    data = load(DataOptions(train="train.npz", target="label", id="id"), tmp_path, "binary", "log_loss")
    assert data.train.inputs["table"].numeric_names == ("x0", "x1")
    assert data.train.ids.tolist() == ["100", "101", "102", "103", "104", "105"]
    np.testing.assert_array_equal(data.train.labels, y)


def _wrong_npz(path: Path, **arrays: Any) -> str:
    np.savez(path / "train.npz", **arrays)
    with pytest.raises(DataError) as caught:
        load(DataOptions(train="train.npz", target="y"), path, "binary", "log_loss")
    return str(caught.value)


def test_npz_files_hold_a_plain_2d_X(tmp_path: Path) -> None:
    X, y = np.random.default_rng(0).normal(size=(8, 2)), np.arange(8) % 2
    assert "must hold a 2-D array 'X'; got arrays 'Z', 'y'" in _wrong_npz(tmp_path, Z=X, y=y)
    assert "got shape (8, 2, 1); for images and sequences name an input" in _wrong_npz(
        tmp_path, X=X[:, :, None], y=y
    )
    assert "y must have one value for each of 8 rows; got shape (7,)" in _wrong_npz(tmp_path, X=X, y=y[:7])
    assert "plain arrays" in _wrong_npz(tmp_path, X=X, y=np.array([None] * 8))
    assert "'is_test'" in _wrong_npz(tmp_path, X=X, y=y, is_test=y)


def test_a_pickle_in_an_npz_file_does_not_run(tmp_path: Path) -> None:
    class Canary:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "canary",))

    message = _wrong_npz(tmp_path, X=np.zeros((3, 2)), y=np.array([Canary()] * 3, dtype=object))
    assert "plain arrays" in message
    assert not (tmp_path / "canary").exists()


def npz(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


def npy(array: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


def lying(shape: str, dtype: str = "<f8") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(64)


X, Y = npy(np.arange(16.0).reshape(8, 2)), npy(np.arange(8) % 2)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"X": lying("(10000000000000, 2)"), "y": Y}, "numbers its header says"),
        ({"X": lying("(8, 9223372036854775807)"), "y": Y}, "numbers its header says"),
        ({"X": lying("(-8, 2)"), "y": Y}, "must have a shape"),
        ({"X": lying("(8, 1)", "nonsense"), "y": Y}, "must be a npy file"),
        ({"X": X[:60], "y": Y}, "must be a npy file"),
        ({"X": X[:-8], "y": Y}, "numbers its header says"),
        ({"X": X, "y": npy(np.zeros(8, "M8"))}, "dates with a unit"),
        ({"X": X, "y": npy(np.zeros(8, "V4"))}, "must hold numbers, text or dates"),
        ({"X": X, "y": npy(np.zeros(8, "c16"))}, "must hold numbers, text or dates"),
        ({"X": X, "y": npy(np.zeros(8, [("a", "f4")]))}, "must hold numbers, text or dates"),
        ({"X": npy(np.zeros((8, 2), "O")), "y": Y}, "Python objects, which are never read"),
        ({"X": X, "y": npy(np.arange(7))}, "y must have one value for each of 8 rows"),
        ({"X": npy(np.array(1.0)), "y": Y}, "X must be 2-D (rows, columns) to be a table; got shape ()"),
    ],
)
def test_an_npz_file_that_lies_or_holds_no_columns(
    members: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    npz(tmp_path / "t.npz", **members)
    assert message in refusal(tmp_path / "t.npz")


def test_encrypted_corrupt_and_packed_files_are_refused(tmp_path: Path) -> None:
    npz(tmp_path / "t.npz", X=X, y=Y)
    data = (tmp_path / "t.npz").read_bytes()
    (tmp_path / "e.npz").write_bytes(
        data.replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0")
    )
    assert "encrypted" in refusal(tmp_path / "e.npz")
    (tmp_path / "c.npz").write_bytes(data[:45] + b"\xff" * 8 + data[53:])
    assert "t.npz" not in refusal(tmp_path / "c.npz")
    npz(tmp_path / "b.npz", X=npy(np.zeros((2**20, 40))), y=Y)
    assert "must not unpack to more than 300 times its size" in refusal(tmp_path / "b.npz")


def test_fortran_order_and_foreign_byte_order_are_read(tmp_path: Path) -> None:
    values = np.arange(16.0).reshape(8, 2)
    np.savez(tmp_path / "t.npz", X=np.asfortranarray(values).astype(">f8"), y=np.arange(8) % 2)
    np.testing.assert_array_equal(read(tmp_path / "t.npz").train.inputs["table"].numeric, values)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("y", [np.float32([0, 1] * 4), np.array(["no", "yes"] * 4), np.arange(8) % 2])
def test_columns_of_either_byte_order_are_the_same_columns(order: str, y: np.ndarray, tmp_path: Path) -> None:
    x = np.float32([0.5, 1.5, np.nan, 2, 3, 4, 5, 6])
    day = np.datetime64("2024-01-01T00:00:00", "s") + np.arange(8)
    columns = {"x": x, "word": np.array(["a", "b"] * 4), "whole": np.arange(8), "day": day, "y": y}
    for name, order_of in (("t.npz", order), ("native.npz", "=")):
        turned = {
            column: values.astype(values.dtype.newbyteorder(order_of)) for column, values in columns.items()
        }
        np.savez(tmp_path / name, X=np.zeros((8, 1)), **turned)
    loaded, native = read(tmp_path / "t.npz"), read(tmp_path / "native.npz")
    table, wanted = loaded.train.inputs["table"], native.train.inputs["table"]
    np.testing.assert_array_equal(table.numeric, wanted.numeric)
    np.testing.assert_array_equal(table.codes, wanted.codes)
    np.testing.assert_array_equal(loaded.train.y, native.train.y)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("n_rows", [3, 200_000])
def test_arrays_of_foreign_byte_order_become_native_also_where_they_stay_on_disk(
    n_rows: int, mapped: bool, tmp_path: Path
) -> None:
    values = np.arange(2 * n_rows, dtype=np.int32).reshape(-1, 2)
    np.save(tmp_path / "a.npy", values.astype(">i4"))
    np.savez(tmp_path / "a.npz", a=values.astype(">i4"))
    for array in (
        Npy().array(tmp_path / "a.npy", "", "a", mapped=mapped),
        ArchiveFile.open(tmp_path / "a.npz").read("a", "a", mapped=mapped),
    ):
        np.testing.assert_array_equal(array, values)
        assert array.dtype == np.dtype("=i4") and array.dtype.isnative
    assert isinstance(array, np.memmap) is mapped


def test_text_arrays_beyond_unicode_are_found_at_once(tmp_path: Path) -> None:
    broken = np.full(8, 0x7FFFFFFF, dtype="<u4").view("<U1")
    npz(tmp_path / "t.npz", X=X, y=Y, c=npy(broken))
    with pytest.raises(DataError):
        read(tmp_path / "t.npz")


def test_an_array_in_fortran_order_is_the_same_where_it_stays_on_disk(tmp_path: Path) -> None:
    values = np.arange(24.0).reshape(2, 3, 4)
    np.savez(tmp_path / "a.npz", a=np.asfortranarray(values))
    for mapped in (True, False):
        found = ArchiveFile.open(tmp_path / "a.npz").read("a", "a", mapped=mapped)
        np.testing.assert_array_equal(found, values)
        assert isinstance(found, np.memmap) is mapped


def test_rows_of_arrays_end_to_end_are_counted_by_their_lengths(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "t.npz", steps=np.arange(9.0), n_steps=np.array([2, 3, 4]), a=np.arange(3), y=np.arange(3)
    )
    given = {"seq": InputOptions(array="steps", lengths="n_steps")}
    frame = Npz().frame(tmp_path / "t.npz", DataOptions(train="t.npz", target="label", inputs=given))
    assert frame.to_dict("list") == {"a": [0, 1, 2], "label": [0, 1, 2]}, (
        "neither values nor lengths are columns"
    )


def test_an_array_that_is_not_there_is_answered_with_the_nearest_and_all_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros(3), steps=np.zeros(3))
    with pytest.raises(DataError, match=r"array of the file.*'imagse'.*images.*steps") as caught:
        ArchiveFile.open(tmp_path / "a.npz").read("imagse", "data.inputs.x.array")
    assert "Did you mean 'images'?" in str(caught.value)
    np.save(tmp_path / "pixels.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"there is no file .*pixel\.npy\. Did you mean 'pixels\.npy'\?"):
        Npy().array(tmp_path / "pixel.npy", "", "data.inputs.x.array", mapped=False)


@pytest.mark.parametrize("code", [0x110000, 0x7F000001, 0xD800])
def test_texts_of_numbers_that_are_no_characters_are_refused(tmp_path: Path, code: int) -> None:
    texts = np.array(["ab", "cd", "ef", "gh"])
    texts.view(np.uint32)[2] = code
    np.savez(tmp_path / "t.npz", X=np.zeros((4, 1)), y=np.arange(4) % 2, colour=texts)
    options = DataOptions(train="t.npz", target="y")
    with pytest.raises(DataError, match=f"'colour' has {code:#x} in the place of a character"):
        Npz().frame(tmp_path / "t.npz", options)
