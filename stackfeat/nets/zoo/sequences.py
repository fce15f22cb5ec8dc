"""Nets for sequences: GRU, TCN, InceptionTime and a transformer encoder, and the parts that they share.

In:  (n_rows, steps, channels) of numbers, or (n_rows, steps) of tokens; lengths where rows are padded.
Out: one score per class, or one value. Padding never has a say: steps are masked before they are summed up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stackfeat.errors import UsageError
from stackfeat.nets.zoo.sizes import check_at_least, check_heads, only_input


class StepReader(nn.Module):
    """Steps of one input as vectors: numbers through a linear layer, tokens through an embedding.

    **Shape**

    (n_rows, steps, channels), (n_rows, steps) of numbers or (n_rows, steps) of tokens give
    (n_rows, steps, width).
    """

    def __init__(
        self, shapes: Mapping[str, Sequence[int]], vocabulary: Mapping[str, int] | None, width: int, net: str
    ) -> None:
        super().__init__()
        name, shape = only_input(shapes, net, "sequence")
        if len(shape) not in (1, 2):
            raise UsageError(
                f"{net} must read (steps, channels) or tokens; got {name} with rows of shape {shape}; give the "
                "input kind: sequence, or use another net"
            )
        self.tokens: TokenEmbedding | None = None
        self.numbers: nn.Linear | None = None
        if vocabulary and name in vocabulary:
            self.tokens = TokenEmbedding(vocabulary[name], width)
        else:
            self.numbers = nn.Linear(shape[1] if len(shape) > 1 else 1, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors."""
        if self.tokens is not None:
            return self.tokens(x)
        assert self.numbers is not None
        return self.numbers(x if x.ndim == 3 else x[:, :, None])


class TokenEmbedding(nn.Module):
    """A vector for each token seen in training, zeros for any other.

    Which tokens were seen is part of the state: an embedding that no training row ever moved is
    noise, and later files may hold tokens that the training file has not.
    """

    seen: Tensor

    def __init__(self, n_tokens: int, width: int) -> None:
        super().__init__()
        # The last row is that of unknown tokens.
        self.table = nn.Embedding(n_tokens + 1, width, padding_idx=n_tokens)
        nn.init.normal_(self.table.weight, std=0.5)
        with torch.no_grad():
            self.table.weight[n_tokens] = 0.0
        self.n_tokens = n_tokens
        self.register_buffer("seen", torch.zeros(n_tokens + 1, dtype=torch.bool))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (n_rows, steps, width)."""
        is_known = (tokens >= 0) & (tokens < self.n_tokens)
        codes = torch.where(is_known, tokens, self.n_tokens)
        if self.training:
            self.seen[codes] = True
        else:
            # A net that was never trained has seen nothing: all its vectors are equally good then.
            is_usable = self.seen[codes] | ~self.seen.any()
            codes = torch.where(is_usable, codes, self.n_tokens)
        return self.table(codes)


def real_steps(lengths: Tensor | None, x: Tensor) -> Tensor:
    """Return a mask (n_rows, steps), True where a step is real; a row has at least one."""
    steps = torch.arange(x.shape[1], device=x.device)
    if lengths is None:
        return torch.ones(len(x), x.shape[1], dtype=torch.bool, device=x.device)
    return steps < lengths.clamp(min=1)[:, None]


def pooled(x: Tensor, mask: Tensor) -> Tensor:
    """Return mean and maximum over real steps side by side: (n_rows, steps, d) gives (n_rows, 2 d)."""
    keep = mask[:, :, None]
    mean = torch.where(keep, x, 0.0).sum(1) / keep.sum(1)
    largest = x.masked_fill(~keep, torch.finfo(x.dtype).min).amax(1)
    return torch.cat([mean, largest], dim=1)


def position_waves(x: Tensor) -> Tensor:
    """Return sines and cosines of the position, (steps, d) for (n_rows, steps, d); any number of steps."""
    n_steps, width = x.shape[1:]
    step = torch.arange(n_steps, device=x.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=x.device) * (-math.log(10_000.0) / width))
    waves = torch.zeros(n_steps, width, device=x.device)
    waves[:, 0::2] = torch.sin(step * rate)
    waves[:, 1::2] = torch.cos(step * rate[: width // 2])
    return waves.to(x.dtype)


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
        return self.head(self.norm(pooled(steps, mask)))


def reversed_positions(mask: Tensor) -> Tensor:
    """Return the positions that turn the real steps of each row around and leave padding where it is."""
    position = torch.arange(mask.shape[1], device=mask.device)[None]
    turned = mask.sum(1, keepdim=True) - 1 - position
    return torch.where(mask, turned, position.expand_as(mask))


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
        return self.head(self.dropout(pooled(steps.transpose(1, 2), mask)))


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
        return self.act(x + y)


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
        return self.head(self.dropout(features))


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
        return self.act(self.norm(torch.cat(parts, dim=1)))


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
        check_heads("width", width, heads)
        self.reader = StepReader(shapes, vocabulary, width, "transformer_encoder")
        layer = attention_layer(width, heads, dropout)
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
        return self.head(self.dropout(pooled(self.norm(steps), mask)))


def attention_layer(width: int, heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    """Return a layer of self-attention with the norm in front."""
    return nn.TransformerEncoderLayer(
        width, heads, 2 * width, dropout, "gelu", batch_first=True, norm_first=True
    )
