"""Where samples and features are in a layer's values, and pooling them to one row per sample.

In:  the values of two dry runs, on some rows and on the same rows and others; a mask (n_rows, n_steps), True where
     a step is real.
Out: the batch axis, how many values there are per row, whether rows influence each other; values with a row per
     sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.layers.taps.passes import in_this_thread
from stackfeat.layers.taps.tap import Pool
from stackfeat.layers.taps.values import EXACT_BYTES, first_tensor, real_columns

CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.Upsample,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
)

FEATURES_LAST = (
    nn.Linear,
    nn.Embedding,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)


@dataclass(frozen=True)
class Layout:
    """Where the samples are.

    Attributes
    ----------
    batch_axis : int or None
        None where no axis grows with the batch.
    fold : int
        How many values of that axis belong to one sample.
    step_major : bool
        Whether those of one sample are apart (all samples of step 0 first) rather than side by side.
    influenced : bool
        Whether the values of a row changed with the other rows of its batch.
    """

    batch_axis: int | None = 0
    fold: int = 1
    step_major: bool = False
    influenced: bool = False


def find_layout(few: Tensor, more: Tensor, n_few: int, n_more: int) -> Layout:
    """Compare the values of some rows with those of the same rows and others behind them."""
    grown = grown_axis(few.shape, more.shape, n_few, n_more)
    if grown is None:
        return Layout(None)
    axis, fold = grown
    first, second = few.movedim(axis, 0), more.movedim(axis, 0)
    if first.shape[1:] != second.shape[1:]:
        return Layout(axis, fold)  # padded to the longest row: nothing to compare
    if is_close(first, second[: len(first)]):
        return Layout(axis, fold)
    if fold > 1:
        apart = second.reshape(fold, n_more, *second.shape[1:])[:, :n_few]
        if is_close(first.reshape(fold, n_few, *first.shape[1:]), apart):
            return Layout(axis, fold, step_major=True)
    return Layout(axis, fold, influenced=True)


def grown_axis(few: Sequence[int], more: Sequence[int], n_few: int, n_more: int) -> tuple[int, int] | None:
    """Return the axis that grows with the rows, and how many values of it each row has; None without one."""
    grown = [
        (size // n_few, axis)
        for axis, (size, larger) in enumerate(zip(few, more, strict=False))
        if size % n_few == 0 and size > 0 and larger == size // n_few * n_more
    ]
    if len(few) != len(more) or not grown:
        return None
    fold, axis = min(grown)
    return axis, fold


def is_close(left: Tensor, right: Tensor) -> bool:
    """Whether values agree up to what another batch size may change in their last digits."""
    if left.is_complex() and right.is_complex():
        left, right = torch.view_as_real(left), torch.view_as_real(right)
    if not left.is_floating_point():
        return bool(torch.equal(left, right))
    relative = 5e-2 if left.dtype in (torch.float16, torch.bfloat16) else 1e-4
    left, right = left.double(), right.double()
    known = left[left.isfinite()]
    size = float(known.abs().max()) if known.numel() else 0.0
    return bool(torch.allclose(left, right, rtol=10 * relative, atol=relative * size + 1e-6, equal_nan=True))


def steps_axis(layout: Layout, features_axis: int | None, shape: tuple[int, ...]) -> int | None:
    """Return the axis of the steps in (n_rows, n_steps, n_columns) or its like; None where it is no sequence."""
    batch = layout.batch_axis or 0
    if len(shape) != 3 or batch > 1 or (layout.fold > 1 and batch):
        return None
    return 2 if batch == 0 and features_axis == 1 else 1 - batch


@contextmanager
def feature_axes(model: nn.Module) -> Iterator[dict[tuple[int, ...], int]]:
    """Collect which axis holds the features, by shape, as the layers passed so far have it."""
    axes: dict[tuple[int, ...], int] = {}

    def note(axis: int, _layer: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None and not tensor.is_nested:
            axes[tuple(tensor.shape)] = axis

    with ExitStack() as stack:
        for layer in model.modules():
            axis = features_axis(layer)
            if axis is not None:
                stack.enter_context(layer.register_forward_hook(in_this_thread(partial(note, axis))))
        yield axes


def features_axis(layer: nn.Module) -> int | None:
    """Return the axis of the features in what a layer returns, where its class says so."""
    if isinstance(layer, nn.LayerNorm):
        return -1 if len(layer.normalized_shape) == 1 else None
    if isinstance(layer, FEATURES_LAST):
        return -1
    return 1 if isinstance(layer, CHANNELS_FIRST) else None


WIDE = (torch.float32, torch.float64)


def pool_rows(
    values: Tensor,
    pool: Pool,
    *,
    batch_axis: int = 0,
    features_axis: int | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return `values` with a row per sample.

    Parameters
    ----------
    values : Tensor of shape (n_rows, ...), or with the rows at `batch_axis`
    pool : str
        ``none`` keeps the shape. ``flatten`` puts everything into columns. ``auto`` and ``mean``
        average the positions of an image and the real steps of a sequence, ``max`` takes their
        largest. ``cls`` takes the first step and ``last`` the last real one. Two dimensions stay as
        they are.
    batch_axis : int
        Which axis of `values` holds the samples.
    features_axis : int, optional
        Which axis holds the features once samples are in front; by default the last of
        three (sequences) and axis 1 of four or more (images).
    mask : bool Tensor of shape (n_rows, n_steps), optional
        True where a step is real. Padding counts in no pooling.

    Returns
    -------
    Tensor of shape (n_rows, n_columns), or (n_rows, ...) for ``none``
        Complex values give the real parts of all features, then the imaginary ones.
    """
    rows = values if batch_axis == 0 else values.movedim(batch_axis, 0)
    if rows.ndim <= 2 or pool == "flatten":
        return real_columns(rows.flatten(1) if rows.ndim > 1 else rows[:, None], 1)
    axis = features_axis if features_axis is not None else (1 if rows.ndim > 3 else -1)
    if pool == "none":
        return real_columns(rows, axis)
    # (n_rows, n_positions, n_columns)
    steps = real_columns(rows.movedim(axis, -1).flatten(1, -2), -1)
    return pool_steps(steps, pool, mask if mask is not None and mask.shape == steps.shape[:2] else None)


def pool_steps(steps: Tensor, pool: Pool, mask: Tensor | None) -> Tensor:
    """Reduce (n_rows, n_steps, n_columns) to (n_rows, n_columns); a row without real steps gives zeros."""
    if pool == "cls":
        return steps[:, 0]
    if pool == "last":
        if mask is None:
            return steps[:, -1]
        positions = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        last = positions.masked_fill(~mask, 0).amax(1)
        return steps[torch.arange(len(steps), device=steps.device), last.to(steps.device)]
    if mask is not None:
        steps = steps.float() if steps.dtype is torch.bool else steps
        keep = mask.to(steps.device)[:, :, None]
        if pool == "max":
            lowest = float("-inf") if steps.is_floating_point() else torch.iinfo(steps.dtype).min
            return torch.where(keep.any(1), steps.masked_fill(~keep, lowest).amax(1), 0)
        # where, not a product: padding may hold NaN
        total = torch.where(keep, wide(steps), 0).sum(1)
        return total / keep.sum(1).clamp(min=1)
    return steps.amax(1) if pool == "max" else wide(steps).mean(1)


def wide(values: Tensor) -> Tensor:
    """Return values in a type that can be summed without loss."""
    if values.dtype in WIDE:
        return values
    is_long = not values.is_floating_point() and values.element_size() > EXACT_BYTES
    return values.to(torch.float64 if is_long else torch.float32)


def unfold_rows(values: Tensor, n_rows: int, *, step_major: bool) -> Tensor:
    """Return (n_rows * k, ...) as (n_rows, k, ...): nets that run every step as a row of its own."""
    k = len(values) // n_rows
    if step_major:
        return values.reshape(k, n_rows, *values.shape[1:]).movedim(1, 0)
    return values.reshape(n_rows, k, *values.shape[1:])
