"""Taps: where a net is read, and reading it.

Belongs here: the grammar of taps, which layers a tap means, hooks, and what is caught. What is done
with the values (pooling, batches, files) is not.
"""

from stackfeat.layers.taps.layers import layer_names, unwrap
from stackfeat.layers.taps.marks import mark
from stackfeat.layers.taps.tap import Pool, Read, Tap, Taps, resolve_taps
from stackfeat.layers.taps.tapping import Caught, Extractor, tapped
from stackfeat.layers.taps.values import first_tensor

__all__ = [
    "Caught",
    "Extractor",
    "Pool",
    "Read",
    "Tap",
    "Taps",
    "first_tensor",
    "layer_names",
    "mark",
    "resolve_taps",
    "tapped",
    "unwrap",
]
