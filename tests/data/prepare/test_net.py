"""Preparation for nets: numbers near a standard normal, codes with 0 for unknown, channels scaled by moments."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from stackfeat.data.prepare.net import ArrayPrepare, NetPrepare
from stackfeat.data.samples import ArrayInput, LazyRows, Table
from stackfeat.errors import UsageError


@pytest.fixture
def mapped(tmp_path: Path) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 255, (50, 3, 4), dtype=np.uint8)
    np.save(tmp_path / "x.npy", values)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


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


def test_quantile_scaling_is_the_normal_score_of_the_mid_rank() -> None:
    values = np.random.default_rng(0).integers(0, 30, 400).astype(float)
    table = Table(values[:, None], ("a",), np.zeros((400, 0), dtype=np.int32), (), ())
    ours = NetPrepare().fit(table).transform(table)[0][:, 0]
    scores = norm.ppf((rankdata(values) - 0.5) / 400)
    np.testing.assert_allclose(ours, (scores - scores.mean()) / scores.std(), rtol=1e-5, atol=1e-6)


def test_zero_inflated_and_extreme_columns_stay_near_a_standard_normal() -> None:
    rng = np.random.default_rng(0)
    values = np.column_stack(
        [np.where(rng.random(1000) < 0.9, 0, rng.lognormal(9, 3, 1000)), rng.normal(size=1000)]
    )
    values[0, 1] = 3e38
    table = Table(values, ("a", "b"), np.zeros((1000, 0), dtype=np.int32), (), ())
    for scaling in ("quantile", "standard"):
        numeric = NetPrepare().fit(table, scaling=scaling).transform(table)[0]  # type: ignore[arg-type]
        assert np.isfinite(numeric).all()
        np.testing.assert_allclose(numeric.mean(axis=0), 0, atol=1e-4)
    assert np.abs(NetPrepare().fit(table).transform(table)[0]).max() < 7


def test_columns_are_handed_to_a_net_as_they_are_without_scaling() -> None:
    numeric = np.array([[1.5, np.nan], [700.0, -2.0], [0.0, 3.0]])
    no_codes = np.zeros((3, 0), dtype=np.int32)
    table = Table(numeric, ("a", "b"), no_codes, (), ())
    prepare = NetPrepare().fit(table, scaling="none")
    again = NetPrepare.from_bytes(prepare.to_bytes())
    for one in (prepare, again):
        values, codes = one.transform(table)
        assert np.array_equal(values, numeric.astype(np.float32), equal_nan=True)
        assert codes.shape == (3, 0) and one.n_numeric == 2 and one.n_one_hot == 0
    coded = Table(numeric, ("a", "b"), np.zeros((3, 1), dtype=np.int32), ("colour",), (("x",),))
    with pytest.raises(UsageError, match="must be numbers; got the categories colour"):
        NetPrepare().fit(coded, scaling="none")
