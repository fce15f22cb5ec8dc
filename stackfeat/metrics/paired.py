"""Paired comparison: how sure a difference between two scores is, the training included.

In:  differences on folds or repeats, what resampled rows say of each, scores of resampled rows.
Out: a standard error with its degrees of freedom, p-values, what the best of many scores hides.

Sources: C. Nadeau, Y. Bengio, "Inference for the generalization error", Machine Learning 52, 2003; F. E.
Satterthwaite, Biometrics Bulletin 2, 1946; S. Holm, Scandinavian Journal of Statistics 6, 1979; G. K. Smyth, "Linear
models and empirical Bayes methods", Statistical Applications in Genetics and Molecular Biology 3, 2004; D. G. Bonett,
T. A. Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations", Psychometrika 65.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""Of intervals; a difference is one beyond chance where its p-value is below the rest."""


@dataclass(frozen=True)
class Part:
    """A part of the variance of a difference, and the degrees of freedom of its estimate."""

    variance: float
    df: float


def rows_part(difference: np.ndarray, n_units: int) -> Part:
    """Return what resampled rows say; `n_units` is how many rows, groups or blocks of time were drawn from."""
    return Part(float(np.nanvar(difference, ddof=1)), max(n_units - 1, 1))


PRIOR_FOLDS = 2.0
"""What rows explain of the variance between folds counts as so many folds: five alone know a variance badly."""


def folds_part(
    gaps: Sequence[float],
    of_rows: Sequence[float],
    test_share: float,
    *,
    rows_hold_folds: bool = False,
    prior_folds: float = PRIOR_FOLDS,
) -> Part:
    """Return what the training adds, seen from how far differences on the folds lie apart.

    Part of their variance is that of the fold's rows, which `rows_part` counts already; what is left is that of the
    models. Models of different folds share most of their training rows, so the variance of its mean is not 1/K of it,
    but 1/K + n_test / n_train (Nadeau and Bengio). Few folds give a variance that may be far off, so it is moderated
    (Smyth): the mean of the measured one and of that which rows explain, weighted by their degrees of freedom.

    Parameters
    ----------
    gaps : sequence of float
        The difference on the rows of each fold.
    of_rows : sequence of float
        The variance of each by its rows alone.
    test_share : float
        Rows of a fold over those that its models were trained on.
    rows_hold_folds : bool
        Whether whole folds were resampled, so that `rows_part` holds the 1/K.
    prior_folds : float
        The weight of what rows explain, in degrees of freedom.

    Examples
    --------
    >>> part = folds_part([0.1, 0.2, 0.3, 0.4], [0.0] * 4, 1 / 3, prior_folds=0)
    >>> round(part.variance, 6)  # (1/4 + 1/3) * variance
    0.009722
    """
    values = np.asarray(gaps, dtype=np.float64)
    df = len(values) - 1
    excess = max(float(values.var(ddof=1)) - float(np.mean(of_rows)), 0.0) * df / (df + prior_folds)
    factor = test_share + (0.0 if rows_hold_folds else 1 / len(values))
    return Part(factor * excess, df + prior_folds)


def repeats_part(gaps: Sequence[float]) -> Part:
    """Return what the training adds, seen from differences of whole repeats on the same rows."""
    values = np.asarray(gaps, dtype=np.float64)
    return Part(float(values.var(ddof=1)) / len(values), len(values) - 1)


@dataclass(frozen=True)
class Gap:
    """A difference and how sure it is.

    Attributes
    ----------
    value : float
    se : float
        Of all parts together.
    se_rows, se_training : float
        Of the rows, and of what the training adds.
    df : float
        Degrees of freedom of `se`, after Satterthwaite.
    low, high : float
        The interval of 95 %.
    p : float
        Two-sided.
    """

    value: float
    se: float
    se_rows: float
    se_training: float
    df: float
    low: float
    high: float
    p: float


def gap_of(value: float, rows: Part, training: Sequence[Part]) -> Gap:
    """Return a difference with its standard error: the root of the sum of the parts' variances."""
    from scipy import stats

    parts = [part for part in (rows, *training) if part.variance > 0]
    variance = sum(part.variance for part in parts)
    df = variance**2 / sum(part.variance**2 / part.df for part in parts) if parts else float(rows.df)
    se, of_training = float(np.sqrt(variance)), float(np.sqrt(sum(part.variance for part in training)))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, df)) * se
    p = float(2 * stats.t.sf(abs(value) / se, df)) if se > 0 else float(value == 0)
    return Gap(
        value, se, float(np.sqrt(rows.variance)), of_training, float(df), value - reach, value + reach, p
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for all comparisons together, by Holm's steps.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    found = np.empty(len(p_values))
    found[order] = stepped
    return [float(value) for value in found]


def optimism_of_best(losses: Sequence[float], resampled: np.ndarray) -> float:
    """Return by how much the lowest of several losses is too low, because it was chosen by being lowest.

    On each resample the lowest loss is chosen anew, and compared with the loss of the same run on all rows: the mean
    of these differences. Scores that are alike because rows are the same, are alike in each resample.

    Parameters
    ----------
    resampled : array (n_resamples, n_losses)
        The losses on resampled rows, the same rows for all.

    Examples
    --------
    >>> optimism_of_best([0.5, 0.9], np.array([[0.4, 0.9], [0.6, 0.8]]))
    0.0
    """
    known = resampled[np.isfinite(resampled).all(axis=1)]
    if len(known) < 2:
        return float("nan")
    # A resample's loss has a small bias of its own (a root, an area), which is not that of choosing.
    centred = known - known.mean(axis=0) + np.asarray(losses)
    lowest = centred.argmin(axis=1)
    return float(np.mean(np.asarray(losses)[lowest] - centred[np.arange(len(known)), lowest]))


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation with an interval of 95 %."""

    value: float
    low: float
    high: float
    n: int


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> RankCorrelation | None:
    """Return Spearman's correlation and its interval after Bonett and Wright; None where one side is constant.

    Of three pairs nothing is sure: the interval is that of all correlations. That of a perfect order is made as if
    two neighbours were swapped; it would have no width otherwise.
    """
    from scipy import stats

    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    value = float(stats.spearmanr(x, y).statistic)
    n = len(x)
    if n == 3:
        return RankCorrelation(value, -1.0, 1.0, n)
    most = 1 - 12 / (n * (n**2 - 1))
    reach = float(stats.norm.ppf((1 + LEVEL) / 2)) * np.sqrt((1 + value**2 / 2) / (n - 3))
    centre = np.arctanh(np.clip(value, -most, most))
    low, high = min(np.tanh(centre - reach), value), max(np.tanh(centre + reach), value)
    return RankCorrelation(value, float(low), float(high), n)
