"""Rows that show whether a net keeps them apart and in their places.

In:  the arguments of a small batch; values of a layer for such rows in one order and in others.
Out: a batch of rows of which no two are alike, real ones and ones made from them; other orders of it; whether each
     row's values came back at its own place, at another one, or not at all.
     Made-up values stay between those that were seen, so that codes and lengths remain legal. Their lengths, numbers
     of real steps and sizes all differ: a net that sorts by any of them moves these rows, whatever the data are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from stackfeat.layers.activations.layout import Layout, is_close, unfold_rows
from stackfeat.layers.taps.values import Arguments, leaves, map_tensors

Place = Literal["own", "other", "none", "random"]
"""Where a row's values are in another batch; none: nowhere, it has got others; random: as in the very same batch."""

PROBE_ROWS = 8
REAL_ROWS = 4
COMPARED_ROWS = 64


def count_rows(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    """Return the number of samples: that of the first tensor with a dimension; None without one."""
    for value in leaves((args, dict(kwargs))):
        if isinstance(value, PackedSequence) or value.is_nested or value.layout != torch.strided:
            return None
        if value.ndim:
            return len(value) or None
    return None


def take_rows(inputs: Arguments, have: int, rows: slice | Sequence[int]) -> Arguments:
    """Return the arguments with some of their `have` samples; what has another length stays as it is."""

    def take(values: Tensor) -> Tensor:
        if values.is_nested or not values.ndim or len(values) != have:
            return values
        return values[rows if isinstance(rows, slice) else torch.tensor(rows, device=values.device)]

    taken: Arguments = map_tensors(take, inputs)
    return taken


def probe_batches(inputs: Arguments, have: int) -> Iterator[tuple[Arguments, int]]:
    """Yield batches to look at with their numbers of rows, the second for nets that refuse the first.

    First `PROBE_ROWS`, half of them made up, more where there are fewer; then real rows alone, repeated where there
    are fewer than three.
    """

    def extend(values: Tensor) -> Tensor:
        if values.is_nested or not values.ndim or len(values) != have:
            return values
        real = values[torch.tensor(first_and_spread(have, REAL_ROWS), device=values.device)]
        return torch.cat([real, made_up(values, PROBE_ROWS - len(real))])

    extended: Arguments = map_tensors(extend, inputs)
    yield extended, PROBE_ROWS
    n_rows = max(3, min(have, PROBE_ROWS))
    yield take_rows(inputs, have, [row % have for row in first_and_spread(max(have, 3), n_rows)]), n_rows


def first_and_spread(have: int, n_rows: int) -> list[int]:
    """Return the numbers of the first two rows, and of others from everywhere behind them."""
    n_rest = min(n_rows, have) - 2
    return [*range(min(have, 2)), *(have - 1 - i * (have - 2) // n_rest for i in reversed(range(n_rest)))]


def made_up(values: Tensor, n_rows: int) -> Tensor:
    """Return rows like those of `values`, of which no two are alike where that can be."""
    flat = values.flatten(1) if values.ndim > 1 else values[:, None]
    lines, columns = torch.arange(n_rows)[:, None], torch.arange(flat.shape[1])
    # Each column of a row from another row: values that were seen there, in rows that were not.
    new = flat[
        ((lines * max(1, len(flat) // n_rows) + columns) % len(flat)).to(flat.device), columns.to(flat.device)
    ]
    new = new.reshape(n_rows, *values.shape[1:])
    is_number = values.is_floating_point() or values.is_complex()
    if bool(((values == 0) | (values == 1)).all()) and not (is_number and bool((values == 0).all())):
        return flags(values, new)
    if is_number:
        return shrunk(values, new)
    if values.ndim == 1:
        low, high = int(values.min()), int(values.max())
        spread = torch.linspace(high, min(low, 1), n_rows, dtype=torch.float64).round()
        return spread.to(values.dtype).clamp(max=high).to(values.device)
    if not bool((values >= 0).all()):
        return new
    return without_tail(new if new.ndim == 2 else new.flatten(1), 0).reshape(new.shape)


def flags(values: Tensor, new: Tensor) -> Tensor:
    """Return rows of a mask, each with another number of steps like the first one."""
    is_mask = values.ndim == 2 and (values.dtype == torch.bool or bool((values == 1).any()))
    if not is_mask or not values.shape[1]:
        return new
    first = bool(values[:, 0].double().mean() >= 0.5)
    return without_tail(torch.full_like(new, first), not first)


def shrunk(values: Tensor, new: Tensor) -> Tensor:
    """Return rows of other sizes, the last one zero, and sequences of other lengths."""
    factors = torch.linspace(0.97, 0, len(new)).to(new.device).reshape(-1, *[1] * (new.ndim - 1))
    if not bool((values != 0).any()):
        return new + factors.to(new.dtype) / 2
    smaller = (new * factors).to(new.dtype)
    return without_tail(smaller, 0) if new.ndim == 3 else smaller


def without_tail(rows: Tensor, filling: Any) -> Tensor:
    """Return rows of shape (n, steps, ...) that end sooner, each after another number of steps."""
    n_rows, n_steps = rows.shape[:2]
    ends = torch.linspace(n_steps, 1, n_rows).round().to(rows.device)
    is_tail = torch.arange(n_steps, device=rows.device) >= ends[:, None]
    return rows.masked_fill(is_tail.reshape(n_rows, n_steps, *[1] * (rows.ndim - 2)), filling)


def other_orders(n_rows: int) -> tuple[Sequence[int], ...]:
    """Return backwards, and a shuffle that leaves no two neighbours side by side."""
    step = 5 if n_rows % 5 else 3
    return tuple(reversed(range(n_rows))), tuple((step * i + 3) % n_rows for i in range(n_rows))


def place_in_order(values: Tensor, others: Tensor, order: Sequence[int], layout: Layout) -> Place:
    """Say where rows are in the values that they gave in another order."""
    axis, n_rows = layout.batch_axis or 0, len(order)
    before, after = values.movedim(axis, 0), others.movedim(axis, 0)
    if before.shape != after.shape or len(before) != n_rows * layout.fold:
        return "none"
    rows, moved = (
        value if layout.fold == 1 else unfold_rows(value, n_rows, step_major=layout.step_major)
        for value in (before, after)
    )
    if is_close(rows[torch.tensor(order, device=rows.device)], moved):
        return "own"
    return "other" if are_among(after, before) else "none"


def are_among(rows: Tensor, known: Tensor) -> bool:
    """Whether each of some rows is one of those known."""
    if rows.shape[1:] != known.shape[1:] or not rows.numel():
        return False
    flat, others = (
        torch.nan_to_num(torch.view_as_real(part) if part.is_complex() else part.double()).flatten(1)
        for part in (rows[:COMPARED_ROWS], known)
    )
    size = float(others.abs().max())
    distances = torch.stack([(others - row).abs().amax(1).amin() for row in flat])
    return bool((distances <= 1e-3 * size + 1e-6).all())
