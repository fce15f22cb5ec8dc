"""Whether what a caller says about padding fits what his taps read.

In:  an examination, and the arguments of its dry run with the caller's mask or lengths among them.
Out: nothing, or an error: a mask that is used nowhere is a mistake, not a wish.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from stackfeat.errors import TapError
from stackfeat.nets.reading.examine import Examination
from stackfeat.nets.reading.layout import steps_axis
from stackfeat.nets.reading.masks import MASKED_POOLS, arguments, split_given, steps_of
from stackfeat.nets.taps.layers import unwrap


def check_given(
    model: nn.Module, examination: Examination, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Refuse a mask or lengths that do not go with the steps at the taps.

    Raises
    ------
    TapError
        Naming the tap and both numbers of steps; or if no tap is pooled over steps.
    """
    own, mask, lengths = split_given(kwargs)
    if mask is None and lengths is None:
        return
    known = {mask.shape[1]} if mask is not None else steps_of(arguments(unwrap(model), args, own))
    name = "mask" if mask is not None else "lengths"
    n_used = 0
    for read in examination.reads:
        finding = examination.findings[read.key]
        axis = steps_axis(finding.layout, finding.features_axis, finding.shape)
        if axis is None or read.tap.pool not in MASKED_POOLS:
            continue
        n_used += 1
        # A packed sequence is as long as its longest row, and says itself where each one ends.
        if finding.shape[axis] not in known and not finding.masked:
            steps = " or ".join(map(str, sorted(known)))
            raise TapError(
                f"{name} must be about the steps at every tap that is pooled over them; got {steps or 'no'} steps, "
                f"and {finding.shape[axis]} at tap {read.key!r}; give mask=(rows, {finding.shape[axis]}) in a "
                "call for that tap alone, or another pool there: Tap(..., pool='cls')"
            )
    if not n_used:
        raise TapError(
            f"{name} must be used at a tap; got only taps that are not pooled over steps "
            f"({', '.join(read.key for read in examination.reads)}); leave {name} away, or tap a sequence"
        )
