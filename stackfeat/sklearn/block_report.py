"""What the outputs of an estimator give away: the pipeline's diagnostics of a block, in memory.

In:  out-of-fold columns by output name, the fits behind them.
Out: a dict of numbers for each output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stackfeat.features.alignment import usable_anchors
from stackfeat.features.diagnostics import BlockDiagnostics, block_warnings, fold_id_accuracy
from stackfeat.nets.options import TapOptions
from stackfeat.sklearn.emission import encodings_of
from stackfeat.sklearn.rows import first_fold_of
from stackfeat.sklearn.views import Views


def diagnose_outputs(outputs: Mapping[str, np.ndarray], views: Views) -> dict[str, dict[str, Any]]:
    """Measure each feature output; predictions are no feature block and are left out.

    Returns
    -------
    dict of str to dict
        As `BlockDiagnostics.to_json`, and ``warnings``: what is past its threshold.
    """
    fold_of = first_fold_of(views.folds)
    found = {}
    for tap, encoding in encodings_of(views.emission):
        name = f"{tap.key}@{encoding}"
        values = outputs[name]
        measured = BlockDiagnostics(
            name=name,
            n_folds=views.folds.n_folds,
            fold_id=fold_id_accuracy(values, fold_of, 0),
            **_alignment_report(tap, views, values) if encoding == "aligned" else {},
        )
        found[name] = {**measured.to_json(), "warnings": list(measured.warnings())}
    return found


def _alignment_report(tap: TapOptions, views: Views, values: np.ndarray) -> dict[str, Any]:
    alignments = [views.alignments[part] for part in tap.parts]
    return {
        "anchor_cosine": float(np.mean([alignment.anchor_cosine for alignment in alignments])),
        "held_out_cosine": float(np.mean([alignment.held_out_cosine for alignment in alignments])),
        "n_anchors": int(min(mask.sum() for mask in usable_anchors(views.folds, 0))),
        "width": values.shape[1],
    }


def warnings_of(diagnostics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each encoding with outputs past a threshold, with its remedy."""
    return block_warnings({name: found["warnings"] for name, found in diagnostics.items()})
