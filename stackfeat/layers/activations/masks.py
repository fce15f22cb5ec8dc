"""Which steps of padded sequences are real.

In:  a net that runs: its own arguments, the padding masks that its layers get, packed sequences; or
     what the caller says himself.
Out: a mask (n_rows, n_steps) for the values of a layer, True where a step is real, or None.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from stackfeat.layers.taps.layers import canonical_names, named_layers
from stackfeat.layers.taps.values import plain

MASKED_LAYERS = {
    nn.Transformer: "tgt_key_padding_mask",
    nn.TransformerEncoder: "src_key_padding_mask",
    nn.TransformerEncoderLayer: "src_key_padding_mask",
    nn.TransformerDecoder: "tgt_key_padding_mask",
    nn.TransformerDecoderLayer: "tgt_key_padding_mask",
    nn.MultiheadAttention: "key_padding_mask",
}
"""Layers that get a padding mask, and the argument with the mask of what they return."""
DECODERS = (nn.Transformer, nn.TransformerDecoder, nn.TransformerDecoderLayer)
PADDING_ARGUMENTS = ("key_padding_mask", "src_key_padding_mask", "padding_mask", "pad_mask")
KEEP_ARGUMENTS = ("attention_mask",)
LENGTH_ARGUMENTS = ("lengths", "seq_lengths", "seq_lens", "x_lengths", "lens")
TOLD = frozenset((*PADDING_ARGUMENTS, *KEEP_ARGUMENTS, *LENGTH_ARGUMENTS))
"""Arguments of any module of one's own that tell which steps are real."""
MASKED_POOLS = ("auto", "mean", "max", "last")
"""Ways of pooling that ask which steps are real."""
GIVEN_MASK, GIVEN_LENGTHS = "<mask>", "<lengths>"
"""Names under which a caller's own mask travels with the arguments: no argument can be called so."""


@dataclass(frozen=True)
class Seen:
    """A mask met in a forward pass, and the layer that got it ("" for the net itself).

    None: the layer was told that all its steps are real.
    """

    owner: str
    keep: Tensor | None

    def fits(self, n_rows: int, n_steps: int) -> bool:
        return self.keep is None or tuple(self.keep.shape) == (n_rows, n_steps)


class MaskWatch:
    """The padding masks of the pass under way."""

    def __init__(self, model: nn.Module, on_seen: Callable[[], None] | None = None) -> None:
        self.model = model
        self.on_seen = on_seen
        self.seen: list[Seen] = []
        self.lengths: list[tuple[Tensor, set[int]]] = []
        self.given: Tensor | None = None
        self.given_lengths: list[tuple[Tensor, set[int]]] = []

    def attach(self, stack: ExitStack) -> None:
        """Hook the layers that get masks, until `stack` is closed."""
        layers = named_layers(self.model)
        first = canonical_names(layers)
        for name, layer in layers.items():
            if first[id(layer)] != name or not name or not tells(layer):
                continue

            def before(
                part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = name
            ) -> None:
                self.on_layer(name, part, args, kwargs)
                if self.on_seen is not None:
                    self.on_seen()

            stack.callback(layer.register_forward_pre_hook(before, with_kwargs=True).remove)

    def restart(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        mask: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> None:
        """Forget the pass before; look at the arguments of the net."""
        self.seen.clear()
        self.lengths.clear()
        self.given = None if mask is None else mask.bool()
        named = arguments(self.model, args, kwargs)
        self.given_lengths.clear()
        if lengths is not None:
            self.given_lengths.append((lengths, {*steps_of(named), int(lengths.max())}))
        if isinstance(self.model, (*MASKED_LAYERS, nn.RNNBase)):
            self.on_layer("", self.model, args, kwargs)
        else:
            self.read_names("", named)

    def read_names(self, owner: str, named: Mapping[str, Any]) -> None:
        """Take masks and lengths from arguments whose names say what they are."""
        for name, value in named.items():
            if name not in TOLD or not isinstance(value, Tensor):
                continue
            if name in LENGTH_ARGUMENTS:
                if value.ndim == 1 and not value.is_floating_point():
                    self.lengths.append((value, steps_of(named)))
            elif (flat := without_heads(value)) is not None:
                self.seen.append(
                    Seen(owner, keep_of(flat) if name in PADDING_ARGUMENTS else kept_by_attention(flat))
                )

    def on_layer(self, name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        named = arguments(layer, args, kwargs)
        if isinstance(layer, nn.RNNBase):
            packed = named.get("input")
            if isinstance(packed, PackedSequence):
                lengths = plain(packed)[1]
                if lengths is not None:
                    self.lengths.append((lengths, {int(lengths.max())}))
            return
        kind = next((kind for kind in MASKED_LAYERS if isinstance(layer, kind)), None)
        if kind is None:
            self.read_names(name, named)
            return
        if kind is nn.MultiheadAttention and named.get("query") is not named.get("key"):
            return  # cross-attention: the mask is about the other sequence
        mask = named.get(MASKED_LAYERS[kind])
        if isinstance(mask, Tensor) and mask.ndim == 2:
            self.seen.append(Seen(name, keep_of(mask)))
        elif isinstance(layer, DECODERS):
            self.seen.append(Seen(name, None))  # the mask of the other sequence must not be taken for its own

    def find(self, layer: str, n_rows: int, n_steps: int) -> Tensor | None:
        """Return the mask for values of `layer`: the caller's, else of the nearest layer around, else the first."""
        if self.given is not None and tuple(self.given.shape) == (n_rows, n_steps):
            return self.given
        if (counted := mask_of_lengths(self.given_lengths, n_rows, n_steps)) is not None:
            return counted
        fitting = [seen for seen in self.seen if seen.fits(n_rows, n_steps)]
        around = [seen for seen in fitting if seen.owner and f"{layer}.".startswith(f"{seen.owner}.")]
        if around:
            return max(around, key=lambda seen: len(seen.owner)).keep
        told = [seen.keep for seen in fitting if seen.keep is not None]
        if told:
            return told[0]
        return mask_of_lengths(self.lengths, n_rows, n_steps)


def mask_of_lengths(known: list[tuple[Tensor, set[int]]], n_rows: int, n_steps: int) -> Tensor | None:
    """Return the mask by the first lengths that go with sequences of so many steps."""
    for lengths, steps in known:
        if len(lengths) == n_rows and n_steps in steps and int(lengths.max()) <= n_steps:
            return torch.arange(n_steps, device=lengths.device)[None] < lengths[:, None]
    return None


def split_given(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], Tensor | None, Tensor | None]:
    """Return the arguments of the net alone, the caller's mask, the caller's lengths."""
    own = {name: value for name, value in kwargs.items() if name not in (GIVEN_MASK, GIVEN_LENGTHS)}
    return own, kwargs.get(GIVEN_MASK), kwargs.get(GIVEN_LENGTHS)


def tells(layer: nn.Module) -> bool:
    """Whether a layer's arguments may say which steps are real."""
    if isinstance(layer, (*MASKED_LAYERS, nn.RNNBase)):
        return True
    if isinstance(layer, torch.jit.ScriptModule):
        return False  # hooks do not run there
    if "forward" in vars(layer):
        return bool(TOLD & parameter_names(layer.forward))
    return bool(TOLD & parameter_names(cast(Any, type(layer)).forward))


@lru_cache(maxsize=1024)
def parameter_names(forward: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(forward).parameters)
    except (TypeError, ValueError):
        return frozenset()


def without_heads(mask: Tensor) -> Tensor | None:
    """Return (n_rows, n_steps) of a mask, also of one made for attention scores: (n_rows, 1, 1, n_steps)."""
    if mask.ndim in (3, 4) and all(size == 1 for size in mask.shape[1:-1]):
        return mask.flatten(1)
    return mask if mask.ndim == 2 else None


def kept_by_attention(mask: Tensor) -> Tensor:
    """Return True for real steps from an attention mask: 1 for real ones, or 0 where it is added to scores."""
    if not mask.is_floating_point():
        return mask != 0
    # Without a look at the values, which a GPU would have to wait for; a row of padding alone means nothing.
    is_added = (mask.amin() < 0) | (mask.amax() == 0)
    return torch.where(is_added, mask == 0, mask != 0)


def keep_of(mask: Tensor) -> Tensor:
    """Return True for real steps from a padding mask: True, or minus infinity, where a step is padding."""
    return mask == 0 if mask.is_floating_point() else ~mask.bool()


def arguments(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    names = positional_names(cast(Hashable, type(layer)), len(args)) if "forward" not in vars(layer) else None
    if names is not None:
        return {**dict(zip(names, args, strict=False)), **kwargs}
    try:
        return {**inspect.signature(layer.forward).bind_partial(*args, **kwargs).arguments, **kwargs}
    except (TypeError, ValueError):
        return dict(kwargs)


@lru_cache(maxsize=256)
def positional_names(kind: Hashable, n_args: int) -> tuple[str, ...] | None:
    """Return the names of positional arguments, worked out once per class: a signature takes longer than a layer."""
    try:
        parameters = list(inspect.signature(cast(Any, kind).forward).parameters.values())[1:]
    except (TypeError, ValueError):
        return None
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return tuple(names[:n_args]) if n_args <= len(names) else None


def steps_of(named: Mapping[str, Any]) -> set[int]:
    """How many steps the net's inputs have: only sequences of that length go with its lengths."""
    return {value.shape[1] for value in named.values() if isinstance(value, Tensor) and value.ndim >= 2}
