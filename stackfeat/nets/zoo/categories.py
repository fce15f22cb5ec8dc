"""Category codes as columns: one-hot where there are few, learned vectors where there are many.

In:  int64 codes (n_rows, n_categorical), 0 for unknown or missing.
Out: columns beside the numbers; the code 0 is all zeros, for it may be absent from training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CategoryColumns(nn.Module):
    """Put columns for categories behind those for numbers.

    Parameters
    ----------
    cardinalities : sequence of int
        Codes per column, the code 0 included.
    embedding : int
        Columns of a category with more than `max_one_hot` codes.
    max_one_hot : int
        Codes, 0 included, up to which a category is one-hot; two known levels make one column of
        -1 and 1.
    std : float
        Standard deviation of the initial vectors.

    **Shape**

    ``numbers`` (n_rows, d) and ``codes`` (n_rows, len(cardinalities)) give (n_rows, d + `width`);
    `widths` are the columns of each category, those of one-hot ones first.
    """

    offsets: Tensor

    def __init__(self, cardinalities: Sequence[int], embedding: int, max_one_hot: int, std: float) -> None:
        super().__init__()
        self.few = [j for j, n_codes in enumerate(cardinalities) if n_codes <= max_one_hot]
        self.many = [j for j, n_codes in enumerate(cardinalities) if n_codes > max_one_hot]
        widths = [one_hot_width(cardinalities[j]) for j in self.few]
        self.widths = widths + [embedding] * len(self.many)
        self.width = sum(self.widths)
        self.n_categorical = len(cardinalities)
        self.tables = nn.ModuleList([OneHot(cardinalities[j]) for j in self.few])
        sizes = [cardinalities[j] for j in self.many]
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        self.register_buffer("offsets", torch.tensor(starts, dtype=torch.int64), persistent=False)
        self.embedding = nn.Embedding(sum(sizes), embedding) if sizes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=std)
            with torch.no_grad():
                self.embedding.weight[self.offsets] = 0.0

    def forward(self, numbers: Tensor, codes: Tensor | None) -> Tensor:
        if not self.n_categorical:
            return numbers
        if codes is None:
            raise ValueError("codes must be given: this net was built with cardinalities; got codes=None")
        parts = [numbers]
        parts += [table(codes[:, j]) for table, j in zip(self.tables, self.few, strict=True)]
        if self.embedding is not None:
            parts.append(self.embedding(codes[:, self.many] + self.offsets).flatten(1))
        return torch.cat([part.to(numbers.dtype) for part in parts], dim=1)


class OneHot(nn.Module):
    """Look up the fixed columns of a code: (n_rows,) gives (n_rows, width)."""

    rows: Tensor

    def __init__(self, n_codes: int) -> None:
        super().__init__()
        known = torch.eye(n_codes - 1) if n_codes != 3 else torch.tensor([[-1.0], [1.0]])
        unknown = torch.zeros(1, one_hot_width(n_codes))
        self.register_buffer("rows", torch.cat([unknown, known]), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        return self.rows[codes]


def one_hot_width(n_codes: int) -> int:
    """Return the columns of a category with `n_codes` codes, of which 0 is all zeros."""
    return 1 if n_codes == 3 else n_codes - 1
