"""A space that joins an alignment later falls where the others are, and changes none of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from stackfeat.encodings import align
from stackfeat.encodings.procrustes import add_space


@pytest.mark.parametrize("reduce", [None, 3])
def test_a_space_that_joins_later_falls_where_the_others_are(reduce):
    rng = np.random.default_rng(0)
    rows, new_rows = rng.normal(size=(200, 6)), rng.normal(size=(30, 6))
    turns = [ortho_group.rvs(6, random_state=i) for i in range(4)]
    made = align([rows @ turn for turn in turns[:3]], reduce=reduce)
    spaces, masks = [rows @ turn for turn in turns[:3]], [np.ones(200, dtype=bool)] * 3
    joined = add_space(made, spaces, masks, 5 * rows @ turns[3] + 2)
    expected = made.transform(0, new_rows @ turns[0])
    np.testing.assert_allclose(joined.transform(3, 5 * new_rows @ turns[3] + 2), expected, atol=1e-4)
    np.testing.assert_array_equal(joined.transform(1, rows), made.transform(1, rows))
    assert np.linalg.svd(joined.maps[3], compute_uv=False) == pytest.approx(1.0)


def test_a_space_that_joins_later_is_turned_to_the_target_of_the_others_on_all_anchors():
    rng = np.random.default_rng(2)
    target = rng.normal(size=(60, 5))
    spaces = [rng.normal(size=(60, d)) for d in (6, 7)]
    masks = [np.arange(60) < 40, np.arange(60) >= 20]
    made = align(spaces, usable=masks, target=target)
    later = target @ rng.normal(size=(5, 8)) + 0.3 * rng.normal(size=(60, 8))
    joined = add_space(made, spaces, masks, later, target)
    by_hand = orthogonal_procrustes(
        *(np.pad(rows - rows.mean(axis=0), ((0, 0), (0, 8 - rows.shape[1]))) for rows in (later, target))
    )[0][:, :5]
    found = joined.transform(2, later).astype(float)
    wanted = (later - later.mean(axis=0)) @ by_hand
    # The common columns are principal directions of the target: another basis of the same rows.
    np.testing.assert_allclose(
        found @ found.T / np.trace(found @ found.T),
        wanted @ wanted.T / np.trace(wanted @ wanted.T),
        atol=1e-6,
    )
    np.testing.assert_array_equal(joined.transform(0, spaces[0]), made.transform(0, spaces[0]))
    assert joined.n_columns == made.n_columns == 5


def test_a_space_of_lower_rank_joins_and_masked_rows_do_not_count():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(200, 6))
    spaces = [
        (rows + 0.1 * rng.normal(size=rows.shape)) @ ortho_group.rvs(6, random_state=i) for i in range(3)
    ]
    made = align(spaces)
    flat = spaces[0].copy()
    flat[:, 2:] = 0
    masks = [np.arange(200) < 150] * 3
    joined = add_space(made, spaces, masks, flat)
    values = np.linalg.svd(joined.maps[3], compute_uv=False)
    np.testing.assert_allclose(values[:2], 1.0)
    np.testing.assert_allclose(values[2:], 0.0, atol=1e-12)
    changed = [np.where((np.arange(200) < 150)[:, None], space, 100.0) for space in spaces]
    again = add_space(made, changed, masks, flat)
    np.testing.assert_array_equal(again.maps[3], joined.maps[3])
