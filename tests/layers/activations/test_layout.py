"""Pooling against loops over rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stackfeat.layers.activations.layout import pool_rows, unfold_rows
from stackfeat.layers.taps.collector import combine

POOLS = {
    "mean": lambda steps: steps.mean(0),
    "auto": lambda steps: steps.mean(0),
    "max": lambda steps: steps.amax(0),
    "cls": lambda steps: steps[0],
    "last": lambda steps: steps[-1],
}


@settings(max_examples=60)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.sampled_from(sorted(POOLS)), st.booleans())
def test_padding_changes_nothing(lengths: list[int], pool: Any, steps_first: bool) -> None:
    rows = [torch.randn(n, 3) for n in lengths]
    padded = torch.full((len(rows), max(lengths), 3), float("nan"))
    for values, row in zip(padded, rows, strict=True):
        values[: len(row)] = row
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    given_values = padded.movedim(1, 0) if steps_first else padded
    got = pool_rows(given_values, pool, batch_axis=int(steps_first), mask=mask)
    torch.testing.assert_close(got, torch.stack([POOLS[pool](row) for row in rows]))


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2), (4, 3, 2, 2), (4, 3, 2, 2, 2)])
@pytest.mark.parametrize("pool", ["auto", "mean", "max", "cls", "last", "flatten"])
def test_every_rank_becomes_rows_and_columns(shape: tuple[int, ...], pool: Any) -> None:
    values = torch.randn(shape)
    got = pool_rows(values, pool)
    assert got.ndim == 2
    assert len(got) == 4
    if len(shape) <= 2:
        assert torch.equal(got, values.reshape(4, -1))


def test_images_keep_their_channels_and_none_keeps_all() -> None:
    images = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(pool_rows(images, "auto"), images.mean((2, 3)))
    torch.testing.assert_close(pool_rows(images, "max"), images.amax((2, 3)))
    torch.testing.assert_close(pool_rows(images, "auto", features_axis=-1), images.mean((1, 2)))
    assert torch.equal(pool_rows(images, "none"), images)


def test_a_row_without_real_steps_gives_zeros() -> None:
    mask = torch.tensor([[False, False], [True, False]])
    for pool in ("mean", "max"):
        got = pool_rows(torch.ones(2, 2, 3), pool, mask=mask)  # type: ignore[arg-type]
        assert got.tolist() == [[0.0] * 3, [1.0] * 3]


def test_sums_of_half_precision_are_made_in_float32() -> None:
    steps = torch.ones(1, 4096, 1, dtype=torch.bfloat16)
    assert pool_rows(steps, "mean").item() == 1.0
    assert pool_rows(steps, "mean", mask=torch.ones(1, 4096, dtype=torch.bool)).item() == 1.0


@given(st.integers(1, 5), st.integers(1, 5))
def test_folded_steps_come_back_in_both_orders(n_rows: int, n_steps: int) -> None:
    values = torch.randn(n_rows, n_steps, 2)
    assert torch.equal(unfold_rows(values.flatten(0, 1), n_rows, step_major=False), values)
    assert torch.equal(unfold_rows(values.transpose(0, 1).flatten(0, 1), n_rows, step_major=True), values)


def test_blocks_are_combined_beside_each_other_as_mean_or_stacked() -> None:
    blocks = [torch.randn(3, 2), torch.randn(3, 2)]
    assert torch.equal(combine(blocks, None, "t", axis=1), torch.cat(blocks, dim=1))
    assert combine(blocks, "stack", "t", axis=1).shape == (3, 2, 2)
    assert torch.equal(combine(blocks, "mean", "t", axis=1), torch.stack(blocks).mean(0))
