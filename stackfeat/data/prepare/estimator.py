"""Columns for estimators, fitted within a fold: `scaled`, `trees` or `none`.

In:  the `Table` rows of one fold's training part.
Out: for linear models, kernels and neighbours a float64 array, imputed, standardised and one-hot; for
     gradient-boosted trees numbers with NaN kept and categories as categories; or the columns as they are.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from stackfeat.data.prepare import Preparer, renumber, seen_levels
from stackfeat.data.samples import Table

MOST_ONE_HOT_LEVELS = 100
MOST_NATIVE_LEVELS = 254


class ScaledPrepare(Preparer):
    """Fold-local preprocessing from scikit-learn's parts.

    Numbers: median, an indicator column where values were missing, mean 0 and spread 1. Categories:
    a 0/1 column per level; a missing value is a level; rare levels share one column; a level not seen
    in `fit` goes to that column, or to none where there is none.
    """

    kind = "scaled"

    def __init__(self) -> None:
        self.imputer: SimpleImputer | None = None
        self.indicator: MissingIndicator | None = None
        self.scaler: StandardScaler | None = None
        self.encoder: OneHotEncoder | None = None

    def fit(self, table: Table) -> Self:
        """Learn medians, spreads and levels from these rows alone."""
        self.imputer = self.indicator = self.scaler = self.encoder = None
        if table.numeric.shape[1]:
            self.imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(table.numeric)
            self.indicator = MissingIndicator(error_on_new=False).fit(table.numeric)
            self.scaler = StandardScaler().fit(self._numbers(table.numeric))
        if table.codes.shape[1]:
            rare = max(2, min(10, table.n_rows // 100))
            self.encoder = OneHotEncoder(
                min_frequency=rare,
                max_categories=MOST_ONE_HOT_LEVELS,
                handle_unknown="infrequent_if_exist",
                sparse_output=False,
            ).fit(table.codes)
        return self

    def transform(self, table: Table) -> np.ndarray:
        """Return a float64 array of shape (n_rows, n_columns): numbers, their indicators, then levels."""
        parts = [np.zeros((table.n_rows, 0))]
        if self.scaler is not None:
            parts.append(self.scaler.transform(self._numbers(table.numeric)))
        if self.encoder is not None:
            parts.append(self.encoder.transform(table.codes))
        return np.hstack(parts)

    def _numbers(self, numeric: np.ndarray) -> np.ndarray:
        assert self.imputer is not None and self.indicator is not None
        return np.hstack([self.imputer.transform(numeric), self.indicator.transform(numeric)])


class TreePrepare(Preparer):
    """Fold-local preprocessing for trees: numbers as they are, then categories of the rows fitted on.

    A level not seen in `fit` becomes NaN. Beyond 254 levels the less frequent share one category,
    because scikit-learn's histogram trees take at most 255.
    """

    kind = "trees"

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []
        self.pooled: list[np.ndarray] = []

    def fit(self, table: Table) -> Self:
        """Learn which levels there are from these rows alone."""
        every = [seen_levels(codes) for codes in table.codes.T]
        self.seen = [seen_levels(codes, at_most=MOST_NATIVE_LEVELS) for codes in table.codes.T]
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


class NoPrepare(Preparer):
    """No preprocessing: `fit` learns nothing."""

    kind = "plain"

    def fit(self, table: Table) -> Self:
        """Do nothing; here so that every preparer is used alike."""
        return self

    def transform(self, table: Table) -> pd.DataFrame:
        """Return a DataFrame of shape (n_rows, n_columns)."""
        return table.to_frame()
