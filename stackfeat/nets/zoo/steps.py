"""What all nets for sequences share: reading numbers or tokens, masks, pooling over real steps.

In:  (n_rows, steps, channels) of numbers, or (n_rows, steps) of tokens; lengths.
Out: (n_rows, steps, width); masks; (n_rows, columns).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stackfeat.errors import UsageError
from stackfeat.nets.zoo.sizes import only_input


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
        name, shape = sequence_shape(shapes, vocabulary or {}, net)
        self.tokens: TokenEmbedding | None = None
        self.numbers: nn.Linear | None = None
        if vocabulary and name in vocabulary:
            self.tokens = TokenEmbedding(vocabulary[name], width)
        else:
            self.numbers = nn.Linear(shape[1] if len(shape) > 1 else 1, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors."""
        if self.tokens is not None:
            embedded: Tensor = self.tokens(x)
            return embedded
        assert self.numbers is not None
        projected: Tensor = self.numbers(x if x.ndim == 3 else x[:, :, None])
        return projected


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
        vectors: Tensor = self.table(codes)
        return vectors


def sequence_shape(
    shapes: Mapping[str, Sequence[int]], vocabulary: Mapping[str, int], net: str
) -> tuple[str, tuple[int, ...]]:
    """Return name and row shape of the one sequence that a net reads.

    Raises
    ------
    UsageError
        If there are several inputs, or the one is no sequence.
    """
    name, shape = only_input(shapes, net, "sequence")
    if len(shape) not in (1, 2):
        raise UsageError(
            f"{net} must read (steps, channels) or tokens; got {name} with rows of shape {shape}; give the "
            "input kind: sequence, or use another net"
        )
    return name, shape


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
