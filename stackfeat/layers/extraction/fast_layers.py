"""Fast forms of torch's own layers, for as long as a block lasts.

In:  a module in eval mode, without gradients, on the CPU.
Out: the same values, sooner. Every layer is still called one by one, so that hooks see all of it. In a chain
     of layers a ReLU works in place where nobody else sees its input. Arguments have torch's names and order,
     and what oneDNN refuses goes to torch, which computes it or says why not.

``nn.Linear`` copies its bias into the result before the product, and ``nn.Conv2d`` brings its weights
into oneDNN's order on every call; oneDNN's own operators, those that compiled graphs use, add the bias
on the way and take weights that are in order, with the same bits. Torch's plain path through a transformer
copies what it projects four times, checks every row of weights for being empty, and makes a new array
for each activation; without that it is as fast as the fused path, to whose layers no hook listens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stackfeat.layers.taps.layers import named_layers
from stackfeat.layers.taps.runtime import replaced_attributes

ONEDNN_CONVOLUTION: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
ONEDNN_LINEAR: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def fast_layers(
    model: nn.Module, *, attention: bool = True, order_weights: bool = True, but: Sequence[str] = ()
) -> AbstractContextManager[None]:
    """Replace the forward of torch's own layers, and activations that nobody else sees.

    Parameters
    ----------
    model : nn.Module
    attention : bool
        False leaves attention as it is: products need memory for steps x steps.
    order_weights : bool
        False leaves convolutions as they are: for a pass or two it does not pay.
    but : sequence of str
        Names of layers that are left as they are.
    """
    changes: list[tuple[nn.Module, str, Any]] = []
    left = {id(part) for name, part in named_layers(model).items() if name in but} if but else set()
    parts: Iterator[Any] = (part for part in model.modules() if id(part) not in left)
    for part in parts:
        if is_own(part, nn.Linear) and ONEDNN_LINEAR is not None:
            changes.append((part, "forward", partial(linear, part)))
        elif order_weights and takes_ordered_weights(part):
            changes.append((part, "forward", partial(OrderedConvolution(), part)))
        elif attention and is_own(part, nn.MultiheadAttention):
            changes.append((part, "forward", partial(attend, part)))
        elif attention and has_own_relu(part):
            changes.append((part, "activation", relu))
    return replaced_attributes(changes)


def is_own(part: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a part is torch's own class, with nothing of the user's in place of its forward."""
    return type(part) is kind and "forward" not in vars(part)


def has_own_relu(part: Any) -> bool:
    """Whether a transformer layer makes a value that only its own ReLU sees."""
    return (
        (is_own(part, nn.TransformerEncoderLayer) or is_own(part, nn.TransformerDecoderLayer))
        and part.activation is F.relu
        and isinstance(part.linear1, nn.Linear)
        and not part.linear1._forward_hooks
    )


def takes_ordered_weights(part: nn.Module) -> bool:
    """Whether a part is a convolution over images whose weights may be put in oneDNN's order once."""
    return (
        is_own(part, nn.Conv2d)
        and ONEDNN_CONVOLUTION is not None
        and isinstance(part, nn.Conv2d)
        and isinstance(part._parameters.get("weight"), nn.Parameter)
        and part.weight.dtype is torch.float32
        and part.weight.device.type == "cpu"
        and part.padding_mode == "zeros"
        and not isinstance(part.padding, str)
        and not part._forward_pre_hooks  # such as those that compute the weight anew
    )


@dataclass(eq=False)
class OrderedConvolution:
    """The forward of one ``nn.Conv2d``, with its weights in oneDNN's order from the first call on."""

    weight: Tensor | None = None
    made_of: tuple[int, int] | None = None

    def __call__(self, layer: nn.Conv2d, /, input: Tensor) -> Tensor:
        is_plain = (
            input.dtype is torch.float32
            and input.ndim == 4
            and input.device.type == "cpu"
            and input.is_contiguous(memory_format=torch.channels_last)
            and input.numel() > 0
            and input.shape[1] == layer.in_channels
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
        )
        if not is_plain:
            return nn.Conv2d.forward(layer, input)
        padding, stride, dilation = list(layer.padding), list(layer.stride), list(layer.dilation)
        version = (layer.weight.data_ptr(), layer.weight._version)
        if version != self.made_of:
            weight: Tensor = layer.weight.detach().to_mkldnn()
            self.weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
                weight, padding, stride, dilation, layer.groups
            )
            self.made_of = version
        try:
            found: Tensor = ONEDNN_CONVOLUTION(
                input, self.weight, layer.bias, padding, stride, dilation, layer.groups, "none", [], ""
            )
        except RuntimeError:
            return nn.Conv2d.forward(layer, input)
        return found


def linear(layer: nn.Linear, /, input: Tensor) -> Tensor:
    """Return what ``nn.Linear.forward`` returns, to the bit."""
    return product(input, layer.weight, layer.bias)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return what ``F.relu`` returns, in the memory of `input` whatever `inplace` says."""
    return torch.relu_(input)


PLAIN_WEIGHTS = (nn.Parameter, Tensor)
"""Others, such as those of quantised nets, bring their own products."""


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    is_plain = (
        ONEDNN_LINEAR is not None
        and x.dtype is torch.float32 is weight.dtype
        and type(weight) in PLAIN_WEIGHTS
        and x.ndim > 1
        and x.device.type == "cpu"
        and not x.is_nested
        and x.layout is torch.strided
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )
    if not is_plain:
        return F.linear(x, weight, bias)
    try:
        found: Tensor = ONEDNN_LINEAR(x, weight, bias, "none", [], "")
    except RuntimeError:
        return F.linear(x, weight, bias)
    return found


def attend(
    attention: nn.MultiheadAttention,
    /,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attend as ``nn.MultiheadAttention.forward`` does; what is not plain self-attention goes there."""
    is_plain = (
        query is key
        and key is value
        and query.ndim == 3
        and not query.is_nested
        and attention._qkv_same_embed_dim
        and attention.bias_k is None
        and not attention.add_zero_attn
        and (key_padding_mask is None or key_padding_mask.shape == batch_and_steps(attention, query))
        and not (need_weights or is_causal or attn_mask is not None)
        and not (attention.training and attention.dropout)
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled(query.device.type)
    )
    if not is_plain:
        options = (key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)
        return nn.MultiheadAttention.forward(attention, query, key, value, *options)
    return self_attention(attention, query, key_padding_mask), None


def batch_and_steps(attention: nn.MultiheadAttention, x: Tensor) -> torch.Size:
    return x.shape[:2] if attention.batch_first else x.shape[1::-1]


def self_attention(attention: nn.MultiheadAttention, x: Tensor, key_padding_mask: Tensor | None) -> Tensor:
    """Return what each step of each sample attends to, in the layout of `x`."""
    n_heads, width = attention.num_heads, attention.head_dim
    first, second = x.shape[:2]
    n_rows, n_steps = batch_and_steps(attention, x)
    packed = product(x, attention.in_proj_weight, attention.in_proj_bias)
    # The one copy: products in batches want each head's rows one behind the other.
    order = (2, 0, 3, 1, 4) if attention.batch_first else (2, 1, 3, 0, 4)
    parts = packed.view(first, second, 3, n_heads, width).permute(order)
    queries, keys, values = parts.reshape(3, n_rows * n_heads, n_steps, width)
    weights = torch.baddbmm(
        queries.new_empty(1, 1, 1), queries, keys.transpose(1, 2), beta=0, alpha=1 / math.sqrt(width)
    )
    if key_padding_mask is not None:
        scores, mask = weights.view(n_rows, n_heads, n_steps, n_steps), key_padding_mask[:, None, None]
        if mask.dtype == torch.bool:
            scores.masked_fill_(mask, -math.inf)
        else:
            scores += mask
    torch.softmax(weights, -1, out=weights)
    if key_padding_mask is not None:
        # Softmax over nothing is NaN; torch's answer for a sample that is padding alone is zero.
        is_hidden = (
            key_padding_mask if key_padding_mask.dtype == torch.bool else key_padding_mask == -math.inf
        )
        weights.view(n_rows, -1).masked_fill_(is_hidden.all(-1)[:, None], 0.0)
    mixed = torch.bmm(weights, values).view(n_rows, n_heads, n_steps, width)
    back = mixed.permute(0, 2, 1, 3) if attention.batch_first else mixed.permute(2, 0, 1, 3)
    joined = back.reshape(first, second, n_heads * width)
    return product(joined, attention.out_proj.weight, attention.out_proj.bias)


NEW_OUTPUT = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Layers whose output is a new array that they do not keep themselves."""


def inplace_relu(model: nn.Module) -> AbstractContextManager[None]:
    """Replace the forward of every plain ``nn.Sequential`` that has such a ReLU."""
    return replaced_attributes(
        [
            (part, "forward", SequentialForward(part))
            for part in model.modules()
            if isinstance(part, nn.Sequential)
            and is_own(part, nn.Sequential)
            and any(may_overwrite_input(part))
        ]
    )


def may_overwrite_input(chain: nn.Sequential) -> list[bool]:
    """Say of each layer whether it may write over its input: a ReLU behind a layer that makes new arrays.

    Hooks of the user on that layer may have kept its output, so they rule it out.
    """
    return [
        is_own(layer, nn.ReLU)
        and not layer.inplace
        and type(before) in NEW_OUTPUT
        and "forward" not in vars(before)
        and not before._forward_hooks
        and not layer._forward_pre_hooks
        for before, layer in zip([nn.Identity(), *chain], chain, strict=False)
    ]


class SequentialForward:
    """The forward of one ``nn.Sequential``."""

    def __init__(self, chain: nn.Sequential) -> None:
        self.steps = list(zip(chain, may_overwrite_input(chain), strict=True))

    def __call__(self, input: Any) -> Any:
        value = input  # the name that nn.Sequential gives it
        may_overwrite = not torch.is_grad_enabled()
        for layer, overwrites in self.steps:
            if not (overwrites and may_overwrite):
                value = layer(value)
                continue
            # The layer itself is called, so that its hooks are heard.
            vars(layer)["inplace"] = True
            try:
                value = layer(value)
            finally:
                vars(layer)["inplace"] = False
        return value
