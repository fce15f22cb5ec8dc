"""One file in, one frame out: which format a name means, what lies beside it, and what is refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stackfeat.data.options import DataOptions
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
