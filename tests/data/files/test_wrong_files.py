"""Wrong data files: each must end in a DataError that names the file, the column and the rows."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.data.options import DataOptions
from stackfeat.data.schema.load import load
from stackfeat.errors import DataError, MissingExtraError

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
        r"column 'y': every training row must have a target; got none in row 6",
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
    Wrong(
        "empty column", _column("e", [""] * 12), r"column 'e': a column must have values.*data.drop: \[e\]"
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
    Wrong(
        "declared text", _column("c", ["x", "1"] * 6), r"type text is not built yet", {"types": {"c": "text"}}
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


@pytest.mark.parametrize("suffix", ["parquet", "feather", "npz"])
def test_a_truncated_file_is_a_data_error(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"train.{suffix}").write_bytes(b"PAR1 PK nonsense")
    with pytest.raises(DataError, match=rf"train.{suffix}: must be"):
        load(DataOptions(train=f"train.{suffix}"), tmp_path, "binary", "log_loss")


def test_an_absent_file_and_an_unknown_suffix_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(GOOD)
    with pytest.raises(DataError, match=r"no such file. Did you mean 'train.csv'\?"):
        load(DataOptions(train="trian.csv"), tmp_path, "binary", "log_loss")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(
        DataError, match=r"pipe.csv: data must be a regular file; got a pipe or device; name a file$"
    ):
        load(DataOptions(train="pipe.csv"), tmp_path, "binary", "log_loss")
    with pytest.raises(DataError, match=r"suffix must be one of .csv.*got '.pkl'"):
        load(DataOptions(train="train.pkl"), tmp_path, "binary", "log_loss")
    with pytest.raises(DataError, match=r"must be one of sklearn:digits.*Did you mean 'digits'\?"):
        load(DataOptions(train="sklearn:digit"), tmp_path, "multiclass", "log_loss")


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.parquet").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stackfeat\[parquet\]'"):
        load(DataOptions(train="train.parquet"), tmp_path, "binary", "log_loss")
