"""Keep what a tap asks for out of all that passes it.

In:  values in the order in which they come.
Out: one value, all of them, or the last K combined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from stackfeat.errors import TapError
from stackfeat.nets.taps.reading import Fired
from stackfeat.nets.taps.tap import Combine, Tap

Value = TypeVar("Value")


class Collector(Generic[Value]):
    """The values of one tap in one forward pass; it holds no more of them than are asked for."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.held: dict[tuple[str, int], tuple[int, Value]] = {}

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


def combine(values: Sequence[Tensor], how: Combine | None, key: str) -> Tensor:
    """Make one tensor of several.

    ``concat``: side by side in the last dimension, or the channels of images; ``mean``; ``stack``: in
    a new dimension 1, so that rows stay in front.

    Raises
    ------
    TapError
        If the shapes do not allow it.
    """
    axis = 1 if values[0].ndim >= 4 else -1
    try:
        if how == "stack":
            return torch.stack(list(values), dim=min(1, values[0].ndim))
        if how == "mean":
            return torch.stack(list(values)).mean(0)
        return torch.cat(list(values), dim=axis)
    except RuntimeError as error:
        shapes = [tuple(value.shape) for value in values]
        raise TapError(
            f"values that are combined must have fitting shapes; got shapes={shapes} at tap {key!r}; "
            "tap these layers one by one, or pool them"
        ) from error
