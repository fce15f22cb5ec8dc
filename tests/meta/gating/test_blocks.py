"""Blocks of a gate are checked, rows are dealt to inner folds, and gains are judged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stackfeat.errors import MemberError, UsageError
from stackfeat.meta.gating.blocks import (
    MAX_INNER_FOLDS,
    Block,
    check_design,
    checked_weights,
    inner_folds,
    paired_gain,
    passes,
    random_folds,
    threshold,
)


def test_the_threshold_grows_with_the_number_of_blocks():
    assert threshold(0.5, 0) == threshold(0.5, 1) == 0.5
    assert threshold(0.5, 10) == pytest.approx(np.sqrt(2 * np.log(10)) / 2)
    assert threshold(9.0, 10) == 9.0


def test_a_gain_must_be_above_the_limit_and_not_both_tiny_and_unsure():
    assert passes(0.01, 0.01, 0.5, loss=1.0)
    assert not passes(0.01, 0.03, 0.5, loss=1.0)
    assert not passes(1e-5, 1e-5, 0.5, loss=1.0)
    assert passes(1e-5, 1e-6, 0.5, loss=1.0)
    assert not passes(0.0, 0.0, 0.5, loss=1.0) and not passes(-1.0, 0.0, 0.5, loss=1.0)
    # Scores without a scale have losses below zero; their size is what counts.
    assert not passes(1e-5, 1e-5, 0.5, loss=-1.0)


def test_a_paired_gain_has_the_standard_error_of_a_mean():
    after, change = np.random.default_rng(0).normal(size=(2, 50))
    before = after + 1.0 + change
    gain, error = paired_gain(before, after, np.ones(50))
    assert gain == pytest.approx((before - after).mean())
    assert error == pytest.approx(stats.sem(before - after, ddof=0))


def test_rows_of_weight_zero_have_no_part_in_a_gain_and_its_unit_does_not_matter():
    before, after = np.random.default_rng(1).normal(size=(2, 40))
    weight = np.repeat([3.0, 0.0], 20)
    assert paired_gain(before, after, weight) == pytest.approx(
        paired_gain(before[:20], after[:20], np.ones(20))
    )


def test_over_clusters_the_error_is_that_of_their_sums():
    before, after = np.random.default_rng(2).normal(size=(2, 60))
    clusters = np.repeat([0, 4, 7, 9], 15)
    gain, error = paired_gain(before, after, np.ones(60), clusters)
    means = (before - after).reshape(4, 15).mean(axis=1)
    assert gain == pytest.approx(means.mean())
    assert error == pytest.approx(stats.sem(means, ddof=1))
    alone = paired_gain(before, after, np.ones(60), np.zeros(60, dtype=np.int64))
    assert alone == paired_gain(before, after, np.ones(60)), "one cluster has no spread"


def test_rows_of_one_fold_stay_together_in_inner_folds():
    folds = np.random.default_rng(0).choice([-1, 3, 7, 40], size=100)
    inner = inner_folds(folds, 0, "gate")
    assert set(zip(folds, inner, strict=True)) == {(-1, 0), (3, 1), (7, 2), (40, 3)}
    many = inner_folds(np.arange(25).repeat(2), 0, "gate")
    assert set(many) == set(range(MAX_INNER_FOLDS))
    assert (many[::2] == many[1::2]).all()


def test_random_folds_are_equal_parts_that_the_seed_decides():
    folds = random_folds(20, 3, seed=5)
    assert sorted(np.bincount(folds)) == [6, 7, 7]
    np.testing.assert_array_equal(folds, random_folds(20, 3, seed=5))
    assert (folds != random_folds(20, 3, seed=6)).any()
    np.testing.assert_array_equal(inner_folds(np.full(20, 8), 5, "gate"), folds)


@pytest.mark.parametrize(
    ("blocks", "error", "message"),
    [
        (
            [Block("a", np.zeros((4, 1))), Block("a", np.ones((4, 2)))],
            UsageError,
            "different names; got .'a'",
        ),
        ([Block("a", np.zeros((3, 1)))], UsageError, r"a must have shape \(4, c\), .*; got \(3, 1\)"),
        ([Block("a", np.zeros(4))], UsageError, r"a must have shape \(4, c\), .*; got \(4,\)"),
        (
            [Block("a", np.array([[1, np.nan], [1, 1], [np.inf, np.nan], [1, 1]]))],
            MemberError,
            "a must be finite; got NaN or infinite values in 2 rows. Leave this input out",
        ),
        (
            [Block("a", np.zeros((4, 1)), readouts={"one": np.full((4, 2), np.inf)})],
            MemberError,
            "a:one must be finite; got .* in 4 rows",
        ),
    ],
)
def test_what_is_no_design_is_said_with_its_block(blocks, error, message):
    check_design(np.zeros((4, 2)), [Block("a", np.zeros((4, 1)), readouts={"one": np.zeros((4, 2))})])
    with pytest.raises(error, match=message):
        check_design(np.zeros((4, 2)), blocks)


def test_weights_of_rows_are_brought_to_mean_one_and_wrong_ones_refused():
    np.testing.assert_array_equal(checked_weights(None, 3), np.ones(3))
    np.testing.assert_allclose(checked_weights(np.array([0, 1, 5]), 3), [0, 0.5, 2.5])
    for wrong in ([1.0, 2.0], [1.0, -1.0, 3.0], [1.0, np.nan, 1.0], [0.0, 0.0, 0.0], [[1.0], [1.0], [1.0]]):
        with pytest.raises(UsageError, match="weight must be 3 finite numbers, none negative, not all zero"):
            checked_weights(np.array(wrong), 3)


def test_rows_of_a_block_are_taken_with_their_read_outs():
    values = np.arange(12.0).reshape(6, 2)
    part = Block("a", values, "scalar", {"one": -values}).take(slice(2, 4))
    assert (part.name, part.scaling) == ("a", "scalar")
    np.testing.assert_array_equal(part.values, values[2:4])
    np.testing.assert_array_equal(part.readouts["one"], -values[2:4])
