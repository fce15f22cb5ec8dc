"""MLPs for tables: the plain one, which is the default net, and RealMLP.

In:  numeric columns, float32, and category codes, int64, where 0 means unknown or missing.
Out: one score per class, or one value; hidden layers and `head` can be tapped by name.

Source of RealMLP (robust inputs, periodic embeddings, NTP layers): D. Holzmüller, L. Grinsztajn, I. Steinwart,
"Better by default: strong pre-tuned MLPs and boosted trees on tabular data", NeurIPS 2024, arXiv:2407.04491.
Left out of the recipe: initial weights and biases fitted to the data, a schedule of the dropout, beta2 = 0.95,
clamped outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackfeat.errors import UsageError
from stackfeat.nets.zoo.columns import CategoryColumns, category_table, first_codes, require_codes
from stackfeat.nets.zoo.sizes import check_columns, check_one_of, check_widths

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
}

PARAMETRIC = {"selu": F.selu, "mish": F.mish}
LARGEST = 1e6


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
        check_columns("an MLP", n_features, cardinalities)
        check_widths(hidden, may_be_empty=True)
        check_one_of("activation", activation, ACTIVATIONS)
        self.embedding = category_table(cardinalities, embedding, std=0.5) if cardinalities else None
        self.register_buffer("offsets", first_codes(cardinalities), persistent=False)
        widths = [n_features + embedding * len(cardinalities), *hidden]
        blocks = [block(*sizes, dropout, ACTIVATIONS[activation]) for sizes in pairwise(widths)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], n_outputs)

    def forward(self, numeric: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        x = numeric
        if self.embedding is not None:
            vectors = self.embedding(require_codes(codes) + self.offsets).flatten(1)
            x = torch.cat([numeric, vectors], dim=1)
        return self.head(self.blocks(x))


class ByteDropout(nn.Dropout):
    """Dropout whose mask costs a random byte, not a random number, per unit.

    On a CPU drawing the mask of `nn.Dropout` takes a quarter of a training step. The share dropped
    is `p` rounded to a 256th, and the kept units are scaled by just that.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.draws_bytes(x):
            return super().forward(x)
        words = torch.empty(1, (x.numel() + 7) // 8, dtype=torch.int64)
        return self.masked(x, words.random_(-(2**63), None))

    def draws_bytes(self, x: Tensor) -> bool:
        """Say whether a byte decides: on a CPU, where the share is none of the ends."""
        return 0 < round(self.p * 256) < 256 and x.device.type == "cpu"

    def masked(self, x: Tensor, words: Tensor) -> Tensor:
        """Drop units by random int64 `words`, a row of them for each of equally many units."""
        threshold = round(self.p * 256)
        drawn = words.view(torch.uint8)[:, : x.numel() // len(words)].reshape(x.shape)
        return x * (drawn >= threshold).to(x.dtype).mul_(256 / (256 - threshold))


def block(n_inputs: int, n_units: int, dropout: float, activation: type[nn.Module]) -> nn.Sequential:
    """Return one hidden layer. BatchNorm has the bias, so Linear has none."""
    linear = nn.Linear(n_inputs, n_units, bias=False)
    nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    layers = [linear, nn.BatchNorm1d(n_units), activation()]
    return nn.Sequential(*layers, ByteDropout(dropout)) if dropout else nn.Sequential(*layers)


class RealMLP(nn.Module):
    """Robust scaling, smooth clipping, PBLD embeddings, a scaling layer, NTP layers.

    Parameters
    ----------
    n_features : int
        Numeric columns; may be 0 where there are categories.
    n_outputs : int
        Classes, or 1 for a value.
    cardinalities : sequence of int
        Codes per categorical column, the code 0 (unknown) included.
    prepared : mapping, optional
        What `prepare` learned of the training rows; without it numbers are only clipped.
    hidden : sequence of int
        Width of each hidden layer.
    dropout : float
        Share of hidden units dropped in training.
    embedding : int
        Columns each category becomes where it has more than `max_one_hot` codes.
    max_one_hot : int
        Categories with at most as many codes, the unknown one included, are one-hot.
    frequencies : int
        Cosines of each number; 0 leaves numbers as they are.
    frequency_scale : float
        Standard deviation of the initial frequencies.
    numeric_embedding : int
        Columns each number becomes, itself included.
    activation : {"auto", "selu", "mish"}
        ``auto``: SELU for classes, Mish for values, as in the paper.

    **Shape**

    ``numeric`` (n_rows, n_features) and ``codes`` (n_rows, len(cardinalities)) give
    (n_rows, n_outputs).

    Examples
    --------
    >>> net = RealMLP(n_features=3, n_outputs=2, cardinalities=(5,), hidden=(16, 8))
    >>> net(torch.randn(4, 3), torch.zeros(4, 1, dtype=torch.int64)).shape
    torch.Size([4, 2])
    """

    accepts_categories = True

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        cardinalities: Sequence[int] = (),
        prepared: Mapping[str, Any] | None = None,
        hidden: Sequence[int] = (256, 256, 256),
        dropout: float = 0.15,
        embedding: int = 8,
        max_one_hot: int = 9,
        frequencies: int = 16,
        frequency_scale: float = 0.1,
        numeric_embedding: int = 4,
        activation: str = "auto",
    ) -> None:
        super().__init__()
        check_columns("a RealMLP", n_features, cardinalities)
        check_widths(hidden)
        check_one_of("activation", activation, ("auto", *PARAMETRIC))
        if numeric_embedding < 2 and frequencies:
            raise UsageError(
                "numeric_embedding must be at least 2, for the number itself is one column; got "
                f"numeric_embedding={numeric_embedding}; try 4, or frequencies: 0 for no embedding"
            )
        if activation == "auto":
            activation = "mish" if n_outputs == 1 else "selu"
        self.robust = RobustClip(n_features, prepared)
        has_waves = n_features > 0 and frequencies > 0
        self.numbers = (
            PeriodicColumns(n_features, frequencies, numeric_embedding, frequency_scale)
            if has_waves
            else None
        )
        self.categories = CategoryColumns(cardinalities, embedding, max_one_hot, std=1.0)
        width = n_features * (numeric_embedding if has_waves else 1) + self.categories.width
        self.scale = ScalingLayer(width)
        sizes = pairwise([width, *hidden])
        self.blocks = nn.Sequential(*(ntp_block(*pair, dropout, activation) for pair in sizes))
        self.head = NTPLinear(hidden[-1], n_outputs)

    @classmethod
    def prepare(cls, arrays: Sequence[np.ndarray], params: Mapping[str, Any]) -> dict[str, Any]:
        """Return each number's median and the factor that brings its quartiles 1 apart.

        Parameters
        ----------
        arrays : (numeric, codes)
            Rows that the net will be trained on.
        params : mapping
            As the constructor gets them; not needed here.
        """
        numeric = arrays[0].astype(np.float64)
        lower, center, upper = np.quantile(numeric, (0.25, 0.5, 0.75), axis=0)
        spread = upper - lower
        # Half the values of a column may be equal, such as the zeros of an indicator.
        reach = (numeric.max(axis=0) - numeric.min(axis=0)) / 2
        spread = np.where(spread > 0, spread, reach)
        scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
        return {"center": center.tolist(), "scale": scale.tolist()}

    def forward(self, numeric: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        numbers = self.robust(numeric)
        if self.numbers is not None:
            numbers = self.numbers(numbers)
        x = self.categories(numbers, codes)
        return self.head(self.blocks(self.scale(x)))


class RobustClip(nn.Module):
    """``z = scale * (x - center)``, then ``z / sqrt(1 + (z / 3)^2)``: linear near 0, never beyond 3."""

    center: Tensor
    factor: Tensor

    def __init__(self, n_features: int, prepared: Mapping[str, Any] | None) -> None:
        super().__init__()
        values = prepared or {"center": [0.0] * n_features, "scale": [1.0] * n_features}
        self.register_buffer("center", torch.tensor(values["center"], dtype=torch.float32))
        self.register_buffer("factor", torch.tensor(values["scale"], dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        # The square of a huge number is infinite, which would bring it to 0.
        scaled = ((x - self.center) * self.factor).clamp(-LARGEST, LARGEST)
        return scaled * torch.rsqrt(1 + (scaled / 3) ** 2)


class PeriodicColumns(nn.Module):
    """PBLD embeddings: each number beside a linear map of its own cosines, ``(x, W cos(2 pi f x + b) + c)``.

    (n_rows, n_features) becomes (n_rows, n_features * n_columns). All weights learn at a tenth of
    the rate and without weight decay, which would draw the frequencies to zero.
    """

    RATE = 0.1

    def __init__(self, n_features: int, n_waves: int, n_columns: int, frequency_scale: float) -> None:
        super().__init__()
        self.n_waves = n_waves
        bound = n_waves**-0.5
        size = n_features * n_waves
        self.frequency = slow(torch.randn(size) * (frequency_scale * 2 * math.pi), self.RATE)
        self.phase = slow(torch.empty(size).uniform_(-math.pi, math.pi), self.RATE)
        self.weight = slow(torch.empty(size * (n_columns - 1)).uniform_(-bound, bound), self.RATE)
        self.bias = slow(torch.empty(n_features * (n_columns - 1)).uniform_(-bound, bound), self.RATE)

    def forward(self, x: Tensor) -> Tensor:
        n_features = x.shape[1]
        # Features in front, for one matrix product each: (n_features, n_rows, n_waves).
        shape = (n_features, 1, self.n_waves)
        frequency, phase = (self.RATE * self.frequency).view(shape), (self.RATE * self.phase).view(shape)
        waves = torch.cos(torch.addcmul(phase, x.t()[:, :, None], frequency))
        weight = (self.RATE * self.weight).view(n_features, self.n_waves, -1)
        bias = (self.RATE * self.bias).view(n_features, 1, -1)
        columns = torch.baddbmm(bias, waves, weight).transpose(0, 1)
        return torch.cat([x[:, :, None].to(columns.dtype), columns], dim=2).flatten(1)


class ScalingLayer(nn.Module):
    """A learned factor for each column, at six times the learning rate: soft feature selection."""

    RATE = 6.0

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = slow(torch.ones(width), self.RATE)

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.RATE * self.factor)


class NTPLinear(nn.Module):
    """A linear layer in neural tangent parametrisation: ``x W / sqrt(d) + b``, all drawn from N(0, 1).

    The bias learns at a tenth of the learning rate.
    """

    RATE = 0.1

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_outputs, n_inputs))
        self.bias = slow(torch.randn(n_outputs), self.RATE)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.RATE * self.bias, x, self.weight.t(), alpha=self.weight.shape[1] ** -0.5)


class ParametricActivation(nn.Module):
    """``x + a (f(x) - x)`` with an ``a`` for each unit, at a tenth of the learning rate, from 1."""

    RATE = 0.1

    def __init__(self, n_units: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.amount = slow(torch.ones(n_units), self.RATE)

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(x, PARAMETRIC[self.activation](x), (self.RATE * self.amount).to(x.dtype))


def slow(values: Tensor, rate: float) -> nn.Parameter:
    """Return a parameter that stands for `values` once multiplied by `rate`.

    Adam's step does not depend on the scale of a gradient, so what is multiplied by `rate` learns at
    `rate` times the learning rate, whatever the optimizer knows of it. One dimension: no weight decay.
    """
    return nn.Parameter(values / rate)


def ntp_block(n_inputs: int, n_units: int, dropout: float, activation: str) -> nn.Sequential:
    layers = [NTPLinear(n_inputs, n_units), ParametricActivation(n_units, activation)]
    return nn.Sequential(*layers, ByteDropout(dropout)) if dropout else nn.Sequential(*layers)
