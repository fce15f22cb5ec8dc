"""Rows to learn from: gathered, cut into batches, mixed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import UsageError
from stackfeat.layers.extraction.inputs import LazyColumn
from stackfeat.nets.build import NetSpec
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batches import (
    CHUNK_BYTES,
    Rows,
    batch_sizes,
    batches,
    convolves_images,
    mix,
    span,
)
from stackfeat.nets.training.fit import TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.zoo.mlp import MLP
from stackfeat.tasks.task import Task


def images(n_rows: int = 6) -> Rows:
    """Row i is an image of the value i; its target and weight are i too."""
    value = torch.arange(n_rows, dtype=torch.float32)
    return Rows((value[:, None, None, None].expand(n_rows, 2, 10, 8).clone(),), value.long(), value)


def test_a_last_batch_of_one_row_joins_its_neighbour() -> None:
    assert batch_sizes(65, 32) == [32, 33]
    assert batch_sizes(66, 32) == [32, 32, 2]
    assert [batch_sizes(n, 32) for n in (1, 2, 31, 32, 33)] == [[1], [2], [31], [32], [33]]


def mixed(seed: int = 0, **options: Any) -> tuple[Rows, Tensor, float]:
    torch.manual_seed(seed)
    rows = mix(images(), TrainOptions(**options))
    assert rows.mixed is not None and rows.mixed.weight is not None
    partner = rows.mixed.y
    assert torch.equal(rows.mixed.weight, partner.float())
    assert sorted(partner.tolist()) == list(range(6))
    return rows, partner.float(), rows.share


@pytest.mark.parametrize("seed", range(5))
def test_mixup_blends_every_value_by_one_share(seed: int) -> None:
    rows, partner, share = mixed(seed, mixup=0.5)
    expected = share * torch.arange(6) + (1 - share) * partner
    torch.testing.assert_close(rows.tensors[0], expected[:, None, None, None].expand(6, 2, 10, 8))


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_pastes_a_box_of_the_area_that_the_share_says(seed: int) -> None:
    rows, partner, share = mixed(seed, cutmix=1.0)
    x = rows.tensors[0]
    own = torch.arange(6, dtype=torch.float32)[:, None, None, None]
    other = partner[:, None, None, None]
    assert ((x == own) | (x == other)).all()
    moved = partner != own[:, 0, 0, 0]
    pasted = (x == other)[moved]
    assert (pasted == pasted[:1, :1]).all(), "one place for all rows and channels"
    box = pasted[0, 0]
    assert share == pytest.approx(1 - float(box.float().mean()))
    if box.any():
        assert box[box.any(1)][:, box.any(0)].all(), "the box is a rectangle"


def test_with_both_each_batch_draws_one() -> None:
    def is_blend(seed: int) -> bool:
        x = mixed(seed, mixup=1.0, cutmix=1.0)[0].tensors[0]
        return bool((x != x.round()).any())

    kinds = [is_blend(seed) for seed in range(30)]
    assert 5 < sum(kinds) < 25


def test_without_either_the_batch_is_as_it_was() -> None:
    rows = images()
    state = torch.get_rng_state()
    assert mix(rows, TrainOptions()) is rows
    assert torch.equal(torch.get_rng_state(), state)


def test_a_box_stays_inside_the_side() -> None:
    for middle in np.linspace(0, 0.999, 40):
        for size in np.linspace(0, 1, 40):
            start, end = span(middle, size, 9)
            assert 0 <= start <= end <= 9


def fit(x: np.ndarray, *more: np.ndarray, task: Task, options: TrainOptions) -> Any:
    y = np.arange(len(x)) % 2
    spec = NetSpec(MLP, {"hidden": [4]}, x.shape[1], task.n_outputs, (3,) if more else ())
    loss = "cross_entropy" if task.classes else "mse"
    target = y.astype(np.float64) if loss == "mse" else y
    return fit_net(spec, TrainingSet((x, *more), target, 0), Training(options, task, loss))


def test_what_cannot_be_mixed_is_refused_before_training() -> None:
    x, codes = np.zeros((20, 3), np.float32), np.zeros((20, 1), np.int64)
    binary, empty = Task("binary", ("a", "b")), np.zeros((20, 0), np.int64)
    mixup, cutmix = TrainOptions(epochs=1, mixup=0.2), TrainOptions(epochs=1, cutmix=1.0)
    for options in (mixup, cutmix):
        with pytest.raises(UsageError, match=r"must be used in classification; got (mixup=0.2|cutmix=1) for"):
            fit(x, task=Task("regression"), options=options)
    with pytest.raises(UsageError, match="mixup must have inputs that are numbers; got category codes"):
        fit(x, codes, task=binary, options=mixup)
    with pytest.raises(
        UsageError, match=r"cutmix must have inputs that are images.*got rows of shape \[\(3,\)\]"
    ):
        fit(x, task=binary, options=cutmix)
    assert fit(x, task=binary, options=mixup).report.epochs == 1
    rows = replace(images(), inputs=(torch.zeros(6, 3), torch.zeros(6, 0, dtype=torch.int64)))
    assert mix(rows, mixup).tensors[1].shape == empty[:6].shape


def test_images_are_told_by_convolutions_over_four_dimensions() -> None:
    image, table = torch.zeros(4, 3, 8, 8), torch.zeros(4, 3)
    convolving = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
    assert convolves_images(convolving, [table, image])
    assert not convolves_images(convolving, [table])
    assert not convolves_images(nn.Sequential(nn.Conv1d(3, 2, 3), nn.Linear(3, 2)), [image])


def numbered(n_rows: int) -> Rows:
    """Row i holds i, also as its target and its weight."""
    value = torch.arange(n_rows, dtype=torch.float32)
    return Rows((value[:, None], value[:, None].long()), value.long(), value)


def test_batches_hold_every_row_once_in_the_order_given_with_its_target_and_weight() -> None:
    order = torch.randperm(65, generator=torch.Generator().manual_seed(0))
    got = list(batches(numbered(65), order, 32))
    assert [len(batch) for batch in got] == [32, 33]
    for values in ("y", "weight"):
        assert torch.equal(torch.cat([getattr(batch, values) for batch in got]).long(), order)
    for column in range(2):
        assert torch.equal(torch.cat([batch.tensors[column] for batch in got])[:, 0].long(), order)


@pytest.mark.parametrize("n_together", [1, 2, 3])
def test_batches_are_the_same_however_many_are_gathered_at_once(
    n_together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = torch.randperm(41, generator=torch.Generator().manual_seed(1))
    row_bytes = 4 + 8
    monkeypatch.setitem(CHUNK_BYTES, "cpu", n_together * 11 * row_bytes)  # the longest batch counts
    taken: list[int] = []
    take = Rows.take
    monkeypatch.setattr(Rows, "take", lambda self, rows: (taken.append(len(rows)), take(self, rows))[1])
    got = list(batches(numbered(41), order, 10))
    assert [len(batch) for batch in got] == [10, 10, 10, 11]
    assert torch.equal(torch.cat([batch.y for batch in got]), order)
    assert taken == {1: [10, 10, 10, 11], 2: [20, 21], 3: [30, 11]}[n_together]


class OnDisk:
    """An array that notes which rows are read, and when."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self.reads.append(len(rows))
        return self.values[rows]


def test_a_lazy_column_gives_the_batches_of_one_in_memory_and_is_read_a_chunk_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CHUNK_BYTES, "cpu", 1)  # a chunk is a batch
    values = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    y, order = torch.arange(50), torch.randperm(50, generator=torch.Generator().manual_seed(2))
    source = OnDisk(values)
    lazy = list(batches(Rows((LazyColumn(source),), y), order, 8))
    eager = list(batches(Rows((torch.from_numpy(values),), y), order, 8))
    for one, other in zip(lazy, eager, strict=True):
        assert torch.equal(one.tensors[0], other.tensors[0])
        assert torch.equal(one.y, other.y)
    assert sorted(source.reads)[1:] == [2, *[8] * 6], "one row tells the size of a row, then each row once"
    source.reads.clear()
    some = batches(Rows((LazyColumn(source),), y), order, 8)
    next(some)
    some.close()
    assert sum(source.reads) <= 1 + 2 * 8, "no more than one chunk ahead"


def test_a_reading_error_of_a_lazy_column_reaches_the_training() -> None:
    class Broken(OnDisk):
        def __getitem__(self, rows: np.ndarray) -> np.ndarray:
            if len(rows) > 1:
                raise OSError("the disk is gone")
            return super().__getitem__(rows)

    rows = Rows((LazyColumn(Broken(np.zeros((20, 2), np.float32))),), torch.zeros(20))
    with pytest.raises(OSError, match="the disk is gone"):
        list(batches(rows, torch.arange(20), 8))


@pytest.mark.parametrize("n_parts", [1, 2, 3, 7])
def test_parts_of_a_batch_differ_by_one_row_and_keep_what_rows_were_mixed_with(n_parts: int) -> None:
    rows = mixed(0, mixup=0.5)[0] if n_parts < 7 else numbered(7)
    parts = rows.parts(n_parts)
    sizes = [len(part) for part in parts]
    assert len(parts) == n_parts
    assert sum(sizes) == len(rows)
    assert max(sizes) - min(sizes) <= 1
    assert torch.equal(torch.cat([part.tensors[0] for part in parts]), rows.tensors[0])
    assert all(part.share == rows.share for part in parts)
    if rows.mixed is not None:
        mixed_y = torch.cat([part.mixed.y for part in parts if part.mixed is not None])
        assert torch.equal(mixed_y, rows.mixed.y)


def test_taken_images_lie_with_the_channels_last_where_that_is_asked_for() -> None:
    rows = replace(images(), channels_last=True)
    taken = rows.take(torch.tensor([5, 2]))
    assert taken.tensors[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(taken.tensors[0], rows.tensors[0][[5, 2]])
    assert images().take(torch.tensor([5, 2])).tensors[0].is_contiguous()
