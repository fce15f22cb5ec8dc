"""Features saved in one call, as other programs read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import loadmat
from torch import nn

import stackfeat as sf
from stackfeat.errors import StoreError, UsageError
from stackfeat.output import feature_files
from stackfeat.output.feature_files import write_features

ROWS = {"fc.1": np.arange(6, dtype=np.float32).reshape(2, 3), "fc.1:input": np.ones((2, 2, 2), np.float32)}


def test_one_file_holds_all_taps(tmp_path: Path) -> None:
    (mat,) = sf.save_features(ROWS, tmp_path / "new" / "f.mat")
    (npz,) = sf.save_features(ROWS, str(tmp_path / "f.npz"))
    assert (mat, npz) == (tmp_path / "new" / "f.mat", tmp_path / "f.npz")
    saved = loadmat(mat)
    np.testing.assert_array_equal(saved["fc_1"], ROWS["fc.1"])
    np.testing.assert_array_equal(saved["fc_1_input"], ROWS["fc.1:input"])
    with np.load(npz) as arrays:
        assert {key: values.tolist() for key, values in arrays.items()} == {
            key: values.tolist() for key, values in ROWS.items()
        }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.npz", "new"]


@pytest.mark.parametrize(("kind", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_tables_hold_one_tap_each(tmp_path: Path, kind: str, read: Any) -> None:
    alone = sf.save_features({"x": ROWS["fc.1"]}, tmp_path / f"one.{kind}")
    assert alone == [tmp_path / f"one.{kind}"]
    np.testing.assert_array_equal(read(alone[0]).to_numpy(), ROWS["fc.1"])
    first, second = sf.save_features(ROWS, tmp_path / f"f.{kind}")
    assert [first.name, second.name] == [f"f-fc.1.{kind}", f"f-fc.1%3Ainput.{kind}"]
    assert read(second).shape == (2, 4)


def test_what_taps_caught_is_saved_too(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 2)).to(torch.bfloat16)
    with sf.tapped(net, ["0"]) as caught:
        output = net(torch.ones(4, 3, dtype=torch.bfloat16))
    (path,) = sf.save_features(caught, tmp_path / "f.mat")
    np.testing.assert_array_equal(loadmat(path)["x0"], output.detach().float())


@pytest.mark.parametrize(
    ("features", "name", "message"),
    [
        (ROWS, "f.matt", r"Did you mean 'mat'\?"),
        (ROWS, "f", r"saved as \.npz, \.mat"),
        (ROWS["fc.1"], "f.mat", "got ndarray"),
        ({}, "f.mat", "got an empty one"),
        ({"a": "text"}, "f.mat", "arrays of numbers"),
        ({"a": np.float32(3)}, "f.mat", "a row per sample"),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path: Path, features: Any, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sf.save_features(features, tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="choose another folder"):
        sf.save_features(ROWS, tmp_path / "file" / "f.mat")


@pytest.mark.parametrize(("kind", "name"), [("npz", "features.npz"), ("csv", "fc.csv")])
def test_only_files_that_were_written_here_are_replaced(kind: str, name: str, tmp_path: Path) -> None:
    arrays = {"fc": np.ones((3, 2), np.float32)}
    (tmp_path / name).write_text("precious")
    with pytest.raises(UsageError, match="is not as extract has written it; choose another folder"):
        write_features(arrays, tmp_path, kind)
    assert (tmp_path / name).read_text() == "precious"
    (tmp_path / name).unlink()
    write_features(arrays, tmp_path, kind)
    write_features({"fc": np.zeros((3, 2), np.float32)}, tmp_path, kind)
    (tmp_path / name).write_text("edited")
    with pytest.raises(UsageError, match="is not as extract has written it"):
        write_features(arrays, tmp_path, kind)
    assert (tmp_path / name).read_text() == "edited"


def test_a_call_killed_while_it_writes_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"a": np.ones((3, 2), np.float32), "b": np.ones((3, 2), np.float32)}
    with monkeypatch.context() as patch:
        patch.setattr(feature_files, "hash_file", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_features(arrays, tmp_path, "csv")
    assert len(write_features(arrays, tmp_path, "csv")) == 2
