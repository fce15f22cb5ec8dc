"""From activations of any rank to one row of columns per sample: (n, ...) in, (n, d) out.

In:  values, how to pool them, which axes hold the samples and the features, which steps are real.
Out: a tensor with the samples in front.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stackfeat.errors import TapError
from stackfeat.nets.taps.tap import Pool

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
    """
    rows = values if batch_axis == 0 else values.movedim(batch_axis, 0)
    if rows.ndim == 1:
        return rows[:, None]
    if rows.ndim == 2 or pool == "none":
        return rows
    if pool == "flatten":
        return rows.flatten(1)
    axis = features_axis if features_axis is not None else (1 if rows.ndim > 3 else -1)
    # (n_rows, n_positions, n_columns)
    steps = rows.movedim(axis, -1).flatten(1, -2)
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
    return values if values.dtype in WIDE or values.is_complex() else values.to(torch.float32)


def unfold_rows(values: Tensor, n_rows: int, *, step_major: bool) -> Tensor:
    """Return (n_rows * k, ...) as (n_rows, k, ...): nets that run every step as a row of its own."""
    k = len(values) // n_rows
    if step_major:
        return values.reshape(k, n_rows, *values.shape[1:]).movedim(1, 0)
    return values.reshape(n_rows, k, *values.shape[1:])


def combine_rows(blocks: list[Tensor], how: str | None, key: str) -> Tensor:
    """Make one block of several with a row per sample: side by side, their mean, or stacked in axis 1.

    Raises
    ------
    TapError
        If the shapes do not allow it.
    """
    try:
        if how == "mean":
            return torch.stack(blocks).mean(0)
        return torch.stack(blocks, dim=1) if how == "stack" else torch.cat(blocks, dim=1)
    except RuntimeError as error:
        raise TapError(
            f"values that are combined must have fitting shapes; got {[tuple(block.shape) for block in blocks]} at "
            f"tap {key!r}; use pool='mean', or combine='concat'"
        ) from error
