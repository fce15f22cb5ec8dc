"""Columns that numpy alone makes are those of the preparers."""

from __future__ import annotations

import numpy as np
import pytest

from stackfeat.data.prepare.estimator import ScaledPrepare, TreePrepare
from stackfeat.data.prepare.plain_columns import ScaledColumns, TreeColumns
from stackfeat.data.samples import Table
from stackfeat.errors import StructureError


def table(n_rows: int, seed: int, n_numeric: int = 4, levels: tuple[int, ...] = (5, 300, 3)) -> Table:
    random = np.random.default_rng(seed)
    numeric = random.normal(size=(n_rows, n_numeric))
    numeric[random.random(numeric.shape) < 0.1] = np.nan
    numeric[:, 3:] = np.nan_to_num(numeric[:, 3:])
    codes = [np.minimum(random.geometric(0.02, n_rows), n) - (2 if n > 3 else 1) for n in levels]
    coded = np.column_stack([np.zeros((n_rows, 0)), *codes]).astype(np.int32)
    names = tuple(map(str, range(len(levels))))
    return Table(
        numeric, tuple("abcd"[:n_numeric]), coded, names, tuple(tuple(map(str, range(n))) for n in levels)
    )


SHAPES = [(4, (5, 300, 3)), (4, ()), (0, (5,)), (2, (300,))]


@pytest.mark.parametrize(("n_numeric", "levels"), SHAPES)
def test_scaled_columns_are_those_of_the_preparer(n_numeric: int, levels: tuple[int, ...]) -> None:
    fitted, later = (table(n, n, n_numeric, levels) for n in (400, 900))
    preparer = ScaledPrepare().fit(fitted)
    plain = ScaledColumns.load(ScaledColumns.of(preparer, fitted).arrays(), n_numeric)
    plain.check(later.levels)
    wanted = preparer.transform(later)
    np.testing.assert_array_equal(plain.transform(later), wanted)
    assert plain.n_columns(n_numeric) == wanted.shape[1]


@pytest.mark.parametrize(("n_numeric", "levels"), SHAPES)
def test_tree_columns_are_those_of_the_preparer(n_numeric: int, levels: tuple[int, ...]) -> None:
    fitted, later = (table(n, n, n_numeric, levels) for n in (400, 900))
    preparer = TreePrepare().fit(fitted)
    plain = TreeColumns.load(TreeColumns.of(preparer, fitted).arrays(), n_numeric)
    plain.check(later.levels)
    frame = preparer.transform(later)
    wanted = [frame[name].cat.codes if frame[name].dtype == "category" else frame[name] for name in frame]
    values = np.column_stack([np.where(one == -1, np.nan, one) for one in wanted])
    assert np.array_equal(plain.transform(later), values, equal_nan=True)
    assert plain.n_columns(n_numeric) == values.shape[1]


@pytest.mark.parametrize("name", ["missing", "spread", "lengths", "values"])
def test_arrays_that_do_not_fit_each_other_are_refused(name: str) -> None:
    fitted = table(400, 0)
    arrays = ScaledColumns.of(ScaledPrepare().fit(fitted), fitted).arrays()
    arrays[name] = arrays[name] - 1000
    with pytest.raises(StructureError):
        ScaledColumns.load(arrays, 4).check(fitted.levels)
