"""Preparers learn from the rows they are fitted on, and from nothing else."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from sklearn.ensemble import HistGradientBoostingClassifier

from stackfeat.data.prepare import pack, unpack
from stackfeat.data.prepare.estimator import NoPrepare, ScaledPrepare, TreePrepare
from stackfeat.data.prepare.net import NetPrepare
from stackfeat.data.samples import Table
from stackfeat.errors import StructureError, TrustError, UsageError

PREPARERS = [NetPrepare, TreePrepare, ScaledPrepare, NoPrepare]


def _table(n: int, seed: int, n_levels: int = 6) -> Table:
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(n, 4)) * [1, 1000, 1, 0] + [0, 5, 0, 0.1]
    numeric[:, 2] = rng.integers(0, 3, n)
    numeric[rng.random((n, 4)) < [0, 0.2, 0.1, 0]] = np.nan
    codes = rng.integers(-1, n_levels, (n, 2)).astype(np.int32)
    levels = tuple(f"v{i:04d}" for i in range(n_levels))
    return Table(numeric, ("a", "b", "c", "k"), codes, ("u", "w"), (levels, levels))


def _flat(transformed: Any) -> list[bytes]:
    """Every byte of what a preparer returned."""
    if isinstance(transformed, pd.DataFrame):
        columns = [transformed[name] for name in transformed]
        return [
            (c.cat.codes.to_numpy().tobytes() + str(c.cat.categories.tolist()).encode())
            if isinstance(c.dtype, pd.CategoricalDtype)
            else c.to_numpy().tobytes()
            for c in columns
        ]
    parts = transformed if isinstance(transformed, tuple) else (transformed,)
    return [np.ascontiguousarray(part).tobytes() for part in parts]


@pytest.mark.parametrize("kind", PREPARERS)
@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_rows_outside_the_fit_rows_change_nothing(kind: Any, seed: int) -> None:
    table, other = _table(80, seed), _table(80, seed + 1)
    rows, outside = np.arange(0, 80, 2), np.arange(1, 80, 2)
    numeric, codes = table.numeric.copy(), table.codes.copy()
    numeric[outside], codes[outside] = other.numeric[outside] * 1e6, -2
    changed = Table(numeric, table.numeric_names, codes, table.code_names, table.levels)
    probe = _table(30, seed + 2)
    one = kind().fit(table.take(rows)).transform(probe)
    two = kind().fit(changed.take(rows)).transform(probe)
    assert _flat(one) == _flat(two)


@pytest.mark.parametrize("kind", PREPARERS)
def test_bytes_restore_the_preparer_bit_for_bit(kind: Any) -> None:
    table = _table(300, 3, n_levels=40)
    fitted = kind().fit(table)
    restored = kind.from_bytes(fitted.to_bytes())
    probe = _table(100, 4, n_levels=40)
    assert _flat(restored.transform(probe)) == _flat(fitted.transform(probe))
    assert _flat(kind.from_bytes(restored.to_bytes()).transform(probe)) == _flat(fitted.transform(probe))


@pytest.mark.parametrize("kind", PREPARERS)
def test_a_row_is_transformed_the_same_alone(kind: Any) -> None:
    table = _table(120, 5)
    fitted = kind().fit(table)
    whole = fitted.transform(table.take(np.array([7])))
    assert _flat(whole) == _flat(fitted.transform(table.take(np.array([7]))))
    parts, alone = (x if isinstance(x, tuple) else (x,) for x in (fitted.transform(table), whole))
    for part, one in zip(parts, alone, strict=True):
        np.testing.assert_array_equal(np.asarray(part)[7:8].astype(str), np.asarray(one).astype(str))


@pytest.mark.parametrize("kind", [NetPrepare, TreePrepare, ScaledPrepare])
@pytest.mark.parametrize("missing", ["numeric", "codes"])
def test_tables_of_one_sort_of_column_work(kind: Any, missing: str) -> None:
    table = _table(60, 6)
    if missing == "numeric":
        table = Table(np.zeros((60, 0)), (), table.codes, table.code_names, table.levels)
    else:
        table = Table(table.numeric, table.numeric_names, np.zeros((60, 0), dtype=np.int32), (), ())
    fitted = kind().fit(table)
    assert _flat(kind.from_bytes(fitted.to_bytes()).transform(table)) == _flat(fitted.transform(table))


def test_unseen_levels_are_unknown() -> None:
    table = _table(100, 0)
    known = table.take(np.flatnonzero((table.codes != 3).all(axis=1)))
    probe = Table(
        table.numeric[:3],
        table.numeric_names,
        np.array([[3, -2], [-1, 3], [2, 2]], dtype=np.int32),
        ("u", "w"),
        table.levels,
    )
    net = NetPrepare().fit(known)
    codes = net.transform(probe)[1]
    assert codes[:2].tolist() == [[0, 0], [0, 0]] and (codes[2] > 0).all()
    assert net.cardinalities == (6, 6)
    one_hot = net.one_hot(codes)
    assert (
        one_hot.dtype == np.float32
        and one_hot.shape == (3, net.n_one_hot)
        and (one_hot.sum(axis=1) == 2).all()
    )
    frame = TreePrepare().fit(known).transform(probe)
    assert frame.iloc[:2, 4:].isna().all().all() and frame.iloc[2, 4:].notna().all()
    scaled = ScaledPrepare().fit(known)
    columns = scaled.transform(probe)
    assert columns[:2, scaled.scaler.n_features_in_ :].sum(axis=1).tolist() == [0, 1]


def test_missing_numbers_get_an_indicator_where_fit_saw_them() -> None:
    table = _table(200, 1)
    net = NetPrepare().fit(table)
    numeric, codes = net.transform(table)
    assert numeric.dtype == np.float32 and codes.dtype == np.int64
    assert net.n_numeric == numeric.shape[1] == 6
    np.testing.assert_array_equal(numeric[:, 4:], np.isnan(table.numeric[:, 1:3]))
    assert (numeric[:, 3] == 0).all(), "a constant column is dead, not amplified rounding"
    scaled = ScaledPrepare().fit(table)
    columns = scaled.transform(table)
    assert scaled.scaler.n_features_in_ == 6 and np.isfinite(columns).all()
    for place, name in ((4, 1), (5, 2)):
        is_missing = np.isnan(table.numeric[:, name])
        np.testing.assert_array_equal(columns[:, place] == columns[:, place].max(), is_missing)


def test_trees_take_many_levels_and_odd_names() -> None:
    rng = np.random.default_rng(0)
    levels = tuple(f'{{"{i}":[]}}' for i in range(400))
    codes = np.concatenate([np.arange(400), rng.integers(0, 400, 1600)]).astype(np.int32)[:, None]
    table = Table(rng.normal(size=(2000, 1)), ('{"a"}',), codes, ("[b],c",), (levels,))
    y = (codes[:, 0] < 200).astype(int)
    frame = TreePrepare().fit(table).transform(table)
    assert list(frame) == ["c0", "c1"] and frame["c1"].cat.categories.size == 255
    LGBMClassifier(n_estimators=2, verbose=-1, num_threads=1).fit(frame, y)
    HistGradientBoostingClassifier(max_iter=2, categorical_features="from_dtype").fit(frame, y)


def test_rare_levels_are_pooled_for_linear_models() -> None:
    codes = np.concatenate([np.zeros(600), np.ones(390), np.arange(2, 12)]).astype(np.int32)[:, None]
    table = Table(np.zeros((1000, 0)), (), codes, ("u",), (tuple(f"v{i}" for i in range(12)),))
    scaled = ScaledPrepare().fit(table)
    assert scaled.transform(table).sum(axis=0).tolist() == [600, 390, 10]


def test_foreign_bytes_are_not_constructed() -> None:
    content = TreePrepare().fit(_table(10, 0)).to_bytes()
    with pytest.raises(StructureError, match=re.escape("must be of kind 'net'; got 'trees'")):
        NetPrepare.from_bytes(content)
    foreign = skops.io.dumps(
        {"kind": "net", "version": 1, "x": np.random.mtrand.RandomState(0), "f": pd.Index}
    )
    with pytest.raises(TrustError, match="known types only"):
        NetPrepare.from_bytes(foreign)
    with pytest.raises(UsageError, match="scaling must be"):
        NetPrepare().fit(_table(10, 0), scaling="other")  # type: ignore[arg-type]


def test_arrays_end_to_end_come_back_and_lengths_are_checked() -> None:
    arrays = [np.array([1.0, 2.0]), np.array([]), np.array([3.0])]
    assert [array.tolist() for array in unpack(pack(arrays))] == [[1.0, 2.0], [], [3.0]]
    assert unpack(pack([])) == []
    assert unpack(arrays) is arrays
    with pytest.raises(StructureError, match="must sum to 3; got 4"):
        unpack({**pack(arrays), "lengths": np.array([2, 2])})
