"""Alignment of one tap over the folds: activations of K fold models brought to common columns.

In:  activations of anchors, stored or in memory; for `reference` also an untrained net's.
Out: maps, and what they measured; held-out rows and later rows go through the same maps to common columns.

Source of the method: generalised orthogonal Procrustes analysis (Gower 1975) on anchor rows whose
labels are never asked for. Maps are orthogonal, because flexible ones distil another fold's labels.
Where folds follow time nothing later than a fold shapes its map: every space is turned to that of the
earliest fold, whose own training rows give the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stackfeat.encodings.encoding import CrossFold, mean_over_nets
from stackfeat.encodings.procrustes import Alignment, add_space, align
from stackfeat.encodings.relative import default_width
from stackfeat.store import Entry, reading

ReadArray = Callable[[str], np.ndarray]
"""From a name such as ``tap/PART/NET`` to activations."""


def under(prefix: str, read: ReadArray) -> ReadArray:
    """Return a reader of what stands under a prefix."""
    return lambda name: read(f"{prefix}/{name}")


class Aligned(CrossFold):
    """Every space turned to the consensus of all; where folds follow time, to that of the earliest fold."""

    name: ClassVar[str] = "aligned"


class Reference(CrossFold):
    """Every space turned to that of the net before any training."""

    name: ClassVar[str] = "reference"
    needs_untrained: ClassVar[bool] = True


@dataclass(frozen=True)
class AlignmentReport:
    """What is stored beside the arrays of an alignment.

    Attributes
    ----------
    n_seeds : int
        Nets of each fold.
    maps : mapping of str to tuple of str
        Names of the arrays of each part of the tap.
    anchor_cosine, held_out_cosine : float or None
        Mean over parts: see `Alignment`.
    refit : int or None
        Position of the space of a refit behind those of the folds, where it was added.
    """

    n_anchors: int
    n_seeds: int
    n_columns: int
    maps: Mapping[str, tuple[str, ...]]
    anchor_cosine: float | None
    held_out_cosine: float | None
    refit: int | None = None


@dataclass(frozen=True)
class FoldSpaces:
    """Activations of the anchors in the nets that a member had in the folds of one repeat.

    Attributes
    ----------
    folds : sequence of callable
        For every fold: reads the anchors in its nets, ``tap/PART/NET``.
    n_nets : int
        Nets of a fold, which differ in their seeds.
    reference : callable or None
        Reads ``tap/PART`` of a net that all spaces are turned to.
    usable : list of ndarray of bool
        For every fold: which anchors its map is fitted on.
    is_time : bool
        Whether folds follow time; then all spaces are turned to that of the earliest fold.
    """

    folds: Sequence[ReadArray]
    n_nets: int
    reference: ReadArray | None
    usable: list[np.ndarray]
    is_time: bool

    def anchors(self, part: str) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Return the anchors in the space of every fold and net, and in that which all are turned to, if any."""
        spaces = [read(f"tap/{part}/{net}") for read in self.folds for net in range(self.n_nets)]
        if self.reference is not None:
            return spaces, self.reference(f"tap/{part}")
        return spaces, spaces[0] if self.is_time else None


def align_fold_spaces(
    spaces: FoldSpaces, parts: Sequence[str], reduce: int | None, seed: int
) -> dict[str, Alignment]:
    """Fit one map for each fold model (and seed).

    Parameters
    ----------
    parts : sequence of str
        A tap whose layers are encoded one by one has several parts; each is aligned alone, and their
        columns stand side by side.
    reduce, seed
        As in `align_spaces`.

    Returns
    -------
    dict of str to Alignment
        By part.
    """
    alignments = {}
    for part in parts:
        anchors, target = spaces.anchors(part)
        alignments[part] = align_spaces(anchors, spaces.usable, target=target, reduce=reduce, seed=seed)
    return alignments


def add_refit_space(
    spaces: FoldSpaces, alignments: Mapping[str, Alignment], refit: ReadArray
) -> dict[str, Alignment]:
    """Turn the space of a net refitted on all rows to the folds' common one, on the same anchors.

    Test rows alone go through this map: held-out rows keep the maps of their own fold models. The
    refit was trained on all anchors, so all of them that a fold knows are used, as each fold uses
    those it was trained on.

    Parameters
    ----------
    alignments : mapping of str to Alignment
        Of the folds.
    refit : callable
        Reads the anchors of the net that was fitted on all rows.

    Returns
    -------
    dict of str to Alignment
        With the refit's maps behind those of the folds, one for each seed.
    """
    masks = [mask for mask in spaces.usable for _ in range(spaces.n_nets)]
    joined = dict(alignments)
    for part in joined:
        anchors, target = spaces.anchors(part)
        for net in range(spaces.n_nets):
            joined[part] = add_space(joined[part], anchors, masks, refit(f"tap/{part}/{net}"), target)
    return joined


def alignment_report(
    spaces: FoldSpaces, alignments: Mapping[str, Alignment], *, has_refit: bool = False
) -> AlignmentReport:
    """Return how many anchors there were, and the cosine between folds on anchors left out of a trial."""
    fitted = list(alignments.values())
    return AlignmentReport(
        n_anchors=int(min(mask.sum() for mask in spaces.usable)),
        n_seeds=spaces.n_nets,
        n_columns=sum(alignment.n_columns for alignment in fitted),
        maps={part: tuple(sorted(alignment.arrays())) for part, alignment in alignments.items()},
        anchor_cosine=_mean([alignment.anchor_cosine for alignment in fitted]),
        held_out_cosine=_mean([alignment.held_out_cosine for alignment in fitted]),
        refit=len(spaces.folds) if has_refit else None,
    )


def report_of(entry: Entry) -> AlignmentReport:
    """Read the report of a stored alignment."""
    report: AlignmentReport = entry.structure("report", AlignmentReport)
    return report


def alignment_arrays(alignments: Mapping[str, Alignment]) -> dict[str, np.ndarray]:
    """Return the maps as arrays, ``map/PART/...``, that `load_alignments` reads with the names in the report."""
    return {
        f"map/{part}/{name}": values
        for part, alignment in alignments.items()
        for name, values in alignment.arrays().items()
    }


def align_spaces(
    spaces: Sequence[np.ndarray],
    usable: Sequence[np.ndarray],
    *,
    target: np.ndarray | None,
    reduce: int | None,
    seed: int,
) -> Alignment:
    """Fit one map for each space: those of fold 0's nets, then those of fold 1's, ...

    Parameters
    ----------
    spaces : sequence of float arrays of shape (n_anchors, d)
        The anchors in the space of every fold and net.
    usable : sequence of bool arrays of shape (n_anchors,)
        For every fold: the anchors that its map is fitted on.
    target, seed
        As in `align`.
    reduce : int or None
        Columns kept; by default as many as so many anchors align well.
    """
    n_nets = len(spaces) // len(usable)
    return align(
        spaces,
        reduce=reduce or default_width(int(min(mask.sum() for mask in usable))),
        usable=[mask for mask in usable for _ in range(n_nets)],
        target=target,
        seed=seed,
    )


def map_parts(alignments: Mapping[str, Alignment], space: int, n_nets: int, read: ReadArray) -> np.ndarray:
    """Return rows in the common columns, float32: every net's by its own map, which average, parts side by side.

    Parameters
    ----------
    space : int
        The fold whose nets gave the rows; behind the last fold that of the refit.
    read : callable
        Reads ``tap/PART/NET`` of the rows.
    """
    mapped = []
    for part, alignment in alignments.items():
        nets = [alignment.transform(space * n_nets + i, read(f"tap/{part}/{i}")) for i in range(n_nets)]
        mapped.append(mean_over_nets(nets))
    return np.hstack(mapped)


@dataclass(frozen=True)
class Maps:
    """A stored alignment, read: the maps of each part of a tap, and what they measured."""

    report: AlignmentReport
    alignments: Mapping[str, Alignment]

    @classmethod
    def of(cls, entry: Entry) -> Maps:
        """Read what `alignment_arrays` and `alignment_report` gave."""
        with reading(entry):
            return cls(report_of(entry), load_alignments(entry))

    def mapped(self, view: int | str, read: ReadArray) -> np.ndarray:
        """Return other rows' activations of one fold model, or of the refit, in the common columns, float32.

        Parameters
        ----------
        view : int or str
            The fold, or ``refit``.
        read : callable
            Reads ``tap/PART/NET`` of the rows.
        """
        space = self.report.refit if view == "refit" else int(view)
        assert space is not None
        return map_parts(self.alignments, space, self.report.n_seeds, read)


def load_alignments(entry: Entry) -> dict[str, Alignment]:
    """Read the maps of a stored alignment, by part of the tap."""
    with reading(entry):
        return {
            part: Alignment.from_arrays({name: entry.array(f"map/{part}/{name}") for name in names})
            for part, names in report_of(entry).maps.items()
        }


def _mean(values: list[float]) -> float | None:
    mean = float(np.mean(values))
    return None if np.isnan(mean) else mean
