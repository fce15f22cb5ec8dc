"""One more space turned to an alignment that is there: that of a net refitted on all rows.

In:  an alignment, the anchors it was fitted on, and the same rows in the new space.
Out: the alignment with the new space behind the others, which stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stackfeat.features.encodings.procrustes import Alignment, anchor_masks, row_space


def add_space(
    alignment: Alignment, spaces: Sequence[np.ndarray], masks: Sequence[np.ndarray], anchors: np.ndarray
) -> Alignment:
    """Turn one more space to the consensus of an alignment, which stays as it is.

    Parameters
    ----------
    alignment : Alignment
        Of at least the spaces given.
    spaces : list of float arrays of shape (m, d_k)
        The anchors it was fitted on.
    masks : list of bool arrays of shape (m,)
        Rows that each of them may be used for.
    anchors : float array of shape (m, d)
        The same rows in the new space.

    Returns
    -------
    Alignment
        With the new space behind the others.
    """
    rows = np.asarray(anchors, dtype=np.float64)
    known = np.logical_or.reduce(anchor_masks([*spaces, rows], [*masks, np.ones(len(rows), dtype=bool)])[:-1])
    count = np.sum(masks, axis=0)[:, None]
    folds = zip(spaces, masks, alignment.centres, alignment.maps, alignment.scales, strict=False)
    total = sum(
        ((space - centre) @ turn / scale) * mask[:, None] for space, mask, centre, turn, scale in folds
    )
    consensus = (np.asarray(total) / np.maximum(count, 1))[known]
    centre = rows[known].mean(axis=0)
    norm = float(np.sqrt(np.mean(np.sum((rows[known] - centre) ** 2, axis=1))))
    scale = norm if norm > 0 else 1.0
    basis = row_space((rows[known] - centre) / scale)[:, : consensus.shape[1]]
    left, _values, right = np.linalg.svd(
        ((rows[known] - centre) @ basis / scale).T @ consensus, full_matrices=False
    )
    return replace(
        alignment,
        centres=(*alignment.centres, centre),
        scales=(*alignment.scales, scale),
        maps=(*alignment.maps, basis @ left @ right),
    )
