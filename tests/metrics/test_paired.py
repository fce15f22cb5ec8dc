"""Statistics of paired comparisons, against scipy and work by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stackfeat.metrics.paired import (
    Part,
    folds_part,
    gap_of,
    holm,
    optimism_of_best,
    rank_correlation,
    repeats_part,
    rows_part,
)


def test_the_correction_of_nadeau_and_bengio_is_that_of_the_paper() -> None:
    # Their corrected resampled t-test: mean / sqrt((1/J + n2/n1) * S^2), J - 1 degrees of freedom.
    gaps = [0.012, 0.031, 0.005, 0.022, 0.018]
    mean, variance = sum(gaps) / 5, sum((gap - sum(gaps) / 5) ** 2 for gap in gaps) / 4
    by_hand = mean / ((1 / 5 + 200 / 800) * variance) ** 0.5
    found = gap_of(mean, Part(0.0, 999.0), [folds_part(gaps, [0.0] * 5, 200 / 800, prior_folds=0)])
    assert found.value / found.se == pytest.approx(by_hand)
    assert found.p == pytest.approx(2 * stats.t.sf(by_hand, 4))
    assert found.high == pytest.approx(mean + stats.t.ppf(0.975, 4) * mean / by_hand)
    assert (found.low + found.high) / 2 == pytest.approx(mean)


def test_what_rows_explain_of_the_variance_between_folds_counts_once() -> None:
    gaps = [0.1, 0.2, 0.3, 0.4]
    variance = float(np.var(gaps, ddof=1))
    assert folds_part(gaps, [variance] * 4, 1 / 3).variance == 0.0
    assert folds_part(gaps, [2 * variance] * 4, 1 / 3).variance == 0.0
    part = folds_part(gaps, [variance / 4] * 4, 1 / 3, prior_folds=0)
    assert part.variance == pytest.approx((1 / 4 + 1 / 3) * variance * 3 / 4)
    whole = folds_part(gaps, [0.0] * 4, 1 / 3, rows_hold_folds=True, prior_folds=0)
    assert whole.variance == pytest.approx(variance / 3)


def test_the_variance_between_folds_is_moderated_towards_that_of_their_rows() -> None:
    # Smyth: (d0 * s0^2 + d * s^2) / (d0 + d), with d0 + d degrees of freedom.
    gaps, of_rows = [0.1, 0.2, 0.3, 0.4], 0.01
    variance = float(np.var(gaps, ddof=1))
    moderated = (2 * of_rows + 3 * variance) / (2 + 3)
    part = folds_part(gaps, [of_rows] * 4, 1 / 3, prior_folds=2)
    assert part.variance == pytest.approx((1 / 4 + 1 / 3) * (moderated - of_rows))
    assert part.df == 5


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_equal_configs_are_told_apart_at_the_level_that_is_claimed(spread: float) -> None:
    """Five folds of 300 rows, whose models differ by chance as much as `spread` times what their rows do."""
    random, n_apart = np.random.default_rng(7), 0
    for _ in range(600):
        of_rows = 1 / 300
        gaps = random.normal(0, (of_rows * (1 + spread**2)) ** 0.5, 5)
        part = folds_part(gaps.tolist(), [of_rows] * 5, 1 / 4)
        n_apart += gap_of(float(gaps.mean()), Part(of_rows / 5, 1499), [part]).p < 0.05
    assert 0.01 <= n_apart / 600 <= 0.10


def test_rows_and_repeats_have_the_plain_variance_of_their_mean() -> None:
    drawn = np.random.default_rng(0).normal(size=200)
    assert rows_part(drawn, 50) == Part(pytest.approx(np.var(drawn, ddof=1)), 49)
    part = repeats_part([0.1, 0.4, 0.2])
    assert (part.variance, part.df) == (pytest.approx(stats.sem([0.1, 0.4, 0.2]) ** 2), 2)


def test_degrees_of_freedom_are_those_of_welch() -> None:
    # Two samples: the sum of the variances of their means is the case that scipy knows.
    one, two = np.random.default_rng(1).normal(size=9), np.random.default_rng(2).normal(1, 3, size=5)
    parts = [Part(float(np.var(sample, ddof=1)) / len(sample), len(sample) - 1) for sample in (one, two)]
    found = gap_of(float(one.mean() - two.mean()), parts[0], [parts[1]])
    wanted = stats.ttest_ind(one, two, equal_var=False)
    assert found.p == pytest.approx(wanted.pvalue)
    assert found.df == pytest.approx(wanted.df)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()))
    assert found.se**2 == pytest.approx(found.se_rows**2 + found.se_training**2)


def test_equal_predictions_differ_by_nothing() -> None:
    found = gap_of(0.0, Part(0.0, 99.0), [])
    assert (found.se, found.p, found.low, found.high) == (0.0, 1.0, 0.0, 0.0)


def test_holm_is_stepwise() -> None:
    p_values = [0.01, 0.04, 0.03, 0.005]
    # By hand: .005 * 4, .01 * 3, .03 * 2, .04 * 1, none below the one before.
    assert holm(p_values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([0.2]) == [0.2]


def test_the_best_of_equal_runs_is_optimistic_by_the_mean_of_a_maximum() -> None:
    # The expected maximum of four independent normal variables is 1.0294 standard deviations.
    noise = np.random.default_rng(0).normal(size=(20_000, 4))
    assert optimism_of_best([0.0] * 4, noise) == pytest.approx(1.0294, abs=0.03)
    # Rows that all share say nothing about which is better.
    assert optimism_of_best([0.0] * 4, np.repeat(noise[:, :1], 4, axis=1)) == pytest.approx(0.0, abs=1e-12)
    assert optimism_of_best([0.0, 50.0, 50.0, 50.0], noise) == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(optimism_of_best([0.0], np.full((3, 1), np.nan)))


def test_rank_correlation_is_that_of_scipy_and_its_interval_widens_with_few_runs() -> None:
    random = np.random.default_rng(3)
    x = random.normal(size=30)
    y = x + random.normal(size=30)
    found = rank_correlation(x.tolist(), y.tolist())
    assert found is not None and found.value == pytest.approx(stats.spearmanr(x, y).statistic)
    reach = 1.959964 * ((1 + found.value**2 / 2) / 27) ** 0.5
    assert found.low == pytest.approx(np.tanh(np.arctanh(found.value) - reach))
    assert found.high == pytest.approx(np.tanh(np.arctanh(found.value) + reach))
    three = rank_correlation([1, 2, 3], [1, 2, 3])
    assert three is not None and (three.value, three.low, three.high) == (pytest.approx(1.0), -1.0, 1.0)
    four, eight = (rank_correlation(range(n), range(n)) for n in (4, 8))
    assert four is not None and four.low < 0 < four.high
    assert eight is not None and 0.5 < eight.low < 1 == pytest.approx(eight.high)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None and rank_correlation([1, 2], [1, 2]) is None


def test_the_interval_of_a_rank_correlation_holds_its_share() -> None:
    random = np.random.default_rng(4)
    n_held, truth = 0, 6 / np.pi * np.arcsin(0.7 / 2)
    for _ in range(400):
        x = random.normal(size=12)
        found = rank_correlation(x.tolist(), (0.7 * x + (1 - 0.49) ** 0.5 * random.normal(size=12)).tolist())
        n_held += found is not None and found.low <= truth <= found.high
    assert 0.9 <= n_held / 400 <= 0.99
