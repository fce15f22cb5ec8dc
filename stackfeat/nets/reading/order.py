"""Which layers a pattern means, in the order in which they run.

In:  a module, a tap with wildcards or a type, a few rows.
Out: a tap for each layer that ran, without wildcards; layers of the pattern that never run are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.nets.runtime import evaluating, plain_transformers
from stackfeat.nets.taps import Tap, resolve_taps
from stackfeat.nets.taps.reading import Fired, Reading
from stackfeat.nets.taps.resolve import Read
from stackfeat.nets.taps.values import Leaf


def layers_in_order(module: nn.Module, tap: Tap, inputs: Sequence[Tensor]) -> tuple[Tap, ...]:
    """Return the tap of every matching layer, by its last call in one forward pass.

    Parameters
    ----------
    module : nn.Module
    tap : Tap
    inputs : sequence of Tensor
        Arguments of ``forward``: a few rows.

    Raises
    ------
    LayerNotFoundError
        If nothing matches.
    TapError
        If no matching layer runs.
    """
    reads = resolve_taps(module, [replace(tap, last=None, combine=None)])
    last_call: dict[str, int] = {}

    def note(read: Read, fired: Fired, leaf: Leaf) -> None:
        last_call[read.key] = fired.sequence

    with evaluating(module), torch.no_grad(), plain_transformers(), Reading(module, reads, note):
        module(*inputs)
    found = {read.key: read.tap for read in reads if read.key in last_call}
    if not found:
        names = ", ".join(read.key for read in reads[:4])
        raise TapError(
            f"a tapped layer must be one that runs; got tap={str(tap)!r}, and none of {names} does"
        )
    return tuple(found[key] for key in sorted(found, key=lambda key: last_call[key]))
