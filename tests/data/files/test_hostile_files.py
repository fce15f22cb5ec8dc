"""What other people's parsers raise becomes one line that names the file, what was wrong and what to do."""

from __future__ import annotations

import csv
import errno
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.data.files.array_files import ArchiveFile, Npy
from stackfeat.data.files.parsing import parsing
from stackfeat.data.options import DataOptions
from stackfeat.data.schema.load import load, load_rows, read_sample
from stackfeat.errors import DataError, OutOfMemoryError, StoreError, StructureError

ROWS = "a,b,y\n" + "".join(f"{i},{i % 3},{i % 2}\n" for i in range(8))


def read(path: Path, **options: Any) -> Any:
    given = DataOptions.model_validate({"train": path.name, "target": "y", **options})
    return load(given, path.parent, "binary", "log_loss")


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        read(path, **options)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 1_000
    return message


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (ROWS, {"separator": "\n"}, "data.separator must be one character"),
        (ROWS, {"separator": "ab"}, "data.separator must be one character"),
        (ROWS, {"separator": "§"}, "data.separator must be one character"),
        (ROWS, {"encoding": "utf-99"}, "data.encoding must be a known encoding"),
        (ROWS, {"encoding": "x\0"}, "data.encoding must be a known encoding"),
        (ROWS, {"encoding": "punycode"}, "data.encoding must be a known encoding"),
        (ROWS, {"encoding": "hex"}, "not a text encoding"),
        (ROWS.replace("1,1,1", '"1,1,1'), {}, "EOF inside string"),
        (ROWS.replace("3,0,1", "3,\0,1"), {}, "holds NUL characters"),
        (ROWS.replace("3,0,1", "3,0,1,9"), {}, "Expected 3 fields in line 5, saw 4"),
        (ROWS.replace("3,0,1", "3,0"), {}, "got fewer in row 4"),
        (ROWS.replace("a,b,y", "a,a,y"), {}, "column names must differ"),
        (ROWS.replace("a,b,y", "a,,y"), {}, "column 2 has none"),
        ("a,b,y\n", {}, "the file must have rows"),
        ("\n \n", {}, "got an empty file"),
        (
            ROWS.replace("3,0,1", "3,zzz,1"),
            {"types": {"b": "numeric"}},
            "every cell must be a number; got 'zzz'",
        ),
        (ROWS.replace("3,0,1", f"3,{'z' * 200_000},1"), {"types": {"b": "numeric"}}, "(200,000 characters)"),
    ],
)
def test_a_csv_file_that_cannot_be_read(
    text: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert message in refusal(tmp_path / "t.csv", **options)


@pytest.mark.filterwarnings("ignore")
def test_a_cell_of_any_length_is_read_even_where_last_cells_are_empty(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    text = "a,y,b\n" + "".join(f"{i},{i % 2},{'z' * 200_000 if i == 3 else ''}\n" for i in range(30))
    (tmp_path / "t.csv").write_text(text)
    assert read(tmp_path / "t.csv").train.n_rows == 30
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_byte_order_marks_and_line_ends_are_understood(encoding: str, end: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(ROWS.replace("\n", end).encode(encoding))
    assert read(tmp_path / "t.csv").train.n_rows == 8


def test_a_header_longer_than_what_is_looked_at_first_is_read_whole(tmp_path: Path) -> None:
    names = [f"{'n' * 300}{j}" for j in range(4_000)]
    rows = [
        ",".join([*names, "y"]),
        *(",".join([f"{i + j % 3}" for j in range(4_000)] + [f"{i % 2}"]) for i in range(4)),
    ]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    assert len(read(tmp_path / "t.csv").schema.columns) == 4_000


def test_later_files_and_samples_of_one_column_say_what_they_lack(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(ROWS)
    loaded = read(tmp_path / "t.csv")
    (tmp_path / "one.csv").write_text("a\n1\n2\n")
    with pytest.raises(DataError, match="missing here: b"):
        load_rows(tmp_path / "one.csv", loaded.schema, DataOptions(train="t.csv", target="y"))
    with pytest.raises(DataError, match="must have an id and another column; got one column, 'a'"):
        read_sample(DataOptions(train="t.csv", sample_submission="one.csv"), tmp_path)


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


def test_damaged_strings_of_parquet_are_found_at_once(tmp_path: Path) -> None:
    frame = pd.DataFrame({"c": ["red", "green"] * 4, "n": range(8), "y": [0, 1] * 4})
    frame.to_parquet(tmp_path / "t.parquet", compression=None, use_dictionary=False)
    data = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(data.replace(b"green", b"\xff\xfe\xfd\xfc\xfb"))
    assert "must hold text that can be read" in refusal(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OverflowError("too\n large"), "got: too large; write it anew"),
        (KeyError(), "got: KeyError; write it anew"),
        (RecursionError("x" * 100_000), "xxx...; write it anew"),
        (PermissionError(errno.EACCES, "Permission denied"), "got: Permission denied; write it anew"),
        (StructureError("a.npy must have a shape"), "a.npy must have a shape; write it anew"),
    ],
)
def test_whatever_a_parser_raises_is_a_matter_of_the_file(raised: Exception, expected: str) -> None:
    with pytest.raises(DataError) as error, parsing("f.bin", "must be a file", "write it anew"):
        raise raised
    assert str(error.value).endswith(expected)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(MemoryError(), OutOfMemoryError), (OSError(errno.ENOSPC, "No space left on device"), StoreError)],
)
def test_what_the_machine_lacks_is_not_a_matter_of_the_file(raised: Exception, expected: type) -> None:
    with pytest.raises(expected), parsing("f.bin", "must be a file", "write it anew"):
        raise raised


def test_a_small_file_that_asks_for_all_memory_lies(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with (
        pytest.raises(DataError, match="got: MemoryError"),
        parsing(tmp_path / "a", "must be a file", "write it anew", states_sizes=True),
    ):
        raise MemoryError


def test_text_arrays_beyond_unicode_are_found_at_once(tmp_path: Path) -> None:
    broken = np.full(8, 0x7FFFFFFF, dtype="<u4").view("<U1")
    npz(tmp_path / "t.npz", X=X, y=Y, c=npy(broken))
    with pytest.raises(DataError):
        read(tmp_path / "t.npz")
