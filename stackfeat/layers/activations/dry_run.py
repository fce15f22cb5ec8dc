"""What a dry run needs: batches of any size made from an example, and a net left as it was.

In:  the arguments of a net with a few rows.
Out: the same arguments with exactly so many rows; rows beyond those given are made up.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from stackfeat.errors import TapError
from stackfeat.layers.taps.values import leaves

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def count_rows(args: tuple[Any, ...], kwargs: Mapping[str, Any], batch_dim: int = 0) -> int | None:
    """Return the number of samples: that of the first tensor with enough dimensions; None without one."""
    for value in leaves((args, dict(kwargs))):
        if isinstance(value, PackedSequence) or value.is_nested:
            return None
        if value.ndim > batch_dim:
            return value.shape[batch_dim]
    return None


def ordinary(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
    """Return the arguments with tensors that autograd takes, also those made in inference mode."""

    def convert(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clone() if value.is_inference() else value
        if isinstance(value, Mapping):
            return {key: convert(part) for key, part in value.items()}
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            return type(value)(convert(part) for part in value)
        return value

    with torch.inference_mode(False):
        return tuple(convert(value) for value in args), {
            name: convert(value) for name, value in kwargs.items()
        }


def with_rows(args: tuple[Any, ...], kwargs: Mapping[str, Any], n_rows: int, batch_dim: int = 0) -> Arguments:
    """Return the arguments with `n_rows` samples; what has not the batch's length stays as it is."""
    have = count_rows(args, kwargs, batch_dim)

    def resize(value: Any) -> Any:
        if isinstance(value, Tensor):
            is_batched = not value.is_nested and value.ndim > batch_dim and value.shape[batch_dim] == have
            return resized(value, n_rows, batch_dim) if is_batched else value
        if isinstance(value, Mapping):
            return {key: resize(part) for key, part in value.items()}
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            return type(value)(resize(part) for part in value)
        return value

    return tuple(resize(value) for value in args), {name: resize(value) for name, value in kwargs.items()}


def resized(values: Tensor, n_rows: int, batch_dim: int) -> Tensor:
    """Return `n_rows` rows: those given, then others made from them (numbers stretched, codes rolled)."""
    have = values.shape[batch_dim]
    if n_rows <= have:
        return values.narrow(batch_dim, 0, n_rows)
    blocks, n_more = [values], 1
    while have * len(blocks) < n_rows:
        blocks.append(values * (1 + n_more) + n_more if values.is_floating_point() else values)
        n_more += 1
    return torch.cat(blocks, dim=batch_dim).narrow(batch_dim, 0, n_rows)


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Put back what a forward pass may change, also after an exception.

    Every submodule's own train flag, every `requires_grad`, every buffer (running statistics of nets
    that turn training on themselves), and the generators of torch, numpy and `random`.

    Raises
    ------
    TapError
        If the net has lazy layers that have no shape yet: a first pass would change it for good.
    """
    lazy = [name for name, part in model.named_modules() if is_uninitialised(part)]
    if lazy:
        raise TapError(
            f"every layer must have its shape; got lazy layers {', '.join(lazy[:5])}; run one batch through the "
            "net first"
        )
    flags = [(part, part.training) for part in model.modules()]
    gradients = [(weight, weight.requires_grad) for weight in model.parameters()]
    buffers = [
        (part, name, values, values.clone()) for part in model.modules() for name, values in own_buffers(part)
    ]
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = {weight.device.index or 0 for weight in model.parameters() if weight.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=sorted(devices)):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        for part, training in flags:
            part.training = training
        for weight, needed in gradients:
            weight.requires_grad_(needed)
        with torch.no_grad():
            for part, name, values, before in buffers:
                part._buffers[name] = values
                if not torch.equal(values, before):
                    values.copy_(before)


def own_buffers(part: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [(name, values) for name, values in part._buffers.items() if values is not None]


def is_uninitialised(part: nn.Module) -> bool:
    return any(
        isinstance(weight, nn.parameter.UninitializedParameter) for weight in part.parameters(recurse=False)
    )
