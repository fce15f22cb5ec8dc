"""Encodings: from the activations of one tap in K fold models to columns that may be stacked.

What belongs here keeps rows honest: statistics of a row within its own fold's embedding
(`geometry`) and rigid maps between folds (`procrustes`). Flexible maps to another fold's
space (ridge, CCA) are left out on purpose: they copy what that fold learnt from held-out labels.
"""

from __future__ import annotations

from stackfeat.features.encodings.anchors import Anchors, anchor_rows, choose_anchors
from stackfeat.features.encodings.geometry import Geometry
from stackfeat.features.encodings.procrustes import Alignment, align

__all__ = ["Alignment", "Anchors", "Geometry", "align", "anchor_rows", "choose_anchors"]
