"""What blocks say of the target by themselves, as scores that a vote can add up.

In:  read-outs of a block.
Out: scores of the classes that occur, or values, of comparable size; their sum under given shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stackfeat.ensemble.gating.blocks import Block


@dataclass(frozen=True)
class Spoken:
    """Read-outs of one block, one on another.

    Attributes
    ----------
    values : float32 array of shape (r, n, n_outputs)
    of_classes : bool
    """

    values: np.ndarray
    of_classes: bool

    @classmethod
    def of(cls, block: Block, classes: np.ndarray, n_rows: int) -> Spoken:
        """Take the classes that occur; without classes, values."""
        parts = [said[:, classes] if len(classes) else said for said in block.read_outs.values()]
        none = np.empty((0, n_rows, max(len(classes), 1)), dtype=np.float32)
        return cls(np.stack(parts) if parts else none, len(classes) > 0)

    def factors(self, base: np.ndarray, votes: Sequence[np.ndarray], target_sd: float) -> np.ndarray:
        """Return what gives read-outs the size of the members' mean vote, or the unit of the target; (r,).

        The size of a read-out's scores of classes is arbitrary, and shares are pulled to zero alike.
        """
        if not self.of_classes:
            return np.full(len(self.values), 1 / target_sd)
        mean = base @ np.mean(votes, axis=0) if votes else np.zeros(1)
        size, sizes = (
            np.sqrt(np.mean(mean**2)),
            np.sqrt(np.mean(self.values**2, axis=(1, 2), dtype=np.float64)),
        )
        known = (sizes > 0) & (size > 0)
        return np.asarray(np.where(known, size / np.where(known, sizes, 1.0), 1.0))

    def scaled(self, factors: np.ndarray, target_mean: float) -> np.ndarray:
        """Return read-outs times their factors, (r, n, n_outputs); values less the mean of the target."""
        return np.asarray((self.values - target_mean) * factors[:, None, None])


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
    by_name = {block.name: block for block in blocks}
    parts = [
        share * values
        for name, shares in voters.items()
        for share, values in zip(shares, Spoken.of(by_name[name], classes, 0).values, strict=True)
    ]
    return np.sum(parts, axis=0) if parts else None
