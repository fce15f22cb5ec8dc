"""A moving average of the weights: after every step, of everything a step changes.

In:  a module in training, the tensors its optimizer updates, a decay.
Out: the averages, swapped in to validate and at the end. Polyak and Juditsky (1992); the decay is
     smaller in the first steps, as in most libraries, so that the random start is soon forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages of parameters and of floating-point buffers, such as BatchNorm's statistics."""

    def __init__(self, module: nn.Module, parameters: Sequence[Tensor], decay: float) -> None:
        self.decay = decay
        self.current = [*parameters, *(b for b in module.buffers() if b.is_floating_point())]
        self.averages = [values.clone() for values in self.current]

    def update(self, step: int) -> None:
        """Take in the weights after step number `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, self.current, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the module be the average for as long as the block lasts."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        """Exchange weights and averages."""
        for current, average in zip(self.current, self.averages, strict=True):
            kept = current.clone()
            current.copy_(average)
            average.copy_(kept)

    def state(self) -> dict[str, Tensor]:
        return {str(i): values for i, values in enumerate(self.averages)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name, values in self.state().items():
            values.copy_(state[name])
