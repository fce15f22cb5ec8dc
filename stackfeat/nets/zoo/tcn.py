"""TCN: dilated convolutions over the steps of a sequence.

In:  a sequence and, where rows are padded, its lengths.
Out: one score per class, or one value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stackfeat.nets.zoo.sizes import check_at_least
from stackfeat.nets.zoo.steps import StepReader, pooled, real_steps


class TCN(nn.Module):
    """Residual blocks whose reach doubles from one to the next, mean and maximum over real steps.

    After Bai et al. 2018 (arXiv:1803.01271), looking to both sides of a step, because whole sequences
    are given; batch norm instead of weight norm.

    Parameters
    ----------
    n_outputs : int
        Classes, or 1 for a value.
    shapes : mapping of str to tuple of int
        One input, (steps, channels) or (steps,).
    vocabulary : mapping of str to int
        For tokens: how many there are.
    width : int
        Channels.
    depth : int
        Blocks; block i reaches ``2 ** i`` times as far as the first.
    kernel : int
        Steps that a convolution sees; odd.
    dropout : float
        In each block.

    **Shape**

    (n_rows, steps, channels) or tokens (n_rows, steps), and lengths (n_rows,), give (n_rows, n_outputs).
    """

    train_defaults = {"lr": 2e-3, "batch_size": 64}  # noqa: RUF012

    def __init__(
        self,
        n_outputs: int,
        shapes: Mapping[str, Sequence[int]],
        vocabulary: Mapping[str, int] | None = None,
        width: int = 64,
        depth: int = 4,
        kernel: int = 5,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_at_least(1, width=width, depth=depth, kernel=kernel)
        self.reader = StepReader(shapes, vocabulary, width, "tcn")
        self.blocks = nn.ModuleList(
            DilatedBlock(width, kernel | 1, 2**index, dropout) for index in range(depth)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, n_outputs)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        mask = real_steps(lengths, x)
        steps = self.reader(x).transpose(1, 2)
        for block in self.blocks:
            steps = block(steps, mask)
        scores: Tensor = self.head(self.dropout(pooled(steps.transpose(1, 2), mask)))
        return scores


class DilatedBlock(nn.Module):
    """Two convolutions beside a shortcut; padding is zero before each, as the edges are."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        reach = kernel // 2 * dilation
        self.conv1 = nn.Conv1d(width, width, kernel, padding=reach, dilation=dilation, bias=False)
        self.norm1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, kernel, padding=reach, dilation=dilation, bias=False)
        self.norm2 = nn.BatchNorm1d(width)
        self.act = nn.ReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (n_rows, width, steps)."""
        keep = mask[:, None]
        y = self.dropout(self.act(self.norm1(self.conv1(torch.where(keep, x, 0.0)))))
        y = self.norm2(self.conv2(torch.where(keep, y, 0.0)))
        out: Tensor = self.act(x + y)
        return out
