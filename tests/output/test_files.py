"""Files are written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackfeat.errors import StoreError
from stackfeat.output.files import write_bytes, write_csv, write_json


def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"a\.csv must be written \(3 bytes\); got No space left"):
        write_bytes(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]
    assert path.read_bytes() == b"old"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_numbers_read_back_to_the_same_bits(values: list[float]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        write_csv(path, ("id", "x"), ([str(i) for i in range(len(values))], np.array(values)))
        read = [float(line.split(",")[1]) for line in path.read_text().splitlines()[1:]]
    np.testing.assert_array_equal(read, values)


def test_missing_numbers_are_empty_cells_and_ids_are_verbatim(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("id", "x", "y"), (["007", 'a"b,c'], [np.nan, 1], [None, True]))
    assert (tmp_path / "a.csv").read_text() == 'id,x,y\n007,,\n"a""b,c",1,True\n'


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["a", "b"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
