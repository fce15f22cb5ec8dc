"""A net that also returns what its taps read.

In:  a module and taps, then inputs of the module.
Out: the module's output, and a dict from tap to tensor.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from stackfeat.nets.runtime import plain_transformers
from stackfeat.nets.taps.resolve import Taps, resolve_taps
from stackfeat.nets.taps.tapping import Caught, catching


class Extractor(nn.Module):
    """Call a net and its taps at once; ``torchextractor.Extractor`` can be replaced by it.

    Parameters
    ----------
    model : nn.Module
        Stays as it is: no hook is left on it between calls.
    taps : str, Tap, sequence of them, or mapping from key to tap
        See `Tap`.

    Raises
    ------
    LayerNotFoundError, TapError
        If a tap cannot be read.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    >>> output, caught = Extractor(model, ["0"])(torch.randn(2, 4))
    >>> caught["0"].shape
    torch.Size([2, 3])
    """

    def __init__(self, model: nn.Module, taps: Taps) -> None:
        super().__init__()
        resolve_taps(model, taps)
        self.model = model
        self.taps = taps

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Caught]:
        """Return the output of the model, and detached clones by key."""
        reads = resolve_taps(self.model, self.taps)
        with plain_transformers(), catching(self.model, reads) as caught:
            output = self.model(*args, **kwargs)
        return output, caught
