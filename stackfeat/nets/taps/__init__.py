"""Taps: where a net is read, and reading it.

Belongs here: the grammar of taps, which layers a tap means, hooks, and what is caught. What is done
with the values (pooling, batches, files) is not.
"""

from stackfeat.nets.taps.extractor import Extractor
from stackfeat.nets.taps.layers import layer_names, unwrap
from stackfeat.nets.taps.marking import mark
from stackfeat.nets.taps.resolve import Read, Taps, resolve_taps
from stackfeat.nets.taps.tap import Pool, Tap
from stackfeat.nets.taps.tapping import Caught, tapped
from stackfeat.nets.taps.values import first_tensor

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
