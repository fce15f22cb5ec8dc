"""Columns for gradient-boosted trees: numbers with NaN kept, categories as categories.

In:  the `Table` rows of one fold's training part.
Out: a DataFrame with columns ``c0``, ``c1``, ... (LightGBM refuses some characters in names).
"""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd

from stackfeat.data.prepare.categories import renumber, seen_levels
from stackfeat.data.prepare.state import dump_state, load_state
from stackfeat.data.samples import Table

MOST_LEVELS = 254


class TreePrepare:
    """Fold-local preprocessing for trees: numbers as they are, then categories of the rows fitted on.

    A level not seen in `fit` becomes NaN. Beyond 254 levels the less frequent share one category,
    because scikit-learn's histogram trees take at most 255.
    """

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []
        self.pooled: list[np.ndarray] = []

    def fit(self, table: Table) -> Self:
        """Learn which levels there are from these rows alone."""
        every = [seen_levels(table.codes[:, j]) for j in range(table.codes.shape[1])]
        self.seen = [seen_levels(table.codes[:, j], at_most=MOST_LEVELS) for j in range(table.codes.shape[1])]
        self.pooled = [np.setdiff1d(levels, kept) for levels, kept in zip(every, self.seen, strict=True)]
        return self

    def transform(self, table: Table) -> pd.DataFrame:
        """Return a DataFrame of shape (n_rows, n_columns): float64 columns, then categorical columns."""
        frame = pd.DataFrame(table.numeric, columns=[f"c{j}" for j in range(table.numeric.shape[1])])
        categories = {}
        for j, (seen, pooled) in enumerate(zip(self.seen, self.pooled, strict=True)):
            codes = renumber(table.codes[:, j], seen)
            codes[renumber(table.codes[:, j], pooled) >= 0] = len(seen)
            n_categories = len(seen) + (len(pooled) > 0)
            name = f"c{table.numeric.shape[1] + j}"
            categories[name] = pd.Categorical.from_codes(codes, categories=pd.RangeIndex(n_categories))
        return pd.concat([frame, pd.DataFrame(categories, index=frame.index)], axis=1)

    def to_bytes(self) -> bytes:
        return dump_state("trees", vars(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        state = load_state("trees", content)
        preparer = cls()
        preparer.seen, preparer.pooled = state["seen"], state["pooled"]
        return preparer
