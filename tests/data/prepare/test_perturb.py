"""Perturbed rows are made of cells of near rows."""

from __future__ import annotations

import numpy as np

from stackfeat.data.prepare.perturb import SWAPPED, perturbed
from stackfeat.data.samples import Samples, Table
from stackfeat.tasks.task import Task


def samples(n_rows: int = 300) -> Samples:
    random = np.random.default_rng(0)
    side = np.repeat([0, 1], n_rows // 2)
    numeric = random.normal(size=(n_rows, 3)) + 100.0 * side[:, None]
    numeric[::11, 0] = np.nan
    codes = (side * 3 + random.integers(0, 3, n_rows)).astype(np.int32)[:, None]
    table = Table(numeric, ("a", "b", "c"), codes, ("d",), (tuple("012345"),))
    ids = np.arange(n_rows).astype(str)
    return Samples(ids, {"table": table, "X": np.arange(n_rows)}, np.zeros(n_rows), Task("regression"))


def test_every_cell_is_one_of_its_column_and_near_rows_stay_together() -> None:
    given = samples()
    made = perturbed(given, 1000, 0)
    before, after = given.inputs["table"], made.inputs["table"]
    assert isinstance(before, Table) and isinstance(after, Table)
    assert made.n_rows == after.n_rows == 1000 and made.y is None and made.group is None
    for old, new in zip(before.numeric.T, after.numeric.T, strict=True):
        assert np.isin(new[~np.isnan(new)], old).all()
    assert np.isnan(after.numeric[:, 0]).any()
    # Two clusters far apart: no row has cells of both.
    side = after.numeric[:, 1] > 50
    assert np.array_equal(side, after.numeric[:, 2] > 50) and np.array_equal(side, after.codes[:, 0] > 2)


def test_about_half_of_the_cells_are_those_of_a_near_row_and_each_row_is_used_alike() -> None:
    given = samples()
    made = perturbed(given, 900, 1)
    origins = made.inputs["X"]
    assert isinstance(origins, np.ndarray) and np.bincount(origins).tolist() == [3] * 300
    table, old = made.inputs["table"], given.inputs["table"]
    assert isinstance(table, Table) and isinstance(old, Table)
    moved = (table.numeric[:, 1:] != old.numeric[origins][:, 1:]).mean()
    assert abs(moved - SWAPPED) < 0.05


def test_draws_follow_the_seed_and_few_rows_are_enough() -> None:
    given = samples().take(np.array([0, 1, 290]))
    one, same, other = (perturbed(given, 50, seed).inputs["table"] for seed in (0, 0, 1))
    assert isinstance(one, Table) and isinstance(same, Table) and isinstance(other, Table)
    assert np.array_equal(one.numeric, same.numeric, equal_nan=True)
    assert not np.array_equal(one.numeric, other.numeric, equal_nan=True)
