"""One estimator's fits put together: its out-of-fold rows, and views of later rows.

In:  the `FoldFit` of every fold, and of all rows.
Out: for the rows of `fit` one reading made without their labels; for other rows a reading by every
     fold's estimator, or by the refit, in the same columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.data.folds import Folds
from stackfeat.features.alignment import align_spaces, map_rows, usable_anchors
from stackfeat.features.encodings.added_space import add_space
from stackfeat.features.encodings.procrustes import Alignment
from stackfeat.nets.options import JOINT, TapOptions
from stackfeat.sklearn.emission import Emission, encodings_of
from stackfeat.sklearn.folding import ALL, FoldFit, KeptResults, Reading, read
from stackfeat.sklearn.rows import spread


@dataclass(frozen=True)
class Views:
    """Fits of one estimator over the folds.

    Attributes
    ----------
    name : str
    emission : Emission
    folds : Folds
    fits : tuple of FoldFit
        One for each fold.
    whole : FoldFit or None
        Fitted on all rows.
    alignments : dict of str to Alignment
        By part of a tap; spaces of all folds, then of the fit on all rows.
    n_classes : int or list of int
    """

    name: str
    emission: Emission
    folds: Folds
    fits: tuple[FoldFit, ...]
    whole: FoldFit | None
    alignments: Mapping[str, Alignment]
    n_classes: int | list[int]

    @classmethod
    def of(
        cls,
        name: str,
        emission: Emission,
        folds: Folds,
        results: KeptResults,
        n_classes: int | list[int],
    ) -> Views:
        """Collect the fits of one estimator, and align the spaces of its nets."""
        fits = tuple(results.values[f"{name}/{fold}"] for fold in range(folds.n_folds))
        whole = results.values.get(f"{name}/{ALL}")
        alignments = {
            part: _align(part, tap, fits, whole, folds)
            for tap in emission.taps
            if any(encoding in JOINT for encoding in tap.encode)
            for part in tap.parts
        }
        return cls(name, emission, folds, fits, whole, alignments, n_classes)

    def oof_prediction(self) -> tuple[Any, np.ndarray]:
        """Return the prediction of every row by estimators that did not see it, and the rows that have one."""
        parts = [_held_out(fit).prediction for fit in self.fits]
        if not isinstance(parts[0], list):
            return spread(self.folds, [np.asarray(part) for part in parts])
        labels = [spread(self.folds, [part[i] for part in parts]) for i in range(len(parts[0]))]
        return [values for values, _ in labels], labels[0][1]

    def oof_features(self) -> dict[str, np.ndarray]:
        """Return the encoded taps of every row, float32 (n_rows, n_columns), by output name."""
        by_fold = [self._features(_held_out(fit).columns, fold) for fold, fit in enumerate(self.fits)]
        return {
            name: spread(self.folds, [columns[name] for columns in by_fold])[0].astype(np.float32)
            for name in by_fold[0]
        }

    def view(self, fold: int, X: Any) -> Reading:
        """Return what one fold's estimator says of other rows; ``fold=-1`` is the fit on all rows."""
        fit = self.fits[fold] if fold >= 0 else self.whole
        assert fit is not None
        reading = read(fit.estimator, self.emission, fit.encoders, X, self.n_classes)
        return Reading(reading.prediction, self._features(reading.columns, fold))

    def _features(self, columns: Mapping[str, np.ndarray], fold: int) -> dict[str, np.ndarray]:
        space = fold if fold >= 0 else len(self.fits)
        return {
            f"{tap.key}@{encoding}": self._aligned(tap, columns, space)
            if encoding in JOINT
            else columns[f"{tap.key}@{encoding}"]
            for tap, encoding in encodings_of(self.emission)
        }

    def _aligned(self, tap: TapOptions, columns: Mapping[str, np.ndarray], space: int) -> np.ndarray:
        parts = []
        for part in tap.parts:
            nets = [columns[f"tap/{part}/{i}"] for i in range(_n_nets(columns, part))]
            parts.append(map_rows(self.alignments[part], space, nets))
        return parts[0] if len(parts) == 1 else np.hstack(parts)


def _held_out(fit: FoldFit) -> Reading:
    assert fit.held_out is not None
    return fit.held_out


def _n_nets(columns: Mapping[str, np.ndarray], part: str) -> int:
    return sum(name.rpartition("/")[0] == f"tap/{part}" for name in columns)


def _align(
    part: str, tap: TapOptions, fits: Sequence[FoldFit], whole: FoldFit | None, folds: Folds
) -> Alignment:
    """Bring the spaces of all folds together; the refit's is turned to them without changing them."""
    n_nets = _n_nets(fits[0].anchors, part)
    spaces = [fit.anchors[f"tap/{part}/{i}"] for fit in fits for i in range(n_nets)]
    usable = usable_anchors(folds, 0)
    target = spaces[0] if folds.is_time else None
    alignment = align_spaces(spaces, usable, target=target, reduce=tap.reduce, seed=0)
    if whole is None:
        return alignment
    masks = [mask for mask in usable for _ in range(n_nets)]
    for i in range(n_nets):
        alignment = add_space(alignment, spaces, masks, whole.anchors[f"tap/{part}/{i}"], target)
    return alignment
