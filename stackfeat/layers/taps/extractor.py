"""A net together with its taps.

In:  a torch module, taps.
Out: `Extractor`: called, it returns the net's output and what the taps read; as a block, it collects what the
     net's own calls left.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Self

from torch import nn

from stackfeat.errors import UsageError
from stackfeat.layers.taps.hooks import Caught, tapped
from stackfeat.layers.taps.tap import Taps, resolve_taps


class Extractor(nn.Module):
    """Call a net and its taps at once; ``torchextractor.Extractor`` can be replaced by it.

    Parameters
    ----------
    model : nn.Module
        Stays as it is: no hook is left on it between calls, or after the block.
    taps : str, Tap, layer, sequence of them, or mapping from key to tap
        See `Tap`.
    detach : bool
        False keeps the values in the autograd graph.

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

    In a block the net is called as ever, by whoever calls it:

    >>> with Extractor(model, ["0"]) as extractor:
    ...     _ = model(torch.randn(5, 4))
    ...     caught = extractor.collect()
    >>> caught["0"].shape
    torch.Size([5, 3])
    """

    def __init__(self, model: nn.Module, taps: Taps, *, detach: bool = True) -> None:
        super().__init__()
        resolve_taps(model, taps)
        self.model = model
        self.taps = taps
        self.detach = detach
        self._block: ExitStack | None = None
        self._caught: Caught | None = None

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Caught]:
        """Return the output of the model, and clones by key."""
        with tapped(self.model, self.taps, detach=self.detach) as caught:
            output = self.model(*args, **kwargs)
        return output, caught

    def __enter__(self) -> Self:
        if self._block is not None:
            raise UsageError(
                "an Extractor must be entered once at a time; got a second `with`; make another one"
            )
        with ExitStack() as stack:
            self._caught = stack.enter_context(tapped(self.model, self.taps, detach=self.detach))
            self._caught.session.whole_only = True
            self._block = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.__exit__(*error)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle holds: no block, and nothing of what was caught."""
        return {**self.__dict__, "_block": None, "_caught": None}

    def collect(self) -> Caught:
        """Return what the last call of the net left, by key.

        Raises
        ------
        UsageError
            If no block was entered, or the net was not called in it.
        """
        if self._caught is None or not self._caught.session.n_passes:
            got = "no block" if self._caught is None else "no call of the net"
            raise UsageError(
                f"collect() must follow a call of the net within `with Extractor(...) as extractor:`; got {got}; "
                "call the net in the block, or extractor(x) for output and values at once"
            )
        return self._caught.copy()
