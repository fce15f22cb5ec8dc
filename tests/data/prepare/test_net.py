"""Preparation for nets: numbers near a standard normal, codes with 0 for unknown, channels scaled by moments."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, rankdata
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from stackfeat.data.prepare import net as net_module
from stackfeat.data.prepare.net import ArrayPrepare, NetPrepare, channel_moments
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
    for scaling in ("quantile", "standard", "clipped"):
        numeric = NetPrepare().fit(table, scaling=scaling).transform(table)[0]  # type: ignore[arg-type]
        assert np.isfinite(numeric).all()
        if scaling != "clipped":
            np.testing.assert_allclose(numeric.mean(axis=0), 0, atol=1e-4)
    assert np.abs(NetPrepare().fit(table).transform(table)[0]).max() < 7


def test_clipped_scaling_is_the_standard_one_bent_towards_three() -> None:
    values = np.random.default_rng(6).standard_t(2, (120, 2))
    values[3, 1] = np.nan
    table = Table(values, ("a", "b"), np.zeros((120, 0), dtype=np.int32), (), ())
    standard = np.nan_to_num(StandardScaler().fit_transform(values))
    prepare = NetPrepare().fit(table, "clipped")
    found = prepare.transform(table)[0]
    np.testing.assert_allclose(found[:, :2], 3 * np.sin(np.arctan(standard / 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[:, 2], np.isnan(values[:, 1]))
    far = Table(np.array([[1e300, -1e300]]), ("a", "b"), np.zeros((1, 0), dtype=np.int32), (), ())
    np.testing.assert_allclose(prepare.transform(far)[0][0, :2], [3, -3], rtol=1e-6)


@pytest.mark.parametrize(("n_rows", "scaling"), [(100, "clipped"), (101, "quantile")])
def test_auto_scaling_takes_quantiles_where_there_are_enough_rows(n_rows: int, scaling: str) -> None:
    values = np.random.default_rng(0).normal(size=(n_rows, 1))
    prepare = NetPrepare().fit(Table(values, ("a",), np.zeros((n_rows, 0), dtype=np.int32), (), ()), "auto")
    assert prepare.scaling == scaling
    assert NetPrepare.from_bytes(prepare.to_bytes()).scaling == scaling


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


@pytest.mark.parametrize(
    ("kind", "axes"), [("image", (0, 2, 3)), ("sequence", (0, 1)), ("array", (0, 1, 2, 3))]
)
def test_moments_are_those_of_each_channel_even_far_from_zero(kind: Any, axes: tuple[int, ...]) -> None:
    shape = (20, 6, 3) if kind == "sequence" else (20, 3, 5, 4)
    values = np.random.default_rng(0).normal(1e7, 2.0, shape)
    mean, spread = channel_moments(ArrayInput(values, kind, "standard"))
    np.testing.assert_allclose(mean, np.ravel(values.mean(axis=axes)), rtol=1e-12)
    np.testing.assert_allclose(spread, np.ravel(values.std(axis=axes)), rtol=1e-6)


def test_moments_do_not_depend_on_how_many_rows_are_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values = ArrayInput(np.random.default_rng(1).normal(5, 2, (30, 3, 4, 4)), "image", "standard")
    whole = channel_moments(values)
    monkeypatch.setattr(net_module, "chunk_rows", lambda shape: 7)
    np.testing.assert_allclose(channel_moments(values), whole, rtol=1e-12)


def test_padding_counts_in_no_moment_and_is_zero_after_scaling() -> None:
    rng = np.random.default_rng(2)
    lengths = rng.integers(1, 6, 40)
    steps = rng.normal(3, 2, (40, 5, 2))
    real = np.arange(5) < lengths[:, None]
    padded = ArrayInput(np.where(real[:, :, None], steps, 1e9), "sequence", "standard", lengths)
    scaled = ArrayPrepare().fit(padded).transform(padded)
    wanted = (steps - steps[real].mean(axis=0)) / steps[real].std(axis=0)
    np.testing.assert_allclose(scaled[real], wanted[real], rtol=1e-4, atol=1e-5)
    assert (scaled[~real] == 0).all()


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65_535), (np.float32, 1)])
def test_whole_numbers_are_scaled_by_their_largest_and_imagenet_by_its_constants(
    dtype: Any, largest: int
) -> None:
    values = (np.random.default_rng(3).random((4, 3, 2, 2)) * largest).astype(dtype)
    unit = (
        ArrayPrepare().fit(ArrayInput(values, "image", "unit")).transform(ArrayInput(values, "image", "unit"))
    )
    np.testing.assert_allclose(unit, values / largest, rtol=1e-5)
    given = ArrayInput(values, "image", "imagenet")
    mean, spread = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    wanted = (values / largest - mean[:, None, None]) / spread[:, None, None]
    np.testing.assert_allclose(ArrayPrepare().fit(given).transform(given), wanted, rtol=1e-3, atol=1e-4)


def test_a_channel_without_spread_is_dead_and_tokens_stay_whole_numbers() -> None:
    values = np.random.default_rng(4).normal(size=(10, 2, 3, 3))
    values[:, 1] = 0.1
    given = ArrayInput(values, "image", "standard")
    prepare = ArrayPrepare().fit(given)
    assert abs(prepare.transform(given)[:, 0].std() - 1) < 1e-5
    assert (prepare.transform(ArrayInput(values + 7, "image", "standard"))[:, 1] == 0).all(), (
        "nor in other rows"
    )
    tokens = ArrayInput(np.array([[5, 7, 9], [2**40, 9, 9]]), "tokens", lengths=np.array([2, 1]), n_tokens=10)
    found = ArrayPrepare().fit(tokens).transform(tokens)
    assert found.dtype == np.int64 and found.tolist() == [[5, 7, 0], [2**40, 0, 0]]


def test_codes_are_numbered_by_the_levels_of_fit_and_one_hot_is_as_scikit_learns() -> None:
    codes = np.array([[4, 0], [2, -1], [4, 1], [-1, 0]], dtype=np.int32)
    levels = tuple("abcdef")
    table = Table(np.zeros((4, 0)), (), codes, ("u", "v"), (levels, levels))
    prepare = NetPrepare().fit(table)
    found = prepare.transform(table)[1]
    assert prepare.cardinalities == (3, 3) and found.tolist() == [[2, 1], [1, 0], [2, 2], [0, 1]]
    known = [list(range(n)) for n in prepare.cardinalities]
    np.testing.assert_array_equal(
        prepare.one_hot(found), OneHotEncoder(categories=known, sparse_output=False).fit_transform(found)
    )


def test_standard_scaling_is_scikit_learns_and_leaves_missing_numbers_at_the_mean() -> None:
    values = np.random.default_rng(5).normal(4, 3, (60, 3))
    values[::7, 1] = np.nan
    table = Table(values, ("a", "b", "c"), np.zeros((60, 0), dtype=np.int32), (), ())
    found = NetPrepare().fit(table, "standard").transform(table)[0]
    wanted = np.nan_to_num(StandardScaler().fit_transform(values))
    np.testing.assert_allclose(found[:, :3], wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[:, 3], np.isnan(values[:, 1]))
