"""Learning rate by step: plain numbers in, a factor of the peak learning rate out."""

from __future__ import annotations

import math

ONECYCLE_RISE = 0.3
ONECYCLE_START = 0.04
ONECYCLE_END = 1e-3
COSLOG_CYCLES = 4


def rate_factor(step: int, n_steps: int, schedule: str, warmup: float = 0.0) -> float:
    """Return the factor of the learning rate at `step`, counted from 0.

    Parameters
    ----------
    step, n_steps : int
        Position, and length of the whole training.
    schedule : {"cosine", "onecycle", "constant", "coslog4"}
        cosine falls from 1 to nearly 0; onecycle rises over the first 30 % of the steps, then falls;
        coslog4 rises and falls four times, each time over twice as many steps (Holzmüller et al. 2024).
    warmup : float
        Share of the steps over which the factor rises linearly (cosine and constant).

    Examples
    --------
    >>> rate_factor(0, 100, "cosine"), round(rate_factor(50, 100, "cosine"), 2)
    (1.0, 0.5)
    """
    progress = step / n_steps
    if schedule == "onecycle":
        if progress < ONECYCLE_RISE:
            return between(ONECYCLE_START, 1.0, progress / ONECYCLE_RISE)
        return between(1.0, ONECYCLE_END, (progress - ONECYCLE_RISE) / (1 - ONECYCLE_RISE))
    if schedule == "coslog4":
        cycles = math.log2(1 + (2**COSLOG_CYCLES - 1) * progress)
        return (1 - math.cos(2 * math.pi * cycles)) / 2
    if progress < warmup:
        return (step + 1) / (warmup * n_steps + 1)
    if schedule == "constant":
        return 1.0
    return between(1.0, 0.0, (progress - warmup) / (1 - warmup))


def between(start: float, end: float, progress: float) -> float:
    """Follow half a cosine from `start` to `end` while `progress` goes from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
