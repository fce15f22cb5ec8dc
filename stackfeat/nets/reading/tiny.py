"""Batches of any size out of an example, for dry runs.

In:  the arguments of a net with a few rows.
Out: the same arguments with exactly so many rows; rows beyond those given are made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from stackfeat.nets.taps.values import leaves

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
