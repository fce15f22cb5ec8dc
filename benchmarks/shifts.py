"""How often a shift of quantiles is refused, and what it is worth on new rows.

    python -m benchmarks.shifts [--draws 60]

In:  normal targets; quantiles of the rows outside each fold, made narrower by a factor, or those of the law itself.
Out: a markdown table: the loss of held-out folds with a shift in standard errors, how often it rises by more than one
     of them, or two, and by how much the loss of new rows falls if a shift is always made.
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
from scipy.stats import norm

from stackfeat.meta.calibration import choose_calibration
from stackfeat.tasks.quantile import of_quantiles

LEVELS = np.array([0.1, 0.5, 0.9])
N_FOLDS = 4
N_NEW = 200_000


def main() -> None:
    """Print a line for each kind of member."""
    parser = argparse.ArgumentParser(description="Shifts of quantiles.")
    parser.add_argument("--draws", type=int, default=60)
    n_draws = parser.parse_args().draws
    print(
        "| rows | quantiles | coverage without, % | gain in se, mean | refused at 1 se, % | at 2, % "
        "| gain on new rows, 1e-4 (se) |"
    )
    print("|---" * 7 + "|")
    random = np.random.default_rng(0)
    new = random.normal(size=N_NEW)
    for n, factor, is_fitted in product((800, 3000), (1.0, 0.95, 0.9), (True, False)):
        drawn = np.array([draw(random, new, n, factor, is_fitted) for _ in range(n_draws)])
        inside = 100 * (norm.cdf(factor * norm.ppf(LEVELS[-1])) * 2 - 1)
        refused = [f"{100 * (drawn[:, 0] < -limit).mean():.0f}" for limit in (1, 2)]
        gain, error = 1e4 * drawn[:, 1].mean(), 1e4 * drawn[:, 1].std(ddof=1) / n_draws**0.5
        kind = "fitted to the other folds" if is_fitted else "of the law"
        print(
            f"| {n} | {kind}, times {factor:g} | {inside:.1f} | {drawn[:, 0].mean():.1f} | {' | '.join(refused)} "
            f"| {gain:.1f} ({error:.1f}) |",
            flush=True,
        )


def draw(
    random: np.random.Generator, new: np.ndarray, n: int, factor: float, is_fitted: bool
) -> tuple[float, float]:
    """Return the gain of held-out folds in standard errors, and by how much the loss of new rows falls."""
    y, fold_of, law = random.normal(size=n), np.arange(n) % N_FOLDS, norm.ppf(LEVELS)
    apart = [np.quantile(y[fold_of != fold], LEVELS) if is_fitted else law for fold in range(N_FOLDS)]
    whole = factor * (np.quantile(y, LEVELS) if is_fitted else law)[None, :]
    task = of_quantiles(tuple(LEVELS))
    found = choose_calibration(factor * np.array(apart)[fold_of], y, fold_of, task, given="shift")
    trial = found.found["trials"][0]
    before, after = (task.row_loss(new, one.repeat(N_NEW, axis=0)) for one in (whole, found.apply(whole)))
    return trial["gain"] / trial["se"], float(before.mean() - after.mean())


if __name__ == "__main__":
    main()
