"""Nets for tables out of published packages (extra: tabular): TabM, ResNet, FT-Transformer.

In:  numeric columns, float32, and category codes, int64, where 0 means unknown or missing.
Out: one score per class, or one value.

Sources: Y. Gorishniy, I. Rubachev, V. Khrulkov, A. Babenko, "Revisiting deep learning models for tabular
data", NeurIPS 2021, arXiv:2106.11959 (ResNet and FT-Transformer; package rtdl_revisiting_models);
Y. Gorishniy, A. Kotelnikov, A. Babenko, "TabM: advancing tabular deep learning with parameter-efficient
ensembling", ICLR 2025, arXiv:2410.24210 (package tabm).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackfeat.nets.zoo.columns import CategoryColumns, NumberColumns, find_bins, require_codes
from stackfeat.nets.zoo.sizes import (
    check_at_least,
    check_columns,
    check_heads,
    check_one_of,
    import_extra,
)

ARCHITECTURES = ("tabm", "tabm-mini", "tabm-packed")


class TabM(nn.Module):
    """Embedded numbers and categories, a backbone of k MLPs, k heads.

    Parameters
    ----------
    n_features : int
        Numeric columns; may be 0 where there are categories.
    n_outputs : int
        Classes, or 1 for a value.
    cardinalities : sequence of int
        Codes per categorical column, the code 0 (unknown) included.
    prepared : mapping, optional
        Bins that `prepare` found in the training rows.
    k : int
        MLPs; 32 in the paper, 16 here: on a processor time grows with k.
    hidden : int
        Width of each layer; 512 in the paper.
    n_blocks : int
        Layers; the package takes 2 with embedded numbers, 3 without.
    dropout : float
    architecture : {"tabm", "tabm-mini", "tabm-packed"}
        How much is shared: all but scales, all but the first scale, nothing.
    num_embeddings : {"none", "piecewise_linear", "periodic"}
        What becomes of each number first.
    num_embedding_width, n_bins, frequency_scale
        Columns for each number; ``piecewise_linear``: bins; ``periodic``: spread of frequencies.
    embedding, max_one_hot : int
        Columns of a category with more than `max_one_hot` codes; others are one-hot.

    **Shape**

    ``numeric`` (n_rows, n_features) and ``codes`` (n_rows, len(cardinalities)) give
    (n_rows, k, n_outputs) in training, (n_rows, n_outputs) in eval mode. The penultimate tap is the
    input of ``head``, (n_rows, k, hidden), pooled to its mean over the k.
    """

    accepts_categories = True

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        cardinalities: Sequence[int] = (),
        prepared: Mapping[str, Any] | None = None,
        k: int = 16,
        hidden: int = 128,
        n_blocks: int = 2,
        dropout: float = 0.1,
        architecture: str = "tabm",
        num_embeddings: str = "piecewise_linear",
        num_embedding_width: int = 16,
        n_bins: int = 48,
        frequency_scale: float = 0.01,
        embedding: int = 8,
        max_one_hot: int = 32,
    ) -> None:
        super().__init__()
        package = import_extra("tabm", "tabm", "tabular")
        check_columns("a TabM", n_features, cardinalities)
        check_at_least(1, k=k, hidden=hidden, n_blocks=n_blocks)
        check_at_least(2, n_bins=n_bins)  # used by `prepare`
        check_one_of("architecture", architecture, ARCHITECTURES)
        self.numbers = NumberColumns(
            n_features, num_embeddings, num_embedding_width, frequency_scale, prepared, "tabm"
        )
        self.categories = CategoryColumns(cardinalities, embedding, max_one_hot, std=0.5)
        # Columns of one feature get the same random scale.
        chunks = [self.numbers.width] * n_features + self.categories.widths
        has_embeddings = self.numbers.embed is not None
        is_packed = architecture == "tabm-packed"
        self.view = package.EnsembleView(k=k)
        self.backbone = package.make_tabm_backbone(
            d_in=sum(chunks),
            n_blocks=n_blocks,
            d_block=hidden,
            dropout=dropout,
            k=k,
            arch_type=architecture,
            start_scaling_init=None if is_packed else "normal" if has_embeddings else "random-signs",
            start_scaling_init_chunks=None if is_packed else chunks,
        )
        self.head = package.LinearEnsemble(hidden, n_outputs, k=k)

    @classmethod
    def prepare(cls, arrays: Sequence[np.ndarray], params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the bins that piecewise-linear embeddings need; see `find_bins`."""
        return find_bins(arrays, {"num_embeddings": "piecewise_linear", **params}, "tabm")

    def forward(self, numeric: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return k predictions a row in training, their mean in eval mode."""
        x = self.view(self.categories(self.numbers(numeric), codes))
        scores: Tensor = self.head(self.backbone(x))
        return scores if self.training else mean_prediction(scores)


def mean_prediction(scores: Tensor) -> Tensor:
    """Return log of the mean probability of (n_rows, k, n_classes) scores, or the mean of values."""
    if scores.shape[2] == 1:
        return scores.mean(1)
    return torch.logsumexp(torch.log_softmax(scores, dim=2), dim=1) - math.log(scores.shape[1])


class ResNetTabular(nn.Module):
    """The package's ResNet over numbers and embedded categories.

    Parameters
    ----------
    n_features : int
        Numeric columns; may be 0 where there are categories.
    n_outputs : int
        Classes, or 1 for a value.
    cardinalities : sequence of int
        Codes per categorical column, the code 0 (unknown) included.
    prepared : mapping, optional
        Bins that `prepare` found in the training rows.
    n_blocks : int
    hidden : int
        Width between blocks; inside it is `multiplier` times that.
    multiplier : float
    dropout, residual_dropout : float
        Inside a block, and on what it adds.
    num_embeddings : {"none", "piecewise_linear", "periodic"}
        What becomes of each number first.
    num_embedding_width, n_bins, frequency_scale
        Columns for each number; ``piecewise_linear``: bins; ``periodic``: spread of frequencies.
    embedding, max_one_hot : int
        Columns of a category with more than `max_one_hot` codes; others are one-hot.

    **Shape**

    ``numeric`` (n_rows, n_features) and ``codes`` (n_rows, len(cardinalities)) give
    (n_rows, n_outputs).
    """

    accepts_categories = True

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        cardinalities: Sequence[int] = (),
        prepared: Mapping[str, Any] | None = None,
        n_blocks: int = 2,
        hidden: int = 192,
        multiplier: float = 2.0,
        dropout: float = 0.25,
        residual_dropout: float = 0.0,
        num_embeddings: str = "none",
        num_embedding_width: int = 16,
        n_bins: int = 48,
        frequency_scale: float = 0.01,
        embedding: int = 8,
        max_one_hot: int = 9,
    ) -> None:
        super().__init__()
        package = import_extra("rtdl_revisiting_models", "resnet_tabular", "tabular")
        check_columns("a ResNetTabular", n_features, cardinalities)
        check_at_least(1, n_blocks=n_blocks, hidden=hidden)
        check_at_least(2, n_bins=n_bins)  # used by `prepare`
        self.numbers = NumberColumns(
            n_features, num_embeddings, num_embedding_width, frequency_scale, prepared, "resnet_tabular"
        )
        self.categories = CategoryColumns(cardinalities, embedding, max_one_hot, std=0.5)
        self.resnet = package.ResNet(
            d_in=n_features * self.numbers.width + self.categories.width,
            d_out=n_outputs,
            n_blocks=n_blocks,
            d_block=hidden,
            d_hidden_multiplier=multiplier,
            dropout1=dropout,
            dropout2=residual_dropout,
        )

    @classmethod
    def prepare(cls, arrays: Sequence[np.ndarray], params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the bins that piecewise-linear embeddings need; see `find_bins`."""
        return find_bins(arrays, params, "resnet_tabular")

    def forward(self, numeric: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        return self.resnet(self.categories(self.numbers(numeric), codes))


class FTTransformer(nn.Module):
    """The package's FT-Transformer.

    Parameters
    ----------
    n_features : int
        Numeric columns; may be 0 where there are categories.
    n_outputs : int
        Classes, or 1 for a value.
    cardinalities : sequence of int
        Codes per categorical column, the code 0 (unknown) included.
    n_blocks : int
        Layers of attention; 3 in the paper, of width 192.
    hidden : int
        Width of a token, a multiple of `heads`.
    heads : int
    attention_dropout, dropout, residual_dropout : float
        In the attention map, in the feed-forward part, and on what each adds.

    **Shape**

    ``numeric`` (n_rows, n_features) and ``codes`` (n_rows, len(cardinalities)) give
    (n_rows, n_outputs).
    """

    accepts_categories = True

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        cardinalities: Sequence[int] = (),
        n_blocks: int = 2,
        hidden: int = 64,
        heads: int = 8,
        attention_dropout: float = 0.15,
        dropout: float = 0.05,
        residual_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        package = import_extra("rtdl_revisiting_models", "ft_transformer", "tabular")
        check_columns("an FTTransformer", n_features, cardinalities)
        check_at_least(1, n_blocks=n_blocks, hidden=hidden, heads=heads)
        check_heads("hidden", hidden, heads)
        self.has_numbers = n_features > 0
        self.has_categories = bool(cardinalities)
        self.transformer = package.FTTransformer(
            n_cont_features=n_features,
            cat_cardinalities=list(cardinalities),
            d_out=n_outputs,
            n_blocks=n_blocks,
            d_block=hidden,
            attention_n_heads=heads,
            attention_dropout=attention_dropout,
            ffn_d_hidden_multiplier=4 / 3,
            ffn_dropout=dropout,
            residual_dropout=residual_dropout,
        )
        if self.has_categories:
            with torch.no_grad():
                for table in self.transformer.cat_embeddings.embeddings:
                    table.weight[0] = 0.0  # unknown is often absent from training: no random vector then

    def forward(self, numeric: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        return self.transformer(
            numeric if self.has_numbers else None, require_codes(codes) if self.has_categories else None
        )
