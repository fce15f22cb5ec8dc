"""Sorted scores of a class give the areas under its curves, whatever the rows weigh."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.stats import rankdata

from stackfeat.metrics.sorted_scores import FEW_ROWS, SortedScores, area_of_pairs, order_of


def test_tied_scores_of_new_weights_are_counted_as_scikit_learn_counts_them():
    random = np.random.default_rng(0)
    positive, score = random.random(60) < 0.4, random.integers(0, 5, 60) / 4
    ordered = SortedScores(positive, score)
    for _ in range(3):
        weight = random.integers(0, 3, 60).astype(float)
        kept = weight > 0
        rows = positive[kept], score[kept]
        assert ordered.auc(weight) == pytest.approx(sk.roc_auc_score(*rows, sample_weight=weight[kept]))
        assert ordered.average_precision(weight) == pytest.approx(
            sk.average_precision_score(*rows, sample_weight=weight[kept])
        )


def test_scores_without_rows_or_without_one_of_two_classes_are_undefined():
    for positive in (np.zeros(0, dtype=bool), np.ones(3, dtype=bool), np.zeros(3, dtype=bool)):
        scores = SortedScores(positive, np.linspace(0, 1, len(positive)))
        assert np.isnan(scores.auc(np.ones(len(positive))))
        expected = 1.0 if positive.any() else np.nan
        assert scores.average_precision(np.ones(len(positive))) == pytest.approx(expected, nan_ok=True)
    # Weights can take a class away too.
    assert np.isnan(SortedScores(np.array([True, False]), np.array([0.1, 0.9])).auc(np.array([1.0, 0.0])))


@pytest.mark.parametrize("n_rows", [0, 1, FEW_ROWS - 1, FEW_ROWS, 7_001])
@pytest.mark.parametrize("scale", [1.0, 1e-320, 1e300, -3.0])
def test_values_are_put_in_order_whatever_their_range(n_rows, scale):
    random = np.random.default_rng(n_rows)
    drawn = random.normal(size=n_rows)
    # Close together, tied, negative and far out.
    drawn[::3] = 0.5 + 1e-14 * random.integers(0, 9, len(drawn[::3]))
    drawn[::7] *= 1e6
    values = drawn * scale
    order = order_of(values)
    np.testing.assert_array_equal(np.sort(order), np.arange(n_rows))
    np.testing.assert_array_equal(values[order], np.sort(values))


def test_equal_values_of_many_rows_are_in_order():
    assert (np.sort(order_of(np.full(FEW_ROWS, 0.3))) == np.arange(FEW_ROWS)).all()


@pytest.mark.parametrize("spread", [0.0, 1e-310, 1e-12, 1.0, 1e300])
@pytest.mark.parametrize("grid", [0, 3, 50])
def test_pairs_of_scores_are_counted_as_scikit_learn_does(spread, grid):
    random = np.random.default_rng(grid)
    for n_rows in (2, 7, 40, 3000):
        y = np.r_[0, 1, random.integers(0, 2, n_rows - 2)]
        score = random.normal(size=n_rows) + y
        score = spread * (np.rint(score * grid) / grid if grid else score)
        expected = sk.roc_auc_score(y, rankdata(score, method="dense"))
        assert area_of_pairs(score[y == 1], score[y == 0]) == pytest.approx(expected, abs=1e-12)


def test_pairs_of_one_class_have_no_area():
    assert np.isnan(area_of_pairs(np.ones(3), np.ones(0)))
    assert np.isnan(area_of_pairs(np.ones(0), np.ones(3)))
