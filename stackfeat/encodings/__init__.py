"""Encodings: from the activations of one tap in K fold models to columns that may be stacked.

What belongs here keeps rows honest. Encodings within a fold's own space (`geometry`, `relative`,
`raw`) use that fold model alone; encodings between spaces (`aligned`, `reference`) fit rigid maps
(`procrustes`). `family` is the table of them and what they have in common. Flexible maps to another
fold's space (ridge, CCA) are left out on purpose: they copy what that fold learnt from held-out labels.
"""

from __future__ import annotations

from stackfeat.encodings.geometry import Geometry
from stackfeat.encodings.procrustes import Alignment, align
from stackfeat.encodings.relative import Relative, anchor_rows, default_width

__all__ = ["Alignment", "Geometry", "Relative", "align", "anchor_rows", "default_width"]
