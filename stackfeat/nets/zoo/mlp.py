"""MLP: the built-in net for tables.

In:  numeric columns, float32, and category codes, int64, where 0 means unknown or missing.
Out: one score per class, or one value; hidden layers and `head` can be tapped by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stackfeat.errors import UsageError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
}


class MLP(nn.Module):
    """Blocks of Linear, BatchNorm, activation and Dropout over numbers and embedded categories.

    Parameters
    ----------
    n_features : int
        Numeric columns; may be 0 where there are categories.
    n_outputs : int
        Classes, or 1 for a value.
    cardinalities : sequence of int
        Codes per categorical column, the code 0 (unknown) included.
    hidden : sequence of int
        Width of each hidden layer.
    dropout : float
        Share of hidden units dropped in training.
    embedding : int
        Columns each category becomes.
    activation : {"relu", "gelu", "silu", "mish"}
        What follows each BatchNorm.

    **Shape**

    ``numeric`` (n_rows, n_features) and ``codes`` (n_rows, len(cardinalities)) give
    (n_rows, n_outputs).

    Examples
    --------
    >>> net = MLP(n_features=3, n_outputs=2, cardinalities=(5,), hidden=(16, 8))
    >>> net(torch.randn(4, 3), torch.zeros(4, 1, dtype=torch.int64)).shape
    torch.Size([4, 2])
    """

    accepts_categories = True
    offsets: Tensor

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        cardinalities: Sequence[int] = (),
        hidden: Sequence[int] = (256, 256, 128),
        dropout: float = 0.1,
        embedding: int = 8,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        check_sizes(n_features, cardinalities, hidden, activation)
        self.embedding = category_table(cardinalities, embedding) if cardinalities else None
        starts = [sum(cardinalities[:column]) for column in range(len(cardinalities))]
        self.register_buffer("offsets", torch.tensor(starts, dtype=torch.int64), persistent=False)
        width = n_features + embedding * len(cardinalities)
        self.blocks = nn.Sequential()
        for n_units in hidden:
            self.blocks.append(block(width, n_units, dropout, ACTIVATIONS[activation]))
            width = n_units
        self.head = nn.Linear(width, n_outputs)

    def forward(self, numeric: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        x = numeric
        if self.embedding is not None:
            if codes is None:
                raise ValueError("codes must be given: this net was built with cardinalities; got codes=None")
            x = torch.cat([numeric, self.embedding(codes + self.offsets).flatten(1)], dim=1)
        scores: Tensor = self.head(self.blocks(x))
        return scores


class ByteDropout(nn.Dropout):
    """Dropout whose mask costs a random byte, not a random number, per unit.

    On a CPU drawing the mask of `nn.Dropout` takes a quarter of a training step. The share dropped
    is `p` rounded to a 256th, and the kept units are scaled by just that.
    """

    def forward(self, x: Tensor) -> Tensor:
        threshold = round(self.p * 256)
        if not self.training or not 0 < threshold < 256 or x.device.type != "cpu":
            return super().forward(x)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
        return x * kept.to(x.dtype).mul_(256 / (256 - threshold))


def block(n_inputs: int, n_units: int, dropout: float, activation: type[nn.Module]) -> nn.Sequential:
    """Return one hidden layer. BatchNorm has the bias, so Linear has none."""
    linear = nn.Linear(n_inputs, n_units, bias=False)
    nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    layers = [linear, nn.BatchNorm1d(n_units), activation()]
    return nn.Sequential(*layers, ByteDropout(dropout)) if dropout else nn.Sequential(*layers)


def category_table(cardinalities: Sequence[int], width: int) -> nn.Embedding:
    """Return one table for all columns: a single look-up is much faster than one a column."""
    table = nn.Embedding(sum(cardinalities), width)
    nn.init.normal_(table.weight, std=0.5)
    with torch.no_grad():
        start = 0
        for cardinality in cardinalities:
            table.weight[start] = 0.0  # unknown is often absent from training: no random vector then
            start += cardinality
    return table


def check_sizes(
    n_features: int, cardinalities: Sequence[int], hidden: Sequence[int], activation: str
) -> None:
    """Refuse sizes no net can be made of, before torch does so in its own words."""
    if n_features < 1 and not cardinalities:
        raise UsageError(
            f"an MLP must have at least one input column; got n_features={n_features}, cardinalities=(); "
            "check the member's inputs"
        )
    if any(n_units < 1 for n_units in hidden):
        raise UsageError(f"hidden must be widths of at least 1; got hidden={list(hidden)}; try [256, 128]")
    if activation not in ACTIVATIONS:
        raise UsageError(
            f"activation must be one of {', '.join(ACTIVATIONS)}; got activation={activation!r}; try 'relu'"
        )
