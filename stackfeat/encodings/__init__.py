"""Encodings: from the activations of one tap in K fold models to columns that may be stacked.

What belongs here keeps rows honest. Encodings within a fold's own space (`geometry`, `relative`, `raw`) use that
fold model alone; encodings across folds (`aligned`, `reference`) fit rigid maps (`procrustes`). `encoding` says what
all of them have in common. Flexible maps to another fold's space (ridge, CCA) are left out on purpose: they copy what
that fold learnt from held-out labels.
"""

from __future__ import annotations

from stackfeat.encodings.alignment import Aligned, Reference
from stackfeat.encodings.encoding import CrossFold, Encoding, PerFold, Raw
from stackfeat.encodings.geometry import Geometry
from stackfeat.encodings.procrustes import Alignment, align
from stackfeat.encodings.relative import Relative, anchor_rows, default_width

ENCODINGS: dict[str, type[Encoding]] = {
    encoding.name: encoding for encoding in (Geometry, Aligned, Reference, Relative, Raw)
}
PER_FOLD = {name: encoding for name, encoding in ENCODINGS.items() if issubclass(encoding, PerFold)}
CROSS_FOLD = {name: encoding for name, encoding in ENCODINGS.items() if issubclass(encoding, CrossFold)}

__all__ = ["Alignment", "Geometry", "Relative", "align", "anchor_rows", "default_width"]
