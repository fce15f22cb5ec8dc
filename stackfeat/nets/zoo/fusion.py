"""Fusion: an encoder for each named input, and one head over all of them.

In:  several inputs by name: images, sequences, tokens, tables.
Out: one score per class, or one value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import UsageError
from stackfeat.nets.zoo.mlp import MLP
from stackfeat.nets.zoo.sequences import attention_layer
from stackfeat.nets.zoo.sizes import check_at_least, check_heads, check_one_of
from stackfeat.registry.names import NETS
from stackfeat.registry.resolve import resolve, suggest

ENCODERS = ("vector", "cnn", "transformer_encoder", "gru", "tcn", "inception_time")
HOWS = ("concat", "attention")
LENGTHS = "lengths"


class Fusion(nn.Module):
    """Encode every input by a net of its own; put the codes side by side, or let them attend to each other.

    Each encoder is a net of this package whose head gives `width` columns instead of scores. ``concat`` is
    the late fusion of Ngiam et al. 2011 (ICML); ``attention`` is one layer of self-attention over the
    inputs, as in Nagrani et al. 2021 (arXiv:2107.00135) without their bottleneck.

    Parameters
    ----------
    n_outputs : int
        Classes, or 1 for a value.
    shapes : mapping of str to tuple of int
        Shape of a row of each input.
    vocabulary : mapping of str to int
        For inputs of tokens: how many there are.
    width : int
        Columns that each input becomes.
    hidden : int
        Columns of the layer before the head.
    how : {"concat", "attention"}
    encoders : mapping, optional
        Input to the encoder's name, or to ``{net: NAME, params...}``: `vector` (an `mlp` on columns), `cnn`,
        `transformer_encoder`, `gru`, `tcn`, `inception_time`. By default by shape: `vector`, `cnn`, `tcn`.
    dropout : float
    heads : int
        ``attention``: heads that share `width`.

    **Shape**

    Inputs by name, each with n_rows rows, and lengths as ``lengths`` or ``NAME_lengths``, give (n_rows, n_outputs).

    Examples
    --------
    >>> net = Fusion(n_outputs=2, shapes={"x": (5,), "s": (20, 3)}, width=16)
    >>> net(x=torch.randn(4, 5), s=torch.randn(4, 20, 3)).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        n_outputs: int,
        shapes: Mapping[str, Sequence[int]],
        vocabulary: Mapping[str, int] | None = None,
        width: int = 64,
        hidden: int = 128,
        how: str = "concat",
        encoders: Mapping[str, Any] | None = None,
        dropout: float = 0.2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        check_at_least(1, width=width, hidden=hidden, heads=heads)
        check_choices(shapes, encoders or {}, how, width, heads)
        self.encoders = nn.ModuleDict()
        for name, shape in shapes.items():
            chosen = (encoders or {}).get(name)
            self.encoders[name] = encoder(name, tuple(shape), chosen, vocabulary or {}, width)
        self.attention: nn.Module | None = None
        if how == "attention":
            self.marks = nn.Parameter(torch.randn(len(shapes), width) * 0.02)
            self.attention = attention_layer(width, heads, dropout)
        n_columns = width * len(shapes)
        self.norm = nn.LayerNorm(n_columns)
        self.hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(n_columns, hidden), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(hidden, n_outputs)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        codes = [self.encode(name, inputs) for name in self.encoders]
        if self.attention is not None:
            rows = torch.stack(codes, dim=1)
            joined = self.attention(rows + self.marks.to(rows.dtype)).flatten(1)
        else:
            joined = torch.cat(codes, dim=1)
        return self.head(self.hidden(self.norm(joined)))

    def encode(self, name: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the code of one input, (n_rows, width)."""
        net = self.encoders[name]
        lengths = inputs.get(f"{name}_{LENGTHS}", inputs.get(LENGTHS))
        reads_steps = lengths is not None and hasattr(net, "reader")
        # The same padding mask goes to the one sequence there is; other encoders take none.
        return net(inputs[name], lengths) if reads_steps else net(inputs[name])


def check_choices(
    shapes: Mapping[str, Sequence[int]], encoders: Mapping[str, Any], how: str, width: int, heads: int
) -> None:
    """Refuse encoders of inputs that are not there, and ways of joining that do not exist."""
    if not shapes:
        raise UsageError("fusion must have inputs by name; got none; name them in the member's inputs")
    for name in shapes:
        if "." in name:
            raise UsageError(f"fusion names layers after inputs, which have no '.'; got {name!r}; rename it")
    for name in encoders:
        if name not in shapes:
            raise UsageError(
                f"encoders must be for inputs ({', '.join(shapes)}); got {name!r}.{suggest(name, shapes)}"
            )
    check_one_of("how", how, HOWS)
    if how == "attention":
        check_heads("width", width, heads)


def encoder(
    name: str, shape: tuple[int, ...], chosen: Any, vocabulary: Mapping[str, int], width: int
) -> nn.Module:
    """Return the net that makes `width` columns of one input.

    Raises
    ------
    UsageError
        If its name is unknown.
    """
    given = dict(chosen) if isinstance(chosen, Mapping) else {"net": chosen}
    net = given.pop("net", None) or usual(name, shape, vocabulary)
    if net not in ENCODERS:
        raise UsageError(
            f"the encoder of {name!r} must be one of {', '.join(ENCODERS)}; got {net!r}."
            f"{suggest(str(net), ENCODERS)}"
        )
    params = given.pop("params", {}) | given
    if net == "vector":
        params = {"hidden": (128,), "dropout": 0.2, **params}
        return nn.Sequential(nn.Flatten(), MLP(math.prod(shape), width, **params))
    cls: Any = resolve(net, NETS, "encoder")
    facts = {} if net == "cnn" else {"vocabulary": {k: v for k, v in vocabulary.items() if k == name}}
    made: nn.Module = cls(n_outputs=width, shapes={name: shape}, **facts, **params)
    return made


def usual(name: str, shape: tuple[int, ...], vocabulary: Mapping[str, int]) -> str:
    """Return the encoder of an input by its shape."""
    if name in vocabulary or len(shape) == 2:
        return "tcn"
    return "cnn" if len(shape) == 3 else "vector"
