"""One file in, one frame out: which format a name means, what lies beside it, and what is refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from stackfeat.data.files.tables import (
    files_beside,
    find_file,
    holds,
    is_called_like_data,
    read_frame,
    table_format,
)
from stackfeat.data.options import DataOptions, InputOptions
from stackfeat.data.schema.load import load
from stackfeat.errors import DataError


def test_built_in_sets_split_into_disjoint_parts() -> None:
    options = DataOptions(train="sklearn:digits", test="sklearn:digits", id="id")
    data = load(options, Path(), "multiclass", "log_loss")
    assert data.test is not None
    assert data.train.n_rows + data.test.n_rows == 1797
    assert not set(data.train.ids) & set(data.test.ids)
    assert data.train.task.classes == tuple(range(10))


def test_an_absent_file_and_an_unknown_suffix_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,y\n1,0\n2,1\n")
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


def test_paths_are_relative_to_the_folder_and_built_in_sets_stay_as_they_are(tmp_path: Path) -> None:
    assert find_file("a/b.csv", tmp_path) == tmp_path / "a" / "b.csv"
    assert find_file("/elsewhere/b.csv", tmp_path) == Path("/elsewhere/b.csv")
    assert find_file("sklearn:iris", tmp_path) == "sklearn:iris"


@pytest.mark.parametrize(
    ("name", "kind", "is_data"),
    [
        ("a.csv", "table", True),
        ("a.TSV", "table", True),
        ("notes.txt", "table", False),
        ("a.parquet", "table", True),
        ("a.npz", "arrays", True),
        ("a.npy", "array", False),
        ("a.pkl", None, False),
        ("csv", None, False),
        (".csv", None, False),
    ],
)
def test_a_name_says_what_a_file_holds_and_whether_it_can_only_be_data(
    name: str, kind: str | None, is_data: bool
) -> None:
    kinds = ("table", "arrays", "array")
    assert [one for one in kinds if holds(name, one)] == ([] if kind is None else [kind])  # type: ignore[arg-type]
    assert holds(name, *kinds) is (kind is not None) and not holds(name)  # type: ignore[arg-type]
    assert is_called_like_data(Path(name)) is is_data


def test_files_of_one_array_lie_beside_the_data_file_and_may_be_named_after_it() -> None:
    path = Path("/data/train.v2.npz")
    given = InputOptions(array="{name}_images.npy", lengths="lengths.npy", kind="sequence")
    assert list(files_beside(path, given)) == [
        ("array", Path("/data/train.v2_images.npy")),
        ("lengths", Path("/data/lengths.npy")),
    ]
    assert list(files_beside(path, InputOptions(array="images"))) == [], "an array of the file itself"
    assert list(files_beside(path, InputOptions(columns=("a.npy",)))) == []


def test_the_parts_of_a_built_in_set_are_its_rows_three_to_one_always_the_same() -> None:
    options = DataOptions(train="sklearn:iris", target="species", id="row")
    bunch = datasets.load_iris()
    parts = [read_frame("sklearn:iris", options, part) for part in ("train", "test")]
    assert [len(part) for part in parts] == [112, 38]
    rows = np.concatenate([part["row"] for part in parts])
    assert sorted(rows) == list(range(150))
    for part in parts:
        assert list(part) == ["row", *bunch.feature_names, "species"] and part["row"].is_monotonic_increasing
        np.testing.assert_array_equal(part[bunch.feature_names], bunch.data[part["row"]])
        np.testing.assert_array_equal(part["species"], bunch.target[part["row"]])
    assert parts[0].equals(read_frame("sklearn:iris", options))


def test_a_folder_an_array_and_doubled_names_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(DataError, match=r"a\.csv: data must be a regular file; got a folder; name a file$"):
        table_format(tmp_path / "a.csv")
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(
        DataError, match=r"suffix must be one of .*\.npz, or of packed text .*; got '\.npy'; convert the file"
    ):
        table_format(tmp_path / "a.npy")
    (tmp_path / "b.csv").write_text("1,b,1\n2,3,4\n")
    with pytest.raises(
        DataError, match=r"b\.csv: column names must differ; got more than one '1'; rename them"
    ):
        read_frame(tmp_path / "b.csv", DataOptions(train="b.csv"))
