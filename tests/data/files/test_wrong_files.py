"""Wrong data files: each must end in a DataError that names the file, the column and the rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stackfeat.data.options import DataOptions
from stackfeat.data.schema.load import load, load_rows, read_sample
from stackfeat.errors import DataError, MissingExtraError
from tests.data.files.reading import ROWS, read

GOOD = "id,a,b,y\n" + "".join(f"{i},{i % 7},{i * 0.5},{i % 2}\n" for i in range(12))


@dataclass
class Wrong:
    name: str
    train: str | bytes
    message: str
    options: dict[str, Any] = field(default_factory=dict)
    test: str | bytes | None = None
    task: str = "binary"
    metric: str = "log_loss"


def _swap(line: int, new: str) -> str:
    lines = GOOD.splitlines()
    lines[line] = new
    return "\n".join(lines) + "\n"


def _column(name: str, values: list[Any]) -> str:
    lines = GOOD.splitlines()
    return (
        "\n".join([f"{lines[0]},{name}", *(f"{line},{v}" for line, v in zip(lines[1:], values, strict=True))])
        + "\n"
    )


CASES = [
    Wrong(
        "duplicate ids",
        _swap(3, "1,0,0,1"),
        r"ids in 'id' must be unique; got '1' more than once, in rows 2, 3",
    ),
    Wrong("missing id", _swap(4, ",0,0,1"), r"every row must have an id in 'id'; got none in row 4"),
    Wrong("id absent", GOOD, r"data.id must be a column.*'ids'.*Did you mean 'id'\?", {"id": "ids"}),
    Wrong("target absent", GOOD, r"data.target must be a column.*'Y'.*Did you mean 'y'\?", {"target": "Y"}),
    Wrong("empty file", "", r"got an empty file"),
    Wrong("header only", "id,a,b,y\n", r"the file must have rows; got 0 rows"),
    Wrong("blank file", "\n\n  \n", r"got an empty file"),
    Wrong(
        "one column",
        GOOD,
        r"got one column, 'id,a,b,y'; if it holds several, set data.separator",
        {"separator": ";"},
    ),
    Wrong(
        "latin-1",
        GOOD.replace("a,b", "é,b").encode("latin-1"),
        r"is not UTF-8 \(byte 0xE9 at 3\); set data.encoding",
    ),
    Wrong(
        "utf-16 without BOM",
        GOOD.encode("utf-16-le"),
        r"NUL characters.*set data.encoding, such as utf-16-le",
    ),
    Wrong("unknown encoding", GOOD, r"must be a known encoding; got 'klingon'", {"encoding": "klingon"}),
    Wrong(
        "duplicate columns", GOOD.replace("a,b", "a,a", 1), r"column names must differ; got more than one 'a'"
    ),
    Wrong("column without name", GOOD.replace("a,b", "a,", 1), r"column 3 has none"),
    Wrong("long row", _swap(5, "4,1,2,0,9,9"), r"(Expected 4 fields in line 6|longer rows)"),
    Wrong(
        "long rows everywhere",
        GOOD.replace("\n", ",\n").replace("y,\n", "y\n", 1),
        r"must have 4 fields.*longer rows",
    ),
    Wrong("short row", _swap(5, "4,1"), r"must have 4 fields.*got fewer in row 5"),
    Wrong(
        "target missing",
        _swap(6, "5,1,2,NA"),
        r"every training row must have a target; got 'NA' \(1 cell\), read as missing, in row 6; if this is a class: "
        r"data.not_missing: \{y: \[NA\]\}; if it is missing, fill in",
    ),
    Wrong("one class", GOOD.replace(",1\n", ",0\n"), r"column 'y': .*at least 2 classes; got 0 in every row"),
    Wrong(
        "constant number",
        GOOD.replace(",1\n", ",0\n"),
        r"got 0.0 in every row",
        task="regression",
        metric="rmse",
    ),
    Wrong("three classes", _swap(6, "5,1,2,2"), r"binary needs exactly 2 classes; got 3: 0, 1, 2"),
    Wrong(
        "text target",
        _swap(6, "5,1,2,abc"),
        r"'y': every cell must be a number; got 'abc' in row 6",
        task="regression",
    ),
    Wrong("negative", _swap(6, "5,1,2,-3"), r"rmsle needs.*-3.0 in row 6", task="regression", metric="rmsle"),
    Wrong("infinite cell", _swap(2, "1,inf,2,1"), r"column 'a': numbers must be finite.*got inf in row 2"),
    Wrong("huge cell", _swap(2, "1,1e300,2,1"), r"column 'a': numbers must be finite.*got 1e\+300 in row 2"),
    Wrong("target empty", _swap(6, "5,1,2,"), r"must have a target; got none in row 6; remove these rows"),
    Wrong(
        "nothing but empty columns",
        "id,a,y\n" + "".join(f"{i},,{i % 2}\n" for i in range(9)),
        r"there must be a column to learn from; got none but a",
    ),
    Wrong(
        "negative weight",
        _column("w", [1] * 11 + [-1]),
        r"weights must be at least 0; got -1.0 in row 12",
        {"weight": "w"},
    ),
    Wrong(
        "missing weight",
        _column("w", [1] * 11 + [""]),
        r"weights must be at least 0; got nan in row 12",
        {"weight": "w"},
    ),
    Wrong(
        "fold gaps", _column("f", [0, 1, 3] * 4), r"without gaps, at least two; got 0, 1, 3", {"fold": "f"}
    ),
    Wrong(
        "missing group",
        _column("g", ["u", ""] * 6),
        r"'g': every row must have a group; got none in rows 2, 4, 6, 8, 10 and 1 more",
        {"group": "g"},
    ),
    Wrong(
        "unreadable time",
        _column("t", ["soon"] * 12),
        r"time must be numbers or dates.*got 'soon'",
        {"time": "t"},
    ),
    Wrong("two roles", GOOD, r"a column has one role; got 'a'", {"group": "a", "weight": "a"}),
    Wrong("unknown drop", GOOD, r"data.drop must match a column; got 'zz\*'", {"drop": ("zz*",)}),
    Wrong(
        "unknown type",
        GOOD,
        r"data.types must be a column of the file; got 'zip'",
        {"types": {"zip": "categorical"}},
    ),
    Wrong(
        "declared number",
        _column("c", ["x", "1"] * 6),
        r"'c': every cell must be a number; got 'x'",
        {"types": {"c": "numeric"}},
    ),
    Wrong("unknown positive", GOOD, r"data.positive must be one of 0, 1; got 2", {"positive": 2}),
    Wrong(
        "only constants",
        "id,a,y\n" + "".join(f"{i},5,{i % 2}\n" for i in range(6)),
        r"there must be a column to learn from",
    ),
    Wrong(
        "target as input",
        GOOD,
        r"the target 'y' cannot be an input",
        {"inputs": {"t": {"columns": ["a", "y"]}}},
    ),
    Wrong("test columns", GOOD, r"missing here: b; only here: bb", test="id,a,bb\n1,2,3\n"),
    Wrong("test separator", GOOD, r"missing here: a, b, id; only here: id_a_b", test="id_a_b\n123\n"),
    Wrong(
        "test text",
        GOOD,
        r"test.csv: column 'a': every cell must be a number; got 'x' in row 1",
        test="id,a,b\n90,x,3\n",
    ),
    Wrong("test ids", GOOD, r"test.csv: ids in 'id' must be unique", test="id,a,b\n90,1,3\n90,1,3\n"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_wrong_file_is_refused_by_name(case: Wrong, tmp_path: Path) -> None:
    for name, content in (("train.csv", case.train), ("test.csv", case.test)):
        if content is not None:
            (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    test = None if case.test is None else "test.csv"
    given = {"train": "train.csv", "test": test, "id": "id", "target": "y", **case.options}
    with pytest.raises(DataError, match=case.message) as caught:
        load(DataOptions.model_validate(given), tmp_path, case.task, case.metric)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("suffix", ["parquet", "feather", "npz"])
def test_a_truncated_file_is_a_data_error(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"train.{suffix}").write_bytes(b"PAR1 PK nonsense")
    with pytest.raises(DataError, match=rf"train.{suffix}: must be"):
        load(DataOptions(train=f"train.{suffix}"), tmp_path, "binary", "log_loss")


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.parquet").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stackfeat\[parquet\]'"):
        load(DataOptions(train="train.parquet"), tmp_path, "binary", "log_loss")


def test_later_files_and_samples_of_one_column_say_what_they_lack(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(ROWS)
    loaded = read(tmp_path / "t.csv")
    (tmp_path / "one.csv").write_text("a\n1\n2\n")
    with pytest.raises(DataError, match="missing here: b"):
        load_rows(tmp_path / "one.csv", loaded.schema, DataOptions(train="t.csv", target="y"))
    with pytest.raises(DataError, match="must have an id and another column; got one column, 'a'"):
        read_sample(DataOptions(train="t.csv", sample_submission="one.csv"), tmp_path)
