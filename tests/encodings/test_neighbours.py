"""Reference rows of the neighbour search."""

from __future__ import annotations

import numpy as np

from stackfeat.encodings.neighbours import (
    Neighbours,
    reference_rows,
    search_directions,
    unit_rows,
)


def test_few_rows_are_all_kept():
    np.testing.assert_array_equal(reference_rows(None, 5, seed=0, limit=10), np.arange(5))


def test_classes_keep_their_shares_and_none_is_lost():
    codes = np.repeat([0, 1, 2], [9000, 990, 10])
    kept = reference_rows(codes, len(codes), seed=0, limit=1000)
    assert len(kept) == 1000
    assert np.all(np.diff(kept) > 0)
    np.testing.assert_allclose(np.bincount(codes[kept]), [900, 99, 1], atol=1)


def test_the_seed_chooses_the_rows():
    first, again, other = (reference_rows(None, 1000, seed=seed, limit=10) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_row_of_zeros_sees_every_class_in_its_share():
    reference = unit_rows(np.random.default_rng(0).normal(size=(40, 3)))
    near = Neighbours(reference, np.repeat([0, 1], [30, 10]), 2)
    (shares,), radius = near.look_up(np.zeros((1, 3), np.float32), (10,))
    np.testing.assert_allclose(shares, [[0.75, 0.25]])
    np.testing.assert_allclose(radius, [[1.0]])


def test_neighbours_among_many_rows_are_those_of_a_full_sort():
    rng = np.random.default_rng(0)
    reference, queries = unit_rows(rng.normal(size=(9001, 5))), unit_rows(rng.normal(size=(40, 5)))
    values = rng.normal(size=9001)
    (means,), radius = Neighbours(reference, values, 0).look_up(queries, (30,))
    similarity = queries.astype(float) @ reference.T.astype(float)
    nearest = np.argsort(-similarity, axis=1)[:, :30]
    np.testing.assert_allclose(means[:, 0], values[nearest].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(radius[:, 0], 1 - np.sort(similarity, axis=1)[:, -30], atol=1e-6)


def test_the_search_keeps_the_widest_directions():
    rng = np.random.default_rng(0)
    rows = unit_rows(
        rng.normal(size=(300, 10)) @ rng.normal(size=(10, 200)) + 1e-3 * rng.normal(size=(300, 200))
    )
    searched = search_directions(rows, 300, n_exact=299)
    assert searched.shape == (200, 64)
    np.testing.assert_allclose((rows @ searched) @ (rows @ searched).T, rows @ rows.T, atol=1e-4)


def test_few_rows_or_columns_are_searched_in_full_width():
    rows = np.zeros((3, 65), np.float32)
    assert search_directions(rows, 20_000) is None
    assert search_directions(rows[:, :64], 20_001) is None
    assert search_directions(rows, 20_001).shape == (65, 64)


def test_rows_that_only_fill_a_block_change_nothing_and_are_not_looked_up():
    rng = np.random.default_rng(0)
    reference = unit_rows(rng.normal(size=(300, 8)))
    queries = unit_rows(rng.normal(size=(150, 8)))
    for values, n_classes in ((rng.integers(0, 3, 300), 3), (rng.normal(size=300), 0)):
        near = Neighbours(reference, values, n_classes)
        means, radius = near.look_up(queries, (10, 30))
        for n_real in (1, 64, 100, 150):
            some, some_radius = near.look_up(queries, (10, 30), n_real)
            for mean, other in zip(some, means, strict=True):
                np.testing.assert_array_equal(mean[:n_real], other[:n_real])
                assert not mean[n_real:].any()
            np.testing.assert_array_equal(some_radius[:n_real], radius[:n_real])
