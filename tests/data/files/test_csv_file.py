"""Text files of columns: encoding, separator and header are found, and rows that do not fit them are refused."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from stackfeat.data.files.csv_file import Csv, find_separator
from stackfeat.data.files.tables import read_frame
from stackfeat.data.options import DataOptions
from stackfeat.errors import DataError
from tests.data.files.reading import ROWS, read, refusal


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_byte_order_marks_are_found(separator: str, encoding: str, tmp_path: Path) -> None:
    text = "näme,b,y\n" + "".join(f"{i},ö{i % 3},{i % 2}\n" for i in range(8))
    (tmp_path / "t.csv").write_bytes(text.replace(",", separator).encode(encoding))
    table = read(tmp_path / "t.csv").train.inputs["table"]
    assert table.numeric_names == ("näme",)
    assert table.levels == (("ö0", "ö1", "ö2"),)


def test_decimal_commas_do_not_hide_the_separator() -> None:
    assert find_separator("a;b;c\n1,5;2,5;3\n4,5;5,5;6,5\n") == ";"
    assert find_separator('a,b\n"x;y;z",2\n"u;v;w",3\n') == ","


def test_quoted_cells_may_hold_separators_and_line_ends(tmp_path: Path) -> None:
    text = 'a,c,y\n1,"x, ""y""",0\n2,"line\nend",1\n3,"x, ""y""",0\n4,"line\nend",1\n'
    (tmp_path / "t.csv").write_text(text)
    assert read(tmp_path / "t.csv").train.inputs["table"].levels == (("line\nend", 'x, "y"'),)


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


def test_a_row_that_is_cut_at_the_end_of_the_sample_does_not_choose_the_separator() -> None:
    whole = "a;b\n1,5;" + "x" * 700_000 + "\n"
    assert find_separator(whole + "2,5" + "x" * 400_000) == ";"
    assert find_separator("a;b\n1,5;x\n2,5") == ",", "of a short text every row is whole"


def test_row_numbers_without_a_name_are_a_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",a,y\n0,5,x\n1,6,y\n")
    options = DataOptions(train="t.csv", target="y")
    frame = Csv().frame(tmp_path / "t.csv", options)
    assert frame.to_dict("list") == {"Unnamed: 0": ["0", "1"], "a": ["5", "6"], "y": ["x", "y"]}
    assert Csv().names(tmp_path / "t.csv", options) == list(frame)
    (tmp_path / "t.csv").write_text(",,y\n0,5,x\n")
    with pytest.raises(DataError, match="columns must have names; column 1 has none; name it"):
        Csv().names(tmp_path / "t.csv", options)


@pytest.mark.parametrize(
    ("text", "separator", "names"),
    [
        ("Width, cm;Height, cm\n1,5;2,5\n3,25;4,5\n", ";", ["Width, cm", "Height, cm"]),
        ("name, full\tage\nDoe, J\t3\nRoe, R\t4\n", "\t", ["name, full", "age"]),
        ("a,b;c\n1,2;3\n4,5;6\n", ";", ["a,b", "c"]),
        ("a;b,c;d\n1;2,3;4\n5;6,7;8\n", ";", ["a", "b,c", "d"]),
        ("a,b\n1,2\n3,4\n", ",", ["a", "b"]),
    ],
)
def test_commas_in_cells_and_names_do_not_hide_the_separator(
    text: str, separator: str, names: list[str], tmp_path: Path
) -> None:
    assert find_separator(text) == separator
    (tmp_path / "t.csv").write_text(text)
    assert read_frame(tmp_path / "t.csv", DataOptions(train="t.csv")).columns.tolist() == names


@pytest.mark.parametrize("mark", [";", ",", "\t"])
def test_a_hint_for_a_spreadsheet_is_no_header(mark: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"sep={mark}\na{mark}y\n1{mark}0\n2{mark}1\n")
    with pytest.raises(
        DataError, match=r"the first line must be the header; got 'sep=.*, a word to Excel; remove it"
    ):
        read_frame(tmp_path / "t.csv", DataOptions(train="t.csv"))
