"""Feature blocks of a gate, and the criterion by which they enter.

In:  a base (predictions, as centred log-probabilities or values) and feature blocks.
Out: checked blocks; inner folds of the rows; whether a gain in loss is large enough.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np

from stackfeat.data.prepare.weights import mean_one
from stackfeat.encodings.encoding import Encoding
from stackfeat.errors import MemberError, UsageError
from stackfeat.meta.scaling import Scaling
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class Block:
    """A feature block that a gate may let in.

    Attributes
    ----------
    name : str
    values : float array of shape (n, c)
    scaling : {"scalar", "zscore", "none"}
        One factor for all columns (aligned features, whose small columns are the noisy ones),
        one for each, or the values as they are.
    readouts : mapping of str to float array of shape (n, n_outputs)
        What the block says of the target by itself; may be empty.
    """

    name: str
    values: np.ndarray
    scaling: Scaling = "zscore"
    readouts: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def encoded(cls, name: str, values: np.ndarray, encoding: type[Encoding], task: Task | None) -> Block:
        """Make a block of encoded activations, scaled and read as suits the encoding."""
        return cls(name, values, encoding.scaling, {} if task is None else encoding.readouts(values, task))

    def part(self, task: Task, place: int) -> Block:
        """Return the block as a model of one of a task's targets reads it."""
        if len(task.parts) == 1:
            return self
        readouts = {name: task.part_of_scores(scores, place) for name, scores in self.readouts.items()}
        return Block(self.name, self.values, self.scaling, readouts)

    def take(self, rows: slice) -> Block:
        readouts = {name: scores[rows] for name, scores in self.readouts.items()}
        return Block(self.name, self.values[rows], self.scaling, readouts)


def check_design(base: np.ndarray, blocks: Sequence[Block]) -> None:
    """Raise where rows differ, names repeat, or a number is not finite."""
    names = [block.name for block in blocks]
    if len(set(names)) < len(names):
        raise UsageError(f"blocks must have different names; got {names}")
    parts = [("base", np.asarray(base)), *((block.name, block.values) for block in blocks)]
    parts += [(f"{block.name}:{name}", scores) for block in blocks for name, scores in block.readouts.items()]
    for name, values in parts:
        if values.ndim != 2 or len(values) != len(base):
            raise UsageError(
                f"{name} must have shape ({len(base)}, c), one row for each row of base; got {values.shape}"
            )
        if not np.isfinite(values).all():
            n_bad = int((~np.isfinite(values)).any(axis=1).sum())
            raise MemberError(
                f"{name} must be finite; got NaN or infinite values in {n_bad} rows. Leave this input out."
            )


def checked_weights(weight: np.ndarray | None, n_rows: int) -> np.ndarray:
    """Return checked row weights of mean one, (n_rows,); ones without any."""
    if weight is None:
        return np.ones(n_rows)
    weights = np.asarray(weight, dtype=np.float64)
    if weights.shape != (n_rows,) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
        raise UsageError(
            f"weight must be {n_rows} finite numbers, none negative, not all zero; got {weights.shape=}"
        )
    return mean_one(weights)


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
    """What one block would gain, and whether it entered.

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
    judged_by : {"fits", "proxy"}
        Fits of the member, or a cheap step that says whether they are worth it.
    """

    block: str
    scale: float
    gain: float
    standard_error: float
    accepted: bool
    enters: Literal["columns", "vote"] = "columns"
    judged_by: Literal["fits", "proxy"] = "fits"

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


def paired_gain(
    before: np.ndarray, after: np.ndarray, weight: np.ndarray, clusters: np.ndarray | None = None
) -> tuple[float, float]:
    """Weighted mean of the fall in loss, and its standard error over rows, or over clusters of them.

    Parameters
    ----------
    before, after : float64 arrays of shape (n,)
        Loss of each row.
    weight : float64 array of shape (n,)
    clusters : int64 array of shape (n,) or None
        Numbers from 0; rows of one are not independent. A single cluster says nothing of an error: rows count.
    """
    share = weight / weight.sum()
    change = before - after
    gain = float(share @ change)
    parts, factor = share * (change - gain), 1.0
    n_clusters = 0 if clusters is None else np.count_nonzero(np.bincount(clusters))
    if clusters is not None and n_clusters > 1:
        parts, factor = np.bincount(clusters, weights=parts), n_clusters / (n_clusters - 1)
    return gain, float(np.sqrt(factor * np.sum(parts**2)))


def passes(gain: float, standard_error: float, limit: float, loss: float) -> bool:
    """Whether a gain is worth a block: above `limit` standard errors, and not both tiny and unsure.

    A noise block at a small scale changes little, by an amount whose sign is a coin toss; so gains
    below a thousandth of the loss must be sure (two standard errors).
    """
    if not (gain > 0 and gain > limit * standard_error):
        return False
    return gain >= SMALLEST_SHARE * abs(loss) or gain >= SURE * standard_error
