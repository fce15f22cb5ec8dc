"""Alignment of fold spaces by orthogonal maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from stackfeat.encodings import Alignment, align
from stackfeat.encodings.procrustes import add_space
from stackfeat.errors import MemberError, UsageError


def noisy_spaces(n_spaces=3, m=200, d=6, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(m, d)) * np.linspace(3, 0.5, d)
    turns = [ortho_group.rvs(d, random_state=seed + number) for number in range(n_spaces)]
    return [(common @ turn + noise * rng.normal(size=(m, d))).astype(np.float32) for turn in turns]


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), d=st.integers(2, 12), dead=st.integers(0, 3))
def test_rotated_permuted_and_scaled_copies_fall_together(seed, d, dead):
    rng = np.random.default_rng(seed)
    rows = np.hstack([rng.normal(size=(60, d)), np.zeros((60, dead))])
    width = d + dead
    turn, mixed = ortho_group.rvs(width, random_state=seed), rng.permutation(width)
    copies = [rows, 7 * rows @ turn, 0.01 * rows[:, mixed] + 5, -rows]
    alignment = align([copy[:40] for copy in copies])
    mapped = [alignment.transform(space, copy) for space, copy in enumerate(copies)]
    for other in mapped[1:]:
        np.testing.assert_allclose(other, mapped[0], atol=1e-5)
    assert alignment.held_out_cosine > 0.9999


def test_maps_are_orthogonal():
    alignment = align(noisy_spaces())
    for matrix in alignment.maps:
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(6), atol=1e-10)
    np.testing.assert_allclose(alignment.directions.T @ alignment.directions, np.eye(6), atol=1e-10)


def test_distances_within_a_space_are_kept_up_to_one_scale():
    spaces = noisy_spaces()
    mapped = align(spaces).transform(1, spaces[1])
    before = np.linalg.norm(spaces[1][:50] - spaces[1][50:100], axis=1)
    after = np.linalg.norm(mapped[:50] - mapped[50:100], axis=1)
    np.testing.assert_allclose(after / before, (after / before)[0], rtol=1e-4)


def test_spaces_of_different_rank_and_few_anchors_are_fine():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(80, 8))
    lame = common.copy()
    lame[:, 5:] = 0
    for anchors in ([common, lame], [lame, common], [common[:4], lame[:4]], [common[:1], lame[:1]]):
        alignment = align(anchors)
        for space, matrix in enumerate(alignment.maps):
            values = np.linalg.svd(matrix, compute_uv=False)
            assert np.all((np.abs(values) < 1e-9) | (np.abs(values - 1) < 1e-9))
            assert np.isfinite(alignment.transform(space, common)).all()
    mapped = [align([common, lame]).transform(space, rows) for space, rows in enumerate((common, lame))]
    assert np.corrcoef(mapped[0].ravel(), mapped[1].ravel())[0, 1] > 0.6


def test_a_space_without_any_life_becomes_zero():
    rows = np.random.default_rng(0).normal(size=(30, 4))
    alignment = align([rows, np.ones((30, 4))])
    assert not alignment.transform(1, np.ones((5, 4))).any()


def test_reduce_keeps_the_widest_directions():
    spaces = noisy_spaces(noise=0.05)
    whole, few = align(spaces), align(spaces, reduce=2)
    np.testing.assert_allclose(few.transform(0, spaces[0]), whole.transform(0, spaces[0])[:, :2], atol=1e-5)
    assert np.all(np.diff(whole.transform(0, spaces[0]).var(axis=0)) < 1e-3)


def test_anchor_order_does_not_matter():
    spaces = noisy_spaces()
    order = np.random.default_rng(5).permutation(len(spaces[0]))
    plain, mixed = align(spaces), align([rows[order] for rows in spaces])
    a, b = plain.transform(2, spaces[2]), mixed.transform(2, spaces[2])
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-4)
    np.testing.assert_allclose(np.abs(a), np.abs(b), atol=1e-4)


def test_rows_that_are_not_usable_shape_nothing_of_their_space():
    spaces = noisy_spaces(m=90)
    usable = [np.arange(90) % 3 != fold for fold in range(3)]
    spoilt = [rows.copy() for rows in spaces]
    for fold, rows in enumerate(spoilt):
        rows[~usable[fold]] = 1e3
    plain, other = align(spaces, usable=usable), align(spoilt, usable=usable)
    for space in range(3):
        np.testing.assert_array_equal(plain.maps[space], other.maps[space])
    assert plain.held_out_cosine > 0.9


def test_cosine_on_held_out_anchors_tells_too_few_anchors():
    few = align([rows[:12] for rows in noisy_spaces(d=10, noise=1.5)])
    many = align(noisy_spaces(m=2000, d=10, noise=0.2))
    assert few.anchor_cosine - few.held_out_cosine > 0.1
    assert abs(many.anchor_cosine - many.held_out_cosine) < 0.02
    assert np.isnan(align([rows[:5] for rows in noisy_spaces()]).held_out_cosine)


def test_pure_noise_stays_noise():
    rng = np.random.default_rng(0)
    spaces = [rng.normal(size=(400, 5)) for _ in range(3)]
    assert abs(align(spaces).held_out_cosine) < 0.1


def test_arrays_bring_it_back():
    spaces = noisy_spaces()
    alignment = align(spaces, reduce=3)
    again = Alignment.from_arrays(alignment.arrays())
    assert again.transform(1, spaces[1]).tobytes() == alignment.transform(1, spaces[1]).tobytes()
    assert again.held_out_cosine == alignment.held_out_cosine


def test_bad_anchors_are_named():
    rows = np.ones((20, 3))
    with pytest.raises(UsageError, match="same rows"):
        align([rows, rows[:10]])
    with pytest.raises(UsageError, match="one mask"):
        align([rows, rows], usable=[np.zeros(20, bool), np.ones(20, bool)])
    with pytest.raises(MemberError, match="space 1"):
        align([rows, rows * np.nan])
    with pytest.raises(UsageError, match=r"space 0 must have shape \(n, 3\)"):
        align([rows, rows]).transform(0, np.ones((4, 2)))


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
