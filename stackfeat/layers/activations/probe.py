"""Rows that show whether a net keeps them apart and in their places.

In:  the arguments of a small batch; values of a layer for such rows in one order and in others.
Out: a batch of rows of which no two are alike, real ones and ones made from them; other orders of it; whether each
     row's values came back at its own place, at another one, or not at all.
     Made-up values stay between those that were seen, so that codes and lengths remain legal. Their lengths, numbers
     of real steps and sizes all differ: a net that sorts by any of them moves these rows, whatever the data are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from stackfeat.layers.activations.layout import Layout, find_layout, grown_axis, is_close, unfold_rows
from stackfeat.layers.taps.values import Arguments, copied, leaves, map_tensors

Place = Literal["own", "other", "none", "random"]
"""Where a row's values are in another batch; none: nowhere, it has got others; random: as in the very same batch."""

PROBE_ROWS = 8
REAL_ROWS = 4
COMPARED_ROWS = 64
MOST_COLUMNS, FEWEST_COLUMNS = 1024, 16
"""How many numbers of a row are compared: all layers of a net are looked at at once."""
MOST_SUMS, FEWEST_SUMS, SUMMED_AT_ONCE = 64, 4, 4096
"""How many sums of all columns of a wide row are compared, and how many columns are read for them at once."""


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


def without(shape: Sequence[int], left_out: int | None) -> tuple[int, ...]:
    """Return the sizes of all axes but one."""
    return tuple(size for axis, size in enumerate(shape) if axis != left_out)


@dataclass(frozen=True, eq=False)
class Sample:
    """Some of the values at a tap.

    Attributes
    ----------
    shape : tuple of int
        Of all of them.
    axis : int or None
        That of the rows.
    rows : Tensor of shape (n_rows * fold, n_columns)
        The same columns of every row, of wide ones few and sums over all; empty where no axis is that of the rows.
    """

    shape: tuple[int, ...]
    axis: int | None = None
    rows: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    @property
    def columns(self) -> tuple[int, ...]:
        """The shape of what is not rows."""
        return without(self.shape, self.axis)


@dataclass(eq=False)
class Sampler:
    """Keeps little of the values of passes, once their shapes for two rows are known.

    Parameters
    ----------
    shapes : dict of str to list of tuple of int
        By key, for two rows.
    n_rows : int
        In the passes over more.
    """

    shapes: Mapping[str, Sequence[tuple[int, ...]]]
    n_rows: int
    grown: dict[tuple[str, tuple[int, ...]], tuple[int, int]] = field(default_factory=dict)

    def of_more(self, key: str, values: Tensor) -> Sample:
        found: tuple[int, int] | None = None
        for shape in self.shapes.get(key, ()):
            grown = grown_axis(shape, values.shape, 2, self.n_rows)
            if grown is None:
                continue
            # A tap may take values of several widths: of those that fit, that which differs in its rows alone.
            if without(shape, grown[0]) == without(values.shape, grown[0]):
                self.grown[key, shape] = grown
                return sample(values, *grown)
            self.grown.setdefault((key, shape), grown)
            found = found or grown
        return Sample(tuple(values.shape)) if found is None else sample(values, *found)

    def of_two(self, key: str, values: Tensor) -> Sample:
        """Take the columns that were taken of more rows."""
        grown = self.grown.get((key, tuple(values.shape)))
        return Sample(tuple(values.shape)) if grown is None else sample(values, *grown)


def sample(values: Tensor, axis: int, fold: int) -> Sample:
    """Return at most `MOST_COLUMNS` numbers of each row; of wide ones some sums over all columns too."""
    rows = values.movedim(axis, 0).flatten(1) if values.ndim > 1 else values[:, None]
    chosen = some_columns(rows.shape[1], max(MOST_COLUMNS // fold, FEWEST_COLUMNS))
    if chosen is None:
        return Sample(tuple(values.shape), axis, copied(rows))
    sums = sums_of_columns(rows, max(MOST_SUMS >> (fold.bit_length() - 1), FEWEST_SUMS))
    some = rows[:, chosen.to(rows.device)]
    dtype = sums.dtype if sums.dtype is torch.int64 else rows.dtype
    return Sample(tuple(values.shape), axis, copied(torch.cat([some.to(dtype), sums.to(dtype)], 1)))


def sums_of_columns(rows: Tensor, n_sums: int) -> Tensor:
    """Return sums with random weights, each column in one of them: what differs in a column does in a sum.

    They are as large as a number of a row, so that what rounding does to them is as small too. Whole numbers are
    summed exactly.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, n_columns)
    n_sums : int
        A divisor of `SUMMED_AT_ONCE`.

    Returns
    -------
    Tensor of shape (n_rows, n_sums)
        float64, complex128 or int64.
    """
    if not rows.is_floating_point() and not rows.is_complex():
        return weighted_sums(rows, n_sums, torch.int64)
    widest = torch.complex128 if rows.is_complex() else torch.float64
    is_narrow = rows.is_floating_point() and rows.dtype is not torch.float64
    total = weighted_sums(rows, n_sums, torch.float32 if is_narrow else widest).to(widest)
    if not bool(total.isfinite().all()):
        total = weighted_sums(rows, n_sums, widest)
    size = float(column_weights().square().double().mean()) * max(1, rows.shape[1] // n_sums)
    return total / math.sqrt(size)


def weighted_sums(rows: Tensor, n_sums: int, dtype: torch.dtype) -> Tensor:
    """Return the sums before they are scaled, computed in a dtype; in a wide one without what is not finite."""
    weights = column_weights().to(rows.device, dtype)
    total = torch.zeros(len(rows), n_sums, dtype=dtype, device=rows.device)
    for i, start in enumerate(range(0, rows.shape[1], SUMMED_AT_ONCE)):
        part = rows[:, start : start + SUMMED_AT_ONCE].to(dtype)
        if dtype in (torch.float64, torch.complex128):
            part = part.masked_fill(~part.isfinite(), 0)
        weighted = part * weights.roll(i)[: part.shape[1]]
        rest = -part.shape[1] % n_sums
        weighted = nn.functional.pad(weighted, (0, rest)) if rest else weighted
        total += weighted.reshape(len(rows), -1, n_sums).sum(1)
    return total


@lru_cache(maxsize=1)
def column_weights() -> Tensor:
    """Return whole numbers of both signs, none of them small."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(32, 65, (SUMMED_AT_ONCE,), generator=generator)
    is_negative = torch.randint(2, (SUMMED_AT_ONCE,), generator=generator).bool()
    return torch.where(is_negative, -sizes, sizes)


@lru_cache(maxsize=256)
def some_columns(n_columns: int, n_wanted: int, seed: int = 0) -> Tensor | None:
    """Return columns from anywhere; None for all of them."""
    if n_columns <= n_wanted:
        return None
    generator = torch.Generator().manual_seed(n_columns + seed)
    return torch.randint(n_columns, (n_wanted,), generator=generator)


def layout_of_samples(two: Sample, more: Sample, n_rows: int) -> Layout:
    """Return where samples are, and whether two rows have the same values among more."""
    if two.axis is None or more.axis is None:
        return Layout(None)
    if two.columns != more.columns:
        return Layout(more.axis, len(more.rows) // n_rows)  # padded to the longest row: nothing to compare
    return replace(find_layout(two.rows, more.rows, 2, n_rows), batch_axis=more.axis)


def place_in_order(before: Sample, after: Sample, order: Sequence[int], layout: Layout) -> Place:
    """Say where rows are in the values that they gave in another order."""
    n_rows = len(order)
    if before.shape != after.shape or len(before.rows) != n_rows * layout.fold:
        return "none"
    rows, moved = (
        value if layout.fold == 1 else unfold_rows(value, n_rows, step_major=layout.step_major)
        for value in (before.rows, after.rows)
    )
    if is_close(rows[torch.tensor(order, device=rows.device)], moved):
        return "own"
    return "other" if are_among(after.rows, before.rows) else "none"


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
