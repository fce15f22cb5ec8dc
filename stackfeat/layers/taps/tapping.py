"""Read activations inside a module while it runs.

In:  a torch module, and taps that say where to read.
Out: a dict from tap to a detached tensor, filled by the next forward pass.
     `Extractor` is a net that also returns what its taps read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from stackfeat.errors import LayerNotFoundError
from stackfeat.layers.taps.hooks import Collector, Fired, HookSession, combine, is_many, never_fired
from stackfeat.layers.taps.runtime import plain_transformers
from stackfeat.layers.taps.tap import Read, Tap, Taps, resolve_taps
from stackfeat.layers.taps.values import Leaf, copied, plain
from stackfeat.registry.resolve import suggest


class Caught(dict[str, Any]):
    """What the taps read, by key; a tap whose layer never ran is an error that says why.

    Values are tensors, or lists of tensors for ``#all``.
    """

    explain: Callable[[str], Exception]

    def __getitem__(self, key: str | Tap) -> Any:
        return super().__getitem__(str(key))

    def __missing__(self, key: str) -> Any:
        raise self.explain(key)


@contextmanager
def tapped(model: nn.Module, taps: Taps, *, detach: bool = True) -> Iterator[Caught]:
    """Collect activations at the taps for as long as the block lasts.

    Parameters
    ----------
    model : nn.Module
        Runs as it always does, but transformers without their fused path and compiled parts as
        they were written.
    taps : str, Tap, sequence of them, or mapping from key to tap
        See `Tap` and docs/taps.md.
    detach : bool
        False keeps the clones in the autograd graph, for losses on hidden layers.

    Yields
    ------
    dict of str to Tensor
        By the text as given, by ``str(tap)`` for a `Tap`, by layer for patterns and types: a
        detached clone of shape ``(n_rows, ...)``. Each forward pass replaces the values of the one
        before. ``#all`` gives a list unless the tap says how to combine.

    Raises
    ------
    LayerNotFoundError
        If a layer does not exist. Raised before any hook is set.
    TapError
        If a layer cannot be read, or, when a value is asked for, why it was not.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    >>> with tapped(model, ["0"]) as caught:
    ...     _ = model(torch.randn(2, 4))
    >>> caught["0"].shape
    torch.Size([2, 3])
    """
    with plain_transformers(), catching(model, resolve_taps(model, taps), detach=detach) as caught:
        yield caught


@contextmanager
def catching(model: nn.Module, reads: tuple[Read, ...], *, detach: bool = True) -> Iterator[Caught]:
    """Collect what `reads` mean; see `tapped`."""
    caught = Caught()
    collectors: dict[str, Collector[Any]] = {read.key: Collector(read.tap) for read in reads}

    def take(read: Read, fired: Fired, leaf: Leaf) -> None:
        collector = collectors[read.key]
        collector.add(fired, copied(plain(leaf)[0], detach=detach))
        if not is_many(read.tap):
            caught.update((read.key, value) for value in collector.values())
        elif read.tap.side == "grad" or not reading.is_running:
            settle(read)

    def settle(read: Read) -> None:
        values = collectors[read.key].values()
        if values and is_many(read.tap):
            is_list = read.tap.last is None and read.tap.combine is None
            caught[read.key] = values if is_list else combine(values, read.tap.combine, read.key)

    def restart() -> None:
        caught.clear()
        for collector in collectors.values():
            collector.clear()

    def finish() -> None:
        for read in reads:
            settle(read)

    reading = HookSession(model, reads, take, on_start=restart, on_end=finish)
    caught.explain = lambda key: explain(key, reads, reading)
    with reading:
        yield caught


def explain(key: str, reads: tuple[Read, ...], reading: HookSession) -> Exception:
    """Say why there is no value at `key`."""
    for read in reads:
        if read.key == key:
            return never_fired(read, reading)
    keys = [read.key for read in reads]
    return LayerNotFoundError(
        f"a key must be one of the taps; got key={key!r} of taps {', '.join(keys)}.{suggest(key, keys)}"
    )


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
