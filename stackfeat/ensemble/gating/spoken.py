"""What blocks say of the target by themselves, as scores that a vote can add up.

In:  read-outs of a block.
Out: scores of the classes that occur, or values, of comparable size; their sum under given shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stackfeat.ensemble.gating.blocks import Block
from stackfeat.ensemble.gating.pool import pooled


@dataclass(frozen=True)
class Spoken:
    """Read-outs of one block, one on another.

    Attributes
    ----------
    values : float32 array of shape (r, n, n_outputs)
    factors : float64 array of shape (r,)
        What gives read-outs the size of the members' mean vote, or the unit of the target: the size of a
        read-out's scores of classes is arbitrary, and all shares are pulled to zero alike.
    centre : float
        Mean of the target, which the intercept takes up; 0 of classes.
    """

    values: np.ndarray
    factors: np.ndarray
    centre: float

    @classmethod
    def of(
        cls, block: Block, classes: np.ndarray, target: tuple[float, float], mean_vote: np.ndarray
    ) -> Spoken:
        """Size the read-outs of a block.

        Parameters
        ----------
        block : Block
        classes : int64 array
            Class codes that occur; empty for values.
        target : tuple of float
            Mean and sd of values; 0 and 1 of classes.
        mean_vote : float array of shape (n, n_outputs)
            Of the members.
        """
        parts = [chosen(said, classes) for said in block.read_outs.values()]
        values = np.stack(parts) if parts else np.empty((0, *mean_vote.shape), dtype=np.float32)
        if not len(classes):
            return cls(values, np.full(len(values), 1 / target[1]), target[0])
        size = np.sqrt(np.mean(mean_vote**2))
        sizes = np.sqrt(np.mean(values**2, axis=(1, 2), dtype=np.float64))
        known = (sizes > 0) & (size > 0)
        return cls(values, np.where(known, size / np.where(known, sizes, 1.0), 1.0), 0.0)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return read-outs of some rows, sized and centred, float64 (r, len(rows), n_outputs)."""
        return np.asarray((self.values[:, rows] - self.centre) * self.factors[:, None, None])


def chosen(said: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the columns of the classes that occur; without classes, all."""
    return said[:, classes] if len(classes) else said


def offset_of(
    blocks: Sequence[Block], classes: np.ndarray, voters: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """Return what read-outs add to the scores, (n, n_outputs); None where no block votes.

    Parameters
    ----------
    blocks : sequence of Block
        At least the voters, found by name.
    classes : int64 array
        Class codes that occur; empty for values.
    voters : mapping of str to float64 array of shape (r,)
        What the read-outs of a block are multiplied by.
    """
    if not voters:
        return None
    by_name = {block.name: block for block in blocks}
    said = [chosen(values, classes) for name in voters for values in by_name[name].read_outs.values()]
    return pooled(said, np.concatenate([*voters.values()]), said[0].shape)
