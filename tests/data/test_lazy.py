"""Rows on disk: indexed like arrays, computed when asked for, cheap to send to another process."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.data.prepare.net import ArrayPrepare
from stackfeat.data.samples import LARGE_BYTES, ArrayInput, LazyRows, is_large


@pytest.fixture
def mapped(tmp_path: Path) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 255, (50, 3, 4), dtype=np.uint8)
    np.save(tmp_path / "x.npy", values)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


@pytest.mark.parametrize(
    "index",
    [
        np.array([3, 0, 0, -1]),
        [2, 5],
        slice(4, 20, 3),
        slice(None),
        slice(None, None, -1),
        np.arange(50) % 3 == 0,
        7,
        -2,
        np.array([], dtype=np.int64),
    ],
)
def test_a_view_is_indexed_like_the_array(mapped: np.ndarray, index: Any) -> None:
    rows = np.random.default_rng(1).permutation(50)
    for view, wanted in ((LazyRows(mapped), mapped), (LazyRows(mapped, rows), np.asarray(mapped)[rows])):
        np.testing.assert_array_equal(view[index], wanted[index])
        assert type(view[index]) is np.ndarray
        assert (view.shape, view.dtype, len(view)) == (wanted.shape, wanted.dtype, 50)


def test_views_of_views_and_changes_of_rows(mapped: np.ndarray) -> None:
    view = LazyRows(mapped, change=lambda x, lengths: x * 2.0 + lengths[:, None, None], beside=np.arange(50))
    part = view.take(np.array([9, 4, 4])).take(np.array([True, False, True]))
    np.testing.assert_array_equal(np.asarray(part), np.asarray(mapped)[[9, 4]] * 2.0 + [[[9]], [[4]]])


def test_a_pickled_view_holds_the_name_of_the_file_not_its_bytes(mapped: np.ndarray) -> None:
    data = pickle.dumps(LazyRows(mapped, np.array([5, 1])))
    assert len(data) < 1000 + mapped.nbytes / 100
    np.testing.assert_array_equal(np.asarray(pickle.loads(data)), np.asarray(mapped)[[5, 1]])


def test_only_the_size_decides_what_is_large() -> None:
    n_rows = LARGE_BYTES // 4 // 100
    assert not is_large(n_rows, (10, 10))
    assert is_large(n_rows + 1, (10, 10))


@pytest.mark.parametrize("kind", ["image", "sequence"])
def test_prepared_rows_on_disk_are_the_prepared_rows_in_memory(mapped: np.ndarray, kind: Any) -> None:
    values = mapped[:, None] if kind == "image" else mapped
    lengths = np.random.default_rng(2).integers(1, 4, 50) if kind == "sequence" else None
    held = ArrayInput(np.asarray(values), kind, "standard", lengths)
    lazy = ArrayInput(LazyRows(values), kind, "standard", lengths)
    rows = np.random.default_rng(3).permutation(50)[:20]
    prepare = ArrayPrepare().fit(lazy.take(rows))
    again = ArrayPrepare().fit(held.take(rows))
    np.testing.assert_array_equal([prepare.shift, prepare.factor], [again.shift, again.factor])
    a, b = prepare.transform(held.take(rows)), prepare.transform(lazy.take(rows))
    assert isinstance(b, LazyRows) and isinstance(a, np.ndarray)
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_array_equal(a[[3, 1]], b[[3, 1]])
    np.testing.assert_array_equal(a, np.asarray(pickle.loads(pickle.dumps(b))))
