"""ResNet for tables: BatchNorm blocks with a shortcut.

In:  numeric columns, float32, and category codes, int64, where 0 means unknown or missing.
Out: one score per class, or one value.

Source: Y. Gorishniy, I. Rubachev, V. Khrulkov, A. Babenko, "Revisiting deep learning models for
tabular data", NeurIPS 2021, arXiv:2106.11959; package rtdl_revisiting_models (extra: tabular).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from stackfeat.nets.zoo.numbers import CategoryColumns, NumberColumns, find_bins
from stackfeat.nets.zoo.sizes import check_at_least, check_columns, import_extra


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
    train_defaults = {"lr": 1e-3, "weight_decay": 1e-2}  # noqa: RUF012

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
        scores: Tensor = self.resnet(self.categories(self.numbers(numeric), codes))
        return scores
