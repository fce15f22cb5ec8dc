"""The rules every gate keeps: how rows are split, and how much a block must gain.

In:  fold ids of the rows, losses of each row with and without a block.
Out: inner folds, gains with their standard errors, the threshold.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

logger = logging.getLogger(__name__)

SCALES = (0.03, 0.1, 0.3, 1.0)
MAX_BLOCKS = 5
MAX_TRIALS = 8
MAX_INNER_FOLDS = 10
RANDOM_FOLDS = 3
SMALLEST_SHARE = 1e-3
SURE = 2.0


@dataclass(frozen=True)
class GateStep:
    """One block on trial.

    Attributes
    ----------
    block : str
    scale : float
    gain : float
        Mean fall of the loss over rows.
    standard_error : float
        Of the gain, paired over rows.
    accepted : bool
    enters : {"columns", "vote"}
        All columns, or what the block says of the target as further members of a vote.
    """

    block: str
    scale: float
    gain: float
    standard_error: float
    accepted: bool
    enters: Literal["columns", "vote"] = "columns"

    def to_json(self) -> dict[str, str | float | bool]:
        return asdict(self)


def inner_folds(folds: np.ndarray, seed: int, name: str) -> np.ndarray:
    """Number the inner folds of the rows from 0, int64 (n,).

    Rows of one fold stay together. With fewer than two fold ids rows are dealt to three
    folds at random, and the log says so.
    """
    ids, inner = np.unique(folds, return_inverse=True)
    if len(ids) >= 2:
        return np.asarray(inner.reshape(-1) % MAX_INNER_FOLDS, dtype=np.int64)
    logger.info("%s: fewer than two other folds; gate and penalty use %d random folds", name, RANDOM_FOLDS)
    return random_folds(len(folds), RANDOM_FOLDS, seed)


def random_folds(n_rows: int, n_folds: int, seed: int) -> np.ndarray:
    """Deal rows to folds at random, in equal parts; int64 (n_rows,)."""
    return np.asarray(np.random.default_rng(seed).permutation(n_rows) % n_folds, dtype=np.int64)


def threshold(gate_se: float, n_blocks: int) -> float:
    """Standard errors that a block must gain: more with many blocks, the best of which passes by chance."""
    return max(gate_se, float(np.sqrt(2 * np.log(max(n_blocks, 1)))) / 2)


def paired_gain(before: np.ndarray, after: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Weighted mean of the fall in loss, and its standard error over rows."""
    share = weight / weight.sum()
    change = before - after
    gain = float(share @ change)
    return gain, float(np.sqrt(np.sum((share * (change - gain)) ** 2)))


def passes(gain: float, standard_error: float, limit: float, loss: float) -> bool:
    """Whether a gain is worth a block: above `limit` standard errors, and not both tiny and unsure.

    A noise block at a small scale changes little, by an amount whose sign is a coin toss; so gains
    below a thousandth of the loss must be sure (two standard errors).
    """
    if not (gain > 0 and gain > limit * standard_error):
        return False
    return gain >= SMALLEST_SHARE * abs(loss) or gain >= SURE * standard_error
