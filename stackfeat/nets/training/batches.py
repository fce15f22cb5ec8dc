"""Rows to learn from, the batches of an epoch, and their mixtures (mixup, cutmix).

In:  inputs and target with a row per sample: tensors on the device, or columns that are read when
     they are needed (`LazyColumn`).
Out: shuffled batches. Rows are gathered for several batches at once, the batches are views of that;
     lazy columns are gathered by a thread one chunk ahead, so memory does not grow with the rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from stackfeat.errors import UsageError
from stackfeat.layers.extraction.inputs import LazyColumn
from stackfeat.nets.options import TrainOptions, batch_sizes
from stackfeat.tasks.task import Task

CHUNK_BYTES = {"cpu": 4 << 20}
CHUNK_BYTES_ON_DEVICE = 64 << 20
"""Batches of so many bytes together are gathered at once."""

IMAGE_DIMENSIONS = 4


@dataclass(frozen=True)
class Rows:
    """Rows to learn from, or to validate on.

    Attributes
    ----------
    inputs : tuple of Tensor or LazyColumn
        Positional arguments of ``forward``, each with n_rows rows.
    y : Tensor of shape (n_rows,)
        int64 class codes, or float32 values.
    weight : Tensor of shape (n_rows,), optional
        float32, mean 1.
    mixed : Rows, optional
        Target and weight of what each row was mixed with.
    share : float
        Share of the row itself in the mixture, between 0 and 1.
    channels_last : bool
        Whether batches of images lie in memory with the channels last.
    lists : Tensor of shape (n_rows,), optional
        int64 numbers, on the CPU, of lists that batches keep whole.
    """

    inputs: tuple[Tensor | LazyColumn, ...]
    y: Tensor
    weight: Tensor | None = None
    mixed: Rows | None = None
    share: float = 1.0
    channels_last: bool = False
    lists: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The inputs of rows that are in memory."""
        return tuple(values for values in self.inputs if isinstance(values, Tensor))

    def take(self, rows: Tensor) -> Rows:
        """Gather rows, onto the device of the target."""
        device = self.y.device
        placed = rows.to(device)
        inputs = tuple(
            values[rows].to(device) if isinstance(values, LazyColumn) else values.index_select(0, placed)
            for values in self.inputs
        )
        if self.channels_last:
            inputs = tuple(
                x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs
            )
        weight = None if self.weight is None else self.weight.index_select(0, placed)
        lists = None if self.lists is None else self.lists[rows.cpu()]
        return replace(self, inputs=inputs, y=self.y.index_select(0, placed), weight=weight, lists=lists)

    def cut(self, start: int, stop: int) -> Rows:
        """Return neighbouring rows, as views."""
        rows = slice(start, stop)
        return Rows(
            tuple([values[rows] for values in self.inputs]),
            self.y[rows],
            None if self.weight is None else self.weight[rows],
            None if self.mixed is None else self.mixed.cut(start, stop),
            self.share,
            self.channels_last,
            None if self.lists is None else self.lists[rows],
        )

    def parts(self, n_parts: int) -> list[Rows]:
        """Split the rows into `n_parts` parts that differ by one row at most."""
        if n_parts == 1:
            return [self]
        ends = [len(self) * (i + 1) // n_parts for i in range(n_parts)]
        return [self.cut(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def shuffled(rows: Rows, generator: torch.Generator) -> Tensor:
    """Return numbers of rows, int64, in a random order; rows of a list stand together."""
    if rows.lists is None:
        return torch.randperm(len(rows), generator=generator)
    _, place = torch.unique(rows.lists, return_inverse=True)
    turn = torch.randperm(int(place.max()) + 1, generator=generator)
    return torch.argsort(turn[place], stable=True)


def unshuffled(rows: Rows) -> Tensor:
    """Return numbers of rows in their order; rows of a list stand together."""
    return torch.arange(len(rows)) if rows.lists is None else torch.argsort(rows.lists, stable=True)


def sizes_of_lists(lists: Tensor, batch_size: int) -> list[int]:
    """Return the sizes of as many batches as `batch_sizes` has, whose ends are the nearest ones of lists.

    Examples
    --------
    >>> sizes_of_lists(torch.tensor([4, 4, 4, 7, 7, 1, 1, 1]), 4)
    [3, 5]
    """
    ends = torch.unique_consecutive(lists, return_counts=True)[1].cumsum(0)
    chosen: list[int] = []
    for wanted in torch.tensor(batch_sizes(len(lists), batch_size)).cumsum(0).tolist():
        end = int(ends[(ends - wanted).abs().argmin()])
        start = chosen[-1] if chosen else 0
        # A batch of one row has no spread (BatchNorm).
        if end - start >= 2:
            chosen.append(end)
    if chosen and len(lists) - chosen[-1] == 1:
        chosen.pop()
    chosen += [len(lists)] if not chosen or chosen[-1] < len(lists) else []
    return [end - start for start, end in zip([0, *chosen[:-1]], chosen, strict=True)]


def batches(rows: Rows, order: Tensor, batch_size: int) -> Iterator[Rows]:
    """Yield batches of `rows` in the order of the row numbers in `order` (int64, on the CPU)."""
    sizes = batch_sizes(len(order), batch_size)
    if rows.lists is not None:
        sizes = sizes_of_lists(rows.lists[order], batch_size)
    limit = CHUNK_BYTES.get(rows.y.device.type, CHUNK_BYTES_ON_DEVICE)
    row_bytes = sum(values[:1].nbytes for values in rows.inputs)
    n_together = max(1, limit // max(1, row_bytes * max(sizes)))
    plan = [sizes[start : start + n_together] for start in range(0, len(sizes), n_together)]
    for taken, inside in gathered(rows, order, plan):
        start = 0
        for size in inside:
            yield taken.cut(start, start + size)
            start += size


def gathered(rows: Rows, order: Tensor, plan: Sequence[list[int]]) -> Iterator[tuple[Rows, list[int]]]:
    """Yield gathered rows, and the sizes of the batches in them."""
    pieces = torch.split(order, [sum(inside) for inside in plan])
    if not any(isinstance(values, LazyColumn) for values in rows.inputs):
        for piece, inside in zip(pieces, plan, strict=True):
            yield rows.take(piece), inside
        return
    with ThreadPoolExecutor(1, thread_name_prefix="stackfeat-rows") as reader:
        ahead = reader.submit(rows.take, pieces[0])
        for i, inside in enumerate(plan):
            taken = ahead.result()
            if i + 1 < len(pieces):
                ahead = reader.submit(rows.take, pieces[i + 1])
            yield taken, inside


def convolves_images(module: nn.Module, inputs: Sequence[Tensor | LazyColumn]) -> bool:
    """Say whether a net has 2-D convolutions and gets images."""
    has_images = any(x.ndim == IMAGE_DIMENSIONS for x in inputs)
    return has_images and any(isinstance(part, nn.Conv2d) for part in module.modules())


def check_mixing(options: TrainOptions, task: Task) -> None:
    """Refuse mixing where a target is no class.

    Raises
    ------
    UsageError
    """
    for name in ("mixup", "cutmix"):
        if getattr(options, name) is not None and name in task.unusable_training:
            raise UsageError(
                f"{name} must be used in classification; got {name}={getattr(options, name):g} for "
                f"task={task.kind!r}; remove train.{name}"
            )


def check_mixable(options: TrainOptions, rows: Rows) -> None:
    """Refuse inputs that cannot be mixed, before training starts.

    Raises
    ------
    UsageError
        mixup of codes or tokens, which are no quantities; cutmix of anything but images.
    """
    few = [values[:1] for values in rows.inputs]
    if options.mixup is not None and any(x.numel() and not x.is_floating_point() for x in few):
        raise UsageError(
            "mixup must have inputs that are numbers; got category codes or tokens (int64); remove "
            "train.mixup, or use a net without accepts_categories, which gets categories one-hot"
        )
    if options.cutmix is not None and any(x.ndim != IMAGE_DIMENSIONS for x in few):
        shapes = [tuple(x.shape[1:]) for x in few]
        raise UsageError(
            "cutmix must have inputs that are images (channels, height, width); "
            f"got rows of shape {shapes}; use train.mixup instead"
        )


def mix(rows: Rows, options: TrainOptions) -> Rows:
    """Return a mixed batch, drawn from torch's global generator on the CPU."""
    if options.mixup is None and options.cutmix is None:
        return rows
    cut = options.cutmix is not None and (options.mixup is None or float(torch.rand(())) < 0.5)
    alpha = options.cutmix if cut else options.mixup
    assert alpha is not None
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partner = torch.randperm(len(rows)).to(rows.y.device)
    inputs = rows.tensors
    if cut:
        inputs, share = paste(inputs, partner, share)
    else:
        inputs = tuple(x[partner].lerp(x, share) if x.is_floating_point() else x for x in inputs)
    other = Rows((), rows.y[partner], None if rows.weight is None else rows.weight[partner])
    return replace(rows, inputs=inputs, mixed=other, share=share)


def paste(inputs: tuple[Tensor, ...], partner: Tensor, share: float) -> tuple[tuple[Tensor, ...], float]:
    """Paste a box of each row's partner into it, at one place for all; return also the share left."""
    size = math.sqrt(1 - share)
    middle = torch.rand(2).tolist()
    mixed, left = [], 1.0
    for x in inputs:
        height, width = x.shape[-2:]
        top, bottom = span(middle[0], size, height)
        start, end = span(middle[1], size, width)
        x = x.clone()
        x[..., top:bottom, start:end] = x[..., top:bottom, start:end][partner]
        mixed.append(x)
        left = 1 - (bottom - top) * (end - start) / (height * width)
    return tuple(mixed), left


def span(middle: float, size: float, length: int) -> tuple[int, int]:
    """Return where a box of a share `size` begins and ends on a side; it is cut off at the edge."""
    half = int(size * length) / 2
    centre = int(middle * length)
    return max(0, math.floor(centre - half)), min(length, math.floor(centre + half))
