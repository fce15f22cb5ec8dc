"""GRU: a recurrent net read in both directions.

In:  a sequence and, where rows are padded, its lengths.
Out: one score per class, or one value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stackfeat.nets.zoo.sizes import check_at_least
from stackfeat.nets.zoo.steps import StepReader, pooled, real_steps


class GRU(nn.Module):
    """Gated recurrent units forwards and backwards, mean and maximum over real steps.

    After Cho et al. 2014 (arXiv:1406.1078). Backwards means from the last real step: no state ever
    passes through padding.

    Parameters
    ----------
    n_outputs : int
        Classes, or 1 for a value.
    shapes : mapping of str to tuple of int
        One input, (steps, channels) or (steps,).
    vocabulary : mapping of str to int
        For tokens: how many there are.
    width : int
        Units of each direction.
    depth : int
        Layers.
    dropout : float
        After each layer.

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
        depth: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_at_least(1, width=width, depth=depth)
        self.reader = StepReader(shapes, vocabulary, width, "gru")
        sizes = [width] + [2 * width] * (depth - 1)
        self.forwards = nn.ModuleList(nn.GRU(size, width, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(nn.GRU(size, width, batch_first=True) for size in sizes)
        self.input_dropout = nn.Dropout(dropout)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(4 * width)
        self.head = nn.Linear(4 * width, n_outputs)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        mask = real_steps(lengths, x)
        reverse = reversed_positions(mask)[:, :, None]
        steps = self.input_dropout(self.reader(x))
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            mirrored = torch.gather(steps, 1, reverse.expand_as(steps))
            first, second = ahead(steps)[0], back(mirrored)[0]
            second = torch.gather(second, 1, reverse.expand_as(second))
            steps = self.dropout(torch.cat([first, second], dim=2))
        scores: Tensor = self.head(self.norm(pooled(steps, mask)))
        return scores


def reversed_positions(mask: Tensor) -> Tensor:
    """Return the positions that turn the real steps of each row around and leave padding where it is."""
    position = torch.arange(mask.shape[1], device=mask.device)[None]
    turned = mask.sum(1, keepdim=True) - 1 - position
    return torch.where(mask, turned, position.expand_as(mask))
