"""One more space turned to an alignment that is there: that of a net refitted on all rows.

In:  an alignment, the anchors it was fitted on, and the same rows in the new space.
Out: the alignment with the new space behind the others, which stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stackfeat.features.encodings.procrustes import (
    Alignment,
    Own,
    anchor_masks,
    nearest_rotation,
    target_coordinates,
)


def add_space(
    alignment: Alignment,
    spaces: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    anchors: np.ndarray,
    target: np.ndarray | None = None,
) -> Alignment:
    """Turn one more space to the consensus of an alignment, or to its target; both stay as they are.

    Parameters
    ----------
    alignment : Alignment
        Of at least the spaces given.
    spaces : list of float arrays of shape (m, d_k)
        The anchors it was fitted on.
    masks : list of bool arrays of shape (m,)
        Rows that each of them may be used for. The new space may be used for all rows.
    anchors : float array of shape (m, d)
        The same rows in the new space.
    target : float array of shape (m, d_t), optional
        The target that the alignment was fitted to, where it had one.

    Returns
    -------
    Alignment
        With the new space behind the others.
    """
    rows = np.asarray(anchors, dtype=np.float64)
    everywhere = np.ones(len(rows), dtype=bool)
    of_folds = anchor_masks([*spaces, rows], [*masks, everywhere])[:-1]
    if target is None:
        wanted, known = _consensus(alignment, spaces, of_folds)
    else:
        wanted, known = target_coordinates(np.asarray(target, dtype=np.float64), everywhere), everywhere
    own = Own.of(rows, known)
    turn = nearest_rotation(own.coordinates[known].T @ wanted[known])
    return replace(
        alignment,
        centres=(*alignment.centres, own.centre),
        scales=(*alignment.scales, own.scale),
        maps=(*alignment.maps, own.basis @ turn),
    )


def _consensus(
    alignment: Alignment, spaces: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (m, r) of the turned spaces, each on its own rows, and which rows any of them has."""
    count = np.sum(masks, axis=0)
    folds = zip(spaces, masks, alignment.centres, alignment.maps, alignment.scales, strict=False)
    total = sum(
        ((space - centre) @ turn / scale) * mask[:, None] for space, mask, centre, turn, scale in folds
    )
    return np.asarray(total) / np.maximum(count, 1)[:, None], count > 0
