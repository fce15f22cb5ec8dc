"""mixup and cutmix: every row of a batch becomes a mixture of itself and another.

In:  a batch, the two strengths (the alpha of a Beta distribution).
Out: a batch of mixed inputs that knows the other target and the share of each.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018); Yun et al., "CutMix"
(ICCV 2019). With both, each batch draws one of them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from stackfeat.errors import UsageError
from stackfeat.nets.batches import Mixed, Rows
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.runtime import IMAGE_DIMENSIONS
from stackfeat.task import Task


def check_mixing(options: TrainOptions, task: Task) -> None:
    """Refuse mixing where a target is no class.

    Raises
    ------
    UsageError
    """
    for name in ("mixup", "cutmix"):
        if getattr(options, name) is not None and not task.is_classification:
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
        inputs = tuple(blend(x, x[partner], share) for x in inputs)
    other = Mixed(
        rows.y[partner],
        None if rows.weight is None else rows.weight[partner],
        share,
    )
    return replace(rows, inputs=inputs, mixed=other)


def blend(x: Tensor, other: Tensor, share: float) -> Tensor:
    return other.lerp(x, share) if x.is_floating_point() else x


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
