"""Columns as they stand in the file, for estimators that do their own preprocessing.

In:  a `Table`.
Out: a DataFrame with the original names: float64 columns, and categorical columns of text.
"""

from __future__ import annotations

from typing import Self

import pandas as pd

from stackfeat.data.prepare.state import dump_state, load_state
from stackfeat.data.samples import Table


class NoPrepare:
    """No preprocessing: `fit` learns nothing."""

    def fit(self, table: Table) -> Self:
        """Do nothing; here so that every preparer is used alike."""
        return self

    def transform(self, table: Table) -> pd.DataFrame:
        """Return a DataFrame of shape (n_rows, n_columns)."""
        return table.to_frame()

    def to_bytes(self) -> bytes:
        return dump_state("plain", {})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        load_state("plain", content)
        return cls()
