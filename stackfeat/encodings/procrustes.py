"""Orthogonal Procrustes: turn K fold spaces so that they agree on anchor rows.

In:  each fold model's embedding of the same anchor rows; for a map to a fixed space also its own.
Out: an `Alignment`, which maps rows of any of the spaces to common columns. Only a shift, one
     scale and an orthogonal map are fitted: they cannot build another fold's directions.
     The space of a net refitted on all rows is turned to an alignment that exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stackfeat.encodings.encoding import in_blocks
from stackfeat.errors import MemberError, UsageError

MAX_RANK = 1024  # the cost of a step is cubic in the rank; directions past this carry little


@dataclass(frozen=True)
class Alignment:
    """Maps from K fold spaces to one.

    Attributes
    ----------
    centres : tuple of float64 arrays of shape (d_k,)
    scales : tuple of float
        One number a space: root of the mean squared distance of anchors to their centre.
    maps : tuple of float64 arrays of shape (d_k, r)
        Singular values are one on the directions that the anchors span, zero elsewhere.
    directions : float64 array of shape (r, q)
        Principal directions of the consensus, or of the target; orthonormal columns.
    anchor_cosine : float
        Mean cosine between two folds' maps of the same anchor, fitted on 80 % of the anchors.
    held_out_cosine : float
        The same on the other 20 %; NaN with fewer than ten anchors.
    """

    centres: tuple[np.ndarray, ...]
    scales: tuple[float, ...]
    maps: tuple[np.ndarray, ...]
    directions: np.ndarray
    anchor_cosine: float = float("nan")
    held_out_cosine: float = float("nan")

    @property
    def n_columns(self) -> int:
        """Columns of `transform`."""
        return int(self.directions.shape[1])

    def transform(self, space: int, embedding: np.ndarray) -> np.ndarray:
        """Map rows of one fold's space to the common columns.

        Parameters
        ----------
        space : int
            Which fold model made the rows.
        embedding : float array of shape (n, d_k)

        Returns
        -------
        float32 array of shape (n, q)
        """
        centre = self.centres[space]
        rows = np.asarray(embedding)
        if rows.ndim != 2 or rows.shape[1] != len(centre):
            raise UsageError(
                f"embedding of space {space} must have shape (n, {len(centre)}); got {rows.shape}"
            )
        whole = self.maps[space] @ self.directions / self.scales[space]
        wide = rows.astype(np.float64, copy=False)
        return in_blocks(lambda block, _: (block - centre) @ whole, wide, self.n_columns)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything learnt, as arrays that `from_arrays` reads."""
        out = {
            "scales": np.asarray(self.scales, dtype=np.float64),
            "directions": self.directions,
            "cosines": np.asarray([self.anchor_cosine, self.held_out_cosine]),
        }
        for space, (centre, matrix) in enumerate(zip(self.centres, self.maps, strict=True)):
            out[f"centre{space}"], out[f"map{space}"] = centre, matrix
        return out

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Alignment:
        """Rebuild what `arrays` gave."""
        scales = tuple(float(scale) for scale in arrays["scales"])
        spaces = range(len(scales))
        anchor, held_out = (float(cosine) for cosine in arrays["cosines"])
        centres = tuple(arrays[f"centre{space}"] for space in spaces)
        maps = tuple(arrays[f"map{space}"] for space in spaces)
        return cls(centres, scales, maps, arrays["directions"], anchor, held_out)


def align(
    anchors: Sequence[np.ndarray],
    *,
    iterations: int = 5,
    reduce: int | None = None,
    usable: Sequence[np.ndarray] | None = None,
    target: np.ndarray | None = None,
    seed: int = 0,
) -> Alignment:
    """Fit one orthogonal map for each space: to their consensus, or to a target that stays as it is.

    Parameters
    ----------
    anchors : list of float arrays of shape (m, d_k)
        The same rows seen by each fold model; their labels are never asked for.
    iterations : int, default 5
        Rounds of mapping to the consensus and averaging.
    reduce : int, optional
        Keep this many principal directions of the consensus, or of the target.
    usable : list of bool arrays of shape (m,), optional
        Rows that space k may be fitted on. Needed where anchors are training rows: those
        that fold model k was trained on, so that its held-out rows shape nothing of space k.
    target : float array of shape (m, d), optional
        The anchors in a space that nothing is learnt about: an untrained net's, or that of
        the earliest fold where folds follow time. Later spaces then change nothing of earlier maps.
    seed : int, default 0
        Chooses the anchors that `held_out_cosine` is measured on; the maps do not depend on it.

    Raises
    ------
    UsageError
        If there are no anchors, or shapes differ.
    MemberError
        If an activation is not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(50, 3))
    >>> turned = align([rows, 2 * rows[:, [2, 0, 1]]])
    >>> bool(np.allclose(turned.transform(0, rows), turned.transform(1, 2 * rows[:, [2, 0, 1]]), atol=1e-5))
    True
    """
    spaces = [np.asarray(rows, dtype=np.float64) for rows in anchors]
    masks = anchor_masks(spaces, usable)
    fixed = None
    if target is not None:
        fixed = np.asarray(target, dtype=np.float64)
        masks = anchor_masks([*spaces, fixed], [*masks, np.ones(len(fixed), dtype=bool)])
    m = len(spaces[0])
    anchor_cosine = held_out_cosine = float("nan")
    if m >= 10:
        held_out = np.zeros(m, dtype=bool)
        held_out[np.random.default_rng(seed).permutation(m)[: m // 5]] = True
        trial = _fit(spaces, [mask & ~held_out for mask in masks], iterations, reduce, fixed)
        anchor_cosine = mean_cosine(trial, spaces, [mask & ~held_out for mask in masks])
        held_out_cosine = mean_cosine(trial, spaces, [mask & held_out for mask in masks])
    whole = _fit(spaces, masks, iterations, reduce, fixed)
    return replace(whole, anchor_cosine=anchor_cosine, held_out_cosine=held_out_cosine)


def mean_cosine(alignment: Alignment, spaces: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float:
    """Mean cosine between two spaces' maps of the same row, over pairs of spaces and their common rows."""
    n_rows = len(spaces[0])
    total, count = np.zeros((n_rows, alignment.n_columns)), np.zeros(n_rows)
    own = np.zeros(n_rows)
    for space, (rows, mask) in enumerate(zip(spaces, masks, strict=False)):
        mapped = alignment.transform(space, rows).astype(np.float64)
        length = np.linalg.norm(mapped, axis=1)
        unit = mapped / np.where(length > 0, length, 1.0)[:, None] * mask[:, None]
        total += unit
        own += np.einsum("ij,ij->i", unit, unit)
        count += mask
    n_pairs = float(np.sum(count * (count - 1)))
    return float(np.sum(np.einsum("ij,ij->i", total, total) - own) / n_pairs) if n_pairs else float("nan")


def anchor_masks(spaces: Sequence[np.ndarray], usable: Sequence[np.ndarray] | None) -> list[np.ndarray]:
    """Check the arrays and return which rows each space is fitted on."""
    if not spaces or any(rows.ndim != 2 or not len(rows) or len(rows) != len(spaces[0]) for rows in spaces):
        shapes = [rows.shape for rows in spaces]
        raise UsageError(f"anchors must be the same rows, at least one, in every space; got shapes {shapes}")
    for space, rows in enumerate(spaces):
        if not np.isfinite(rows).all():
            raise MemberError(
                f"anchors must be finite; got NaN or infinite activations in space {space}. "
                "Lower the learning rate."
            )
    if usable is None:
        return [np.ones(len(rows), dtype=bool) for rows in spaces]
    masks = [np.asarray(mask, dtype=bool) for mask in usable]
    if len(masks) != len(spaces) or any(mask.shape != (len(spaces[0]),) or not mask.any() for mask in masks):
        raise UsageError(
            f"usable must be one mask of shape ({len(spaces[0])},) for each of {len(spaces)} spaces, "
            f"each with at least one row; got {[(mask.shape, int(mask.sum())) for mask in masks]}"
        )
    return masks


@dataclass(frozen=True)
class Space:
    """A space in its own principal coordinates: `coordinates` (m, r) of all anchors, `basis` (d, r)."""

    centre: np.ndarray
    scale: float
    basis: np.ndarray
    coordinates: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, mask: np.ndarray) -> Space:
        centre = rows[mask].mean(axis=0) if mask.any() else np.zeros(rows.shape[1])
        centred = rows - centre
        norm = float(np.sqrt(np.mean(np.sum(centred[mask] ** 2, axis=1)))) if mask.any() else 0.0
        scale = norm if norm > 0 else 1.0
        basis = row_space(centred[mask] / scale)
        return cls(centre, scale, basis, centred @ basis / scale)


def _fit(
    spaces: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    iterations: int,
    reduce: int | None,
    target: np.ndarray | None,
) -> Alignment:
    """Fit maps without measuring them; with a target its mask comes last."""
    own = [Space.of(rows, mask) for rows, mask in zip(spaces, masks, strict=False)]
    if target is not None:
        wanted = target_coordinates(target, masks[-1])
        rank = wanted.shape[1]
        turns = [
            nearest_rotation(space.coordinates[rows].T @ wanted[rows])
            for space, rows in zip(own, masks, strict=False)
        ]
        # The target is in principal coordinates already, the widest first.
        directions = np.eye(rank)
    else:
        rank = max(1, *(space.basis.shape[1] for space in own))
        # Filled up with zeros to the common rank.
        padded = [np.pad(s.coordinates, ((0, 0), (0, rank - s.basis.shape[1]))) for s in own]
        start = int(np.argmax([space.basis.shape[1] for space in own]))
        turns, consensus, known = _turn(padded, masks, start, iterations)
        centred = consensus[known] - consensus[known].mean(axis=0)
        # All principal directions of the consensus, the widest first.
        directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    maps = tuple(space.basis @ turn[: space.basis.shape[1]] for space, turn in zip(own, turns, strict=True))
    kept = directions[:, : min(reduce or rank, rank)]
    return Alignment(tuple(s.centre for s in own), tuple(s.scale for s in own), maps, kept)


def target_coordinates(target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """All anchors (m, r) in the principal coordinates of a target, by the rows of a mask; at least one column."""
    fixed = Space.of(target, mask)
    missing = max(1 - fixed.basis.shape[1], 0)
    return np.pad(fixed.coordinates, ((0, 0), (0, missing)))


def nearest_rotation(moment: np.ndarray) -> np.ndarray:
    """Solve orthogonal Procrustes (Schonemann 1966); directions that find no counterpart map to nothing."""
    left, values, right = np.linalg.svd(moment, full_matrices=False)
    # Pairs of directions without common variance would be matched by rounding.
    met = values > values[:1] * np.finfo(np.float32).eps
    return np.asarray(left[:, met] @ right[met])


def _turn(
    own: Sequence[np.ndarray], masks: Sequence[np.ndarray], start: int, iterations: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Alternate between turning each space to the consensus and averaging the turned spaces.

    A row counts in the consensus only through spaces that may use it.
    """
    consensus, known = own[start] * masks[start][:, None], masks[start].copy()
    rotations: list[np.ndarray] = []
    for _ in range(max(1, iterations)):
        rotations = []
        for rows, mask in zip(own, masks, strict=True):
            both = mask & known
            rotations.append(nearest_rotation(rows[both].T @ consensus[both]))
        count = np.sum(masks, axis=0)
        total = sum(
            (rows * mask[:, None]) @ turn for rows, mask, turn in zip(own, masks, rotations, strict=True)
        )
        consensus, known = np.asarray(total) / np.maximum(count, 1)[:, None], count > 0
    return rotations, consensus, known


def row_space(rows: np.ndarray) -> np.ndarray:
    """Principal directions (d, rank) that the rows span; dead and duplicate columns add none."""
    values, vectors = np.linalg.eigh(rows.T @ rows)
    values, vectors = values[::-1], vectors[:, ::-1]
    # Squared singular values of float32 activations below this are rounding.
    floor = max(values[0], 0.0) * (max(rows.shape) * np.finfo(np.float32).eps) ** 2
    n_kept = min(int(np.sum(values > max(floor, np.finfo(np.float64).tiny))), len(rows), MAX_RANK)
    return vectors[:, :n_kept]


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
    own = Space.of(rows, known)
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
