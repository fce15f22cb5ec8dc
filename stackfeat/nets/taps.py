"""Read activations inside a module while it runs.

In:  a torch module, and taps that say where to read.
Out: a dict from tap to a detached tensor, filled by the next forward pass.
"""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from stackfeat.errors import LayerNotFoundError, TapError

GRAMMAR = re.compile(
    r"(?P<layer>[^:\[\]#]+)(?::(?P<side>\w+))?(?:\[(?P<item>[^\]]+)\])?(?:#(?P<call>-?\d+|all))?"
)
Pool = Literal["auto", "none", "flatten", "mean", "max", "cls", "last"]


@dataclass(frozen=True)
class Tap:
    """One place to read.

    Attributes
    ----------
    layer : str
        Name of a layer, as in ``module.named_modules()``.
    side : {"output", "input"}
        What the layer returns, or what it is given.
    item : int or str, optional
        Which value of a tuple or dict; by default the first tensor.
    call : int
        Which call of a layer that runs several times in one forward pass; -1 is the last.
    pool : str
        How more than two dimensions become columns; see `stackfeat.nets.pooling`.

    Examples
    --------
    >>> Tap.parse("lstm[0]")
    Tap(layer='lstm', side='output', item=0, call=-1, pool='auto')
    >>> str(Tap("head", side="input"))
    'head:input'
    """

    layer: str
    side: Literal["output", "input"] = "output"
    item: int | str | None = None
    call: int = -1
    pool: Pool = "auto"

    @classmethod
    def parse(cls, text: str, *, pool: Pool = "auto") -> Tap:
        """Read ``name[:input][[item]][#call]``.

        Raises
        ------
        TapError
            If the text is no tap, or asks for something that is not built yet.
        """
        match = GRAMMAR.fullmatch(text)
        if match is None:
            raise TapError(
                f"a tap must look like 'layer', 'layer:input', 'layer[0]' or 'layer#0'; got tap={text!r}; "
                "name a layer of the net"
            )
        layer, side, item, call = match.group("layer", "side", "item", "call")
        if re.search(r"[*?]", layer) or side == "grad" or call == "all":
            raise TapError(
                f"wildcards, ':grad' and '#all' are not built yet; got tap={text!r}; name one layer"
            )
        if side not in (None, "input", "output"):
            raise TapError(f"a tap's side must be 'input' or 'output'; got tap={text!r}; try '{layer}:input'")
        return cls(
            layer=layer,
            side="input" if side == "input" else "output",
            item=int(item) if item is not None and re.fullmatch(r"-?\d+", item) else item,
            call=-1 if call is None else int(call),
            pool=pool,
        )

    def __str__(self) -> str:
        side = ":input" if self.side == "input" else ""
        item = "" if self.item is None else f"[{self.item}]"
        return f"{self.layer}{side}{item}{'' if self.call == -1 else f'#{self.call}'}"


class Caught(dict[str, Tensor]):
    """What the taps read; a tap whose layer never ran is an error that says so."""

    def __missing__(self, key: str) -> Tensor:
        raise TapError(
            f"the layer of tap {key!r} must be called (as often as the tap says) in a forward pass; "
            "got no call; "
            "layers used through their weights alone (such as self_attn.out_proj), containers and "
            "layers called by .forward() cannot be read: tap the layer around it"
        )


@contextmanager
def tapped(model: nn.Module, taps: Sequence[str | Tap]) -> Iterator[dict[str, Tensor]]:
    """Collect activations at the taps for as long as the block lasts.

    Yields
    ------
    dict of str to Tensor
        The tap as given (``str(tap)`` for a `Tap`) to a detached clone of shape ``(n_rows, ...)``;
        each forward pass replaces the values of the one before.

    Raises
    ------
    LayerNotFoundError
        If a layer does not exist. Raised before any hook is set.
    TapError
        If a layer cannot be read.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    >>> with tapped(model, ["0"]) as caught:
    ...     _ = model(torch.randn(2, 4))
    >>> caught["0"].shape
    torch.Size([2, 3])
    """
    parsed = {str(tap): Tap.parse(tap) if isinstance(tap, str) else tap for tap in taps}
    layers = {key: find_layer(model, tap.layer) for key, tap in parsed.items()}
    caught = Caught()
    readers = [Reader(key, tap, caught) for key, tap in parsed.items()]
    handles = [model.register_forward_pre_hook(lambda *_: restart(readers, caught))]
    try:
        handles += [reader.attach(layers[reader.key]) for reader in readers]
        yield caught
    finally:
        for handle in handles:
            handle.remove()


class Reader:
    """Copies what passes one tap into `caught`."""

    def __init__(self, key: str, tap: Tap, caught: dict[str, Tensor]) -> None:
        self.key = key
        self.tap = tap
        self.caught = caught
        self.n_calls = 0
        self.recent: deque[Tensor] = deque(maxlen=max(1, -tap.call))

    def attach(self, layer: nn.Module) -> RemovableHandle:
        if self.tap.side == "input":
            # A pre-hook: behind an in-place layer a forward hook would see its input overwritten.
            return layer.register_forward_pre_hook(self.read_input, with_kwargs=True)
        return layer.register_forward_hook(self.read_output)

    def read_input(self, _layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given: Any = kwargs if isinstance(self.tap.item, str) or not args else args
        self.read(given)

    def read_output(self, _layer: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        self.read(output)

    def read(self, value: Any) -> None:
        index = self.n_calls
        self.n_calls += 1
        if self.tap.call >= 0 and index != self.tap.call:
            return
        # A clone: a later in-place layer would overwrite a reference, or a detached view.
        self.recent.append(pick_tensor(value, self.tap).detach().clone())
        if self.tap.call >= 0 or len(self.recent) == -self.tap.call:
            self.caught[self.key] = self.recent[0]


def restart(readers: Sequence[Reader], caught: dict[str, Tensor]) -> None:
    """Forget the forward pass before."""
    caught.clear()
    for reader in readers:
        reader.n_calls = 0
        reader.recent.clear()


def pick_tensor(value: Any, tap: Tap) -> Tensor:
    """Return the tensor that `tap` means, nested tensors padded with zeros.

    Raises
    ------
    TapError
        If there is no tensor there.
    """
    if tap.item is None:
        picked = first_tensor(value)
    else:
        try:
            picked = value[tap.item]
        except (KeyError, IndexError, TypeError) as error:
            raise TapError(
                f"[{tap.item}] must exist in the {tap.side} of {tap.layer!r}; got {describe(value)}; "
                "correct the tap's [item]"
            ) from error
    if not isinstance(picked, Tensor):
        raise TapError(
            f"the {tap.side} of {tap.layer!r} must hold a tensor; got {describe(value)}; "
            "choose an [item] that is a tensor"
        )
    return torch.nested.to_padded_tensor(picked, 0.0) if picked.is_nested else picked


def first_tensor(value: Any) -> Any:
    """Return the first tensor in a tensor, tuple, list or dict, or None."""
    if isinstance(value, Tensor):
        return value
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next((found for part in values if (found := first_tensor(part)) is not None), None)


def describe(value: Any) -> str:
    if isinstance(value, dict):
        return f"a dict with keys {list(value)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {[type(part).__name__ for part in value]}"
    return type(value).__name__


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """Return every name a tap may have, other names of shared layers included."""
    return tuple(name for name, _ in model.named_modules(remove_duplicate=False) if name)


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """Return the layer called `name`.

    Raises
    ------
    LayerNotFoundError
        If there is none; names the nearest ones.
    TapError
        If hooks do not run there: compiled or scripted modules.
    """
    if hasattr(model, "_orig_mod"):
        raise TapError("the model must not be compiled: hooks do not run there; pass the module you compiled")
    layers = dict(model.named_modules(remove_duplicate=False))
    if name not in layers:
        near = difflib.get_close_matches(name, layers, n=3, cutoff=0.5)
        hint = (
            f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Layers: {', '.join(layers)[2:200]}"
        )
        raise LayerNotFoundError(
            f"a tap must name a layer of {type(model).__name__}; got layer={name!r}. {hint}"
        )
    if isinstance(layers[name], torch.jit.ScriptModule):
        raise TapError(
            f"a tapped layer must not be scripted; got layer={name!r}; tap the module before scripting"
        )
    layer: nn.Module = layers[name]
    return layer
