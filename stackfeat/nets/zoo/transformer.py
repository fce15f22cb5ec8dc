"""Transformer encoder for sequences of numbers or tokens.

In:  a sequence and, where rows are padded, its lengths.
Out: one score per class, or one value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from stackfeat.errors import UsageError
from stackfeat.nets.zoo.sizes import check_at_least
from stackfeat.nets.zoo.steps import StepReader, pooled, position_waves, real_steps


class TransformerEncoder(nn.Module):
    """Self-attention with the norm in front, fixed positions, mean and maximum over real steps.

    After Vaswani et al. 2017 (arXiv:1706.03762); norm first: Xiong et al. 2020 (arXiv:2002.04745).

    Parameters
    ----------
    n_outputs : int
        Classes, or 1 for a value.
    shapes : mapping of str to tuple of int
        One input, (steps, channels) or (steps,).
    vocabulary : mapping of str to int
        For tokens: how many there are.
    width, heads : int
        Columns of each step, and attention heads that share them.
    depth : int
        Encoder layers.
    dropout : float

    **Shape**

    (n_rows, steps, channels) or tokens (n_rows, steps), and lengths (n_rows,), give (n_rows, n_outputs).
    """

    train_defaults = {"lr": 1e-3, "warmup": 0.1, "batch_size": 64}  # noqa: RUF012

    def __init__(
        self,
        n_outputs: int,
        shapes: Mapping[str, Sequence[int]],
        vocabulary: Mapping[str, int] | None = None,
        width: int = 64,
        heads: int = 4,
        depth: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_at_least(1, width=width, heads=heads, depth=depth)
        if width % heads:
            raise UsageError(f"width must be a multiple of heads; got width={width}, heads={heads}")
        self.reader = StepReader(shapes, vocabulary, width, "transformer_encoder")
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, n_outputs)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        steps = self.reader(x)
        mask = real_steps(lengths, x)
        steps = self.encoder(
            steps + position_waves(steps), src_key_padding_mask=None if lengths is None else ~mask
        )
        scores: Tensor = self.head(self.dropout(pooled(self.norm(steps), mask)))
        return scores
