"""Alignment of one tap over the folds: activations of K fold models brought to common columns.

In:  stored activations of held-out rows and of anchors; for `reference` also an untrained net's.
Out: OOF rows by fold in common columns, and the maps; later rows go through the same maps.

Source of the method: generalised orthogonal Procrustes analysis (Gower 1975) on anchor rows whose
labels are never asked for. Maps are orthogonal, because flexible ones distil another fold's labels.
Where folds follow time nothing later than a fold shapes its map: every space is turned to that of the
earliest fold, whose own training rows give the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.encodings.encoder import mean_over_nets
from stackfeat.encodings.procrustes import Alignment, add_space, align
from stackfeat.encodings.relative import default_width
from stackfeat.store import Entry, reading
from stackfeat.structure import checked


@dataclass(frozen=True)
class FoldSpaces:
    """Stored activations of the nets that a member had in the folds of one repeat.

    Attributes
    ----------
    fits : sequence of Entry
        For every fold: activations of its held-out rows, and of the anchors.
    n_nets : int
        Nets in each of the fits, which differ in their seeds.
    reference : Entry or None
        Activations of the anchors in a net that all spaces are turned to.
    usable : list of ndarray of bool
        For every fold: which anchors its map is fitted on.
    is_time : bool
        Whether folds follow time; then all spaces are turned to that of the earliest fold.
    """

    fits: Sequence[Entry]
    n_nets: int
    reference: Entry | None
    usable: list[np.ndarray]
    is_time: bool

    def anchors(self, part: str) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Return the anchors in the space of every fold and net, and in that which all are turned to, if any."""
        spaces = [fit.array(f"anchor/tap/{part}/{net}") for fit in self.fits for net in range(self.n_nets)]
        if self.reference is not None:
            return spaces, self.reference.array(f"tap/{part}")
        return spaces, spaces[0] if self.is_time else None


def align_fold_spaces(
    spaces: FoldSpaces, parts: Sequence[str], reduce: int | None, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fit one map for each fold model (and seed) and apply it to that fold's held-out rows.

    Parameters
    ----------
    parts : sequence of str
        A tap whose layers are encoded one by one has several parts; each is aligned alone, and their
        columns stand side by side.
    reduce, seed
        As in `align_spaces`.

    Returns
    -------
    arrays : dict
        ``oof/K``: float32 (n_rows of fold K, n_columns); ``map/PART/...``: the fitted alignments.
    report : dict
        How many anchors there were, and the cosine between folds on anchors left out of a trial.
    """
    usable, nets = spaces.usable, range(spaces.n_nets)
    alignments: dict[str, Alignment] = {}
    arrays: dict[str, np.ndarray] = {}
    for part in parts:
        anchors, target = spaces.anchors(part)
        alignments[part] = align_spaces(anchors, usable, target=target, reduce=reduce, seed=seed)
        arrays |= {f"map/{part}/{name}": values for name, values in alignments[part].arrays().items()}
    for fold, fit in enumerate(spaces.fits):
        mapped = [
            map_rows(alignment, fold, [fit.array(f"oof/tap/{part}/{net}") for net in nets])
            for part, alignment in alignments.items()
        ]
        arrays[f"oof/{fold}"] = _side_by_side(mapped)
    report = {
        "n_anchors": int(min(mask.sum() for mask in usable)),
        "n_seeds": spaces.n_nets,
        "n_columns": sum(alignment.n_columns for alignment in alignments.values()),
        "maps": {part: sorted(alignment.arrays()) for part, alignment in alignments.items()},
        "anchor_cosine": _mean([alignment.anchor_cosine for alignment in alignments.values()]),
        "held_out_cosine": _mean([alignment.held_out_cosine for alignment in alignments.values()]),
    }
    return arrays, report


def add_refit_space(
    spaces: FoldSpaces, entry: Entry, refit: Entry
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Turn the space of a net refitted on all rows to the folds' common one, on the same anchors.

    Test rows alone go through this map: held-out rows keep the maps of their own fold models. The
    refit was trained on all anchors, so all of them that a fold knows are used, as each fold uses
    those it was trained on.

    Parameters
    ----------
    entry : Entry
        The alignment of the folds.
    refit : Entry
        Of the net that was fitted on all rows.

    Returns
    -------
    arrays : dict
        ``map/PART/...``: the alignment of the folds, and behind them the refit's maps, one for each seed.
    report : dict
        That of the folds' alignment; ``refit`` is the position of the refit behind the folds.
    """
    report = entry.structure("report", dict[str, Any])
    masks = [mask for mask in spaces.usable for _ in range(spaces.n_nets)]
    arrays: dict[str, np.ndarray] = {}
    maps: dict[str, list[str]] = {}
    for part, alignment in load_alignments(entry).items():
        anchors, target = spaces.anchors(part)
        joined = alignment
        for net in range(spaces.n_nets):
            joined = add_space(joined, anchors, masks, refit.array(f"anchor/tap/{part}/{net}"), target)
        named = joined.arrays()
        maps[part] = sorted(named)
        arrays |= {f"map/{part}/{name}": values for name, values in named.items()}
    return arrays, {**report, "refit": len(spaces.fits), "maps": maps}


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


def map_activations(entry: Entry, emitted: Entry, view: int | str) -> np.ndarray:
    """Return other rows' activations of one fold model, or of the refit, in the common columns, float32.

    Parameters
    ----------
    entry : Entry
        The alignment.
    emitted : Entry
        The activations.
    view : int or str
        The fold, or ``refit``.
    """
    with reading(entry):
        report = entry.structure("report", dict[str, Any])
        space = int(report["refit"] if view == "refit" else view)
        seeds = range(report["n_seeds"])
        return _side_by_side(
            [
                map_rows(alignment, space, [emitted.array(f"view{view}/tap/{part}/{seed}") for seed in seeds])
                for part, alignment in load_alignments(entry).items()
            ]
        )


def load_alignments(entry: Entry) -> dict[str, Alignment]:
    """Read the maps of a stored alignment, by part of the tap."""
    with reading(entry):
        maps = checked(dict[str, tuple[str, ...]], entry.json("report")["maps"], "report.json.maps")
        return {
            part: Alignment.from_arrays({name: entry.array(f"map/{part}/{name}") for name in names})
            for part, names in maps.items()
        }


def map_rows(alignment: Alignment, fold: int, values: list[np.ndarray]) -> np.ndarray:
    """Map every seed's activations by its own map; seeds share the common columns, so they average."""
    n_seeds = len(values)
    return mean_over_nets(
        [alignment.transform(fold * n_seeds + seed, rows) for seed, rows in enumerate(values)]
    )


def _side_by_side(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.hstack(parts)


def _mean(values: list[float]) -> float | None:
    mean = float(np.mean(values))
    return None if np.isnan(mean) else mean
