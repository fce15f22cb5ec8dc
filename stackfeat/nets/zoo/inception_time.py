"""InceptionTime: convolutions of several lengths side by side.

In:  a sequence and, where rows are padded, its lengths.
Out: one score per class, or one value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stackfeat.nets.zoo.sizes import check_at_least
from stackfeat.nets.zoo.steps import StepReader, real_steps

SHORTCUT_EVERY = 3


class InceptionTime(nn.Module):
    """Inception modules with a shortcut around every three, and the mean over real steps.

    After Ismail Fawaz et al. 2020 (arXiv:1909.04939): each module puts convolutions of three lengths
    and a pooled one side by side.

    Parameters
    ----------
    n_outputs : int
        Classes, or 1 for a value.
    shapes : mapping of str to tuple of int
        One input, (steps, channels) or (steps,).
    vocabulary : mapping of str to int
        For tokens: how many there are.
    filters : int
        Channels of each of the four branches.
    depth : int
        Modules.
    kernel : int
        Steps of the longest convolution; the others see a half and a quarter.
    dropout : float
        Before the head.

    **Shape**

    (n_rows, steps, channels) or tokens (n_rows, steps), and lengths (n_rows,), give (n_rows, n_outputs).
    """

    train_defaults = {"lr": 1e-3, "batch_size": 64}  # noqa: RUF012

    def __init__(
        self,
        n_outputs: int,
        shapes: Mapping[str, Sequence[int]],
        vocabulary: Mapping[str, int] | None = None,
        filters: int = 32,
        depth: int = 6,
        kernel: int = 40,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_at_least(1, filters=filters, depth=depth, kernel=kernel)
        self.reader = StepReader(shapes, vocabulary, filters, "inception_time")
        sizes = [filters] + [4 * filters] * (depth - 1)
        self.blocks = nn.ModuleList(InceptionBlock(size, filters, kernel) for size in sizes)
        self.shortcuts = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(filters if index == 0 else 4 * filters, 4 * filters, 1, bias=False),
                nn.BatchNorm1d(4 * filters),
            )
            for index in range(depth // SHORTCUT_EVERY)
        )
        self.act = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * filters, n_outputs)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        keep = real_steps(lengths, x)[:, None]
        steps = torch.where(keep, self.reader(x).transpose(1, 2), 0.0)
        before = steps
        for index, block in enumerate(self.blocks):
            steps = block(steps)
            if index % SHORTCUT_EVERY == SHORTCUT_EVERY - 1:
                steps = self.act(steps + self.shortcuts[index // SHORTCUT_EVERY](before))
                before = steps = torch.where(keep, steps, 0.0)
            steps = torch.where(keep, steps, 0.0)
        features = steps.sum(2) / keep.sum(2)
        scores: Tensor = self.head(self.dropout(features))
        return scores


class InceptionBlock(nn.Module):
    """Three convolutions on a bottleneck, and one on the largest neighbour, side by side."""

    def __init__(self, n_inputs: int, filters: int, kernel: int) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(n_inputs, filters, 1, bias=False)
        self.convolutions = nn.ModuleList(
            # Odd lengths, so that the output has a step for each step of the input.
            nn.Conv1d(filters, filters, size, padding=size // 2, bias=False)
            for size in (max(kernel // part, 1) // 2 * 2 + 1 for part in (1, 2, 4))
        )
        # Zeros at the edges, as in masked padding: max pooling's own edges are minus infinity.
        self.pool = nn.Sequential(nn.ConstantPad1d(1, 0.0), nn.MaxPool1d(3, stride=1))
        self.pooled = nn.Conv1d(n_inputs, filters, 1, bias=False)
        self.norm = nn.BatchNorm1d(4 * filters)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (n_rows, 4 * filters, steps)."""
        narrow = self.bottleneck(x)
        parts = [*(conv(narrow) for conv in self.convolutions), self.pooled(self.pool(x))]
        out: Tensor = self.act(self.norm(torch.cat(parts, dim=1)))
        return out
