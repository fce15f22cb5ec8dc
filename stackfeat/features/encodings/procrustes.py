"""Generalised orthogonal Procrustes: turn K fold spaces so that they agree on anchor rows.

In:  each fold model's embedding of the same anchor rows.
Out: an `Alignment`, which maps rows of any of the spaces to common columns. Only a shift, one
     scale and an orthogonal map are fitted: they cannot build another fold's directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
        Principal directions of the consensus, orthonormal columns.
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
        return np.asarray((rows - centre) @ whole, dtype=np.float32)

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
    reference: int | None = None,
    seed: int = 0,
) -> Alignment:
    """Fit one orthogonal map for each space.

    Parameters
    ----------
    anchors : list of float arrays of shape (m, d_k)
        The same rows seen by each fold model; their labels are never asked for.
    iterations : int, default 5
        Rounds of mapping to the consensus and averaging.
    reduce : int, optional
        Keep this many principal directions of the consensus.
    usable : list of bool arrays of shape (m,), optional
        Rows that space k may be fitted on. Needed where anchors are training rows: those
        that fold model k was trained on, so that its held-out rows shape nothing of space k.
    reference : int, optional
        The space the others are first turned to; default: the first of the highest rank.
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
    m = len(spaces[0])
    anchor_cosine = held_out_cosine = float("nan")
    if m >= 10:
        held_out = np.zeros(m, dtype=bool)
        held_out[np.random.default_rng(seed).permutation(m)[: m // 5]] = True
        trial = _fit(spaces, [mask & ~held_out for mask in masks], iterations, reduce, reference)
        anchor_cosine = mean_cosine(trial, spaces, [mask & ~held_out for mask in masks])
        held_out_cosine = mean_cosine(trial, spaces, [mask & held_out for mask in masks])
    whole = _fit(spaces, masks, iterations, reduce, reference)
    return Alignment(
        whole.centres, whole.scales, whole.maps, whole.directions, anchor_cosine, held_out_cosine
    )


def mean_cosine(alignment: Alignment, spaces: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float:
    """Mean cosine between two spaces' maps of the same row, over pairs of spaces and their common rows."""
    n_rows = len(spaces[0])
    total, count = np.zeros((n_rows, alignment.n_columns)), np.zeros(n_rows)
    own = np.zeros(n_rows)
    for space, (rows, mask) in enumerate(zip(spaces, masks, strict=True)):
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


def _fit(
    spaces: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    iterations: int,
    reduce: int | None,
    reference: int | None,
) -> Alignment:
    """Fit maps without measuring them."""
    centres = tuple(rows[mask].mean(axis=0) for rows, mask in zip(spaces, masks, strict=True))
    centred = [rows - centre for rows, centre in zip(spaces, centres, strict=True)]
    norms = [
        np.sqrt(np.mean(np.sum(rows[mask] ** 2, axis=1))) for rows, mask in zip(centred, masks, strict=True)
    ]
    scales = tuple(float(norm) if norm > 0 else 1.0 for norm in norms)
    bases = [row_space(rows[mask] / s) for rows, mask, s in zip(centred, masks, scales, strict=True)]
    ranks = [basis.shape[1] for basis in bases]
    rank = max([*ranks, 1])
    start = int(np.argmax(ranks)) if reference is None else reference
    # Each space in its own principal coordinates, filled up with zeros to the common rank.
    own = [
        np.pad(rows @ basis / s, ((0, 0), (0, rank - basis.shape[1])))
        for rows, basis, s in zip(centred, bases, scales, strict=True)
    ]
    rotations, consensus, known = _turn(own, masks, start, iterations)
    maps = tuple(basis @ turn[: basis.shape[1]] for basis, turn in zip(bases, rotations, strict=True))
    directions = _principal(consensus[known])
    return Alignment(centres, scales, maps, directions[:, : min(reduce or rank, rank)])


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
            left, _values, right = np.linalg.svd(rows[both].T @ consensus[both])
            rotations.append(left @ right)
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


def _principal(rows: np.ndarray) -> np.ndarray:
    """All principal directions (r, r) of the rows, widest first."""
    centred = rows - rows.mean(axis=0)
    return np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
