"""Of all the values that pass at a tap, those that it asks for.

In:  values one by one, with the call that each belongs to.
Out: what a tap means of them, and which taps have no value yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.layers.taps.tap import Combine, Read, Tap, from_the_end, parse_tap


@dataclass(frozen=True, slots=True)
class Fired:
    """One call of a layer: its name, which call of it, which of all calls heard in this pass."""

    layer: str
    call: int
    sequence: int


Value = TypeVar("Value")


@dataclass
class Collector(Generic[Value]):
    """The values of one tap in one forward pass; it holds no more of them than are asked for."""

    tap: Tap
    held: dict[tuple[str, int], tuple[int, Value]] = field(default_factory=dict)

    def clear(self) -> None:
        self.held.clear()

    def add(self, fired: Fired, value: Value) -> None:
        """Hold a value, and let go of those that it replaces.

        The order is that of the forward pass: gradients come the other way round.
        """
        is_one = self.tap.call == -1 or (self.tap.call != "all" and self.tap.call >= 0)
        key = (fired.layer, -1 if is_one else fired.call)
        if key in self.held and self.held[key][0] > fired.sequence:
            return
        self.held[key] = (fired.sequence, value)
        limit = self.limit
        if limit is not None and len(self.held) > limit:
            del self.held[min(self.held, key=lambda key: self.held[key][0])]

    @property
    def limit(self) -> int | None:
        """How many values are asked for, at most."""
        if self.tap.last is not None:
            return self.tap.last
        if self.tap.call == "all":
            return None
        return max(1, -self.tap.call)

    def values(self) -> list[Value]:
        """Return what is held, first call first; nothing where the layer ran too rarely."""
        ordered = [value for _, value in sorted(self.held.values(), key=lambda pair: pair[0])]
        if self.tap.last is not None or self.tap.call == "all":
            return ordered
        if self.tap.side == "grad":
            return ordered[-1:]
        return ordered[:1] if len(ordered) == self.limit else []


def is_many(tap: Tap) -> bool:
    """Whether a tap asks for several values."""
    return tap.last is not None or tap.call == "all"


def combine(values: Sequence[Tensor], how: Combine | None, key: str, axis: int | None = None) -> Tensor:
    """Make one tensor of several.

    ``concat``: side by side in `axis`, by default the last one, or the channels of images; ``mean``;
    ``stack``: in a new dimension 1, so that rows stay in front.

    Raises
    ------
    TapError
        If the shapes do not allow it.
    """
    if axis is None:
        axis = 1 if values[0].ndim >= 4 else -1
    try:
        if how == "stack":
            return torch.stack(list(values), dim=min(1, values[0].ndim))
        return torch.stack(list(values)).mean(0) if how == "mean" else torch.cat(list(values), dim=axis)
    except RuntimeError as error:
        shapes = [tuple(value.shape) for value in values]
        raise TapError(
            f"values that are combined must have fitting shapes; got shapes={shapes} at tap {key!r}; "
            "tap these layers one by one, or pool them"
        ) from error


class Missing:
    """The taps that have no value yet in this pass.

    Parameters
    ----------
    model : nn.Module
    reads : sequence of Read
    places : sequence of str or Tap
        The same taps as they were written.

    Raises
    ------
    TapError
        If only the end of a pass could say which value a tap means.
    """

    def __init__(self, model: nn.Module, reads: Sequence[Read], places: Sequence[str | Tap]) -> None:
        self.reads = reads
        self.restart()
        for place in places:
            tap = parse_tap(model, place) if isinstance(place, str) else place
            if tap.side == "grad" or is_many(tap) or from_the_end(place, tap):
                raise TapError(
                    f"with stop=True a tap must mean one call that is known when it comes; got tap={str(place)!r}; "
                    "name a call, such as #0, or leave stop away"
                )

    def restart(self) -> None:
        self.left = set(self.reads)

    def is_last(self, read: Read, call: int) -> bool:
        """Note that a call was read; say whether it was the last that is wanted."""
        if read.tap.call in (-1, call):
            self.left.discard(read)
        return not self.left
