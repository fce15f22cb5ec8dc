"""Which steps of padded sequences are real.

In:  a net that runs: its own arguments, the padding masks its transformer layers get, packed sequences.
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

from stackfeat.nets.taps.layers import canonical_names, named_layers
from stackfeat.nets.taps.values import plain

MASKED_LAYERS = {
    nn.Transformer: "src_key_padding_mask",
    nn.TransformerEncoder: "src_key_padding_mask",
    nn.TransformerEncoderLayer: "src_key_padding_mask",
    nn.TransformerDecoder: "tgt_key_padding_mask",
    nn.TransformerDecoderLayer: "tgt_key_padding_mask",
    nn.MultiheadAttention: "key_padding_mask",
}
"""Layers that get a padding mask, and the argument it comes in."""
PADDING_ARGUMENTS = ("key_padding_mask", "src_key_padding_mask", "padding_mask", "pad_mask")
KEEP_ARGUMENTS = ("attention_mask",)
LENGTH_ARGUMENTS = ("lengths", "seq_lengths", "seq_lens", "x_lengths", "lens")


@dataclass(frozen=True)
class Seen:
    """A mask met in a forward pass, and the layer that got it ("" for the net itself)."""

    owner: str
    keep: Tensor


class MaskWatch:
    """The padding masks of the pass under way."""

    def __init__(self, model: nn.Module, on_seen: Callable[[], None] | None = None) -> None:
        self.model = model
        self.on_seen = on_seen
        self.seen: list[Seen] = []
        self.lengths: list[tuple[Tensor, set[int]]] = []

    def attach(self, stack: ExitStack) -> None:
        """Hook the layers that get masks, until `stack` is closed."""
        layers = named_layers(self.model)
        first = canonical_names(layers)
        for name, layer in layers.items():
            if first[id(layer)] != name or not isinstance(layer, (*MASKED_LAYERS, nn.RNNBase)):
                continue

            def before(
                part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = name
            ) -> None:
                self.hear(name, part, args, kwargs)
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
        named = arguments(self.model, args, kwargs)
        if mask is not None:
            self.seen.append(Seen("", mask.bool()))
        if lengths is not None:
            self.lengths.append((lengths, {*steps_of(named), int(lengths.max())}))
        for name, value in named.items():
            if not isinstance(value, Tensor):
                continue
            if name in KEEP_ARGUMENTS and value.ndim == 2:
                self.seen.append(Seen("", value != 0))
            elif name in PADDING_ARGUMENTS and value.ndim == 2:
                self.seen.append(Seen("", keep_of(value)))
            elif name in LENGTH_ARGUMENTS and value.ndim == 1 and not value.is_floating_point():
                self.lengths.append((value, steps_of(named)))

    def hear(self, name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        named = arguments(layer, args, kwargs)
        if isinstance(layer, nn.RNNBase):
            packed = named.get("input")
            if isinstance(packed, PackedSequence):
                lengths = plain(packed)[1]
                if lengths is not None:
                    self.lengths.append((lengths, {int(lengths.max())}))
            return
        if isinstance(layer, nn.MultiheadAttention) and named.get("query") is not named.get("key"):
            return  # cross-attention: the mask is about the other sequence
        kind = next(kind for kind in MASKED_LAYERS if isinstance(layer, kind))
        mask = named.get(MASKED_LAYERS[kind])
        if isinstance(mask, Tensor) and mask.ndim == 2:
            self.seen.append(Seen(name, keep_of(mask)))

    def find(self, layer: str, n_rows: int, n_steps: int) -> Tensor | None:
        """Return the mask for values of `layer`: of the nearest layer around it, else the first that fits."""
        fitting = [seen for seen in self.seen if tuple(seen.keep.shape) == (n_rows, n_steps)]
        around = [seen for seen in fitting if seen.owner and f"{layer}.".startswith(f"{seen.owner}.")]
        if around:
            return max(around, key=lambda seen: len(seen.owner)).keep
        if fitting:
            return fitting[0].keep
        for lengths, steps in self.lengths:
            if len(lengths) == n_rows and n_steps in steps and int(lengths.max()) <= n_steps:
                return torch.arange(n_steps, device=lengths.device)[None] < lengths[:, None]
        return None


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
