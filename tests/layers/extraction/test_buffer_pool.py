"""Memory of results that nobody has any more is used again, and only then."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from torch import nn

import stackfeat as sf
from stackfeat.layers.extraction import files
from stackfeat.layers.extraction.files import pooled_array


@pytest.fixture(autouse=True)
def nothing_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_POOL", {})


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_freed_memory_comes_back() -> None:
    first = pooled_array((1000, 300))
    assert first.shape == (1000, 300)
    assert first.dtype == np.float32
    assert first.flags.writeable
    where = address(first)
    del first
    assert address(pooled_array((999, 300))) == where


def test_memory_in_use_is_never_given_away() -> None:
    first = pooled_array((1000, 300))
    view, where = first[10:20, ::2], address(first)
    view[:] = 7.0
    del first
    gc.collect()
    others = [pooled_array((1000, 300)) for _ in range(3)]
    assert where not in {address(other) for other in others}
    for other in others:
        other[:] = 0.0
    assert (view == 7.0).all()
    tensor = torch.from_numpy(others[0])
    where = address(others[0])
    del others
    assert address(pooled_array((1000, 300))) != where
    assert float(tensor.sum()) == 0.0


def test_a_much_smaller_array_does_not_hold_a_large_one() -> None:
    where = address(pooled_array((4000, 300)))
    assert address(pooled_array((1000, 300))) != where


def test_small_arrays_are_numpy_s_own() -> None:
    pooled_array((10, 10))
    assert not files._POOL


def test_at_most_the_limit_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "KEPT_BYTES", 3 << 20)
    arrays = [pooled_array((1 << 18, 1)) for _ in range(5)]
    newest = address(arrays[-1])
    while arrays:
        arrays.pop(0)
    kept = [address(memory) for memory in files._POOL.values()]
    assert len(kept) == 3
    assert newest in kept


def test_results_of_extract_do_not_share_memory() -> None:
    net = nn.Sequential(nn.Linear(4, 300), nn.ReLU(), nn.Linear(300, 2))
    x = torch.randn(2000, 4)
    first = sf.extract(net, x, taps="0")["0"]
    copy = first.copy()
    second = sf.extract(net, -x, taps="0")["0"]
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, copy)
    where = address(first)
    del first
    assert address(sf.extract(net, x, taps="0")["0"]) == where, "the memory of a dead result is not used"
