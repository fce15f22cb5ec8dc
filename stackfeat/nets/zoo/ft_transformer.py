"""FT-Transformer: a token for each column, attention between columns.

In:  numeric columns, float32, and category codes, int64, where 0 means unknown or missing.
Out: one score per class, or one value, read from a token of its own.

Source: Y. Gorishniy, I. Rubachev, V. Khrulkov, A. Babenko, "Revisiting deep learning models for
tabular data", NeurIPS 2021, arXiv:2106.11959; package rtdl_revisiting_models (extra: tabular).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stackfeat.errors import UsageError
from stackfeat.nets.zoo.sizes import check_at_least, check_columns, import_extra


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
    train_defaults = {"lr": 5e-4, "weight_decay": 1e-5, "warmup": 0.05}  # noqa: RUF012

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
        if hidden % heads:
            raise UsageError(
                f"hidden must be a multiple of heads; got hidden={hidden}, heads={heads}; "
                f"try hidden: {heads * max(1, round(hidden / heads))}"
            )
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
        if self.has_categories and codes is None:
            raise ValueError("codes must be given: this net was built with cardinalities; got codes=None")
        scores: Tensor = self.transformer(
            numeric if self.has_numbers else None, codes if self.has_categories else None
        )
        return scores
